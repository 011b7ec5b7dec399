"""Fewer triangles under the same textures: simplification that keeps UVs, seams, hard edges and material borders.

A vertex is removed by collapsing into a neighbour, so every remaining corner keeps its position, UV, normal and
tangent. The error is measured over position, UV and normal together (Garland and Heckbert 1998, "Simplifying surfaces
with color and texture using quadric error metrics"), on each side of a seam separately (Hoppe 1999). Vertices on a
seam move only along it; vertices at which seams meet or end stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene import Corners, Mesh
from stspbr.scene.attributes import mesh_normals
from stspbr.texture.lod_kernels import add_quadrics, collapse

_UV_WEIGHT = 0.2  # of a shift of the texture on the surface, relative to a shift of the surface of that length
_NORMAL_WEIGHT = 0.02  # of a turn by one radian, relative to a shift by the whole radius
_SEAM_WEIGHT = 1.0


def simplify_textured(mesh: Mesh, target_faces: int) -> Mesh:
    """``mesh`` with at most ``target_faces`` triangles, or as few as its seams allow.

    Args:
        mesh: any; without UVs, shape and normals alone count.
        target_faces: at least 4.

    Returns:
        A mesh whose attributes are rows of the given one's; materials and nodes of faces are kept. The same mesh if it
        is already small enough.

    Raises:
        StspbrError: ``target_faces`` below 4.
    """
    if target_faces < 4:
        raise StspbrError(f"a level of detail with {target_faces} triangles: give at least 4")
    if len(mesh.faces) <= target_faces:
        return mesh
    rows, wedge = _wedges(mesh)
    points, uvs, values = _values(mesh, rows)
    faces = np.ascontiguousarray(mesh.faces, np.int64)
    seam, kind = _seams(faces, wedge, len(points))
    quadrics = add_quadrics(values[wedge], wedge, seam, _SEAM_WEIGHT, len(rows))
    wedge = wedge.copy()
    alive = collapse(points, uvs, values, faces.copy(), wedge, kind, *quadrics, target_faces)
    return _picked(mesh, rows[wedge[alive]], alive)


def _wedges(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Distinct corners ``[W, 6]`` (position, UV, normal, tangent, material, node; 0 where absent), ``[F, 3]`` into."""
    absent = np.zeros_like(mesh.faces)
    columns = [mesh.faces]
    columns += [absent if own is None else own.index for own in (mesh.uvs, mesh.normals, mesh.tangents)]
    for owner in (mesh.face_material, mesh.face_node):
        columns.append(absent if owner is None else np.repeat(np.asarray(owner)[:, None], 3, axis=1))
    corners = np.stack(columns, axis=-1).reshape(-1, 6).astype(np.int64)
    rows, index = np.unique(corners, axis=0, return_inverse=True)
    return rows, index.reshape(-1, 3).astype(np.int64)


def _values(mesh: Mesh, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points ``[V, 3]`` in units of the mesh's radius, UVs ``[W, 2]``, and the error metric's values ``[W, 8]``."""
    points = np.asarray(mesh.positions, np.float64)
    used = points[np.unique(mesh.faces)]
    centre = 0.5 * (used.min(axis=0) + used.max(axis=0))
    points = (points - centre) / max(float(np.linalg.norm(used - centre, axis=1).max()), 1e-30)
    normal_of = rows[:, 2] if mesh.normals is not None else rows[:, 0]
    uvs, scale = np.zeros((len(rows), 2)), 0.0
    if mesh.uvs is not None:
        coords = np.asarray(mesh.uvs.values, np.float64)
        uvs, scale = coords[rows[:, 1]], _units_per_uv(points[mesh.faces], coords[mesh.uvs.index])
    normals = np.asarray(mesh_normals(mesh).values, np.float64)[normal_of]
    values = np.concatenate([points[rows[:, 0]], _UV_WEIGHT * scale * uvs, _NORMAL_WEIGHT * normals], axis=1)
    return points, np.ascontiguousarray(uvs), np.ascontiguousarray(values)


def _units_per_uv(corners: np.ndarray, coords: np.ndarray) -> float:
    """Mean length on the surface per length of 1 in the image."""
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    first, second = coords[:, 1] - coords[:, 0], coords[:, 2] - coords[:, 0]
    image = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum()
    return float(np.sqrt(area / image)) if image > 0 else 0.0


def _seams(faces: np.ndarray, wedge: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Which edges ``[F, 3]`` (corner k to the next) are seams or borders, and the kind of each vertex ``[V]``."""
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    sides = np.stack([wedge, np.roll(wedge, -1, axis=1)], axis=-1).reshape(-1, 2)
    swapped = ends[:, 0] > ends[:, 1]
    ends[swapped], sides[swapped] = ends[swapped][:, ::-1], sides[swapped][:, ::-1]
    edges, edge = np.unique(ends, axis=0, return_inverse=True)
    edge = edge.reshape(-1)
    uses = np.bincount(edge)
    kinds_of_side = np.unique(np.column_stack([edge, sides]), axis=0)[:, 0]
    is_seam = (uses != 2) | (np.bincount(kinds_of_side, minlength=len(edges)) > 1)
    meets = np.bincount(edges[is_seam].reshape(-1), minlength=vertices)
    kind = np.where(meets == 0, 0, np.where(meets == 2, 1, 2))
    kind[edges[uses > 2].reshape(-1)] = 2
    return is_seam[edge].reshape(-1, 3), kind.astype(np.int64)


def _picked(mesh: Mesh, rows: np.ndarray, alive: np.ndarray) -> Mesh:
    """The mesh of the corners ``rows [F', 3, 6]``, without unused rows of the tables."""

    def own(corners: Corners[np.ndarray], column: int) -> Corners[np.ndarray]:
        used, picked = np.unique(rows[..., column], return_inverse=True)
        return Corners(corners.values[used], picked.reshape(-1, 3).astype(np.int32))

    points = own(Corners(mesh.positions, mesh.faces), 0)
    return replace(
        mesh.of_faces(alive),
        positions=points.values,
        faces=points.index,
        uvs=mesh.uvs and own(mesh.uvs, 1),
        normals=mesh.normals and own(mesh.normals, 2),
        tangents=mesh.tangents and own(mesh.tangents, 3),
    )
