"""Where the object is, from masks and poses alone; and where a point of it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene.capture import Frame

COVERED = 0.5  # alpha from which a pixel counts as object


@dataclass(frozen=True)
class MaskSummary:
    """What is needed of a mask to decide about its frame.

    Attributes:
        lowest, highest: alpha.
        box: left, top, right, bottom of the covered pixels, whole numbers; None if there are none.
        centre: their centroid (column, row) in pixels.
    """

    lowest: float
    highest: float
    box: tuple[int, int, int, int] | None
    centre: tuple[float, float]

    @classmethod
    def of(cls, alpha: np.ndarray) -> MaskSummary:
        """Of ``[H, W, 1]`` coverage."""
        covered = alpha[..., 0] > COVERED
        columns, rows = covered.sum(axis=0), covered.sum(axis=1)
        lowest, highest = float(alpha.min(initial=1.0)), float(alpha.max(initial=0.0))
        total = columns.sum()
        if not total:
            return cls(lowest, highest, None, (float("nan"), float("nan")))
        x = float((columns * (np.arange(len(columns)) + 0.5)).sum() / total)
        y = float((rows * (np.arange(len(rows)) + 0.5)).sum() / total)
        (left, right), (top, bottom) = (np.flatnonzero(count)[[0, -1]].tolist() for count in (columns, rows))
        return cls(lowest, highest, (left, top, right + 1, bottom + 1), (x, y))

    @property
    def is_mask(self) -> bool:
        """Whether it tells the object from the rest: some pixels covered, some not."""
        return self.highest > COVERED >= self.lowest


def mask_summary(frame: Frame) -> MaskSummary:
    """The summary of a frame's alpha; use it as ``frame.summary(mask_summary)``."""
    return MaskSummary.of(frame.alpha)


def estimate_object_sphere(frames: Sequence[Frame]) -> tuple[np.ndarray, float] | None:
    """Centre ``[3]`` in object space and radius of a sphere about the object, from the masks alone.

    The centre is the point nearest to the rays through the masks' centroids, by iteratively reweighted least
    squares on the distance itself, so that some wrong frames do not move it. None where the rays are too few
    or too parallel to say, or poses are not finite.
    """
    if len(frames) < 2:
        return None
    try:
        centre, radius = _nearest_point(frames) or (np.zeros(3), np.nan)
    except np.linalg.LinAlgError:  # matrices that are not poses, which the checks of a capture name
        return None
    return (centre, radius) if np.isfinite(radius) and np.isfinite(centre).all() else None


def _nearest_point(frames: Sequence[Frame]) -> tuple[np.ndarray, float] | None:
    origins, directions, angular = (np.stack(rows) for rows in zip(*map(_centroid_ray, frames), strict=True))
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]  # projectors square to each ray
    weights = np.ones(len(frames))
    for _ in range(30):
        system = (weights[:, None, None] * across).sum(axis=0)
        if np.linalg.eigvalsh(system)[0] < 1e-4 * weights.sum():
            return None
        centre = np.linalg.solve(system, (weights[:, None, None] * across @ origins[:, :, None]).sum(axis=0)[:, 0])
        distance = np.linalg.norm((across @ (centre - origins)[:, :, None])[:, :, 0], axis=1)
        weights = 1.0 / np.maximum(distance, 1e-3 * np.median(np.linalg.norm(centre - origins, axis=1)) + 1e-12)
    along = np.abs(((centre - origins) * directions).sum(axis=1))
    return centre, float(np.median(along * angular))


def project(frame: Frame, point: np.ndarray) -> tuple[float, float, float]:
    """Depth along the line of sight, and pixel column and row, of a point in object space."""
    camera = frame.camera
    x, y, z = (camera.world_to_camera @ np.asarray(frame.object_to_world, np.float64) @ np.append(point, 1.0))[:3]
    depth = -z
    safe = depth if abs(depth) > 1e-12 else 1e-12
    return depth, camera.cx + camera.fx * x / safe, camera.cy - camera.fy * y / safe


def mask_place(frame: Frame) -> tuple[float, float, float]:
    """Centroid (column, row) in pixels and half the larger side of the bounding box over the focal length."""
    mask = frame.summary(mask_summary)
    if mask.box is None:
        raise StspbrError(f"frame {frame.name}: its mask is empty")
    left, top, right, bottom = mask.box
    half = 0.5 * max((right - left) / frame.camera.fx, (bottom - top) / frame.camera.fy)
    return *mask.centre, float(half)


def _centroid_ray(frame: Frame) -> tuple[np.ndarray, np.ndarray, float]:
    """Origin and unit direction in object space of the ray through the mask's centroid; tangent of its half angle."""
    camera = frame.camera
    x, y, half = mask_place(frame)
    to_object = np.linalg.inv(np.asarray(frame.object_to_world, np.float64)) @ camera.camera_to_world
    direction = to_object[:3, :3] @ np.array([(x - camera.cx) / camera.fx, -(y - camera.cy) / camera.fy, -1.0])
    return to_object[:3, 3], direction / np.linalg.norm(direction), half
