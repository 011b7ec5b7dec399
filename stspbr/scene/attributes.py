"""Vertex attributes between files, which split a vertex at every seam, and ``Mesh``, whose positions are welded."""

from __future__ import annotations

import numpy as np

from stspbr.scene.mesh import Corners, Mesh

ONE_SIDED = "its open faces show both sides (doubleSided), which is left out: exports show the front alone"
UNDIRECTED = "normals without a direction are computed from the faces"
MOST_TRIANGLES = 1 << 27  # of a file with its instances: more do not fit into the memory of a workstation


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
    mesh = mesh.with_corners(_distinct)
    a, b, c = mesh.faces.T
    return mesh.of_faces((a != b) & (b != c) & (c != a)).with_corners(_compact)


def undirected(vectors: np.ndarray) -> np.ndarray:
    """``[N]`` bool: vectors of length 0 or with values that are not finite."""
    length = np.linalg.norm(np.asarray(vectors, np.float64), axis=-1)
    return ~(np.isfinite(length) & (length > 1e-20))


def open_faces(mesh: Mesh) -> np.ndarray:
    """``[F]`` bool: the triangles of a welded mesh with an edge that no other triangle has."""
    edges = np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    keys = edges[:, 0].astype(np.int64) * len(mesh.positions) + edges[:, 1]
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    return (count[inverse.reshape(-1, 3)] == 1).any(axis=1)


def joined(parts: list[Mesh], fill_tangents: bool) -> Mesh:
    """The parts as one mesh, materials and nodes being those of one asset.

    UVs that only some have are (0, 0) elsewhere; tangents likewise zeros with ``fill_tangents``, else dropped.
    """

    def filled(every: list[Corners[np.ndarray] | None], width: int = 0) -> Corners[np.ndarray] | None:
        if not any(every) or not (width or all(every)):
            return None
        zero = np.zeros((1, width), np.float32)
        pairs = zip(parts, every, strict=True)
        return _concatenated([own or Corners(zero, np.zeros_like(part.faces)) for part, own in pairs])

    points = _concatenated([Corners(part.positions, part.faces) for part in parts])
    return Mesh(
        points.values,
        points.index,
        filled([part.uvs for part in parts], 2),
        filled([part.normals for part in parts]),
        filled([part.tangents for part in parts], 4 * fill_tangents),
        np.concatenate([part.material_of for part in parts]),
        np.concatenate([part.node_of for part in parts]),
    )


def mesh_normals(mesh: Mesh) -> Corners[np.ndarray]:
    """The mesh's own normals, or ``smooth_normals`` if it has none."""
    return mesh.normals or Corners(smooth_normals(mesh.positions, mesh.faces), mesh.faces)


def smooth_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals ``[V, 3]`` float32, unit; +Z where faces cancel or there are none.

    ``geometry.normals.vertex_normals`` is its differentiable twin.
    """
    total = [np.bincount(faces.reshape(-1), np.repeat(part, 3), len(positions)) for part in _areas(positions, faces).T]
    return unit(np.stack(total, axis=1), (0.0, 0.0, 1.0))


def flat_normals(positions: np.ndarray, faces: np.ndarray) -> Corners[np.ndarray]:
    """The unit normal of each face; +Y if a face has no area."""
    index = np.repeat(np.arange(len(faces))[:, None], 3, axis=1)
    return Corners(unit(_areas(positions, faces), (0.0, 1.0, 0.0)), index)


def moved_tangents(tangents: np.ndarray, linear: np.ndarray, mirrored: bool) -> np.ndarray:
    """Tangents with handedness ``[N, 4]`` under ``linear`` ``[3, 3]``, float32; ``mirrored``: det < 0."""
    hand = np.where(tangents[:, 3:] < 0, -1.0, 1.0) * (-1.0 if mirrored else 1.0)
    return np.concatenate([unit(tangents[:, :3] @ linear.T, (1.0, 0.0, 0.0)), hand], axis=1).astype(np.float32)


def unit(vectors: np.ndarray, fallback: tuple[float, float, float]) -> np.ndarray:
    """``[N, 3]`` scaled to length 1 as float32; ``fallback`` where a vector has no direction.

    A vector that is unit to float32's precision stays as it is, so that writing and reading again changes nothing.
    """
    v = np.asarray(vectors, np.float32).astype(np.float64)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    sound = np.isfinite(length) & (length > 1e-20)
    length = np.where(sound & (np.abs(length - 1.0) > 4e-7), length, 1.0)
    return np.where(sound, v / length, np.asarray(fallback)).astype(np.float32)


def _areas(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    p = positions.astype(np.float64)[faces]
    return np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])


def _concatenated(parts: list[Corners[np.ndarray]]) -> Corners[np.ndarray]:
    """One after the other; a table of values that several share is there once."""
    rows, indices, length = [], [], 0
    first: dict[int, int] = {}
    for own in parts:
        if id(own.values) not in first:
            first[id(own.values)], length = length, length + len(own.values)
            rows.append(own.values)
        indices.append(own.index + first[id(own.values)])
    return Corners(np.concatenate(rows), np.concatenate(indices).astype(np.int32))


def _distinct(corners: Corners[np.ndarray]) -> Corners[np.ndarray]:
    """Each value once."""
    values, index = unique_rows(corners.values)
    return Corners(values, index[corners.index])


def _compact(corners: Corners[np.ndarray]) -> Corners[np.ndarray]:
    """Without the rows of values that no corner uses, in the same order."""
    used = np.zeros(len(corners.values), bool)
    used[corners.index.reshape(-1)] = True
    renumber = np.cumsum(used) - 1
    return Corners(np.ascontiguousarray(corners.values[used]), np.ascontiguousarray(renumber[corners.index], np.int32))
