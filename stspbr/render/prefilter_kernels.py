"""Numba kernels of the prefilter: taps of a radial kernel on a pyramid of cube maps, and products with them.

A kernel is summed over a quadtree: fine texels where it is steep, coarser ones further out, where it varies slowly.
Cells of a pyramid are numbered level after level, finest first, ``(face·m + row)·m + column`` within a level.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel
from stspbr.render.cpu.cubemap_kernels import direction_to_face, face_to_direction

_FLAGS = {"contract", "arcp", "nsz"}
_STACK = 512
COSINE = -1.0  # as a kernel's width: the clamped cosine


@kernel(fastmath=_FLAGS)
def _kernel(gap, alpha):
    """Kernel at squared chord ``gap`` between two unit vectors, not normalised; zero from 90 degrees on."""
    cosine = 1.0 - 0.5 * gap
    if cosine <= 0.0:
        return 0.0
    if alpha < 0.0:
        return cosine
    a2 = alpha * alpha
    sin2_half = 0.25 * gap
    lobe = sin2_half + a2 * (1.0 - sin2_half)
    visibility = cosine + math.sqrt((1.0 - a2) * cosine * cosine + a2)
    return cosine / (lobe * lobe * visibility)


@kernel(fastmath=_FLAGS)
def _texel_direction(face, row, column, n):
    x, y, z = face_to_direction(face, (2.0 * column + 1.0) / n - 1.0, (2.0 * row + 1.0) / n - 1.0, 1.0)
    scale = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


@kernel(fastmath=_FLAGS)
def _cell_weight(dx, dy, dz, face, row, column, n, sub, alpha):
    """Integral of the kernel over a cell, by ``sub × sub`` points with their solid angles."""
    total = 0.0
    for a in range(sub):
        t = (2.0 * (row + (a + 0.5) / sub)) / n - 1.0
        for b in range(sub):
            s = (2.0 * (column + (b + 0.5) / sub)) / n - 1.0
            x, y, z = face_to_direction(face, s, t, 1.0)
            inverse = 1.0 / math.sqrt(1.0 + s * s + t * t)
            x, y, z = x * inverse - dx, y * inverse - dy, z * inverse - dz
            total += _kernel(x * x + y * y + z * z, alpha) * inverse * inverse * inverse
    return total * (2.0 / (n * sub)) ** 2


@kernel(fastmath=_FLAGS)
def _collect(dx, dy, dz, alpha, opening, fine, root, starts, stack, indices, weights):
    """Taps for one direction into ``indices`` and ``weights`` (which sum to 1); returns how many."""
    core = 1.29 * alpha if alpha > 0.0 else 1.0  # half width at half height in the reflected direction
    count, total = 0, 0.0
    for face in range(6):
        for cell in range(root * root):
            depth = 1
            stack[0, 0], stack[0, 1], stack[0, 2] = root, cell // root, cell % root
            while depth > 0:
                depth -= 1
                n, row, column = stack[depth, 0], stack[depth, 1], stack[depth, 2]
                x, y, z = _texel_direction(face, row, column, n)
                gap = (x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2
                size = 1.6 / n
                if gap > 2.0 + 2.0 * size:
                    continue
                reach = max(core, math.sqrt(gap))
                if n < fine and size > opening * reach:
                    for child in range(4):
                        stack[depth, 0] = 2 * n
                        stack[depth, 1] = 2 * row + child // 2
                        stack[depth, 2] = 2 * column + child % 2
                        depth += 1
                    continue
                sub = 4 if size > 0.5 * reach else 2
                weight = _cell_weight(dx, dy, dz, face, row, column, n, sub, alpha)
                if weight > 0.0:
                    level = 0
                    m = fine
                    while m > n:
                        m //= 2
                        level += 1
                    indices[count] = starts[level] + (face * n + row) * n + column
                    weights[count] = weight
                    total += weight
                    count += 1
    for k in range(count):
        weights[k] /= total
    return count


@kernel(parallel=True, fastmath=_FLAGS)
def count_taps(size, alpha, opening, fine, root, starts, counts):
    """Taps of each texel of a ``[6, size, size]`` result."""
    for line in prange(6 * size):
        stack = np.empty((_STACK, 3), np.int64)
        indices = np.empty(starts[-1], np.int32)
        weights = np.empty(starts[-1], np.float64)
        for column in range(size):
            x, y, z = _texel_direction(line // size, line % size, column, size)
            counts[line * size + column] = _collect(
                x, y, z, alpha, opening, fine, root, starts, stack, indices, weights
            )


@kernel(parallel=True, fastmath=_FLAGS)
def fill_taps(size, alpha, opening, fine, root, starts, row_starts, out_indices, out_weights):
    """The taps themselves, at ``row_starts`` (made from the counts)."""
    for line in prange(6 * size):
        stack = np.empty((_STACK, 3), np.int64)
        indices = np.empty(starts[-1], np.int32)
        weights = np.empty(starts[-1], np.float64)
        for column in range(size):
            x, y, z = _texel_direction(line // size, line % size, column, size)
            count = _collect(x, y, z, alpha, opening, fine, root, starts, stack, indices, weights)
            first = row_starts[line * size + column]
            for k in range(count):
                out_indices[first + k] = indices[k]
                out_weights[first + k] = weights[k]


@kernel(parallel=True, fastmath=_FLAGS)
def convolve(size, alpha, opening, fine, root, starts, flux, area, middle, bright, out):
    """Kernel times a light for each texel of ``out [6·size·size, 3]``.

    Of each cell: ``flux [cells, 3]``, solid angle ``area [cells]``, mean direction ``middle [cells, 3]`` and the same
    weighted by brightness. A far cell acts at its bright point: a lamp is not smeared over the cell it lies in.
    """
    for line in prange(6 * size):
        stack = np.empty((_STACK, 3), np.int64)
        for column in range(size):
            dx, dy, dz = _texel_direction(line // size, line % size, column, size)
            core = 1.29 * alpha if alpha > 0.0 else 1.0
            red, green, blue, total = 0.0, 0.0, 0.0, 0.0
            for top in range(6 * root * root):
                depth = 1
                stack[0, 0], stack[0, 1], stack[0, 2] = 0, 0, top
                m = fine
                while m > root:
                    m //= 2
                    stack[0, 0] += 1
                stack[0, 1] = m
                while depth > 0:
                    depth -= 1
                    level, n, texel = stack[depth, 0], stack[depth, 1], stack[depth, 2]
                    cell = starts[level] + texel
                    gap = (middle[cell, 0] - dx) ** 2 + (middle[cell, 1] - dy) ** 2 + (middle[cell, 2] - dz) ** 2
                    extent = 1.6 / n
                    if gap > 2.0 + 2.0 * extent:
                        continue
                    reach = max(core, math.sqrt(gap))
                    face, rest = texel // (n * n), texel % (n * n)
                    row, col = rest // n, rest % n
                    if level > 0 and extent > opening * reach:
                        for child in range(4):
                            stack[depth, 0], stack[depth, 1] = level - 1, 2 * n
                            stack[depth, 2] = (face * 2 * n + 2 * row + child // 2) * 2 * n + 2 * col + child % 2
                            depth += 1
                        continue
                    if extent > 0.5 * reach:
                        mean = _cell_weight(dx, dy, dz, face, row, col, n, 4, alpha) / area[cell]
                        there = mean
                    else:
                        mean = _kernel(gap, alpha)
                        gap = (bright[cell, 0] - dx) ** 2 + (bright[cell, 1] - dy) ** 2 + (bright[cell, 2] - dz) ** 2
                        there = _kernel(gap, alpha)
                    total += mean * area[cell]
                    red += there * flux[cell, 0]
                    green += there * flux[cell, 1]
                    blue += there * flux[cell, 2]
            texel = line * size + column
            out[texel, 0], out[texel, 1], out[texel, 2] = red / total, green / total, blue / total


@kernel(fastmath=_FLAGS)
def fold_pyramid(fine, root, area, values):
    """Fill the coarser cells of ``values [cells, 3]`` with the means of four, by solid angle."""
    first, n, parents = 0, fine, 6 * fine * fine
    while n > root:
        half = n // 2
        for face in range(6):
            for row in range(half):
                for column in range(half):
                    child = first + (face * n + 2 * row) * n + 2 * column
                    parent = parents + (face * half + row) * half + column
                    for ch in range(3):
                        total = area[child] * values[child, ch] + area[child + 1] * values[child + 1, ch]
                        total += area[child + n] * values[child + n, ch]
                        total += area[child + n + 1] * values[child + n + 1, ch]
                        values[parent, ch] = total / area[parent]
        first, parents, n = parents, parents + 6 * half * half, half


@kernel(fastmath=_FLAGS)
def unfold_pyramid(fine, root, area, grads):
    """The transpose, in place: after it the first ``6·fine·fine`` rows hold the gradient by the finest cells."""
    sizes, firsts = np.empty(16, np.int64), np.empty(16, np.int64)
    count, n, first = 0, fine, 0
    while n >= root:
        sizes[count], firsts[count] = n, first
        first += 6 * n * n
        n //= 2
        count += 1
    for level in range(count - 1, 0, -1):
        half, parents = sizes[level], firsts[level]
        n, first = sizes[level - 1], firsts[level - 1]
        for face in range(6):
            for row in range(half):
                for column in range(half):
                    child = first + (face * n + 2 * row) * n + 2 * column
                    parent = parents + (face * half + row) * half + column
                    for ch in range(3):
                        share = grads[parent, ch] / area[parent]
                        grads[child, ch] += share * area[child]
                        grads[child + 1, ch] += share * area[child + 1]
                        grads[child + n, ch] += share * area[child + n]
                        grads[child + n + 1, ch] += share * area[child + n + 1]


@kernel(fastmath=_FLAGS)
def _nearest_texel(face, row, column, n):
    """A texel that may lie one step off its face: the one across the edge."""
    if 0 <= row < n and 0 <= column < n:
        return (face * n + row) * n + column
    x, y, z = face_to_direction(face, (2.0 * column + 1.0) / n - 1.0, (2.0 * row + 1.0) / n - 1.0, 1.0)
    other, s, t, c = direction_to_face(x, y, z)
    j = min(max(int((s / c + 1.0) * 0.5 * n), 0), n - 1)
    i = min(max(int((t / c + 1.0) * 0.5 * n), 0), n - 1)
    return (other * n + i) * n + j


@kernel(parallel=True, fastmath=_FLAGS)
def fill_doubling(n, out_indices, out_weights):
    """Taps of a bilinear enlargement of ``[6, n, n]`` to ``[6, 2n, 2n]``: four a texel."""
    for line in prange(12 * n):
        face, row = line // (2 * n), line % (2 * n)
        i = (row - 1) // 2
        fi = 0.75 if row % 2 == 0 else 0.25
        for column in range(2 * n):
            j = (column - 1) // 2
            fj = 0.75 if column % 2 == 0 else 0.25
            first = 4 * (line * 2 * n + column)
            for tap in range(4):
                a, b = tap // 2, tap % 2
                out_indices[first + tap] = _nearest_texel(face, i + a, j + b, n)
                out_weights[first + tap] = (fi if a else 1.0 - fi) * (fj if b else 1.0 - fj)


@kernel(parallel=True, fastmath=_FLAGS)
def sparse_product(blocks, row_starts, indices, weights, values, out):
    """``out [rows, 3] = matrix · values [columns, 3]``; block b is the rows from ``blocks[b]`` on, one thread's."""
    for block in prange(blocks.shape[0] - 1):
        for row in range(blocks[block], blocks[block + 1]):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            red2, green2, blue2 = np.float32(0), np.float32(0), np.float32(0)
            k, end = row_starts[row], row_starts[row + 1]
            while k + 1 < end:  # two chains of sums: one alone waits for each addition to finish
                w, source = weights[k], indices[k]
                red += w * values[source, 0]
                green += w * values[source, 1]
                blue += w * values[source, 2]
                w, source = weights[k + 1], indices[k + 1]
                red2 += w * values[source, 0]
                green2 += w * values[source, 1]
                blue2 += w * values[source, 2]
                k += 2
            if k < end:
                w, source = weights[k], indices[k]
                red += w * values[source, 0]
                green += w * values[source, 1]
                blue += w * values[source, 2]
            out[row, 0], out[row, 1], out[row, 2] = red + red2, green + green2, blue + blue2


@kernel(parallel=True, fastmath=_FLAGS)
def cube_from_latlong(radiance, size, sub, out):
    """Mean of ``sub × sub`` bilinear look-ups of a lat-long map in each texel of ``out [6·size·size, 3]``."""
    for line in prange(6 * size):
        face, row = line // size, line % size
        for column in range(size):
            red, green, blue, area = 0.0, 0.0, 0.0, 0.0
            for a in range(sub):
                t = 2.0 * (row + (a + 0.5) / sub) / size - 1.0
                for b in range(sub):
                    s = 2.0 * (column + (b + 0.5) / sub) / size - 1.0
                    x, y, z = face_to_direction(face, s, t, 1.0)
                    inverse = 1.0 / math.sqrt(1.0 + s * s + t * t)
                    weight = inverse * inverse * inverse
                    value = latlong_lookup(radiance, x * inverse, y * inverse, z * inverse)
                    red += weight * value[0]
                    green += weight * value[1]
                    blue += weight * value[2]
                    area += weight
            texel = line * size + column
            out[texel, 0], out[texel, 1], out[texel, 2] = red / area, green / area, blue / area


@kernel(fastmath=_FLAGS)
def latlong_lookup(radiance, x, y, z):
    """Bilinear look-up of a lat-long map ``[H, W, 3]`` by unit direction; wraps around, clamps at the poles."""
    height, width = radiance.shape[0], radiance.shape[1]
    u = (math.atan2(x, -z) / (2.0 * math.pi) + 0.5) * width - 0.5
    v = math.acos(min(max(y, -1.0), 1.0)) / math.pi * height - 0.5
    j, i = int(math.floor(u)), int(math.floor(v))
    fu, fv = u - j, v - i
    i0, i1 = min(max(i, 0), height - 1), min(max(i + 1, 0), height - 1)
    j0, j1 = j % width, (j + 1) % width
    w00, w01, w10, w11 = (1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv
    red = w00 * radiance[i0, j0, 0] + w01 * radiance[i0, j1, 0] + w10 * radiance[i1, j0, 0] + w11 * radiance[i1, j1, 0]
    green = (
        w00 * radiance[i0, j0, 1] + w01 * radiance[i0, j1, 1] + w10 * radiance[i1, j0, 1] + w11 * radiance[i1, j1, 1]
    )
    blue = w00 * radiance[i0, j0, 2] + w01 * radiance[i0, j1, 2] + w10 * radiance[i1, j0, 2] + w11 * radiance[i1, j1, 2]
    return red, green, blue
