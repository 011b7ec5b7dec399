"""Numba kernels of antialiasing: silhouettes, crossings between pixel centres, blending and its gradients.

A pair is a pixel p and its neighbour q to the right (axis 0) or below (axis 1). Where a silhouette edge
crosses from p to q at the fraction β of the way, ``shift[axis, b, row, column]`` of p is ½ − β: positive,
p takes that share of q's colour; negative, q takes minus that share of p's.
``code`` of p is 0 without a crossing, else 1 + corner opposite the edge + (3 if the triangle is q's).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

FAST = {"contract", "arcp", "nsz"}
CHUNK = 256  # faces of one task
SLACK = 1.0 / 128.0  # pixels that the crossing may lie beyond a centre: coverage is decided on snapped vertices
ON_LINE = 1e-12  # relative: positions are float32, the arithmetic is float64


@kernel(fastmath=FAST, error_model="numpy")
def _side(nx, ny, nw, clip, b, vertex):
    """Sign of the line (nx, ny, nw) at a vertex: 0 where only rounding would decide, as at a degenerate face."""
    x, y, w = nx * clip[b, vertex, 0], ny * clip[b, vertex, 1], nw * clip[b, vertex, 3]
    value, noise = x + y + w, ON_LINE * (abs(x) + abs(y) + abs(w))
    return int(value > noise) - int(value < -noise)


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def find_silhouettes(clip, faces, edge, start, opposite, flags):
    """Bit c of ``flags[b, f]``: no face at the edge opposite to corner c lies on its other side on screen."""
    batch, count = clip.shape[0], faces.shape[0]
    chunks = (count + CHUNK - 1) // CHUNK
    for task in prange(batch * chunks):
        b, begin = task // chunks, (task % chunks) * CHUNK
        for f in range(begin, min(begin + CHUNK, count)):
            bits = 0
            for corner in range(3):
                i, j, k = faces[f, (corner + 1) % 3], faces[f, (corner + 2) % 3], faces[f, corner]
                xi, yi, wi = np.float64(clip[b, i, 0]), np.float64(clip[b, i, 1]), np.float64(clip[b, i, 3])
                xj, yj, wj = np.float64(clip[b, j, 0]), np.float64(clip[b, j, 1]), np.float64(clip[b, j, 3])
                # The sign of (p_i × p_j) · p is the side of the edge on screen, times the sign of w: which is
                # the side its face turns to the eye, and therefore what decides, even behind the camera.
                nx, ny, nw = yi * wj - wi * yj, wi * xj - xi * wj, xi * yj - yi * xj
                own = _side(nx, ny, nw, clip, b, k)
                outline = True
                e = edge[f, corner]
                for m in range(start[e], start[e + 1]):
                    o = opposite[m]
                    if o != k and own * _side(nx, ny, nw, clip, b, o) < 0:
                        outline = False
                if outline:
                    bits |= 1 << corner
            flags[b, f] = bits


@kernel(fastmath=FAST, error_model="numpy")
def _crossing(clip, b, faces, f, bits, axis, x, y, scale_x, scale_y, away):
    """Where the triangle's outline leaves the pixel pair: ``(corner or -1, β)``.

    ``x, y`` is p's centre in clip units, ``scale_x, scale_y`` half the image size; ``away``, +1 or −1, points from
    the triangle's own pixel to the other one. The exit is the triangle's farthest crossing that way.
    """
    along, across = axis, 1 - axis
    centre_along, centre_across = (x, y) if axis == 0 else (y, x)
    scale = scale_x if axis == 0 else scale_y
    found, farthest = -1, -1e30
    for corner in range(3):
        i, j = faces[f, (corner + 1) % 3], faces[f, (corner + 2) % 3]
        wi, wj = np.float64(clip[b, i, 3]), np.float64(clip[b, j, 3])
        ci, cj = clip[b, i, across] - centre_across * wi, clip[b, j, across] - centre_across * wj
        if (ci < 0.0) == (cj < 0.0):
            continue
        bottom = ci * wj - wi * cj
        if bottom == 0.0 or (bottom > 0.0) != (cj < 0.0):
            continue  # the crossing is behind the camera
        ai, aj = clip[b, i, along] - centre_along * wi, clip[b, j, along] - centre_along * wj
        crossing = away * scale * (ci * aj - ai * cj) / bottom
        if crossing > farthest:
            farthest, found = crossing, corner
    beta = away * farthest
    if found < 0 or not bits & (1 << found) or abs(beta - 0.5) > 0.5 + SLACK:
        return -1, 0.0
    i, j = faces[f, (found + 1) % 3], faces[f, (found + 2) % 3]
    xi, yi, wi = np.float64(clip[b, i, 0]), np.float64(clip[b, i, 1]), np.float64(clip[b, i, 3])
    xj, yj, wj = np.float64(clip[b, j, 0]), np.float64(clip[b, j, 1]), np.float64(clip[b, j, 3])
    # Every edge acts in one direction only, the one that it crosses steeply, or it would count twice.
    steep = abs(yi * wj - wi * yj) * scale_y >= abs(wi * xj - xi * wj) * scale_x
    return (found if steep == (axis == 0) else -1), beta


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def find_crossings(rast, clip, faces, flags, shift, code):
    """Fill ``shift`` float32 and ``code`` uint8, both ``[2,B,H,W]``."""
    batch, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    count = faces.shape[0]
    scale_x, scale_y = 0.5 * width, 0.5 * height
    for task in prange(batch * height):
        b, row = task // height, task % height
        y = (2 * row + 1) / height - 1.0
        for column in range(width):
            x = (2 * column + 1) / width - 1.0
            here = rast[b, row, column, 3]
            for axis in range(2):
                shift[axis, b, row, column], code[axis, b, row, column] = 0.0, 0
                row_q, column_q = (row, column + 1) if axis == 0 else (row + 1, column)
                if row_q >= height or column_q >= width:
                    continue
                there = rast[b, row_q, column_q, 3]
                if here == there:
                    continue
                z_p, z_q = rast[b, row, column, 2], rast[b, row_q, column_q, 2]
                own = there <= 0.0 or (here > 0.0 and z_p <= z_q)
                f = np.int64(here if own else there) - 1
                if f < 0 or f >= count or flags[b, f] == 0:
                    continue
                away = 1.0 if own else -1.0
                corner, beta = _crossing(clip, b, faces, f, flags[b, f], axis, x, y, scale_x, scale_y, away)
                if corner >= 0:
                    shift[axis, b, row, column] = 0.5 - min(max(beta, 0.0), 1.0)
                    code[axis, b, row, column] = 1 + corner + (0 if own else 3)


@kernel(parallel=True, fastmath=FAST)
def blend(color, shift, code, out):
    """Every pixel gathers what its four pairs give it."""
    batch, height, width, channels = color.shape
    for task in prange(batch * height):
        b, row = task // height, task % height
        for column in range(width):
            for c in range(channels):
                out[b, row, column, c] = color[b, row, column, c]
            for side in range(4):
                axis, before = side & 1, side >> 1
                row_p, column_p = row - before * axis, column - before * (1 - axis)
                if row_p < 0 or column_p < 0 or code[axis, b, row_p, column_p] == 0:
                    continue
                share = shift[axis, b, row_p, column_p]
                share = -share if before else share
                if share > 0.0:
                    row_o = row - axis if before else row + axis
                    column_o = column - (1 - axis) if before else column + (1 - axis)
                    for c in range(channels):
                        out[b, row, column, c] += share * (color[b, row_o, column_o, c] - color[b, row, column, c])


@kernel(parallel=True, fastmath=FAST)
def blend_backward(grad_out, shift, code, grad_color):
    """The transpose of :func:`blend`, again gathered by the pixel that owns the result."""
    batch, height, width, channels = grad_out.shape
    for task in prange(batch * height):
        b, row = task // height, task % height
        for column in range(width):
            for c in range(channels):
                grad_color[b, row, column, c] = grad_out[b, row, column, c]
            for side in range(4):
                axis, before = side & 1, side >> 1
                row_p, column_p = row - before * axis, column - before * (1 - axis)
                if row_p < 0 or column_p < 0 or code[axis, b, row_p, column_p] == 0:
                    continue
                share = shift[axis, b, row_p, column_p]
                share = -share if before else share
                if share > 0.0:  # this pixel took from the other one ...
                    for c in range(channels):
                        grad_color[b, row, column, c] -= share * grad_out[b, row, column, c]
                elif share < 0.0:  # ... or gave to it
                    row_o = row - axis if before else row + axis
                    column_o = column - (1 - axis) if before else column + (1 - axis)
                    for c in range(channels):
                        grad_color[b, row, column, c] -= share * grad_out[b, row_o, column_o, c]


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def clip_backward(grad_out, color, rast, clip, faces, shift, code, grad_clip):
    """Gradient of the edges' vertices ``[B,V,4]`` (z stays 0): an image has one owner, crossings are few."""
    batch, height, width, channels = color.shape
    vertices = clip.shape[1]
    for b in prange(batch):
        total = np.zeros((vertices, 3), np.float64)
        for axis in range(2):
            along, across = axis, 1 - axis
            scale = 0.5 * (width if axis == 0 else height)
            for row in range(height):
                for column in range(width):
                    mark = code[axis, b, row, column]
                    if mark == 0:
                        continue
                    row_q, column_q = row + axis, column + 1 - axis
                    taker_is_p = shift[axis, b, row, column] > 0.0
                    row_t, column_t = (row, column) if taker_is_p else (row_q, column_q)
                    g = 0.0
                    for c in range(channels):
                        step = color[b, row_q, column_q, c] - color[b, row, column, c]
                        g += grad_out[b, row_t, column_t, c] * step
                    if g == 0.0:
                        continue
                    corner, other = (mark - 1) % 3, mark > 3
                    ids = rast[b, row_q, column_q, 3] if other else rast[b, row, column, 3]
                    f = np.int64(ids) - 1
                    i, j = faces[f, (corner + 1) % 3], faces[f, (corner + 2) % 3]
                    x, y = (2 * column + 1) / width - 1.0, (2 * row + 1) / height - 1.0
                    centre_along, centre_across = (x, y) if axis == 0 else (y, x)
                    wi, wj = np.float64(clip[b, i, 3]), np.float64(clip[b, j, 3])
                    ci, cj = clip[b, i, across] - centre_across * wi, clip[b, j, across] - centre_across * wj
                    ai, aj = clip[b, i, along] - centre_along * wi, clip[b, j, along] - centre_along * wj
                    bottom = ci * wj - wi * cj
                    ratio = (ci * aj - ai * cj) / bottom  # β = scale · ratio, and shift = ½ − β
                    k = -g * scale / bottom
                    gai, gaj = -k * cj, k * ci
                    gci, gcj = k * (aj - ratio * wj), k * (ratio * wi - ai)
                    total[i, along] += gai
                    total[i, across] += gci
                    total[i, 2] += k * ratio * cj - centre_along * gai - centre_across * gci
                    total[j, along] += gaj
                    total[j, across] += gcj
                    total[j, 2] += -k * ratio * ci - centre_along * gaj - centre_across * gcj
        for vertex in range(vertices):
            grad_clip[b, vertex, 0], grad_clip[b, vertex, 1] = total[vertex, 0], total[vertex, 1]
            grad_clip[b, vertex, 2], grad_clip[b, vertex, 3] = 0.0, total[vertex, 2]
