"""Numba kernels: the closest point of a surface, by an implicit binary tree of boxes over triangles in Morton order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stspbr.kernel_cache import kernel

LEAF = 4
"""Triangles per leaf."""
_STACK = 64


class ClosestTree(NamedTuple):
    """A surface that kernels ask for closest points.

    Attributes:
        points: ``[V, 3]`` float64; faces: ``[F, 3]`` int64, in the tree's order.
        low, high: ``[2·leaves, 3]`` boxes; node 1 is the root, node ``n`` has the children ``2n`` and ``2n + 1``.
        values: ``[V, C]`` float64, what is interpolated at closest points.
    """

    points: np.ndarray
    faces: np.ndarray
    low: np.ndarray
    high: np.ndarray
    values: np.ndarray


def closest_tree(positions: np.ndarray, faces: np.ndarray, values: np.ndarray) -> ClosestTree:
    """The tree of ``positions [V, 3]``, finite, and ``faces [F, 3]``, F ≥ 1, with ``values [V, C]`` at the vertices."""
    points, faces = np.ascontiguousarray(positions, np.float64), np.asarray(faces, np.int64)
    centres = points[faces].mean(axis=1)
    span = max(float(np.ptp(centres, axis=0).max()), 1e-300)
    cells = np.minimum((centres - centres.min(axis=0)) / span * 1024.0, 1023.0).astype(np.int64)
    faces = np.ascontiguousarray(faces[np.argsort(_morton(cells), kind="stable")])
    leaves = 1 << max(int(np.ceil(np.log2(max(len(faces) / LEAF, 1.0)))), 0)
    low, high = np.full((2 * leaves, 3), np.inf), np.full((2 * leaves, 3), -np.inf)
    corners = points[faces]
    leaf = leaves + np.arange(len(faces)) // LEAF
    np.minimum.at(low, leaf, corners.min(axis=1))
    np.maximum.at(high, leaf, corners.max(axis=1))
    level = leaves // 2
    while level >= 1:
        low[level : 2 * level] = np.minimum(low[2 * level : 4 * level : 2], low[2 * level + 1 : 4 * level : 2])
        high[level : 2 * level] = np.maximum(high[2 * level : 4 * level : 2], high[2 * level + 1 : 4 * level : 2])
        level //= 2
    return ClosestTree(points, faces, low, high, np.ascontiguousarray(values, np.float64))


def closest_points(tree: ClosestTree, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closest points ``[P, 3]`` of ``points [P, 3]``, their faces ``[P]`` (rows of ``tree.faces``), barycentrics."""
    points = np.ascontiguousarray(points, np.float64)
    found, face, weights = np.empty((len(points), 3)), np.empty(len(points), np.int64), np.empty((len(points), 3))
    _closest_points(tree, points, found, face, weights)
    return found, face, weights


def _morton(cells: np.ndarray) -> np.ndarray:
    code = np.zeros(len(cells), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


@kernel
def _closest_points(tree, points, found, face, weights):
    for i in range(len(points)):
        face[i], _, w0, w1, w2 = closest(tree, points[i])
        weights[i, 0], weights[i, 1], weights[i, 2] = w0, w1, w2
        corners = tree.faces[face[i]]
        for a in range(3):
            found[i, a] = (
                w0 * tree.points[corners[0], a] + w1 * tree.points[corners[1], a] + w2 * tree.points[corners[2], a]
            )


@kernel
def closest(tree, point):
    """``(face, squared distance, w0, w1, w2)`` of the surface's closest point; of equal ones the tree's first."""
    leaves = len(tree.low) // 2
    stack, bound = np.empty(_STACK, np.int64), np.empty(_STACK)
    stack[0], bound[0] = 1, 0.0
    top = 1
    best, best_face = np.inf, -1
    b0 = b1 = b2 = 0.0
    while top > 0:
        top -= 1
        node = stack[top]
        if bound[top] >= best:
            continue
        if node >= leaves:
            first = (node - leaves) * LEAF
            for f in range(first, min(first + LEAF, len(tree.faces))):
                i, j, k = tree.faces[f, 0], tree.faces[f, 1], tree.faces[f, 2]
                squared, w0, w1, w2 = point_triangle(point, tree.points[i], tree.points[j], tree.points[k])
                if squared < best:
                    best, best_face, b0, b1, b2 = squared, f, w0, w1, w2
            continue
        left, right = 2 * node, 2 * node + 1
        near, far = _box_distance(tree, left, point), _box_distance(tree, right, point)
        if far < near:
            left, right, near, far = right, left, far, near
        if far < best:
            stack[top], bound[top] = right, far
            top += 1
        if near < best:
            stack[top], bound[top] = left, near
            top += 1
    return best_face, best, b0, b1, b2


@kernel
def _box_distance(tree, node, point):
    total = 0.0
    for a in range(3):
        gap = max(tree.low[node, a] - point[a], point[a] - tree.high[node, a])
        if gap > 0.0:
            total += gap * gap
    return total


@kernel
def point_triangle(p, a, b, c):
    """Squared distance of a point to a triangle, and the barycentrics of its closest point (Ericson 2005, 5.1.5)."""
    abx, aby, abz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    acx, acy, acz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    apx, apy, apz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    d00, d01 = abx * abx + aby * aby + abz * abz, abx * acx + aby * acy + abz * acz
    d11 = acx * acx + acy * acy + acz * acz
    d20, d21 = apx * abx + apy * aby + apz * abz, apx * acx + apy * acy + apz * acz
    area = d00 * d11 - d01 * d01
    v, w = -1.0, -1.0
    if area > 1e-14 * d00 * d11:
        v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    if v < 0.0 or w < 0.0 or v + w > 1.0:
        # outside: the nearest of the three edges
        s = min(max(d20 / d00, 0.0), 1.0) if d00 > 0.0 else 0.0
        t = min(max(d21 / d11, 0.0), 1.0) if d11 > 0.0 else 0.0
        d22 = d00 - 2.0 * d01 + d11
        r = min(max((d21 - d01 - d20 + d00) / d22, 0.0), 1.0) if d22 > 0.0 else 0.0
        first = s * s * d00 - 2.0 * s * d20
        second = t * t * d11 - 2.0 * t * d21
        third = (1.0 - r) ** 2 * d00 + r * r * d11 + 2.0 * r * (1.0 - r) * d01 - 2.0 * ((1.0 - r) * d20 + r * d21)
        if first <= second and first <= third:
            v, w = s, 0.0
        elif second <= third:
            v, w = 0.0, t
        else:
            v, w = 1.0 - r, r
    x, y, z = apx - v * abx - w * acx, apy - v * aby - w * acy, apz - v * abz - w * acz
    return x * x + y * y + z * z, 1.0 - v - w, v, w
