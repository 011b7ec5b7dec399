"""The part of space that nearly all masks agree on: a visual hull that some wrong masks do not spoil."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.photos.grabcut import require_opencv
from stspbr.photos.thin_parts import thickened
from stspbr.scene.camera import Camera

_GRID, _COARSE = 64, 32  # cells along each side of the cube
_AGREE = 0.9  # share of the views that see a point and must have it inside


@dataclass(frozen=True)
class Hull:
    """``points`` ``[N, 3]``: the centres of the cells that are inside; ``cell``: their side."""

    points: np.ndarray
    cell: float


def consensus_hull(
    masks: Sequence[np.ndarray],
    cameras: Sequence[Camera],
    centre: np.ndarray,
    reach: float,
    agree: float = _AGREE,
    allowed: Callable[[np.ndarray], np.ndarray] = lambda points: np.ones(len(points), bool),
) -> Hull:
    """Carve a cube by votes, coarsely, and then once more the cube about what is left.

    What is thinner than a coarse cell is made as wide for the first, lest it be cut off.

    Args:
        masks: ``[H, W]`` bool each, of its camera's size.
        centre, reach: middle and half side of the cube.
        agree: a cell stays if it is inside this share of the masks whose image it is in, and in the image of at least
            three. With 0.9 one mask of ten may be wrong, of fewer none.
        allowed: ``[N]`` bool of cells' centres ``[N, 3]``: whether they can be inside at all.
    """
    middle = np.asarray(centre, np.float64)
    width = 2.0 * reach / _COARSE
    wide = [thickened(mask, pixels_across(width, middle, own)) for mask, own in zip(masks, cameras, strict=True)]
    hull = _carved(wide, cameras, middle, reach, agree, _COARSE, allowed)
    if not len(hull.points):
        return hull
    low, high = hull.points.min(axis=0) - hull.cell, hull.points.max(axis=0) + hull.cell
    return _carved(masks, cameras, 0.5 * (low + high), 0.5 * float((high - low).max()), agree, _GRID, allowed)


def pixels_across(width: float, place: np.ndarray, camera: Camera) -> float:
    """How many pixels wide a thing of ``width`` at ``place [3]`` looks."""
    return width * camera.fx / max(float(np.linalg.norm(camera.position - place)), 1e-9)


def _carved(
    masks: Sequence[np.ndarray],
    cameras: Sequence[Camera],
    centre: np.ndarray,
    reach: float,
    agree: float,
    grid: int,
    allowed: Callable[[np.ndarray], np.ndarray],
) -> Hull:
    axis = (np.arange(grid) + 0.5) / grid * 2.0 - 1.0
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    points = centre + reach * offsets
    points = points[allowed(points)]
    inside, seen = np.zeros(len(points), np.int32), np.zeros(len(points), np.int32)
    for mask, camera in zip(masks, cameras, strict=True):
        columns, rows, visible = pixels_of(points, camera)
        seen += visible
        inside[visible] += mask[rows[visible], columns[visible]]
    kept = (seen >= min(3, len(cameras))) & (inside >= agree * np.maximum(seen, 1))
    return Hull(points[kept], 2.0 * reach / grid)


def silhouette(hull: Hull, camera: Camera) -> np.ndarray:
    """``[H, W]`` bool: where the hull is in the picture, grown by half a cell so that it has no gaps."""
    cv2 = require_opencv()
    out = np.zeros((camera.height, camera.width), np.uint8)
    columns, rows, visible = pixels_of(hull.points, camera)
    if not visible.any():
        return out.astype(bool)
    out[rows[visible], columns[visible]] = 1
    depth = -(hull.points @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3])
    size = 2 * int(np.ceil(0.5 * hull.cell * camera.fx / max(float(np.median(depth[visible])), 1e-9))) + 1
    return cv2.morphologyEx(out, cv2.MORPH_CLOSE, np.ones((size + 2, size + 2), np.uint8)).astype(bool)


def pixels_of(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column and row ``[N]`` int of the pixel that each point falls in, and whether it falls into the picture."""
    xy, depth = camera.project(points)
    finite = (depth > 0) & (np.abs(xy) < 1e6).all(axis=1)
    columns, rows = np.floor(np.where(finite[:, None], xy, -1.0)).astype(np.int64).T
    visible = finite & (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    return columns, rows, visible
