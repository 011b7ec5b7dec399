"""The object's own frame of reference: its middle at the origin, its radius 1, up along +Y."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.photos.consensus_hull import Hull, consensus_hull, silhouette
from stspbr.scene.camera import Camera

_TABLE_NEAR = 4.0  # object radii in which the table is sought
_TABLE_SHARE, _TABLE_LEAST = 0.35, 40  # of the background points there must lie in the table's plane
_TABLE_THICK = 0.03  # object radii
_TILT = 40.0  # degrees by which a plane may lean against the cameras' own up
_RING_FLAT, _RING_WIDE = 0.12, 0.45  # camera centres: thickness, and least width, over the largest extent
_TRIALS = 500
_AGREEMENT = 0.4  # intersection over union of the masks with the hull's silhouettes, at the median


@dataclass(frozen=True)
class ObjectFrame:
    """Where the object is.

    Attributes:
        centre: ``[3]``; radius: of a sphere about the object, in units of the original world.
        up: ``[3]`` unit vector in the original world.
        up_from: ``"table"``, ``"camera ring"`` or ``"cameras"``: what the up axis was estimated from.
        world_from_original: ``[4, 4]`` similarity: the object's middle goes to the origin, its radius to 1, up to +Y,
            and the first camera to the side of +Z.
    """

    centre: np.ndarray
    radius: float
    up: np.ndarray
    up_from: str
    world_from_original: np.ndarray


def object_frame(
    cameras: Sequence[Camera], masks: Sequence[np.ndarray], points: np.ndarray, on_object: np.ndarray
) -> ObjectFrame:
    """Estimate the frame from cameras, masks ``[H, W]`` bool and sparse points.

    Args:
        points: ``[P, 3]`` in the cameras' world.
        on_object: ``[P]`` bool, as :func:`stspbr.photos.carried_masks.object_points` gives them.

    Raises:
        StspbrError: masks and poses put the object nowhere.
    """
    hull = _hull(cameras, masks, points[on_object])
    centre, radius = _sphere(hull.points, hull.cell)
    up, source = up_axis(cameras, points[~on_object], centre, radius)
    return ObjectFrame(centre, radius, up, source, _similarity(centre, radius, up, cameras[0]))


def moved_camera(camera: Camera, similarity: np.ndarray) -> np.ndarray:
    """The pose ``[4, 4]`` of a camera in a world that a similarity has moved: still rigid."""
    scale = float(np.cbrt(np.linalg.det(similarity[:3, :3])))
    moved = similarity @ np.asarray(camera.camera_to_world, np.float64)
    moved[:3, :3] /= scale
    return moved


def up_axis(
    cameras: Sequence[Camera], background: np.ndarray, centre: np.ndarray, radius: float
) -> tuple[np.ndarray, str]:
    """Up, and what it was estimated from.

    The mean of the cameras' up vectors is right if photos are held upright and look down equally on all sides. It
    gives way to the plane of the table if many background points lie in one, else to the plane of the camera
    centres if these form a ring; either must lie within 40° of it, unless the cameras are rolled too differently.
    A table has the cameras on its upper side.
    """
    upward = np.mean([camera.camera_to_world[:3, 1] for camera in cameras], axis=0)
    sure = float(np.linalg.norm(upward))
    upward = upward / max(sure, 1e-12)
    positions = np.stack([camera.position for camera in cameras])
    limit = np.cos(np.radians(_TILT)) if sure > 0.5 else -1.0
    table = _table(background, positions, centre, radius)
    if table is not None and table @ upward > limit:
        return table, "table"
    ring = _ring(positions)
    if ring is not None and abs(ring @ upward) > limit:
        return ring if ring @ upward > 0 else -ring, "camera ring"
    return upward, "cameras"


def _hull(cameras: Sequence[Camera], masks: Sequence[np.ndarray], points: np.ndarray) -> Hull:
    hull = consensus_hull(masks, cameras, *_first_cube(cameras, masks, points))
    agreement = [_agreement(silhouette(hull, camera), mask) for camera, mask in zip(cameras, masks, strict=True)]
    if np.median(agreement) < _AGREEMENT:
        raise StspbrError(
            "the masks contradict each other: they do not belong to one object at rest; check the masks, and that the "
            "object did not move against its background (for a turntable: --set features=object)"
        )
    return hull


def _agreement(shape: np.ndarray, mask: np.ndarray) -> float:
    return (shape & mask).sum() / max((shape | mask).sum(), 1)


def _first_cube(cameras: Sequence[Camera], masks: Sequence[np.ndarray], points: np.ndarray) -> tuple[np.ndarray, float]:
    """A cube that holds the object: where the lines of sight through the masks' middles meet, or the points are."""
    origins, directions, angles = [], [], []
    for camera, mask in zip(cameras, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        local = np.array([(columns.mean() + 0.5 - camera.cx) / camera.fx, (camera.cy - rows.mean() - 0.5) / camera.fy])
        direction = camera.camera_to_world[:3, :3] @ np.array([*local, -1.0])
        origins.append(camera.position)
        directions.append(direction / np.linalg.norm(direction))
        angles.append(0.5 * max(np.ptp(rows) / camera.fy, np.ptp(columns) / camera.fx))
    start, towards = np.array(origins), np.array(directions)
    across = np.eye(3) - towards[:, :, None] * towards[:, None, :]
    matrix = across.sum(axis=0)
    if len(points) >= 20 or np.linalg.eigvalsh(matrix)[0] < 1e-3 * len(directions):
        if len(points) < 3:
            raise StspbrError("all photos look the same way: take them from around the object")
        centre = np.median(points, axis=0)
    else:
        centre = np.linalg.solve(matrix, np.einsum("fij,fj->i", across, start))
    distances = np.linalg.norm(start - centre, axis=1)
    return centre, 2.5 * float(np.median(distances * np.array(angles)))


def _sphere(points: np.ndarray, cell: float) -> tuple[np.ndarray, float]:
    """The middle of the box of the hull's cells, and the radius that holds nearly all of them."""
    centre = 0.5 * (np.quantile(points, 0.002, axis=0) + np.quantile(points, 0.998, axis=0))
    return centre, float(np.quantile(np.linalg.norm(points - centre, axis=1), 0.998)) + 0.5 * cell


def _table(background: np.ndarray, positions: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """Normal of the plane that holds many of the points about the object, towards the cameras; None: no such plane."""
    near = background[np.linalg.norm(background - centre, axis=1) < _TABLE_NEAR * radius]
    if len(near) < _TABLE_LEAST:
        return None
    rng = np.random.default_rng(0)
    best, most = None, 0
    for _ in range(_TRIALS):
        a, b, c = near[rng.choice(len(near), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-12:
            continue
        on = np.abs((near - a) @ (normal / length)) < _TABLE_THICK * radius
        if on.sum() > most:
            best, most = on, int(on.sum())
    if best is None or most < max(_TABLE_LEAST, _TABLE_SHARE * len(near)):
        return None
    middle = near[best].mean(axis=0)
    _, extents, axes = np.linalg.svd(near[best] - middle, full_matrices=False)
    if extents[1] < 0.2 * extents[0]:  # a line lies in many planes
        return None
    normal = axes[2]
    heights = (positions - middle) @ normal
    normal, heights = (normal, heights) if np.median(heights) > 0 else (-normal, -heights)
    return normal if (heights > 0).mean() > 0.9 and (centre - middle) @ normal > -0.5 * radius else None


def _ring(positions: np.ndarray) -> np.ndarray | None:
    """Normal of the plane of camera centres that form a ring, of either sign; None if they do not."""
    if len(positions) < 5:
        return None
    _, extents, axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=False)
    flat, wide = extents[2] < _RING_FLAT * extents[0], extents[1] > _RING_WIDE * extents[0]
    return axes[2] if flat and wide else None


def _similarity(centre: np.ndarray, radius: float, up: np.ndarray, first: Camera) -> np.ndarray:
    toward = first.position - centre
    toward = toward - up * (toward @ up)
    if np.linalg.norm(toward) < 1e-9 * radius:
        toward = np.cross(up, first.camera_to_world[:3, 0])
    front = toward / np.linalg.norm(toward)
    out = np.eye(4)
    out[:3, :3] = np.stack([np.cross(up, front), up, front]) / radius
    out[:3, 3] = -out[:3, :3] @ centre
    return out
