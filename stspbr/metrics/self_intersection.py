"""Where a surface passes through itself (Numba): a count of triangle pairs, decided by exact signs of determinants.

Vertices are rounded to whole multiples of 2⁻⁴⁰ of the mesh's extent, finer than float32. All differences are then
exact in float64; a determinant whose sign rounding could change is summed again without rounding (Shewchuk 1997,
"Adaptive precision floating-point arithmetic and fast robust geometric predicates").
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.errors import StspbrError
from stspbr.kernel_cache import kernel
from stspbr.metrics.triangle_tree import build_tree

_BITS = 40
_ROUNDING = 2.0**-53
_BOUND = (7.0 + 56.0 * _ROUNDING) * _ROUNDING  # Shewchuk's bound for orient3d, times the sum of magnitudes
_SPLIT = 2.0**27 + 1.0


def self_intersections(positions: np.ndarray, faces: np.ndarray) -> int:
    """How many pairs of triangles have a point in common although they share no vertex.

    Vertices at equal positions are one vertex. Triangles are closed: touching counts, as a point in common does.
    Pairs that share a vertex, even if they are folded onto each other, and triangles without area are left out.

    Args:
        positions: ``[V, 3]``, finite; faces: ``[F, 3]``.

    Raises:
        StspbrError: a vertex is not finite.
    """
    faces = np.asarray(faces).reshape(-1, 3)
    points = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise StspbrError("cannot look for self-intersections in a mesh with NaN or infinite vertices")
    if len(faces) < 2:
        return 0
    points = points - points[faces].min(axis=(0, 1))
    extent = float(points[faces].max())
    if extent <= 0.0:
        return 0
    points = np.round(points * 2.0 ** (_BITS - np.ceil(np.log2(extent))))
    _, vertex = np.unique(points, axis=0, return_inverse=True)
    tree = build_tree(points, faces)
    owner = np.ascontiguousarray(vertex.reshape(-1)[faces][tree.order])
    return int(_count_pairs(tree.corners, owner, tree.low, tree.high, tree.right, tree.start, tree.count))


@kernel(parallel=True)
def _count_pairs(corners, owner, low, high, right, start, count):
    faces = len(corners)
    axes = np.empty(faces, np.int64)
    for i in prange(faces):
        axes[i] = _widest_axis(corners[i])
    found = np.zeros(faces, np.int64)
    for i in prange(faces):
        if axes[i] < 0:
            continue
        box_low, box_high = np.empty(3), np.empty(3)
        for k in range(3):
            box_low[k] = min(corners[i, 0, k], corners[i, 1, k], corners[i, 2, k])
            box_high[k] = max(corners[i, 0, k], corners[i, 1, k], corners[i, 2, k])
        stack = np.empty(128, np.int64)
        stack[0], top, pairs = 0, 1, 0
        while top > 0:
            top -= 1
            node = stack[top]
            apart = False
            for k in range(3):
                apart |= low[node, k] > box_high[k] or high[node, k] < box_low[k]
            if apart:
                continue
            if right[node] >= 0:
                stack[top], stack[top + 1] = right[node], node + 1
                top += 2
                continue
            for j in range(max(start[node], i + 1), start[node] + count[node]):
                if axes[j] >= 0 and not _share_vertex(owner[i], owner[j]):
                    pairs += _triangles_meet(corners[i], corners[j], axes[i], axes[j])
        found[i] = pairs
    return found.sum()


@kernel
def _share_vertex(a, b):
    for k in range(3):
        if a[k] == b[0] or a[k] == b[1] or a[k] == b[2]:
            return True
    return False


@kernel
def _widest_axis(t):
    """The axis to drop so that the triangle keeps the most area; −1 where it has none."""
    best, axis = 0.0, -1
    for k in range(3):
        x, y = (k + 1) % 3, (k + 2) % 3
        area = abs((t[1, x] - t[0, x]) * (t[2, y] - t[0, y]) - (t[1, y] - t[0, y]) * (t[2, x] - t[0, x]))
        if (area > best or axis < 0) and _orient2d(t[0], t[1], t[2], x, y) != 0:
            best, axis = area, k
    return axis


@kernel
def _triangles_meet(a, b, axis_a, axis_b):
    side_a, side_b = np.empty(3, np.int64), np.empty(3, np.int64)
    for k in range(3):
        side_b[k] = _orient3d(a[0], a[1], a[2], b[k])
    if abs(side_b[0] + side_b[1] + side_b[2]) == 3:
        return False
    for k in range(3):
        side_a[k] = _orient3d(b[0], b[1], b[2], a[k])
    if abs(side_a[0] + side_a[1] + side_a[2]) == 3:
        return False
    for k in range(3):  # triangles meet where an edge of either meets the other
        j = (k + 1) % 3
        if _segment_meets(b[k], b[j], side_b[k], side_b[j], a, axis_a):
            return True
        if _segment_meets(a[k], a[j], side_a[k], side_a[j], b, axis_b):
            return True
    return False


@kernel
def _segment_meets(p, q, side_p, side_q, t, axis):
    """Whether the closed segment p–q meets the closed triangle; the sides are those of its plane."""
    if side_p * side_q > 0:
        return False
    if side_p == 0 and side_q == 0:
        return _segment_meets_in_plane(p, q, t, (axis + 1) % 3, (axis + 2) % 3)
    u, v = _orient3d(p, q, t[0], t[1]), _orient3d(p, q, t[1], t[2])
    if u * v < 0:
        return False
    w = _orient3d(p, q, t[2], t[0])
    return u * w >= 0 and v * w >= 0


@kernel
def _segment_meets_in_plane(p, q, t, x, y):
    turn = _orient2d(t[0], t[1], t[2], x, y)
    p_inside, q_inside = True, True
    for k in range(3):
        a, b = t[k], t[(k + 1) % 3]
        p_inside &= _orient2d(a, b, p, x, y) * turn >= 0
        q_inside &= _orient2d(a, b, q, x, y) * turn >= 0
        if _segments_meet(p, q, a, b, x, y):
            return True
    return p_inside or q_inside


@kernel
def _segments_meet(p, q, a, b, x, y):
    for k in (x, y):
        if min(p[k], q[k]) > max(a[k], b[k]) or max(p[k], q[k]) < min(a[k], b[k]):
            return False
    across_p = _orient2d(a, b, p, x, y) * _orient2d(a, b, q, x, y)
    across_a = _orient2d(p, q, a, x, y) * _orient2d(p, q, b, x, y)
    return across_p <= 0 and across_a <= 0  # on one line: the boxes have said that they overlap


@kernel(inline="always")
def _two_product(a, b):
    """a·b as a rounded product and what rounding took (Dekker 1971)."""
    product = a * b
    c = _SPLIT * a
    a_high = c - (c - a)
    c = _SPLIT * b
    b_high = c - (c - b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


@kernel
def _orient2d(a, b, c, x, y):
    """Sign of the turn a → b → c in the plane of the axes x and y, exact."""
    left, left_rest = _two_product(a[x] - c[x], b[y] - c[y])
    right, right_rest = _two_product(a[y] - c[y], b[x] - c[x])
    if left != right:
        return 1 if left > right else -1
    return int(left_rest > right_rest) - int(left_rest < right_rest)


@kernel
def _orient3d(a, b, c, d):
    """Sign of det[a − d, b − d, c − d], exact: which side of the plane a, b, c the point d is on."""
    ax, ay, az = a[0] - d[0], a[1] - d[1], a[2] - d[2]
    bx, by, bz = b[0] - d[0], b[1] - d[1], b[2] - d[2]
    cx, cy, cz = c[0] - d[0], c[1] - d[1], c[2] - d[2]
    bc, cb, ca, ac, ab, ba = bx * cy, cx * by, cx * ay, ax * cy, ax * by, bx * ay
    value = az * (bc - cb) + bz * (ca - ac) + cz * (ab - ba)
    size = (abs(bc) + abs(cb)) * abs(az) + (abs(ca) + abs(ac)) * abs(bz) + (abs(ab) + abs(ba)) * abs(cz)
    if abs(value) > _BOUND * size:
        return 1 if value > 0.0 else -1
    if size == 0.0:
        return 0
    parts, used = np.zeros(24), 0
    used = _add_product(parts, used, bx, cy, az)
    used = _add_product(parts, used, -cx, by, az)
    used = _add_product(parts, used, cx, ay, bz)
    used = _add_product(parts, used, -ax, cy, bz)
    used = _add_product(parts, used, ax, by, cz)
    used = _add_product(parts, used, -bx, ay, cz)
    for k in range(used - 1, -1, -1):  # the last part that is not zero outweighs all before it
        if parts[k] != 0.0:
            return 1 if parts[k] > 0.0 else -1
    return 0


@kernel
def _add_product(parts, used, a, b, c):
    """Add a·b·c to an expansion of ``used`` parts, exactly; returns how many there are then."""
    high, low = _two_product(a, b)
    first, first_rest = _two_product(low, c)
    second, second_rest = _two_product(high, c)
    for term in (first_rest, first, second_rest, second):
        for k in range(used):
            total = term + parts[k]  # Knuth's two-sum
            back = total - term
            parts[k] = (term - (total - back)) + (parts[k] - back)
            term = total
        parts[used] = term
        used += 1
    return used
