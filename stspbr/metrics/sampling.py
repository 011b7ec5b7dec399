"""Points on a surface: spread evenly by area, seen or not seen by cameras, and what the measures share of a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.errors import StspbrError
from stspbr.metrics.triangle_tree import TriangleTree
from stspbr.scene.camera import Camera
from stspbr.scene.mesh import Mesh


def sample_surface(mesh: Mesh, count: int, seed: int | Sequence[int] = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points spread uniformly by area.

    Args:
        mesh: the surface; faces without area get no point.
        count: number of points.
        seed: one number, or several that together are the seed (of a round, say).

    Returns:
        ``(points [count, 3] float64, face ids [count] int64, barycentrics [count, 3] float64)``.

    Raises:
        StspbrError: no face has an area, or a vertex is not finite.
    """
    a, b, c = _corners(mesh)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    if len(area) == 0 or not np.isfinite(area.sum()) or area.sum() <= 0:
        raise StspbrError("cannot sample the surface: the mesh has no face with an area (or NaN vertices)")
    rng = np.random.default_rng(seed)
    face = np.searchsorted(np.cumsum(area) / area.sum(), rng.uniform(size=count), side="right")
    face = np.minimum(face, len(area) - 1)
    r, s = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    barycentric = np.stack([1.0 - r, r * (1.0 - s), r * s], axis=-1)
    points = barycentric[:, :1] * a[face] + barycentric[:, 1:2] * b[face] + barycentric[:, 2:] * c[face]
    return points, face, barycentric


def visible_points(
    mesh: Mesh,
    points: np.ndarray,
    normals: np.ndarray,
    cameras: Sequence[Camera],
    poses: Sequence[np.ndarray] | None = None,
    minimum: int = 1,
    tree: TriangleTree | None = None,
) -> np.ndarray:
    """Which points of a surface at least ``minimum`` cameras see: in frame, from the front, not hidden.

    Args:
        mesh: what may stand in the way, object space.
        points, normals: ``[N, 3]`` object space, normals pointing outwards.
        cameras, poses: the views and their ``object_to_world`` (None for identity).
        tree: of ``mesh``, where one has been built.

    Returns:
        ``[N]`` bool.
    """
    tree, step = surface_tree(mesh) if tree is None else tree, 1e-4 * diagonal(mesh)
    count = np.zeros(len(points), np.int64)
    # Neighbouring cameras see the same points: in a mixed order most points are done with after a few cameras.
    for k in np.random.default_rng(0).permutation(len(cameras)):
        left = np.flatnonzero(count < minimum)
        if len(left) == 0:
            break
        pose = np.eye(4) if poses is None else np.asarray(poses[k], dtype=np.float64)
        eye = np.linalg.solve(pose, np.append(cameras[k].position, 1.0))[:3]
        left = left[np.einsum("nk,nk->n", eye - points[left], normals[left]) > 0]
        clip = cameras[k].clip_from_object(pose)
        projected = points[left] @ clip[:, :3].T + clip[:, 3]
        left = left[(np.abs(projected[:, :3]) <= projected[:, 3:]).all(axis=1)]
        start = points[left] + step * normals[left]  # off the surface, so that a point does not hide itself
        count[left[~tree.blocked(start, np.broadcast_to(eye, (len(left), 3)))]] += 1
    return count >= minimum


def pixel_footprint(mesh: Mesh, cameras: Sequence[Camera], poses: Sequence[np.ndarray] | None = None) -> float:
    """Side of a pixel at the middle of a mesh's box, in object units: the median over the cameras."""
    used = np.asarray(mesh.positions, dtype=np.float64)[np.unique(mesh.faces)]
    centre = 0.5 * (used.min(axis=0) + used.max(axis=0))
    sizes = []
    for k, camera in enumerate(cameras):
        pose = np.eye(4) if poses is None else np.asarray(poses[k], dtype=np.float64)
        to_camera = camera.world_to_camera @ pose
        depth = abs((to_camera @ np.append(centre, 1.0))[2])
        unit = np.cbrt(abs(np.linalg.det(to_camera[:3, :3])))  # a pose may scale: world units an object unit
        sizes.append(depth / np.sqrt(camera.fx * camera.fy) / unit)
    return float(np.median(sizes))


def surface_tree(mesh: Mesh) -> TriangleTree:
    """The tree for closest points and rays; StspbrError for a mesh without faces or with vertices not finite."""
    if len(mesh.faces) == 0:
        raise StspbrError("cannot measure distances to an empty mesh: it has no face")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError("cannot measure distances to a mesh with NaN or infinite vertices")
    return TriangleTree(mesh.positions, mesh.faces)


def face_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals ``[F, 3]`` float64 of the triangles; zero where there is no area."""
    a, b, c = _corners(mesh)
    n = np.cross(b - a, c - a)
    return n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-30)


def face_areas(mesh: Mesh) -> np.ndarray:
    """Areas ``[F]`` float64 of the triangles."""
    a, b, c = _corners(mesh)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def diagonal(mesh: Mesh) -> float:
    """Length of the diagonal of the box around the vertices that faces use."""
    used = np.asarray(mesh.positions, dtype=np.float64)[np.unique(mesh.faces)]
    return float(np.linalg.norm(used.max(axis=0) - used.min(axis=0)))


def _corners(mesh: Mesh) -> list[np.ndarray]:
    return [np.asarray(mesh.positions, dtype=np.float64)[mesh.faces[:, k]] for k in range(3)]
