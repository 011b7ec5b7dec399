"""The sign cases of a cube: which of its crossing edges one dual vertex joins (Nielson 2004, dual marching cubes).

Corner k of a cell has the offsets ``(k >> 2 & 1, k >> 1 & 1, k & 1)`` along x, y, z; bit k of a case is set where
corner k is inside. Everything follows from the cube itself; nothing is written down by hand.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

CORNERS = np.array([[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8)], dtype=np.int64)
EDGES = np.array([[a, b] for axis in range(3) for a in range(8) for b in (a + (4 >> axis),) if not CORNERS[a, axis]])
"""``[12, 2]``: lower and upper corner; four edges along x, four along y, four along z."""
FACES = np.array([[axis, side] for axis in range(3) for side in (0, 1)])
"""``[6, 2]``: axis and end of each face; face ``f ^ 1`` is opposite."""


class CubeCases(NamedTuple):
    """The tables of the 256 cases; rows from 256 on are their second variant.

    Attributes:
        edges: ``[12, 2]``: ``EDGES``.
        ring: ``[3, 4]``: an inner edge along each axis, as it is numbered in the four cells around it. The first cell
            has the edge at its far end along both other axes b and c; then follow its neighbours along b, along b and
            c, and along c: counter-clockwise seen from the positive end of the axis.
        loops: ``[512, 12]``: the dual vertex that each crossing edge belongs to, numbered from 0; −1 for edges without
            a crossing. The first variant cuts the inside corners of an ambiguous face apart, the second one the outside
            corners of the face ``pinched``.
        counts: ``[512]``: dual vertices.
        pinched: ``[256]``: the ambiguous face that one loop passes twice in the first variant, or −1. If a loop of the
            neighbour passes it twice as well, the two dual vertices would share an edge of four faces: both cells
            then take the second variant, which splits the loop.
    """

    edges: np.ndarray
    ring: np.ndarray
    loops: np.ndarray
    counts: np.ndarray
    pinched: np.ndarray


@cache
def cube_cases() -> CubeCases:
    """The tables (int64), made once."""
    loops, counts = np.full((512, 12), -1, np.int64), np.zeros(512, np.int64)
    pinched = np.full(256, -1, np.int64)
    for case in range(256):
        inside = np.array([bool(case >> k & 1) for k in range(8)])
        apart = [_segments(face, inside) for face in range(6)]
        loops[case], counts[case] = _joined([pair for pairs in apart for pair in pairs])
        twice = [f for f, pairs in enumerate(apart) if len(pairs) == 2 and len({*loops[case][np.ravel(pairs)]}) == 1]
        if twice:
            (pinched[case],) = twice  # a cube has room for one only
            apart[twice[0]] = _segments(twice[0], ~inside)
        loops[256 + case], counts[256 + case] = _joined([pair for pairs in apart for pair in pairs])
    return CubeCases(EDGES, _ring(), loops, counts, pinched)


def _ring() -> np.ndarray:
    out = np.empty((3, 4), np.int64)
    for axis in range(3):
        b, c = 4 >> (axis + 1) % 3, 4 >> (axis + 2) % 3
        out[axis] = [np.flatnonzero((EDGES == (low, low + (4 >> axis))).all(axis=1))[0] for low in (b + c, c, 0, b)]
    return out


def _segments(face: int, inside: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of edges that the surface's line on ``face`` joins, around the inside corners if there are two."""
    axis, side = FACES[face]
    on_face = [e for e in range(12) if (CORNERS[EDGES[e], axis] == side).all()]
    crossing = [e for e in on_face if inside[EDGES[e, 0]] != inside[EDGES[e, 1]]]
    if len(crossing) < 4:
        return [(crossing[0], crossing[1])] if crossing else []
    corners = [k for k in range(8) if CORNERS[k, axis] == side and inside[k]]
    first, second = ([e for e in crossing if k in EDGES[e]] for k in corners)
    return [(first[0], first[1]), (second[0], second[1])]


def _joined(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, int]:
    """The closed loops that the ``pairs`` of edges make: ``[12]`` their number by edge, −1 for none; how many."""
    label = np.full(12, -1, np.int64)
    count = 0
    for start in range(12):
        if label[start] >= 0 or all(start not in pair for pair in pairs):
            continue
        reached = [start]
        for edge in reached:
            label[edge] = count
            reached += [e for pair in pairs if edge in pair for e in pair if label[e] < 0 and e not in reached]
        count += 1
    return label, count
