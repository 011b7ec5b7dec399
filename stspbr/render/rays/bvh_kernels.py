"""Numba kernels of the embedded ray backend: a four-wide bounding volume hierarchy, built and traversed.

A node holds the boxes of four children. The build is a binary one with binned surface-area costs (Wald 2007, "On fast
construction of SAH-based bounding volume hierarchies"), whose levels are then merged by twos (Wald et al. 2008,
"Getting rid of packets"). Each ray is one thread's, so no result depends on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

LEAF = 4
"""Triangles per leaf at most, unless their centres coincide."""
STACK = 96
_BINS = 16
_BLOCK = 128
_FLAGS = {"contract", "arcp", "nsz"}
_EDGE = np.float32(1e-6)  # barycentrics may leave the triangle by so much: a ray through an edge hits one of the two
_TINY = np.float32(1e-20)
_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
def build_binary(low, high, order, node_low, node_high, left, first, count):
    """Binary hierarchy over triangle boxes ``low``, ``high`` ``[T, 3]``; permutes ``order`` ``[T]``. Returns the size.

    Node ``n`` is a leaf of ``order[first[n] : first[n] + count[n]]`` if ``count[n] > 0``; else its children are
    ``left[n]`` and ``left[n] + 1``. The arrays of nodes have room for ``2 T`` rows.
    """
    centre = low + high
    size = 1
    first[0], count[0] = 0, order.shape[0]
    stack = np.empty(256, np.int64)
    stack[0] = 0
    top = 1
    cost_left = np.empty(_BINS, np.float64)
    bin_count = np.empty(_BINS, np.int64)
    bin_low, bin_high = np.empty((_BINS, 3), np.float32), np.empty((_BINS, 3), np.float32)
    box_low, box_high = np.empty(3, np.float32), np.empty(3, np.float32)
    while top > 0:
        top -= 1
        node = stack[top]
        start, total = first[node], count[node]
        c_low, c_high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
        box_low[:], box_high[:] = np.inf, -np.inf
        for p in range(start, start + total):
            t = order[p]
            for a in range(3):
                box_low[a] = min(box_low[a], low[t, a])
                box_high[a] = max(box_high[a], high[t, a])
                c_low[a] = min(c_low[a], centre[t, a])
                c_high[a] = max(c_high[a], centre[t, a])
        node_low[node], node_high[node] = box_low, box_high
        if total <= LEAF:
            continue
        best, best_axis, best_bin = np.inf, -1, 0
        for a in range(3):
            extent = c_high[a] - c_low[a]
            if not extent > 0:
                continue
            scale = np.float32(_BINS * 0.9999) / extent
            bin_count[:] = 0
            bin_low[:], bin_high[:] = np.inf, -np.inf
            for p in range(start, start + total):
                t = order[p]
                b = int((centre[t, a] - c_low[a]) * scale)
                bin_count[b] += 1
                for x in range(3):
                    bin_low[b, x] = min(bin_low[b, x], low[t, x])
                    bin_high[b, x] = max(bin_high[b, x], high[t, x])
            box_low[:], box_high[:] = np.inf, -np.inf
            seen = 0
            for b in range(_BINS - 1):
                seen += bin_count[b]
                for x in range(3):
                    box_low[x] = min(box_low[x], bin_low[b, x])
                    box_high[x] = max(box_high[x], bin_high[b, x])
                cost_left[b] = _half_area(box_low, box_high) * seen
            box_low[:], box_high[:] = np.inf, -np.inf
            seen = 0
            for b in range(_BINS - 1, 0, -1):
                seen += bin_count[b]
                for x in range(3):
                    box_low[x] = min(box_low[x], bin_low[b, x])
                    box_high[x] = max(box_high[x], bin_high[b, x])
                cost = cost_left[b - 1] + _half_area(box_low, box_high) * seen
                if 0 < seen < total and cost < best:
                    best, best_axis, best_bin = cost, a, b
        middle = start + total // 2
        if best_axis >= 0:
            scale = np.float32(_BINS * 0.9999) / (c_high[best_axis] - c_low[best_axis])
            i, j = start, start + total - 1
            while i <= j:
                if int((centre[order[i], best_axis] - c_low[best_axis]) * scale) < best_bin:
                    i += 1
                else:
                    order[i], order[j] = order[j], order[i]
                    j -= 1
            middle = i
        child = size
        size += 2
        left[node], count[node] = child, 0
        first[child], count[child] = start, middle - start
        first[child + 1], count[child + 1] = middle, start + total - middle
        stack[top], stack[top + 1] = child, child + 1
        top += 2
    return size


@kernel
def _half_area(low, high):
    if high[0] < low[0]:
        return 0.0
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    return float(x * y + y * z + z * x)


@kernel
def merge_levels(node_low, node_high, left, first, count, boxes, children):
    """Four-wide nodes of a binary hierarchy; returns their number.

    Args:
        boxes: ``[M, 2, 3, 4]`` low and high corners by axis and child; an absent child has an empty box.
        children: ``[M, 4]`` int32: a node, or ``−1 − (8 · first + count)`` for a leaf.
    """
    size = 1
    stack_wide, stack_binary = np.empty(256, np.int64), np.empty(256, np.int64)
    stack_wide[0], stack_binary[0] = 0, 0
    top = 1
    picked = np.empty(4, np.int64)
    while top > 0:
        top -= 1
        wide, node = stack_wide[top], stack_binary[top]
        picked[0] = node
        number = 1
        while number < 4:  # open the largest that is not a leaf
            largest, area = -1, -1.0
            for k in range(number):
                if count[picked[k]] == 0:
                    own = _half_area(node_low[picked[k]], node_high[picked[k]])
                    if own > area:
                        largest, area = k, own
            if largest < 0:
                break
            opened = left[picked[largest]]
            picked[largest], picked[number] = opened, opened + 1
            number += 1
        for k in range(4):
            if k >= number:
                boxes[wide, 0, :, k], boxes[wide, 1, :, k] = np.inf, -np.inf
                children[wide, k] = -1
                continue
            child = picked[k]
            for a in range(3):
                boxes[wide, 0, a, k], boxes[wide, 1, a, k] = node_low[child, a], node_high[child, a]
            if count[child] > 0:
                children[wide, k] = -1 - (8 * first[child] + count[child])
            else:
                children[wide, k] = size
                stack_wide[top], stack_binary[top] = size, child
                top += 1
                size += 1
    return size


@kernel(fastmath=_FLAGS, inline="always")
def _inverse(value):
    if abs(value) < _TINY:
        return _ONE / (_TINY if value >= _ZERO else -_TINY)
    return _ONE / value


@kernel(fastmath=_FLAGS)
def _trace(ox, oy, oz, dx, dy, dz, limit, any_hit, boxes, children, corners, ids, nodes, nears):
    """Row of ``corners`` that is hit first (or at all), distance and barycentrics; −1: none within ``limit``."""
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    sx, sy, sz = int(ix < _ZERO), int(iy < _ZERO), int(iz < _ZERO)
    hit, hit_u, hit_v = -1, _ZERO, _ZERO
    nodes[0], nears[0] = 0, _ZERO
    top = 1
    while top > 0:
        top -= 1
        if nears[top] > limit:
            continue
        node = nodes[top]
        if node < 0:
            code = -1 - node
            begin = code >> 3
            for p in range(begin, begin + (code & 7)):
                ax, ay, az = corners[p, 0], corners[p, 1], corners[p, 2]
                bx, by, bz = corners[p, 3], corners[p, 4], corners[p, 5]
                cx, cy, cz = corners[p, 6], corners[p, 7], corners[p, 8]
                px, py, pz = dy * cz - dz * cy, dz * cx - dx * cz, dx * cy - dy * cx
                det = bx * px + by * py + bz * pz
                if det == _ZERO:
                    continue
                over = _ONE / det
                tx, ty, tz = ox - ax, oy - ay, oz - az
                u = (tx * px + ty * py + tz * pz) * over
                if not (-_EDGE <= u <= _ONE + _EDGE):
                    continue
                qx, qy, qz = ty * bz - tz * by, tz * bx - tx * bz, tx * by - ty * bx
                v = (dx * qx + dy * qy + dz * qz) * over
                if not (-_EDGE <= v and u + v <= _ONE + _EDGE):
                    continue
                t = (cx * qx + cy * qy + cz * qz) * over
                if _ZERO < t and (t < limit or (t == limit and (hit < 0 or ids[p] < ids[hit]))):
                    limit, hit, hit_u, hit_v = t, p, u, v
                    if any_hit:
                        return hit, limit, hit_u, hit_v
            continue
        base = top
        for k in range(4):
            near = max((boxes[node, sx, 0, k] - ox) * ix, (boxes[node, sy, 1, k] - oy) * iy)
            near = max(near, max((boxes[node, sz, 2, k] - oz) * iz, _ZERO))
            far = min((boxes[node, 1 - sx, 0, k] - ox) * ix, (boxes[node, 1 - sy, 1, k] - oy) * iy)
            far = min(far, min((boxes[node, 1 - sz, 2, k] - oz) * iz, limit))
            if near <= far * np.float32(1.0000004):
                child = children[node, k]
                place = top
                while place > base and nears[place - 1] < near:  # the nearest child comes last
                    nodes[place], nears[place] = nodes[place - 1], nears[place - 1]
                    place -= 1
                nodes[place], nears[place] = child, near
                top += 1
    return hit, limit, hit_u, hit_v


@kernel(parallel=True, fastmath=_FLAGS)
def closest(origins, directions, limit, boxes, children, corners, ids, triangle, distance, barycentric):
    """First hits of rays ``[N, 3]``; see ``RayScene.closest``."""
    blocks = (origins.shape[0] + _BLOCK - 1) // _BLOCK
    for block in prange(blocks):
        nodes, nears = np.empty(STACK, np.int32), np.empty(STACK, np.float32)
        for r in range(block * _BLOCK, min((block + 1) * _BLOCK, origins.shape[0])):
            hit, t, u, v = _trace(
                origins[r, 0], origins[r, 1], origins[r, 2], directions[r, 0], directions[r, 1], directions[r, 2],
                limit, False, boxes, children, corners, ids, nodes, nears,
            )  # fmt: skip
            triangle[r] = ids[hit] if hit >= 0 else -1
            distance[r] = t if hit >= 0 else np.float32(np.inf)
            barycentric[r, 0], barycentric[r, 1] = u, v


@kernel(parallel=True, fastmath=_FLAGS)
def occluded(origins, directions, limit, boxes, children, corners, ids, out):
    """Whether rays ``[N, 3]`` hit anything; see ``RayScene.occluded``."""
    blocks = (origins.shape[0] + _BLOCK - 1) // _BLOCK
    for block in prange(blocks):
        nodes, nears = np.empty(STACK, np.int32), np.empty(STACK, np.float32)
        for r in range(block * _BLOCK, min((block + 1) * _BLOCK, origins.shape[0])):
            hit, _, _, _ = _trace(
                origins[r, 0], origins[r, 1], origins[r, 2], directions[r, 0], directions[r, 1], directions[r, 2],
                limit, True, boxes, children, corners, ids, nodes, nears,
            )  # fmt: skip
            out[r] = hit >= 0
