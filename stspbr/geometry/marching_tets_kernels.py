"""Numba kernels of marching tetrahedra: which edges cross, which faces arise. No floating-point work."""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

# Slabs are a property of the work, not of the thread count: the result's order never depends on threads.
_SLABS = 16
_EDGE_CORNERS = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]], dtype=np.int64)


def case_table() -> tuple[np.ndarray, np.ndarray]:
    """Faces of the 16 cases: ``counts [16]`` and ``edges [16, 6]`` (tet edges of up to two triangles).

    Bit k of the case is set where corner k is inside. Built from a reference tetrahedron: each triangle is
    turned so that its normal points from the inside corners to the outside ones.
    """
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    midpoints = corners[_EDGE_CORNERS].mean(axis=1)
    edge_of = {frozenset(pair.tolist()): e for e, pair in enumerate(_EDGE_CORNERS)}
    counts, table = np.zeros(16, dtype=np.int32), np.full((16, 6), -1, dtype=np.int32)
    for case in range(1, 15):
        inside = [k for k in range(4) if case >> k & 1]
        outside = [k for k in range(4) if not case >> k & 1]
        if len(inside) == 2:
            ring = [(inside[0], outside[0]), (inside[0], outside[1]), (inside[1], outside[1]), (inside[1], outside[0])]
        else:
            ring = [(i, o) for i in inside for o in outside]
        loop = [edge_of[frozenset(pair)] for pair in ring]
        a, b, c = midpoints[loop[:3]]
        outward = corners[outside].mean(axis=0) - corners[inside].mean(axis=0)
        if np.dot(np.cross(b - a, c - a), outward) < 0:
            loop.reverse()
        triangles = [loop[:3]] if len(loop) == 3 else [loop[:3], [loop[0], loop[2], loop[3]]]
        counts[case] = len(triangles)
        table[case, : 3 * len(triangles)] = np.concatenate(triangles)
    return counts, table


@kernel(parallel=True)
def tet_edge_table(tets, edges, first_edge):
    """``[T, 6]`` int32: row in ``edges`` (sorted, smaller index first) of each tet's edges.

    ``first_edge [V + 1]``: where the edges that start at a vertex begin.
    """
    out = np.empty((tets.shape[0], 6), dtype=np.int32)
    for t in prange(tets.shape[0]):
        for e in range(6):
            a = tets[t, _EDGE_CORNERS[e, 0]]
            b = tets[t, _EDGE_CORNERS[e, 1]]
            low, high = min(a, b), max(a, b)
            out[t, e] = -1
            for row in range(first_edge[low], first_edge[low + 1]):
                if edges[row, 1] == high:
                    out[t, e] = row
                    break
    return out


@kernel(parallel=True)
def crossing_edges(inside, edges):
    """Edges with one end inside: ``crossing [M, 2]`` int64 (inside end first), ``new_index [E]`` int32 (or −1)."""
    count = edges.shape[0]
    slab = (count + _SLABS - 1) // _SLABS
    starts = np.zeros(_SLABS + 1, dtype=np.int64)
    for s in prange(_SLABS):
        total = 0
        for e in range(s * slab, min(count, (s + 1) * slab)):
            total += inside[edges[e, 0]] != inside[edges[e, 1]]
        starts[s + 1] = total
    for s in range(_SLABS):
        starts[s + 1] += starts[s]
    crossing = np.empty((starts[_SLABS], 2), dtype=np.int64)
    new_index = np.empty(count, dtype=np.int32)
    for s in prange(_SLABS):
        row = starts[s]
        for e in range(s * slab, min(count, (s + 1) * slab)):
            a, b = edges[e, 0], edges[e, 1]
            new_index[e] = -1
            if inside[a] != inside[b]:
                crossing[row, 0] = a if inside[a] else b
                crossing[row, 1] = b if inside[a] else a
                new_index[e] = row
                row += 1
    return crossing, new_index


@kernel(parallel=True)
def crossing_faces(inside, tets, tet_edges, new_index, case_counts, case_edges):
    """``[F, 3]`` int32 faces into the crossing edges, counter-clockwise seen from outside."""
    count = tets.shape[0]
    slab = (count + _SLABS - 1) // _SLABS
    cases = np.empty(count, dtype=np.uint8)
    starts = np.zeros(_SLABS + 1, dtype=np.int64)
    for s in prange(_SLABS):
        total = 0
        for t in range(s * slab, min(count, (s + 1) * slab)):
            case = inside[tets[t, 0]] | inside[tets[t, 1]] << 1 | inside[tets[t, 2]] << 2 | inside[tets[t, 3]] << 3
            cases[t] = case
            total += case_counts[case]
        starts[s + 1] = total
    for s in range(_SLABS):
        starts[s + 1] += starts[s]
    faces = np.empty((starts[_SLABS], 3), dtype=np.int32)
    for s in prange(_SLABS):
        row = starts[s]
        for t in range(s * slab, min(count, (s + 1) * slab)):
            case = cases[t]
            for f in range(case_counts[case]):
                for k in range(3):
                    faces[row, k] = new_index[tet_edges[t, case_edges[case, 3 * f + k]]]
                row += 1
    return faces
