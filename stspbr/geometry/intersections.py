"""Where a mesh cuts itself, and local smoothing until it does not."""

from __future__ import annotations

import numpy as np

from stspbr.geometry.topology import half_edges

_ROUNDS = 30
_STEPS = 2  # of smoothing per round


def intersecting_pairs(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """``[N, 2]`` faces that have a point in common although they share no vertex, by exact predicates.

    Triangles are closed: touching counts. Triangles without area are left out.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``, vertices at one place being one.
    """
    from igl.predicates import find_self_intersections

    points, faces = np.asarray(positions, np.float64), np.asarray(faces, np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    whole = np.flatnonzero(np.cross(b - a, c - a).any(axis=1))
    if len(whole) < 2:
        return np.zeros((0, 2), np.int64)
    pairs = whole[find_self_intersections(points, faces[whole])[1]].reshape(-1, 2)
    first, second = faces[pairs[:, 0]], faces[pairs[:, 1]]
    adjacent = (first[:, :, None] == second[:, None, :]).any(axis=(1, 2))
    return pairs[~adjacent]


def untangled(positions: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Smooth a mesh where it cuts itself: the vertices of the faces in question and, later, those around them.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``.

    Returns:
        New positions ``[V, 3]`` float64, and the number of pairs that intersect before and after. Vertices at a border
        stay, as do all if smoothing makes nothing better.
    """
    points, faces = np.array(positions, np.float64), np.asarray(faces, np.int64)
    pairs = intersecting_pairs(points, faces)
    before = best = len(pairs)
    if before == 0:
        return points, 0, 0
    start, end = half_edges(faces)
    keys = np.unique(np.concatenate([start * len(points) + end, end * len(points) + start]))
    vertex, neighbour = keys // len(points), keys % len(points)
    degree = np.maximum(np.bincount(vertex, minlength=len(points)), 1)[:, None]
    forward, uses = np.unique(np.minimum(start, end) * len(points) + np.maximum(start, end), return_counts=True)
    border = np.zeros(len(points), bool)
    border[np.r_[forward[uses == 1] // len(points), forward[uses == 1] % len(points)]] = True
    kept = points.copy()
    for number in range(_ROUNDS):
        region = np.zeros(len(points), bool)
        region[faces[pairs].reshape(-1)] = True
        for _ in range(min(1 + number // 4, 4)):
            grown = region.copy()
            grown[neighbour[region[vertex]]] = True
            region = grown
        region &= ~border
        for _ in range(_STEPS):
            mean = np.stack([np.bincount(vertex, points[neighbour, k], len(points)) for k in range(3)], 1) / degree
            points[region] += 0.6 * (mean - points)[region]
        pairs = intersecting_pairs(points, faces)
        if len(pairs) < best:
            kept, best = points.copy(), len(pairs)
        if best == 0:
            break
    return kept, before, best
