"""A bounding-volume tree over triangles (Numba): exact closest points, and whether a segment is blocked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

_FLAGS = {"contract", "arcp", "nsz"}
_LEAF = 4


@dataclass
class TriangleTree:
    """Triangles sorted into a binary tree of boxes.

    Attributes:
        corners: ``[F, 3, 3]`` float64 in the order of the leaves.
        order: ``[F]`` int64, the face index of each.
        low, high: ``[N, 3]`` boxes of the nodes.
        right: ``[N]`` index of the second child (the first is the next node), −1 for a leaf.
        start, count: ``[N]`` range of a leaf in ``corners``.
    """

    corners: np.ndarray
    order: np.ndarray
    low: np.ndarray
    high: np.ndarray
    right: np.ndarray
    start: np.ndarray
    count: np.ndarray

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closest points on the triangles.

        Args:
            points: ``[P, 3]``.

        Returns:
            ``(face [P] int64, barycentrics [P, 3] of its corners, distance [P])``, all exact in float64; of
            several triangles at one distance, the first that the tree comes to, which is always the same.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        index, weights, squared = _closest(
            points, self.corners, self.low, self.high, self.right, self.start, self.count
        )
        return self.order[index], weights, np.sqrt(squared)

    def blocked(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Whether anything lies strictly between ``origins`` and ``targets``, both ``[P, 3]``: ``[P]`` bool."""
        origins = np.ascontiguousarray(origins, dtype=np.float64)
        targets = np.ascontiguousarray(targets, dtype=np.float64)
        return _blocked(origins, targets, self.corners, self.low, self.high, self.right, self.start, self.count)


def build_tree(positions: np.ndarray, faces: np.ndarray) -> TriangleTree:
    """The tree of a mesh: ``positions`` ``[V, 3]``, ``faces`` ``[F, 3]`` with F ≥ 1."""
    corners = np.ascontiguousarray(positions, dtype=np.float64)[np.asarray(faces)]
    order, low, high, right, start, count = _build(corners)
    return TriangleTree(np.ascontiguousarray(corners[order]), order, low, high, right, start, count)


@kernel
def _build(corners):
    faces = corners.shape[0]
    middle = np.empty((faces, 3))
    for i in range(faces):
        for k in range(3):
            middle[i, k] = (corners[i, 0, k] + corners[i, 1, k] + corners[i, 2, k]) / 3.0
    order = np.arange(faces)
    most = 2 * faces + 1
    low, high = np.empty((most, 3)), np.empty((most, 3))
    right, start, count = np.full(most, -1), np.zeros(most, np.int64), np.zeros(most, np.int64)
    stack = np.zeros((128, 3), np.int64)  # begin, end, the parent that waits for its second child
    stack[0] = (0, faces, -1)
    top, nodes = 1, 0
    while top > 0:
        top -= 1
        begin, end, parent = stack[top]
        node = nodes
        nodes += 1
        if parent >= 0:
            right[parent] = node
        for k in range(3):
            low[node, k], high[node, k] = np.inf, -np.inf
        centre_low, centre_high = np.full(3, np.inf), np.full(3, -np.inf)
        for i in range(begin, end):
            f = order[i]
            for k in range(3):
                for c in range(3):
                    low[node, k] = min(low[node, k], corners[f, c, k])
                    high[node, k] = max(high[node, k], corners[f, c, k])
                centre_low[k], centre_high[k] = min(centre_low[k], middle[f, k]), max(centre_high[k], middle[f, k])
        axis = np.argmax(centre_high - centre_low)
        if end - begin <= _LEAF:
            start[node], count[node] = begin, end - begin
            continue
        part = order[begin:end].copy()
        order[begin:end] = part[np.argsort(middle[part, axis], kind="mergesort")]
        half = (begin + end) // 2
        stack[top] = (half, end, node)
        stack[top + 1] = (begin, half, -1)  # taken next, so the first child follows its parent
        top += 2
    low, high, right = low[:nodes].copy(), high[:nodes].copy(), right[:nodes].copy()
    return order, low, high, right, start[:nodes].copy(), count[:nodes].copy()


@kernel(inline="always")
def _box_distance(p, low, high, node):
    total = 0.0
    for k in range(3):
        d = max(low[node, k] - p[k], p[k] - high[node, k], 0.0)
        total += d * d
    return total


@kernel(fastmath=_FLAGS)
def _on_segment(p, a, b):
    """Parameter in [0, 1] of the point of the segment a–b that is closest to p."""
    along, length = 0.0, 0.0
    for k in range(3):
        e = b[k] - a[k]
        along += (p[k] - a[k]) * e
        length += e * e
    return min(max(along / length, 0.0), 1.0) if length > 0.0 else 0.0


@kernel(fastmath=_FLAGS)
def _on_triangle(p, t, weights):
    """Squared distance from p to the triangle t ``[3, 3]``; fills the barycentrics of the closest point."""
    e1, e2, d = t[1] - t[0], t[2] - t[0], p - t[0]
    a, b, c = (e1 * e1).sum(), (e1 * e2).sum(), (e2 * e2).sum()
    x, y = (e1 * d).sum(), (e2 * d).sum()
    determinant = a * c - b * b
    if determinant > 1e-14 * a * c:
        v, w = (c * x - b * y) / determinant, (a * y - b * x) / determinant
        if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
            weights[0], weights[1], weights[2] = 1.0 - v - w, v, w
            foot = d - v * e1 - w * e2
            return (foot * foot).sum()
    best = np.inf  # outside, or no area: the closest point is on one of the edges
    for i in range(3):
        j = (i + 1) % 3
        s = _on_segment(p, t[i], t[j])
        total = 0.0
        for k in range(3):
            gap = p[k] - t[i, k] - s * (t[j, k] - t[i, k])
            total += gap * gap
        if total < best:
            best = total
            weights[i], weights[j], weights[3 - i - j] = 1.0 - s, s, 0.0
    return best


@kernel(parallel=True, fastmath=_FLAGS)
def _closest(points, corners, low, high, right, start, count):
    index, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    squared = np.empty(len(points))
    for i in prange(len(points)):
        p = points[i]
        stack, gaps, trial = np.empty(128, np.int64), np.empty(128), np.empty(3)
        stack[0], gaps[0] = 0, _box_distance(p, low, high, 0)
        top, best = 1, np.inf
        while top > 0:
            top -= 1
            node = stack[top]
            if gaps[top] >= best:
                continue
            if right[node] < 0:
                for f in range(start[node], start[node] + count[node]):
                    found = _on_triangle(p, corners[f], trial)
                    if found < best:
                        best, index[i] = found, f
                        weights[i, 0], weights[i, 1], weights[i, 2] = trial[0], trial[1], trial[2]
                continue
            first, second = node + 1, right[node]
            near, far = _box_distance(p, low, high, first), _box_distance(p, low, high, second)
            if near > far:
                first, second, near, far = second, first, far, near
            stack[top], gaps[top] = second, far
            stack[top + 1], gaps[top + 1] = first, near
            top += 2
        squared[i] = best
    return index, weights, squared


@kernel(inline="always")
def _segment_meets_box(o, d, low, high, node):
    enter, leave = 0.0, 1.0
    for k in range(3):
        if abs(d[k]) < 1e-300:
            if o[k] < low[node, k] or o[k] > high[node, k]:
                return False
            continue
        t0, t1 = (low[node, k] - o[k]) / d[k], (high[node, k] - o[k]) / d[k]
        enter, leave = max(enter, min(t0, t1)), min(leave, max(t0, t1))
    return enter <= leave


@kernel
def _segment_meets_triangle(o, d, t):
    """Möller and Trumbore's test (1997), for segments: 0 < t < 1."""
    e1, e2 = t[1] - t[0], t[2] - t[0]
    h = np.cross(d, e2)
    determinant = (e1 * h).sum()
    if abs(determinant) < 1e-300:
        return False
    s = o - t[0]
    u = (s * h).sum() / determinant
    if u < 0.0 or u > 1.0:
        return False
    q = np.cross(s, e1)
    v = (d * q).sum() / determinant
    if v < 0.0 or u + v > 1.0:
        return False
    along = (e2 * q).sum() / determinant
    return along > 0.0 and along < 1.0


@kernel(parallel=True)
def _blocked(origins, targets, corners, low, high, right, start, count):
    out = np.zeros(len(origins), np.bool_)
    for i in prange(len(origins)):
        o, d = origins[i], targets[i] - origins[i]
        stack = np.empty(128, np.int64)
        stack[0], top = 0, 1
        while top > 0 and not out[i]:
            top -= 1
            node = stack[top]
            if not _segment_meets_box(o, d, low, high, node):
                continue
            if right[node] < 0:
                for f in range(start[node], start[node] + count[node]):
                    if _segment_meets_triangle(o, d, corners[f]):
                        out[i] = True
                        break
                continue
            stack[top], stack[top + 1] = right[node], node + 1
            top += 2
    return out
