"""Continuous remeshing: the same surface in triangles of good shape, small where it bends and large where it is flat.

Split, collapse, flip and smooth (Botsch and Kobbelt 2004; adaptive lengths after Dunyach et al. 2013; as steps of an
inverse rendering, Palfinger 2022), back onto the source after every change. No change may fold the surface, cut
another part of it, or leave the source by more than the error allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

from stspbr.errors import StspbrError
from stspbr.geometry.closest_kernels import ClosestTree, closest_points, closest_tree
from stspbr.geometry.creases import restored_creases
from stspbr.geometry.curvature import target_lengths
from stspbr.geometry.face_grid_kernels import FaceGrid, face_grid, fill
from stspbr.geometry.half_edge_kernels import HalfEdges, half_edge_mesh
from stspbr.geometry.intersections import untangled
from stspbr.geometry.remesh_kernels import SHORT, collapse_pass, relative_lengths, split_pass
from stspbr.geometry.remesh_shape_kernels import flip_pass, move_pass, smooth_pass
from stspbr.geometry.topology import keep_faces

LEAST_BUDGET = 64
"""Fewer triangles than this are no surface that curvature could be told from."""
_ROUNDS = 8
_FILL = 0.97  # of the budget is aimed at
_SLACK = 3.0  # a triangle may leave the source by so many times the error that the lengths stand for
_NOISE = 0.15  # … or by this share of the source's mean edge, which is its own noise
_FITS = 3
_STIFF = 0.02  # weight of even displacements in a fit


@dataclass(frozen=True)
class Remeshed:
    """A remeshed surface.

    Attributes:
        positions: ``[V, 3]`` float32; faces: ``[F, 3]`` int32.
        sharp: ``[F, 3]`` bool: the edge from each corner to the next is a crease.
        report: what was done, which JSON can hold.
    """

    positions: np.ndarray
    faces: np.ndarray
    sharp: np.ndarray
    report: dict


def remesh(positions: np.ndarray, faces: np.ndarray, budget: int) -> Remeshed:
    """Remesh a surface with at most ``budget`` triangles, spent by curvature.

    Self-intersections of the source are smoothed away first. Borders, and edges and vertices that are not manifold,
    stay as they are.

    Args:
        positions: ``[V, 3]``, finite; faces: ``[F, 3]``, welded, none degenerate.
        budget: at least ``LEAST_BUDGET``.

    Raises:
        StspbrError: no faces, or too small a budget.
    """
    if len(faces) == 0:
        raise StspbrError("cannot remesh a mesh without faces")
    if budget < LEAST_BUDGET:
        raise StspbrError(f"a budget of {budget} faces: give at least {LEAST_BUDGET}")
    faces = np.asarray(faces, np.int64)
    points, tangled, left = untangled(positions, faces)
    points, sharp = restored_creases(points, faces)
    points = untangled(points, faces)[0]
    mean_edge = float(np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=-1).mean())
    lengths, error = target_lengths(points, faces, int(_FILL * budget), 0.5 * mean_edge)
    tolerance = max(_SLACK * error, _NOISE * mean_edge)
    tree = closest_tree(points, faces, lengths[:, None])
    low, high = points[np.unique(faces)].min(axis=0), points[np.unique(faces)].max(axis=0)
    room = 2 * max(budget, len(faces)) + 1024
    mesh = half_edge_mesh(points, faces, sharp, room)
    mesh.length[: len(points)] = lengths
    grid = face_grid(low - tolerance, high + tolerance, max(mean_edge, 0.5 * float(lengths.mean())), len(mesh.faces))
    fill(grid, mesh.points, mesh.faces, mesh.used[1])
    scale = 1.0
    for number in range(_ROUNDS):
        if number:
            scale *= float(np.clip(np.sqrt(_alive(mesh) / (_FILL * budget)), 0.8, 1.25))
        last = number == _ROUNDS - 1
        if not last:
            split_pass(mesh, grid, tree, scale, len(mesh.faces))
        _collapse(mesh, grid, tree, scale, tolerance, 16)
        mesh = _compact(mesh, room)
        grid = face_grid(low - tolerance, high + tolerance, float(grid.size[0]), len(mesh.faces))
        fill(grid, mesh.points, mesh.faces, mesh.used[1])
        for _ in range(2):
            flip_pass(mesh, grid, tree, tolerance)
            smooth_pass(mesh, grid, tree, tolerance)
    for attempt in range(12):  # a budget is kept: longer edges, larger errors
        if _alive(mesh) <= budget:
            break
        _collapse(mesh, grid, tree, scale * 1.15 ** (attempt + 1), tolerance * 1.2 ** (attempt + 1), budget)
        flip_pass(mesh, grid, tree, tolerance)
    mesh = _compact(mesh, room)
    fill(grid, mesh.points, mesh.faces, mesh.used[1])
    for _ in range(_FITS):
        move_pass(mesh, grid, tree, _fitted(mesh, tree), tolerance)
        flip_pass(mesh, grid, tree, tolerance)
    used = mesh.faces[: mesh.used[1]]
    kept = used[:, 0] >= 0
    out, index = keep_faces(mesh.points, used, kept)
    sharp = mesh.sharp[: 3 * len(used)].reshape(-1, 3)[kept]
    out, _, after = untangled(out.astype(np.float32), index)
    report = {"faces": len(index), "budget": budget, "error": error, "tolerance": tolerance}
    report["crease_edges"] = int(sharp.sum()) // 2
    report |= {"intersections_before": tangled, "intersections_untangled": left, "intersections_after": after}
    return Remeshed(out.astype(np.float32), index.astype(np.int32), sharp, report)


def _alive(mesh: HalfEdges) -> int:
    return int((mesh.faces[: mesh.used[1], 0] >= 0).sum())


def _collapse(mesh: HalfEdges, grid: FaceGrid, tree: ClosestTree, scale: float, tolerance: float, least: int) -> None:
    ratio = relative_lengths(mesh, scale)
    short = np.flatnonzero(ratio < SHORT)
    order = short[np.argsort(ratio[short], kind="stable")]
    collapse_pass(mesh, grid, tree, order, scale, tolerance, least, _alive(mesh))


def _compact(mesh: HalfEdges, room: int) -> HalfEdges:
    """The mesh without what is gone."""
    count = int(mesh.used[1])
    kept = mesh.faces[:count, 0] >= 0
    used, index = np.unique(mesh.faces[:count][kept], return_inverse=True)
    sharp = mesh.sharp[: 3 * count].reshape(-1, 3)[kept]
    out = half_edge_mesh(mesh.points[used], index.reshape(-1, 3), sharp, room)
    out.length[: len(used)] = mesh.length[used]
    out.kind[: len(used)] = np.maximum(out.kind[: len(used)], mesh.kind[used])
    return out


def _fitted(mesh: HalfEdges, tree: ClosestTree) -> np.ndarray:
    """``[V', 3]`` vertices moved along their normals so that the mesh is close to the source in the mean square.

    Vertices on the source itself would cut off what is convex: a mesh of few triangles would be too small.
    """
    vertices, count = int(mesh.used[0]), int(mesh.used[1])
    faces, points = mesh.faces[:count], mesh.points[:vertices]
    samples, normals, areas = _samples(tree)
    own = closest_tree(points, faces, np.zeros((vertices, 1)))
    found, face, weights = closest_points(own, samples)
    corners = own.faces[face]
    crosses = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    smooth = np.stack([np.bincount(faces.reshape(-1), np.repeat(crosses[:, k], 3), vertices) for k in range(3)], 1)
    smooth = smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-300)
    a, b, c = (points[corners[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-300)
    fits = (facing * normals).sum(axis=1) > 0.3
    row = np.repeat(np.arange(len(samples)), 3)
    value = weights * (facing[:, None, :] * smooth[corners]).sum(axis=2)
    matrix = coo_matrix((value.reshape(-1), (row, corners.reshape(-1))), shape=(len(samples), vertices)).tocsr()
    right = (facing * (samples - found)).sum(axis=1)
    weight = diags(np.where(fits, areas, 0.0))
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    stiff = _STIFF * areas.sum() / max(count, 1)
    links = coo_matrix((np.ones(len(start)), (start, end)), shape=(vertices, vertices)).tocsr()
    links = links + links.T
    laplacian = diags(np.asarray(links.sum(axis=1)).reshape(-1)) - links
    system = matrix.T @ weight @ matrix + 0.25 * stiff * laplacian + diags(np.full(vertices, 0.05 * stiff))
    shift, _ = cg(system, matrix.T @ (weight @ right), rtol=1e-6, maxiter=200)
    out = mesh.points.copy()
    out[:vertices] += shift[:, None] * smooth
    return out


def _samples(tree: ClosestTree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four points per triangle of the source ``[4F, 3]``, with their normals and areas."""
    a, b, c = (tree.points[tree.faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    doubled = np.linalg.norm(cross, axis=1)
    normals = cross / np.maximum(doubled, 1e-300)[:, None]
    shares = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    points = np.concatenate([s[0] * a + s[1] * b + s[2] * c for s in shares])
    return points, np.tile(normals, (4, 1)), np.tile(doubled / 8.0, 4)
