"""Where to put cameras around an object: an even spiral on a sphere, with held-out views in between."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from stspbr.errors import StspbrError
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.mesh import Mesh

_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def sphere_cameras(
    count: int,
    radius: float,
    fov_degrees: float,
    resolution: int | tuple[int, int],
    seed: int = 0,
    target: ArrayLike = (0.0, 0.0, 0.0),
    elevation_degrees: tuple[float, float] = (-35.0, 80.0),
    offset: float = 0.5,
    margin: float = 1.0,
) -> list[Camera]:
    """Cameras on a sphere that look at ``target``, spread evenly by area (a Fibonacci spiral).

    Args:
        count: number of cameras.
        radius: distance from ``target`` in world units.
        fov_degrees: field of view of the shorter image side.
        resolution: side in pixels, or ``(height, width)``.
        seed: turns the whole spiral about +Y; the same seed gives the same cameras.
        target: ``[3]`` point in world space.
        elevation_degrees: lowest and highest elevation above the horizon, within [−90, 90].
        offset: position in [0, 1) within a step of the spiral. A set at 0 lies between the cameras of one at 0.5.
        margin: the clip planes leave room for an object of radius ``margin`` about ``target``.

    Returns:
        ``count`` cameras, from the lowest to the highest.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    if count < 0 or radius <= 0 or not 0 < fov_degrees < 180 or min(height, width) < 1:
        raise StspbrError(
            f"cannot place cameras: count {count}, radius {radius}, field of view {fov_degrees}, "
            f"resolution {height}x{width}; all must be positive and the field of view below 180 degrees"
        )
    low, high = (np.sin(np.radians(e)) for e in elevation_degrees)
    focal = 0.5 * min(height, width) / np.tan(0.5 * np.radians(fov_degrees))
    near, far = max(radius - 1.25 * margin, 0.01 * radius), radius + 1.25 * margin
    start = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi)
    centre = np.asarray(target, dtype=np.float64)
    cameras = []
    for i in range(count):
        y = low + (high - low) * (i + offset) / count
        phi = start + _GOLDEN_ANGLE * (i + offset)
        s = np.sqrt(max(0.0, 1.0 - y * y))
        position = centre + radius * np.array([s * np.sin(phi), y, s * np.cos(phi)])
        pose = look_at(position, centre)
        cameras.append(Camera(pose, focal, focal, width / 2.0, height / 2.0, width, height, near, far))
    return cameras


def object_cameras(
    mesh: Mesh,
    train: int,
    test: int,
    resolution: int | tuple[int, int],
    fov_degrees: float = 35.0,
    seed: int = 0,
    fill: float = 0.92,
    elevation_degrees: tuple[float, float] = (-35.0, 80.0),
) -> tuple[list[Camera], list[Camera]]:
    """Train and held-out cameras for a mesh, as near as all of them can stand without cutting it off.

    Args:
        mesh: the object in world space (identity pose).
        train, test: numbers of cameras; no test camera stands where a train camera does.
        fill: the largest distance of a vertex's image from the image's centre, as a share of half the side.

    Returns:
        ``(train cameras, test cameras)``, all at one distance from the centre of the object's box.
    """
    points = mesh.positions[np.unique(mesh.faces)]
    centre, bound = bounding_sphere(points)

    def place(radius: float) -> tuple[list[Camera], list[Camera]]:
        spiral = partial(
            sphere_cameras,
            radius=radius,
            fov_degrees=fov_degrees,
            resolution=resolution,
            target=centre,
            elevation_degrees=elevation_degrees,
            margin=bound,
        )
        # the test spiral has another phase along *and* around, so that its views lie between the train views
        return spiral(train, seed=seed, offset=0.5), spiral(test, seed=seed + 7919, offset=0.31)

    near, far = bound * 1.02, bound * 2.0 / (fill * np.tan(0.5 * np.radians(fov_degrees)))
    for _ in range(20):
        middle = 0.5 * (near + far)
        near, far = (near, middle) if _extent(points, sum(place(middle), [])) <= fill else (middle, far)
    return place(far)


def _extent(points: np.ndarray, cameras: list[Camera]) -> float:
    """The largest |x| or |y| of ``points`` in the clip spaces of ``cameras``; infinite where one is behind."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    largest = 0.0
    for camera in cameras:
        clip = homogeneous @ camera.clip_from_object(np.eye(4)).T
        if clip[:, 3].min() <= 0:
            return np.inf
        largest = max(largest, float((np.abs(clip[:, :2]) / clip[:, 3:]).max()))
    return largest


def bounding_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre ``[3]`` of the axis-aligned box of ``points`` ``[N, 3]``, and the radius that holds them all."""
    points = np.asarray(points, dtype=np.float64)
    if len(points) == 0:
        raise StspbrError("the mesh is empty: it has no vertex to point a camera at")
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    return centre, float(np.linalg.norm(points - centre, axis=-1).max())
