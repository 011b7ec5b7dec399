"""Warp kernels of antialiasing: silhouettes, crossings between pixel centres, blending and its gradients.

A pair is a pixel p and its neighbour q to the right (axis 0) or below (axis 1); ``shift`` and ``code`` of p are those
of ``stspbr.render.cpu.antialias_kernels``, and so are the formulas. Half-edges are sorted by their two vertices:
those of one edge stand side by side, and no list of edges, whose length only the device knows, is needed.
"""

from __future__ import annotations

import warp as wp

from stspbr.warp_runtime import warp_function, warp_kernel

SLACK = wp.constant(wp.float64(1.0 / 128.0))  # pixels that a crossing may lie beyond a centre: coverage is snapped
ON_LINE = wp.constant(wp.float64(1.0e-12))  # relative: positions are float32, the arithmetic is float64
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))


@warp_function
def corner_after(corner: wp.int32):
    return wp.where(corner == 2, 0, corner + 1)


@warp_function
def point(clip: wp.array2d[wp.vec4], b: wp.int32, vertex: wp.int32):
    """(x, y, w) of a vertex."""
    p = clip[b, vertex]
    return wp.vec3d(wp.float64(p[0]), wp.float64(p[1]), wp.float64(p[3]))


@warp_kernel
def half_edges(faces: wp.array[wp.vec3i], vertices: wp.int32, keys: wp.array[wp.int64]):
    """A number for the edge opposite to each corner, the same from both of its faces: ``keys [3·F]``."""
    f, corner = wp.tid()
    corners = faces[f]
    i, j = corners[corner_after(corner)], corners[corner_after(corner_after(corner))]
    keys[3 * f + corner] = wp.int64(wp.min(i, j)) * wp.int64(vertices) + wp.int64(wp.max(i, j))


@warp_kernel
def places(order: wp.array[wp.int64], place: wp.array[wp.int32]):
    """Where each half-edge stands in the sorted list: the inverse of ``order [3·F]``."""
    k = wp.tid()
    place[wp.int32(order[k])] = k


@warp_function
def side(normal: wp.vec3d, p: wp.vec3d):
    """Sign of the line ``normal`` at a vertex: 0 where only rounding would decide, as at a degenerate face."""
    terms = wp.cw_mul(normal, p)
    value, noise = terms[0] + terms[1] + terms[2], ON_LINE * (wp.abs(terms[0]) + wp.abs(terms[1]) + wp.abs(terms[2]))
    return wp.where(value > noise, 1, 0) - wp.where(value < -noise, 1, 0)


@warp_function
def hides(
    clip: wp.array2d[wp.vec4], b: wp.int32, faces: wp.array[wp.vec3i], half: wp.int32, own: wp.int32, mine: wp.int32,
    normal: wp.vec3d,
):  # fmt: skip
    """Whether the face of a half-edge lies on the other side of the edge on screen than vertex ``own``."""
    other = faces[half // 3][half % 3]
    return other != own and mine * side(normal, point(clip, b, other)) < 0


@warp_kernel
def find_silhouettes(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], keys: wp.array[wp.int64], order: wp.array[wp.int64],
    place: wp.array[wp.int32], flags: wp.array2d[wp.uint8],
):  # fmt: skip
    """Bit c of ``flags [B, F]``: no face at the edge opposite to corner c lies on its other side on screen.

    ``keys`` are sorted, ``order`` and ``place`` are the order and its inverse.
    """
    b, f = wp.tid()
    corners = faces[f]
    bits = wp.int32(0)
    if wp.min(corners) >= 0 and wp.max(corners) < clip.shape[1]:
        for corner in range(3):
            i, j = corners[corner_after(corner)], corners[corner_after(corner_after(corner))]
            own = corners[corner]
            # the sign of (p_i × p_j) · p is the side of the edge on screen, times the sign of w: which is the side
            # its face turns to the eye, and therefore what decides, even behind the camera
            normal = wp.cross(point(clip, b, i), point(clip, b, j))
            mine = side(normal, point(clip, b, own))
            outline = wp.bool(True)
            at = place[3 * f + corner]
            k = at - 1
            while k >= 0 and keys[wp.max(k, 0)] == keys[at]:
                if hides(clip, b, faces, wp.int32(order[k]), own, mine, normal):
                    outline = False
                k = k - 1
            last = keys.shape[0] - 1
            k = at + 1
            while k <= last and keys[wp.min(k, last)] == keys[at]:
                if hides(clip, b, faces, wp.int32(order[k]), own, mine, normal):
                    outline = False
                k = k + 1
            if outline:
                bits = bits | (1 << corner)
    flags[b, f] = wp.uint8(bits)


@warp_function
def crossing(
    clip: wp.array2d[wp.vec4], b: wp.int32, corners: wp.vec3i, bits: wp.int32, axis: wp.int32, x: wp.float64,
    y: wp.float64, scale_x: wp.float64, scale_y: wp.float64, away: wp.float64,
):  # fmt: skip
    """Where the triangle's outline leaves the pixel pair: ``(corner or −1, β)``.

    ``x, y`` is p's centre in clip units, ``scale_x, scale_y`` half the image size; ``away``, +1 or −1, points from
    the triangle's own pixel to the other one. The exit is the triangle's farthest crossing that way.
    """
    across = 1 - axis
    centre_along, centre_across = wp.where(axis == 0, x, y), wp.where(axis == 0, y, x)
    scale = wp.where(axis == 0, scale_x, scale_y)
    found = wp.int32(-1)
    farthest = wp.float64(-1.0e30)
    for corner in range(3):
        pi = point(clip, b, corners[corner_after(corner)])
        pj = point(clip, b, corners[corner_after(corner_after(corner))])
        ci, cj = pi[across] - centre_across * pi[2], pj[across] - centre_across * pj[2]
        bottom = ci * pj[2] - pi[2] * cj
        # else the edge does not cross the line of the pair, or behind the camera
        if (ci < ZERO) != (cj < ZERO) and bottom != ZERO and (bottom > ZERO) == (cj < ZERO):
            ai, aj = pi[axis] - centre_along * pi[2], pj[axis] - centre_along * pj[2]
            at = away * scale * (ci * aj - ai * cj) / bottom
            if at > farthest:
                farthest = at
                found = corner
    beta = away * farthest
    if found >= 0:
        if (bits & (1 << found)) == 0 or wp.abs(beta - HALF) > HALF + SLACK:
            found = -1
        else:
            pi = point(clip, b, corners[corner_after(found)])
            pj = point(clip, b, corners[corner_after(corner_after(found))])
            normal = wp.cross(pi, pj)
            # every edge acts in one direction only, the one that it crosses steeply, or it would count twice
            steep = wp.abs(normal[0]) * scale_y >= wp.abs(normal[1]) * scale_x
            if steep != (axis == 0):
                found = -1
    return found, beta


@warp_kernel
def find_crossings(
    rast: wp.array3d[wp.vec4], clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], flags: wp.array2d[wp.uint8],
    shift: wp.array4d[wp.float32], code: wp.array4d[wp.uint8],
):  # fmt: skip
    """Fill ``shift`` and ``code``, both ``[2, B, H, W]``."""
    axis, b, row, column = wp.tid()
    height, width = rast.shape[1], rast.shape[2]
    row_q, column_q = row + axis, column + 1 - axis
    share = wp.float32(0.0)
    mark = wp.int32(0)
    if row_q < height and column_q < width:
        p, q = rast[b, row, column], rast[b, row_q, column_q]
        if p[3] != q[3]:
            own = q[3] <= 0.0 or (p[3] > 0.0 and p[2] <= q[2])
            f = wp.int32(wp.where(own, p[3], q[3])) - 1
            if f >= 0 and f < faces.shape[0]:
                bits = wp.int32(flags[b, f])
                if bits != 0:
                    w, h = wp.float64(width), wp.float64(height)
                    x, y = wp.float64(2 * column + 1) / w - ONE, wp.float64(2 * row + 1) / h - ONE
                    away = wp.where(own, ONE, -ONE)
                    corner, beta = crossing(clip, b, faces[f], bits, axis, x, y, HALF * w, HALF * h, away)
                    if corner >= 0:
                        share = wp.float32(HALF - wp.min(wp.max(beta, ZERO), ONE))
                        mark = 1 + corner + wp.where(own, 0, 3)
    shift[axis, b, row, column] = share
    code[axis, b, row, column] = wp.uint8(mark)


@warp_function
def taken(
    shift: wp.array4d[wp.float32], code: wp.array4d[wp.uint8], axis: wp.int32, before: wp.int32, b: wp.int32,
    row: wp.int32, column: wp.int32,
):  # fmt: skip
    """What this pixel takes of its neighbour before or behind it; minus what it gives, 0 without a crossing."""
    row_p, column_p = row - before * axis, column - before * (1 - axis)
    share = wp.float32(0.0)
    if row_p >= 0 and column_p >= 0:
        if code[axis, b, row_p, column_p] != wp.uint8(0):
            share = shift[axis, b, row_p, column_p]
    return wp.where(before == 1, -share, share)


@warp_kernel
def blend(
    color: wp.array4d[wp.float32], shift: wp.array4d[wp.float32], code: wp.array4d[wp.uint8],
    out: wp.array4d[wp.float32],
):  # fmt: skip
    """Every pixel gathers what its four pairs give it."""
    b, row, column, c = wp.tid()
    here = color[b, row, column, c]
    total = here
    for number in range(4):
        axis, before = number % 2, number // 2
        share = taken(shift, code, axis, before, b, row, column)
        if share > 0.0:
            step = 1 - 2 * before
            total += share * (color[b, row + step * axis, column + step * (1 - axis), c] - here)
    out[b, row, column, c] = total


@warp_kernel
def blend_gradient(
    grad_out: wp.array4d[wp.float32], shift: wp.array4d[wp.float32], code: wp.array4d[wp.uint8],
    grad: wp.array4d[wp.float32],
):  # fmt: skip
    """The transpose of ``blend``, again gathered by the pixel that owns the result."""
    b, row, column, c = wp.tid()
    here = grad_out[b, row, column, c]
    total = here
    for number in range(4):
        axis, before = number % 2, number // 2
        share = taken(shift, code, axis, before, b, row, column)
        if share > 0.0:
            total -= share * here
        elif share < 0.0:
            step = 1 - 2 * before
            total -= share * grad_out[b, row + step * axis, column + step * (1 - axis), c]
    grad[b, row, column, c] = total


@warp_kernel
def clip_gradient(
    grad_out: wp.array4d[wp.float32], color: wp.array4d[wp.float32], rast: wp.array3d[wp.vec4],
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], shift: wp.array4d[wp.float32], code: wp.array4d[wp.uint8],
    grad: wp.array3d[wp.float64],
):  # fmt: skip
    """Add the gradient of the crossings to x, y and w of their edges' vertices ``[B, V, 4]``."""
    axis, b, row, column = wp.tid()
    mark = wp.int32(code[axis, b, row, column])
    if mark != 0:
        row_q, column_q = row + axis, column + 1 - axis
        taker_is_p = shift[axis, b, row, column] > 0.0
        row_t, column_t = wp.where(taker_is_p, row, row_q), wp.where(taker_is_p, column, column_q)
        g = wp.float64(0.0)
        for c in range(color.shape[3]):
            step = color[b, row_q, column_q, c] - color[b, row, column, c]
            g += wp.float64(grad_out[b, row_t, column_t, c]) * wp.float64(step)
        if g != ZERO:
            corner = (mark - 1) % 3
            shown = wp.where(mark > 3, rast[b, row_q, column_q][3], rast[b, row, column][3])
            corners = faces[wp.int32(shown) - 1]
            i, j = corners[corner_after(corner)], corners[corner_after(corner_after(corner))]
            w, h = wp.float64(rast.shape[2]), wp.float64(rast.shape[1])
            x, y = wp.float64(2 * column + 1) / w - ONE, wp.float64(2 * row + 1) / h - ONE
            centre_along, centre_across = wp.where(axis == 0, x, y), wp.where(axis == 0, y, x)
            scale = HALF * wp.where(axis == 0, w, h)
            across = 1 - axis
            pi, pj = point(clip, b, i), point(clip, b, j)
            wi, wj = pi[2], pj[2]
            ci, cj = pi[across] - centre_across * wi, pj[across] - centre_across * wj
            ai, aj = pi[axis] - centre_along * wi, pj[axis] - centre_along * wj
            bottom = ci * wj - wi * cj
            ratio = (ci * aj - ai * cj) / bottom  # β = scale · ratio, and shift = ½ − β
            k = -g * scale / bottom
            by_ai, by_aj = -k * cj, k * ci
            by_ci, by_cj = k * (aj - ratio * wj), k * (ratio * wi - ai)
            wp.atomic_add(grad, b, i, axis, by_ai)
            wp.atomic_add(grad, b, i, across, by_ci)
            wp.atomic_add(grad, b, i, 3, k * ratio * cj - centre_along * by_ai - centre_across * by_ci)
            wp.atomic_add(grad, b, j, axis, by_aj)
            wp.atomic_add(grad, b, j, across, by_cj)
            wp.atomic_add(grad, b, j, 3, -k * ratio * ci - centre_along * by_aj - centre_across * by_cj)
