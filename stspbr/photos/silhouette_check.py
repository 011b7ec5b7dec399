"""Coherence: whether the masks of the copies and their poses are those of one and the same object.

Poses that features suggest can be wrong and still reproject well. Masks tell: from right poses, the hull that the other
copies' masks leave covers all of a copy's mask; a wrong pose carves the others' masks away. Only pixels that are
certainly background carve: another copy in front, or a pixel that nobody claims, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stspbr.geometry.visual_hull import carve_by, outline_distance
from stspbr.photos.instances import Instance, reaches
from stspbr.scene.camera import Camera

ENOUGH = 0.93
"""The coherence from which a copy's pose is accepted."""
_SIDE = 112  # pixels along the longer side of a copy
_GRID = 96
_OUT = 0.01  # of the hull's diagonal: farther from it a point sticks out
_FAR = 4.0  # cells from the hull: farther than anybody asks
_REACH = 1.15  # of the half diagonal of the largest mask

Poses = Mapping[int, np.ndarray]
"""``camera_from_object`` ``[4, 4]`` rigid, OpenGL axes, by number of the copy."""


@dataclass(frozen=True)
class Coherence:
    """How well masks and poses fit.

    Attributes:
        shares: by number, the share of a copy's mask that the hull of the others covers, in [0, 1].
        centre, cell: of the grid ``[G, G, G]`` in object space: its middle, and the distance of its points.
        distance: ``[G³]`` float32 signed distance to the hull of all copies.
    """

    shares: dict[int, float]
    centre: np.ndarray
    cell: float
    distance: np.ndarray

    def inside(self) -> np.ndarray:
        """``[P, 3]`` the points of the grid that are in the hull."""
        side = len(self.volume())
        axis = (np.arange(side) - 0.5 * (side - 1)) * self.cell
        offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        return self.centre + offsets[self.within()]

    def within(self) -> np.ndarray:
        """``[G³]`` bool: which points of the grid those are."""
        return self.distance < 0.5 * self.cell

    def volume(self) -> np.ndarray:
        """``[G, G, G]``: ``distance`` on its grid."""
        side = round(len(self.distance) ** (1.0 / 3.0))
        return self.distance.reshape(side, side, side)

    @property
    def worst(self) -> tuple[int, float]:
        """The copy that fits least, and its share."""
        number = min(self.shares, key=lambda k: self.shares[k])
        return number, self.shares[number]

    @property
    def score(self) -> float:
        """The number of copies times their mean share."""
        return float(sum(self.shares.values()))


@dataclass(frozen=True)
class _View:
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    mask: np.ndarray
    outline: np.ndarray


class Silhouettes:
    """The masks of the copies, reduced once, for any poses.

    Args:
        labels: ``[H, W]`` int32 of the photo.
        copies: those that take part.
        side: the copies' longer side in pixels; crops have room about them.
    """

    def __init__(self, labels: np.ndarray, copies: list[Instance], side: int = _SIDE) -> None:
        self.shape = labels.shape
        reach = reaches(copies)
        self._views = {copy.number: _view(labels, copy, reach[copy.number], side) for copy in copies}

    def camera(self, number: int, focal: float) -> Camera:
        """The camera of a copy's reduced crop, at the world's origin; the photo's principal point is its middle."""
        view = self._views[number]
        height, width = self.shape
        whole = Camera(np.eye(4), focal, focal, 0.5 * width, 0.5 * height, width, height, near=1e-6)
        left, top, right, bottom = view.box
        return whole.resampled((left, top, right - left, bottom - top), view.size)

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge of a copy's crop in the photo."""
        return self._views[number].box

    def mask(self, number: int) -> np.ndarray:
        """``[h, w]`` bool of the reduced crop."""
        return self._views[number].mask

    def outline(self, number: int) -> np.ndarray:
        """``[h, w]`` float32 signed pixels to the outline; what is unknown counts as inside."""
        return self._views[number].outline

    def check(self, poses: Poses, focal: float, grid: int = _GRID) -> Coherence:
        """The coherence of all copies that have a pose; at least two."""
        centre, reach = self.cube(poses, focal)
        cell = 2.0 * reach / (grid - 1)
        axis = np.linspace(-reach, reach, grid)
        offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        points = (centre + offsets).astype(np.float32)
        most, second = (np.full(len(points), -np.inf, np.float32) for _ in range(2))
        owner = np.full(len(points), -1)
        for number, pose in poses.items():
            own = np.full(len(points), -np.inf, np.float32)
            carve_by(points, self.camera(number, focal), pose, self._views[number].outline, own)
            above = own > most
            second = np.where(above, most, np.maximum(second, own))
            owner[above] = number
            most = np.maximum(most, own)
        shares = {}
        for number, pose in poses.items():
            others = np.where(owner == number, second, most)
            inside = points[others < 0.5 * cell]
            shares[number] = self.covered(number, pose, focal, inside, cell)
        return Coherence(shares, centre, cell, most)

    def covered(self, number: int, pose: np.ndarray, focal: float, points: np.ndarray, cell: float) -> float:
        """The share of a copy's mask on which cells of size ``cell`` about ``points`` ``[P, 3]`` are seen."""
        mask = self._views[number].mask
        return float((self.shadow(number, pose, focal, points, cell) & mask).sum() / mask.sum())

    def shadow(self, number: int, pose: np.ndarray, focal: float, points: np.ndarray, cell: float) -> np.ndarray:
        """``[h, w]`` bool: where cells about ``points`` ``[P, 3]`` are seen in a copy's reduced crop."""
        camera = self.camera(number, focal)
        out = np.zeros(self._views[number].mask.shape, bool)
        if len(points) == 0:
            return out
        local = points @ pose[:3, :3].T + pose[:3, 3]
        depth = -local[:, 2]
        ahead = depth > 1e-6
        local, depth = local[ahead], depth[ahead]
        if len(local) == 0:
            return out
        column = np.floor(camera.cx + camera.fx * local[:, 0] / depth)
        row = np.floor(camera.cy - camera.fy * local[:, 1] / depth)
        wide = int(np.ceil(0.5 * cell * camera.fx / float(np.median(depth))))
        seen = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        out[row[seen].astype(int), column[seen].astype(int)] = True
        return ndimage.maximum_filter(out, 2 * wide + 1)

    def seen_distance(self, number: int, pose: np.ndarray, focal: float, found: Coherence) -> np.ndarray:
        """``[h, w]`` float32: how near the hull each pixel of a copy's reduced crop comes; negative where it meets it.

        In units of the object. Where this passes zero lies the hull's silhouette, far more exactly than its cells are.
        """
        camera, grid = self.camera(number, focal), found.volume().clip(-_FAR * found.cell, _FAR * found.cell)
        turn, middle = pose[:3, :3], 0.5 * (len(grid) - 1)
        x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
        y = -(np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
        ways = np.stack([*np.meshgrid(x, y), np.full((camera.height, camera.width), -1.0)], axis=-1) @ turn / found.cell
        start = (-turn.T @ pose[:3, 3] - found.centre) / found.cell + middle
        depth = -float((turn @ found.centre + pose[:3, 3])[2])
        reach = np.sqrt(3.0) * middle * found.cell
        out = np.full(ways.shape[:2], _FAR * found.cell, np.float32)
        for along in np.arange(max(depth - reach, 0.0), depth + reach, found.cell):
            place = np.moveaxis(start + along * ways, -1, 0)
            near = ndimage.map_coordinates(grid, place, order=1, mode="constant", cval=_FAR * found.cell)
            np.minimum(out, near, out=out)
        return out

    def outside(self, points: np.ndarray, found: Coherence) -> float:
        """The share of ``points`` ``[P, 3]`` of the surface that stick out of the hull.

        Between two copies turn and depth nearly make up for each other, so that turns which are all too small by a
        tenth reproject well; but what they show is too deep by a tenth then. The hull's depth comes from masks.
        """
        grid, reach = found.volume(), float(np.linalg.norm(np.ptp(found.inside(), axis=0)))
        places = ((points - found.centre) / found.cell + 0.5 * (len(grid) - 1)).T
        far = _FAR * found.cell + _OUT * reach
        distance = ndimage.map_coordinates(grid.clip(-far, far), places, order=1, mode="nearest")
        return float((distance > _OUT * reach).mean()) if len(points) else 0.0

    def cube(self, poses: Poses, focal: float) -> tuple[np.ndarray, float]:
        """Centre ``[3]`` and half side of the cube that has the object in it: where lines of sight meet."""
        matrix, vector, sizes = np.zeros((3, 3)), np.zeros(3), []
        sights = []
        for number, pose in poses.items():
            camera = self.camera(number, focal)
            rows, columns = np.nonzero(self._views[number].mask)
            x = (np.array([columns.min(), columns.max() + 1]) - camera.cx) / camera.fx
            y = -(np.array([rows.min(), rows.max() + 1]) - camera.cy) / camera.fy
            turn, eye = pose[:3, :3].T, -pose[:3, :3].T @ pose[:3, 3]
            sight = turn @ np.array([x.mean(), y.mean(), -1.0])
            sight /= np.linalg.norm(sight)
            across = np.eye(3) - np.outer(sight, sight)
            matrix, vector = matrix + across, vector + across @ eye
            sights.append((eye, sight, 0.5 * float(np.hypot(np.ptp(x), np.ptp(y)))))
        centre = np.linalg.solve(matrix + 1e-9 * np.eye(3), vector)
        for eye, sight, angle in sights:
            sizes.append(max(float((centre - eye) @ sight), 1e-3 * float(np.linalg.norm(centre - eye))) * angle)
        reach = min(max(sizes), 2.0 * float(np.median(sizes)))
        return centre, max(_REACH * reach, 1e-9)


def verified(
    silhouettes: Silhouettes, poses: Poses, focal: float, fewest: int = 3
) -> tuple[dict[int, np.ndarray], Coherence | None]:
    """The poses that hold together: the copy that fits least is dropped until all fit.

    Returns:
        The poses that are left and their coherence; none and None if fewer than ``fewest`` are left.
    """
    kept = dict(poses)
    while len(kept) >= fewest:
        found = silhouettes.check(kept, focal)
        number, share = found.worst
        if share >= ENOUGH:
            return kept, found
        del kept[number]
    return {}, None


def _view(labels: np.ndarray, copy: Instance, reach: tuple[int, int, int, int], side: int) -> _View:
    height, width = labels.shape
    # one pixel more than the copy can reach: there nothing is left to doubt, unless the photo ends
    box = (max(reach[0] - 2, 0), max(reach[1] - 2, 0), min(reach[2] + 2, width), min(reach[3] + 2, height))
    part = labels[box[1] : box[3], box[0] : box[2]]
    scale = max(copy.side / side, 1.0)
    size = max(int(round(part.shape[1] / scale)), 1), max(int(round(part.shape[0] / scale)), 1)
    # nearest pixels: labels have no means
    rows = ((np.arange(size[1]) + 0.5) * part.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * part.shape[1] / size[0]).astype(int)
    small = part[rows[:, None], columns[None, :]]
    mask = small == copy.number
    within = np.ones(mask.shape, bool)
    for line, index in ((0, rows + box[1]), (1, columns + box[0])):
        low, high = reach[1 - line], reach[3 - line]
        inside = (index >= low) & (index < high)
        within &= inside[:, None] if line == 0 else inside[None, :]
    for edge, at_photo in ((0, box[1] == 0), (-1, box[3] == height)):
        within[edge] &= at_photo
    for edge, at_photo in ((0, box[0] == 0), (-1, box[2] == width)):
        within[:, edge] &= at_photo
    outline = outline_distance(mask, (small == 0) | mask | ~within)
    return _View(box, size, mask, outline)
