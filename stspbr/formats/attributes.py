"""Vertex attributes between files, which split a vertex at every seam, and ``Mesh``, whose positions are welded."""

from __future__ import annotations

import numpy as np

from stspbr.scene.asset import Mesh


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of ``[N, C]`` in the order of their first appearance, and ``[N]`` int32 into them.

    Rows are compared bit for bit, except that −0 counts as 0.
    """
    rows = np.ascontiguousarray(rows + 0 if rows.dtype.kind == "f" else rows)  # −0 + 0 = 0
    if len(rows) == 0:
        return rows, np.zeros(0, np.int32)
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[first[order]], rank[inverse.reshape(-1)].astype(np.int32)


def weld(mesh: Mesh) -> Mesh:
    """The mesh with one row for each distinct position, UV, normal and tangent, and without collapsed triangles.

    Rows that no triangle uses are dropped; a triangle collapses where two of its corners are one point.
    """
    positions, index = unique_rows(mesh.positions)
    faces = index[mesh.faces]
    solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    out = Mesh(*_compact(positions, faces[solid]))
    for values, indices in (("uvs", "uv_faces"), ("normals", "normal_faces"), ("tangents", "tangent_faces")):
        table = getattr(mesh, values)
        if table is not None:
            table, index = unique_rows(table)
            table, corner = _compact(table, index[getattr(mesh, indices)][solid])
            setattr(out, values, table)
            setattr(out, indices, corner)
    for owner in ("face_material", "face_node"):
        if getattr(mesh, owner) is not None:
            setattr(out, owner, np.ascontiguousarray(getattr(mesh, owner)[solid], np.int32))
    return out


def smooth_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals ``[V, 3]`` float32, unit; +Z where faces cancel or there are none.

    ``geometry.normals.vertex_normals`` is its differentiable twin.
    """
    p = positions.astype(np.float64)[faces]
    area = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    total = np.stack(
        [np.bincount(faces.reshape(-1), np.repeat(area[:, axis], 3), len(positions)) for axis in range(3)], axis=1
    )
    return unit(total, (0.0, 0.0, 1.0))


def unit(vectors: np.ndarray, fallback: tuple[float, float, float]) -> np.ndarray:
    """``[N, 3]`` scaled to length 1 as float32; ``fallback`` where a vector has no direction.

    A vector that is unit to float32's precision stays as it is, so that writing and reading again changes nothing.
    """
    v = np.asarray(vectors, np.float32).astype(np.float64)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    sound = np.isfinite(length) & (length > 1e-20)
    length = np.where(sound & (np.abs(length - 1.0) > 4e-7), length, 1.0)
    return np.where(sound, v / length, np.asarray(fallback)).astype(np.float32)


def _compact(table: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``table`` without the rows that ``faces`` do not use, in the same order, and the faces into it."""
    used = np.zeros(len(table), bool)
    used[faces.reshape(-1)] = True
    renumber = np.cumsum(used) - 1
    return np.ascontiguousarray(table[used]), np.ascontiguousarray(renumber[faces], np.int32)
