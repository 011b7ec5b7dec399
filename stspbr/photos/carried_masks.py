"""Masks of all photos from a box in one: carried from view to view through the sparse points.

1. GrabCut in the box; the sparse points inside that mask are the object's.
2. The view that shows most of them is next: around their hull the object is probable, far away it is not there.
   Its mask adds to the votes of the points that it shows: those inside most masks are the object's. And so on.
3. Three times more for all views, now about the silhouette of what nearly all masks agree on.
4. The outline once more at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from stspbr.errors import StspbrError
from stspbr.photos import grabcut
from stspbr.photos.consensus_hull import Hull, consensus_hull, silhouette
from stspbr.photos.working_photos import Outline, PosedPhoto, WorkingPhoto
from stspbr.scene.camera import Camera

_FEWEST_POINTS = 6
_IN, _OUT = 0.7, 0.3  # shares of the masks from and up to which a point is the object's or is not
_ROUNDS = 3
_REACH = 3.5  # half side of the cube, in distances of the known points: those of one side may be all there are
_LEAST_AGREEMENT = 0.6  # intersection over union of a mask with the silhouette of the consensus


class Sighting(Protocol):
    """A camera and the indices of the sparse points that its photo shows."""

    @property
    def camera(self) -> Camera: ...

    @property
    def seen(self) -> np.ndarray: ...


def carry_masks(
    photos: list[WorkingPhoto],
    points: np.ndarray,
    first: int,
    box: tuple[float, float, float, float],
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> tuple[list[Outline | None], dict[str, str]]:
    """Masks of all photos from a box in one.

    Args:
        points: ``[P, 3]`` sparse points in the world of the cameras.
        first: the photo with the box; ``box``: x, y, width, height of the box in its pixels.
        on_photo: called once per photo, when its mask is complete.

    Returns:
        ``(masks, failed)``: the outline of each photo or None, and by name why None.

    Raises:
        StspbrError: OpenCV is missing; a box outside of the photo or with next to no sparse points in it.
    """
    small = [photo.small for photo in photos]
    votes = Votes(len(points))
    scale = small[first].camera.width / photos[first].size[0]
    x, y, width, height = (scale * side for side in box)
    found = {first: _first_mask(small[first], (x, y, width, height), seed)}
    votes.add(small[first], points, found[first])
    if int(votes.object().sum()) < _FEWEST_POINTS:
        raise StspbrError(
            f"photo {small[first].name}: the object in the box has {int(votes.object().sum())} sparse points, too few "
            "to carry its mask to the other photos: choose another --box or --box-image, or give --masks"
        )
    for index in _most_seen_first(small, votes, first):
        found[index] = _carried(small[index], points, votes, seed)
        votes.add(small[index], points, found[index])
    masks = [found[index] for index in range(len(photos))]
    for _ in range(_ROUNDS):
        hull = _consensus(masks, small, points[votes.object()])
        masks = [_agreed(photo, points, votes, silhouette(hull, photo.camera), seed) for photo in small]
        votes = Votes(len(points))
        for photo, mask in zip(small, masks, strict=True):
            votes.add(photo, points, mask)
        if not votes.object().any():
            break
    return _finished(photos, points, votes, masks, seed, on_photo)


def object_points(photos: Sequence[Sighting], masks: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """``[P]`` bool: the sparse points that lie inside the masks ``[H, W]`` bool of most photos that show them."""
    votes = Votes(len(points))
    for photo, mask in zip(photos, masks, strict=True):
        votes.add(photo, points, mask)
    return votes.object()


class Votes:
    """In how many masks each sparse point was seen, and in how many of these inside."""

    def __init__(self, count: int) -> None:
        self.seen, self.inside = np.zeros(count), np.zeros(count)

    @classmethod
    def known(cls, on_object: np.ndarray, beside: np.ndarray) -> Votes:
        """Votes that say of each point ``[P]`` bool that it is the object's, that it is not, or nothing."""
        votes = cls(len(on_object))
        votes.seen[:], votes.inside[:] = on_object | beside, on_object
        return votes

    def add(self, photo: Sighting, points: np.ndarray, mask: np.ndarray) -> None:
        columns, rows = places(photo, points)
        self.seen[photo.seen] += 1
        self.inside[photo.seen] += mask[rows, columns]

    def object(self) -> np.ndarray:
        return (self.seen > 0) & (self.inside >= _IN * self.seen)

    def background(self) -> np.ndarray:
        return (self.seen > 0) & (self.inside <= _OUT * self.seen)


def places(photo: Sighting, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the sparse points that a photo shows."""
    xy, _ = photo.camera.project(points[photo.seen])
    size = (photo.camera.width - 1, photo.camera.height - 1)
    columns, rows = np.clip(np.floor(xy), 0, size).astype(int).T
    return columns, rows


def _first_mask(photo: PosedPhoto, box: tuple[float, float, float, float], seed: int) -> np.ndarray:
    labels = grabcut.inside_box(photo.valid.shape, box)
    labels[~photo.valid] = grabcut.BACKGROUND
    inside = int((labels != grabcut.BACKGROUND).sum())
    if inside < 16 or inside > 0.98 * labels.size:
        what = "outside of the photo" if inside < 16 else "the whole photo"
        raise StspbrError(
            f"photo {photo.name}: the box is {what}: give --box x,y,width,height in pixels of the upright photo, "
            "a little larger than the object"
        )
    return grabcut.cut(photo.image, labels, 6, seed)


def _most_seen_first(photos: list[PosedPhoto], votes: Votes, first: int) -> Iterator[int]:
    """All photos but the ``first``; the next is the one that shows most of the object as known by then."""
    left = [index for index in range(len(photos)) if index != first]
    while left:
        known = votes.object()
        index = max(left, key=lambda k: int(known[photos[k].seen].sum()))
        left.remove(index)
        yield index


def _carried(photo: PosedPhoto, points: np.ndarray, votes: Votes, seed: int) -> np.ndarray:
    """A mask from the object's points alone: they all project into the silhouette, seen or not."""
    cv2 = grabcut.require_opencv()
    xy, depth = photo.camera.project(points[votes.object()])
    xy = _without_outliers(xy[depth > 0])
    if len(xy) < 3:
        return np.zeros(photo.valid.shape, bool)
    hull = np.zeros(photo.valid.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.clip(xy, -4000, 4000).astype(np.int32)), 1)
    radius = 0.5 * float(np.linalg.norm(np.ptp(xy, axis=0)))
    labels = np.full(hull.shape, grabcut.BACKGROUND, np.uint8)
    labels[grabcut.dilated(hull.astype(bool), 0.45 * radius + 4)] = grabcut.PROBABLE_BACKGROUND
    labels[grabcut.dilated(hull.astype(bool), 0.08 * radius)] = grabcut.PROBABLE_OBJECT
    return cut_with_votes(photo, points, votes, labels, seed)


def _agreed(photo: PosedPhoto, points: np.ndarray, votes: Votes, shape: np.ndarray, seed: int) -> np.ndarray:
    """A mask about the silhouette of the consensus."""
    if not shape.any():
        return np.zeros(photo.valid.shape, bool)
    radius = float(np.sqrt(shape.sum() / np.pi))
    labels = np.full(shape.shape, grabcut.BACKGROUND, np.uint8)
    labels[grabcut.dilated(shape, 0.2 * radius + 3)] = grabcut.PROBABLE_BACKGROUND
    labels[shape] = grabcut.PROBABLE_OBJECT
    labels[grabcut.dilated(shape, -0.3 * radius)] = grabcut.OBJECT
    return cut_with_votes(photo, points, votes, labels, seed)


def cut_with_votes(photo: PosedPhoto, points: np.ndarray, votes: Votes, labels: np.ndarray, seed: int) -> np.ndarray:
    """GrabCut from ``labels`` and the sparse points that votes are sure of."""
    label_points(photo, points, votes, labels)
    return grabcut.cut(photo.image, labels, 4, seed)


def label_points(photo: PosedPhoto, points: np.ndarray, votes: Votes, labels: np.ndarray) -> None:
    """Write into ``labels`` what the votes are sure of, and where the photo does not reach."""
    columns, rows = places(photo, points)
    for sure, label in ((votes.background(), grabcut.BACKGROUND), (votes.object(), grabcut.OBJECT)):
        chosen = sure[photo.seen]
        for row, column in zip(rows[chosen], columns[chosen], strict=True):
            labels[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = label
    labels[~photo.valid] = grabcut.BACKGROUND


def _without_outliers(xy: np.ndarray) -> np.ndarray:
    """Without the points that are far from the middle of all: wrong votes would blow up the hull."""
    if len(xy) < 8:
        return xy
    distance = np.linalg.norm(xy - np.median(xy, axis=0), axis=1)
    return xy[distance <= 3.0 * np.median(distance) + 1.0]


def _consensus(masks: list[np.ndarray], photos: list[PosedPhoto], known: np.ndarray) -> Hull:
    """The hull of the masks, in a cube that holds the object for sure."""
    middle = np.median(known, axis=0)
    reach = _REACH * float(np.quantile(np.linalg.norm(known - middle, axis=1), 0.95)) + 1e-9
    return consensus_hull(masks, [photo.camera for photo in photos], middle, reach)


def _finished(
    photos: list[WorkingPhoto],
    points: np.ndarray,
    votes: Votes,
    masks: list[np.ndarray],
    seed: int,
    on_photo: Callable[[], None],
) -> tuple[list[Outline | None], dict[str, str]]:
    known = points[votes.object()]
    hull = _consensus(masks, [photo.small for photo in photos], known) if len(known) else None
    out: list[Outline | None] = []
    failed = {}
    for photo, mask in zip(photos, masks, strict=True):
        small, name = photo.small, photo.small.name
        shape = np.zeros_like(mask) if hull is None else silhouette(hull, small.camera) & small.valid
        agreement = float((mask & shape).sum() / max((mask | shape).sum(), 1))
        if not mask.any():
            failed[name] = "its mask is empty: the object was not found in it"
        elif agreement < _LEAST_AGREEMENT:
            failed[name] = f"its mask agrees with those of the other photos by {agreement:.0%} only"
        out.append(None if name in failed else outlined(photo, mask, seed))
        on_photo()
    return out, failed


def outlined(photo: WorkingPhoto, mask: np.ndarray, seed: int, unknown: np.ndarray | None = None) -> Outline:
    """The mask at the size of its outline: only a narrow band about it is cut again.

    Args:
        unknown: ``[H, W]`` bool of the mask's size: where it means nothing.
    """
    cv2 = grabcut.require_opencv()
    image, valid = photo.fine()
    ratio = valid.shape[1] / mask.shape[1]
    guess = cv2.resize(mask.astype(np.float32), valid.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    if ratio > 1.01:
        band = 1.5 * ratio + 1.0
        labels = np.where(guess, grabcut.PROBABLE_OBJECT, grabcut.PROBABLE_BACKGROUND).astype(np.uint8)
        labels[grabcut.dilated(guess, -band)] = grabcut.OBJECT
        labels[~grabcut.dilated(guess, band)] = grabcut.BACKGROUND
        labels[~valid] = grabcut.BACKGROUND
        rows, columns = (np.flatnonzero(guess.any(axis=axis)) for axis in (1, 0))
        margin = int(4 * band) + 8
        part = tuple(slice(max(places[0] - margin, 0), places[-1] + margin) for places in (rows, columns))
        guess = guess.copy()
        guess[part] = grabcut.cut(image[part], labels[part], 2, seed)
    if unknown is None or not unknown.any():
        return Outline(guess)
    fine = cv2.resize(unknown.astype(np.uint8), guess.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return Outline(guess, fine.astype(bool))
