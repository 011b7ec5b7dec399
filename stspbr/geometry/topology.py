"""The topology of a mesh: closed, manifold, number of pieces and handles."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stspbr.errors import StspbrError


def half_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end ``[3F]`` int64 of the directed edges: all first edges of the faces, all second, all third.

    Half edge ``h`` belongs to face ``h % F`` and starts at its corner ``h // F``.
    """
    faces = np.asarray(faces).reshape(-1, 3).astype(np.int64)
    return faces.T.reshape(-1), np.roll(faces, -1, axis=1).T.reshape(-1)


def inner_edges(faces: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Faces left and right, start and end ``[E]`` of the edges with two faces of one orientation."""
    start, end = half_edges(faces)
    owner = np.arange(len(start)) % len(faces)
    forward, backward = start < end, start > end
    first, second = start[forward] * vertices + end[forward], end[backward] * vertices + start[backward]
    keys, at, other = np.intersect1d(first, second, return_indices=True)
    return owner[forward][at], owner[backward][other], keys // vertices, keys % vertices


def mesh_report(positions: np.ndarray, faces: np.ndarray) -> dict:
    """Count what can be wrong with a mesh.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``.

    Returns:
        A dict that JSON can hold: ``vertices`` (used ones), ``faces``, ``edges``, ``watertight`` (every edge has
        exactly two faces, which run along it in opposite directions), ``boundary_edges`` (one face),
        ``non_manifold_edges`` (more than two), ``flipped_edges`` (two faces, same direction),
        ``non_manifold_vertices`` (extra fans of faces that share only a vertex), ``components`` (joined by vertices),
        ``euler`` (V − E + F), ``genus`` (total, None unless watertight and manifold), ``degenerate_faces`` (a repeated
        vertex or no area), ``area``, ``volume`` (signed, positive for outward faces; meaningful if watertight).
    """
    faces = np.asarray(faces).reshape(-1, 3).astype(np.int64)
    start, end = half_edges(faces)
    count = int(faces.max(initial=-1)) + 1
    keys = np.minimum(start, end) * max(count, 1) + np.maximum(start, end)
    edge_keys, edge_of, uses = np.unique(keys, return_inverse=True, return_counts=True)
    balance = np.bincount(edge_of, weights=np.where(start < end, 1.0, -1.0), minlength=len(edge_keys))
    boundary, crowded = int((uses == 1).sum()), int((uses > 2).sum())
    flipped = int(((uses == 2) & (balance != 0)).sum())
    watertight = len(faces) > 0 and boundary == crowded == flipped == 0
    used, components = len(np.unique(faces)), len(np.unique(face_components(faces)))
    extra_fans = _corner_fans(faces, edge_of, uses) - used
    euler = used - len(edge_keys) + len(faces)
    crosses, areas = _areas(positions, faces)
    corner = np.asarray(positions, dtype=np.float64)[faces[:, 0]]
    repeated = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    closed_manifold = watertight and extra_fans == 0
    return {
        "vertices": used,
        "faces": len(faces),
        "edges": len(edge_keys),
        "watertight": bool(watertight),
        "boundary_edges": boundary,
        "non_manifold_edges": crowded,
        "flipped_edges": flipped,
        "non_manifold_vertices": int(extra_fans),
        "components": components,
        "euler": euler,
        "genus": components - euler // 2 if closed_manifold else None,
        "degenerate_faces": int((repeated | (areas <= 0)).sum()),
        "area": float(areas.sum()),
        "volume": float((crosses * corner).sum() / 6.0),
    }


def face_components(faces: np.ndarray) -> np.ndarray:
    """``[F]`` int: component (joined by shared vertices) of each of ``faces [F, 3]``, numbered by first face."""
    faces = np.asarray(faces).reshape(-1, 3).astype(np.int64)
    if len(faces) == 0:
        return np.zeros(0, dtype=np.int64)
    start, end = half_edges(faces)
    label = connected(start, end, int(faces.max()) + 1)[1][faces[:, 0]]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def connected(start: np.ndarray, end: np.ndarray, count: int) -> tuple[int, np.ndarray]:
    """How many components the edges from ``start [E]`` to ``end [E]`` make of ``count`` nodes, and each node's."""
    graph = coo_matrix((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
    return connected_components(graph, directed=False)


def keep_faces(positions: np.ndarray, faces: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The faces for which ``keep [F]`` is true, and only the vertices that they use, in order."""
    faces = np.asarray(faces)[keep]
    used, index = np.unique(faces, return_inverse=True)
    return np.ascontiguousarray(np.asarray(positions)[used]), index.reshape(-1, 3).astype(np.int32)


def remove_small_components(
    positions: np.ndarray, faces: np.ndarray, keep_fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Drop the components whose area is below ``keep_fraction`` of the largest one's.

    Raises:
        StspbrError: ``keep_fraction`` outside [0, 1].
    """
    if not 0.0 <= keep_fraction <= 1.0:
        raise StspbrError(f"keep_fraction is {keep_fraction}: give a number from 0 to 1")
    if len(faces) == 0:
        return positions, faces
    component = face_components(faces)
    area = np.bincount(component, weights=_areas(positions, faces)[1])
    return keep_faces(positions, faces, (area >= keep_fraction * area.max())[component])


def _areas(positions: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross products ``[F, 3]`` and areas ``[F]``, float64."""
    corners = np.asarray(positions, dtype=np.float64)[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return crosses, 0.5 * np.linalg.norm(crosses, axis=1)


def _corner_fans(faces: np.ndarray, edge_of: np.ndarray, uses: np.ndarray) -> int:
    """Number of fans of faces around vertices: corners joined across edges with two faces."""
    if len(faces) == 0:
        return 0
    order = np.argsort(edge_of, kind="stable")
    first = (np.cumsum(uses) - uses)[uses == 2]
    a, b = order[first], order[first + 1]
    # half edge h starts at corner (face, k) and ends at corner (face, k + 1); node of a corner = k·F + face
    count = len(faces)
    a_end, b_end = (a + count) % (3 * count), (b + count) % (3 * count)
    vertex = faces.T.reshape(-1)
    same = vertex[a] == vertex[b]
    left = np.concatenate([a, a_end])
    right = np.concatenate([np.where(same, b, b_end), np.where(same, b_end, b)])
    return int(connected(left, right, 3 * count)[0])
