"""Where another copy can be in front of a copy: there, and only there, a label of another copy leaves it unknown.

A pixel that shows copy j tells of copy i that it has nothing nearer there than j. So what the masks alone leave of the
object (the hull, carved by background) goes on losing what would stand in front of another copy without being seen. The
hull is at least as large as the object; where its copy j begins is never farther away than where j does, and what is
nearer still is surely empty. As the hull shrinks, its copies begin farther away, and more can be told. A copy of which
more than half is hidden is no copy that can be used, so that most copies show any point of the object, be it on the far
side: what less than a quarter show is not matter but a place where others stand in nearly every view.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stspbr.photos.silhouette_check import Coherence, Poses

_SIDE = 192  # pixels along a copy, about: finer than the hull's cells
_ROUNDS = 6
_SHOWN = 0.25  # of the copies show a point of the object under their own label, at least
_SPECK = 0.01  # of a copy's pixels: a part that shows less is none
_SLACK = 1.5  # cells: what poses and cells are off by


def may_be_hidden(labels: np.ndarray, poses: Poses, focal: float, hull: Coherence) -> dict[int, np.ndarray]:
    """By copy ``[H, W]`` bool: the pixels at which another copy, or what nobody claims, may be in front of it.

    At all others that are not its own, it is not: the background is seen, or a copy that its own matter would hide.

    Args:
        labels: ``[H, W]`` int32 of the photo: 0 the background, 1 … N the copies, −1 unclaimed.
        poses: ``camera_from_object`` of the copies that have one; a copy without a pose may be anywhere in depth.
        hull: what the masks leave of the object under these poses.
    """
    points = hull.inside()
    places = {number: _places(points, pose, focal, labels.shape) for number, pose in poses.items()}
    step = max(int(min(np.ptp(place, axis=0).max() for place, _ in places.values()) / _SIDE), 1)
    views = {n: _View(labels, step, place, depth, focal * hull.cell) for n, (place, depth) in places.items()}
    own = np.sum([view.label == number for number, view in views.items()], axis=0)
    kept = own >= _SHOWN * len(views)
    for _ in range(_ROUNDS):
        before = kept.sum()
        kept &= ~_in_front(views, kept, _SLACK * hull.cell)
        kept = _needed(views, kept, hull)
        if kept.sum() == before:
            break
    nearest = {number: view.nearest(kept) for number, view in views.items()}
    out = {}
    for number, view in views.items():
        farthest = view.farthest(kept)
        hidden = np.isfinite(farthest) & (view.labels != 0) & (view.labels != number)
        for other in views:
            if other != number:
                hidden &= (view.labels != other) | (farthest + _SLACK * hull.cell >= nearest[other])
        out[number] = hidden.repeat(view.step, axis=0).repeat(view.step, axis=1)[: labels.shape[0], : labels.shape[1]]
        out[number] &= (labels != 0) & (labels != number)
    return out


def _in_front(views: dict[int, _View], kept: np.ndarray, slack: float) -> np.ndarray:
    """``[P]`` bool: the points of which a copy would hide another one that the photo shows."""
    nearest = {number: view.nearest(kept) for number, view in views.items()}
    out = np.zeros(len(kept), bool)
    for number, view in views.items():
        for other in views:
            if other != number:
                out |= (view.label == other) & (view.depth + slack < view.at(nearest[other]))
    return out


def _needed(views: dict[int, _View], kept: np.ndarray, hull: Coherence) -> np.ndarray:
    """``kept`` without the parts that show nothing: on every copy's own pixels, larger parts are seen, too."""
    volume = np.zeros(len(hull.distance), bool)
    inside = hull.within()
    volume[inside] = kept
    part, count = ndimage.label(volume.reshape(hull.volume().shape), np.ones((3, 3, 3)))
    if count < 2:
        return kept
    part = part.reshape(-1)[inside]
    open_ = {number: view.labels == number for number, view in views.items()}
    out = np.zeros_like(kept)
    for one in np.argsort(-np.bincount(part)[1:], kind="stable") + 1:
        own = part == one
        shown = {number: np.isfinite(view.nearest(own)) & open_[number] for number, view in views.items()}
        if any(seen.sum() > _SPECK * (views[n].labels == n).sum() for n, seen in shown.items()):
            out |= own
            open_ = {number: open_[number] & ~seen for number, seen in shown.items()}
    return out


class _View:
    """The hull's points under one pose, on pixels of the photo reduced by ``step``.

    Attributes:
        depth: ``[P]`` of the points; label: ``[P]`` what the photo shows at each; labels: ``[h, w]`` reduced.

    Args:
        places: ``[P, 2]`` of the points in the photo; cell: their distance times the focal length.
    """

    def __init__(self, labels: np.ndarray, step: int, places: np.ndarray, depth: np.ndarray, cell: float) -> None:
        self.step, self.depth = step, depth
        self.labels = labels[step // 2 :: step, step // 2 :: step]
        inside = np.all((places >= 0) & (places < labels.shape), axis=1)
        row, column = np.where(inside[:, None], places, 0).astype(int).T
        self.label = np.where(inside, labels[row, column], -1)
        self._row, self._column = (np.minimum(part // step, most - 1)
                                   for part, most in zip((row, column), self.labels.shape, strict=True))  # fmt: skip
        self._inside, self._wide = inside, int(np.ceil(0.5 * cell / float(np.median(depth)) / step))

    def at(self, image: np.ndarray) -> np.ndarray:
        """``[P]`` the values of an image ``[h, w]`` at the points; −inf where it has none (nothing can be told)."""
        values = image[self._row, self._column]
        return np.where(self._inside & np.isfinite(values), values, -np.inf)

    def nearest(self, kept: np.ndarray) -> np.ndarray:
        """``[h, w]`` depth at which the hull begins; inf beside it."""
        return self._drawn(kept, self.depth, np.minimum, np.inf)

    def farthest(self, kept: np.ndarray) -> np.ndarray:
        """``[h, w]`` depth at which the hull ends; −inf beside it."""
        return self._drawn(kept, self.depth, np.maximum, -np.inf)

    def _drawn(self, kept: np.ndarray, values: np.ndarray, best: np.ufunc, beside: float) -> np.ndarray:
        out = np.full(self.labels.shape, beside)
        some = kept & self._inside
        best.at(out, (self._row[some], self._column[some]), values[some])
        wider = ndimage.minimum_filter if best is np.minimum else ndimage.maximum_filter
        return wider(out, 2 * self._wide + 1, mode="nearest")


def _places(points: np.ndarray, pose: np.ndarray, focal: float, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """``[P, 2]`` row and column in the photo and ``[P]`` depth of the points, which lie before the camera."""
    local = points @ pose[:3, :3].T + pose[:3, 3]
    depth = np.maximum(-local[:, 2], 1e-9)
    centre = 0.5 * np.array(size)
    return centre + focal * np.stack([-local[:, 1], local[:, 0]], axis=1) / depth[:, None], depth
