"""Numba kernels of the 2D texture lookup: values, gradients by sample, and gradients by texel."""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel
from stspbr.render.cpu.mip_chain import float_pointer, mip_bracket

_FLAGS = {"contract", "arcp", "nsz"}
WRAP, CLAMP, ZERO = 0, 1, 2


@kernel(fastmath=_FLAGS)
def _axis(coordinate, size, boundary, nearest):
    """Two texels along one axis, their weights, and the derivatives of the weights by the position in texels."""
    zero, one = np.float32(0), np.float32(1)
    if boundary == WRAP:
        coordinate -= np.floor(coordinate)
    x = coordinate * np.float32(size)
    if not nearest:
        x -= np.float32(0.5)
    # far outside is like just outside (both taps are), and no number, NaN included, may leave the integers
    if not (x >= -2):
        x = np.float32(-2)
    if x > size + 1:
        x = np.float32(size + 1)
    first = int(np.floor(x))
    second = first + 1
    fraction = x - np.float32(first)
    slope = one
    if nearest:
        second, fraction, slope = first, zero, zero
    if first >= 0 and second < size:
        return first, second, one - fraction, fraction, -slope, slope
    if boundary == WRAP:
        first = first + size if first < 0 else first
        first = first - size if first >= size else first
        second = second + size if second < 0 else second
        second = second - size if second >= size else second
        first, second = max(first, 0), max(second, 0)  # only a NaN comes out below
        return first, second, one - fraction, fraction, -slope, slope
    if boundary == CLAMP:
        first, second = min(max(first, 0), size - 1), min(max(second, 0), size - 1)
        return first, second, one - fraction, fraction, -slope, slope
    keep_first = one if 0 <= first < size else zero
    keep_second = one if 0 <= second < size else zero
    first, second = min(max(first, 0), size - 1), min(max(second, 0), size - 1)
    return (
        first, second, (one - fraction) * keep_first, fraction * keep_second, -slope * keep_first, slope * keep_second,
    )  # fmt: skip


@kernel(parallel=True, fastmath=_FLAGS)
def plane_forward(addresses, sizes, textures, per_image, channels, uv, level, boundary, nearest, out):
    top = sizes.shape[0] - 1
    for sample in prange(uv.shape[0]):
        lower, upper, fraction = mip_bracket(level, sample, top)
        image = sample // per_image if textures > 1 else 0
        u, v = uv[sample, 0], uv[sample, 1]
        height, width = sizes[lower, 0], sizes[lower, 1]
        j0, j1, wx0, wx1, _, _ = _axis(u, width, boundary, nearest)
        i0, i1, wy0, wy1, _, _ = _axis(v, height, boundary, nearest)
        fine = float_pointer(addresses[lower])
        i0, i1 = (image * height + i0) * width, (image * height + i1) * width
        a, b, c, d = (i0 + j0) * channels, (i0 + j1) * channels, (i1 + j0) * channels, (i1 + j1) * channels
        wa, wb, wc, wd = wx0 * wy0, wx1 * wy0, wx0 * wy1, wx1 * wy1
        if fraction == 0:
            for k in range(channels):
                out[sample, k] = wa * fine[a + k] + wb * fine[b + k] + wc * fine[c + k] + wd * fine[d + k]
            continue
        height, width = sizes[upper, 0], sizes[upper, 1]
        j0, j1, wx0, wx1, _, _ = _axis(u, width, boundary, nearest)
        i0, i1, wy0, wy1, _, _ = _axis(v, height, boundary, nearest)
        coarse = float_pointer(addresses[upper])
        i0, i1 = (image * height + i0) * width, (image * height + i1) * width
        e, f, g, h = (i0 + j0) * channels, (i0 + j1) * channels, (i1 + j0) * channels, (i1 + j1) * channels
        we, wf, wg, wh = wx0 * wy0, wx1 * wy0, wx0 * wy1, wx1 * wy1
        rest = np.float32(1) - fraction
        for k in range(channels):
            low = wa * fine[a + k] + wb * fine[b + k] + wc * fine[c + k] + wd * fine[d + k]
            high = we * coarse[e + k] + wf * coarse[f + k] + wg * coarse[g + k] + wh * coarse[h + k]
            out[sample, k] = rest * low + fraction * high


@kernel(parallel=True, fastmath=_FLAGS)
def plane_backward_samples(
    addresses, sizes, textures, per_image, channels, uv, level, boundary, grad_out, grad_uv, grad_level
):
    """Gradients by uv and by level; an empty array is not wanted."""
    top = sizes.shape[0] - 1
    want_uv = grad_uv.shape[0] > 0
    want_level = grad_level.size > 0
    for sample in prange(uv.shape[0]):
        lower, upper, fraction = mip_bracket(level, sample, top)
        image = sample // per_image if textures > 1 else 0
        along_u = along_v = slope = np.float32(0)
        for step in range(2):
            if step and (upper == lower or (fraction == 0 and not want_level)):
                continue
            which = upper if step else lower
            share = fraction if step else np.float32(1) - fraction
            height, width = sizes[which, 0], sizes[which, 1]
            j0, j1, wx0, wx1, dx0, dx1 = _axis(uv[sample, 0], width, boundary, False)
            i0, i1, wy0, wy1, dy0, dy1 = _axis(uv[sample, 1], height, boundary, False)
            texels = float_pointer(addresses[which])
            i0, i1 = (image * height + i0) * width, (image * height + i1) * width
            a, b, c, d = (i0 + j0) * channels, (i0 + j1) * channels, (i1 + j0) * channels, (i1 + j1) * channels
            qa = qb = qc = qd = np.float32(0)
            for k in range(channels):
                g = grad_out[sample, k]
                qa += g * texels[a + k]
                qb += g * texels[b + k]
                qc += g * texels[c + k]
                qd += g * texels[d + k]
            value = (qa * wx0 + qb * wx1) * wy0 + (qc * wx0 + qd * wx1) * wy1
            slope += value if step else -value
            along_u += share * np.float32(width) * ((qa * dx0 + qb * dx1) * wy0 + (qc * dx0 + qd * dx1) * wy1)
            along_v += share * np.float32(height) * ((qa * wx0 + qb * wx1) * dy0 + (qc * wx0 + qd * wx1) * dy1)
        if want_uv:
            grad_uv[sample, 0] = along_u
            grad_uv[sample, 1] = along_v
        if want_level:
            grad_level[sample] = slope if upper > lower else np.float32(0)


@kernel(parallel=True, fastmath=_FLAGS)
def plane_backward_texels(
    sizes, starts, first_rows, owners, workers, textures, per_image, channels, uv, level, boundary, nearest,
    grad_out, grad,
):  # fmt: skip
    """Gradients by texel into the flat ``grad``, which need not be cleared.

    Every worker walks through all samples in order and adds only into the texel rows it owns: nothing races, and a
    texel's sum has the same order for any number of workers. ``owners``: the worker of every row of every level.
    """
    top = sizes.shape[0] - 1
    for worker in prange(workers):
        for which in range(top + 1):
            row_length = sizes[which, 1] * channels
            for row in range(textures * sizes[which, 0]):
                if owners[first_rows[which] + row] == worker:
                    begin = starts[which] + row * row_length
                    grad[begin : begin + row_length] = 0
        for sample in range(uv.shape[0]):
            lower, upper, fraction = mip_bracket(level, sample, top)
            image = sample // per_image if textures > 1 else 0
            for step in range(2):
                if step and fraction == 0:
                    continue
                which = upper if step else lower
                height, width = sizes[which, 0], sizes[which, 1]
                i0, i1, wy0, wy1, _, _ = _axis(uv[sample, 1], height, boundary, nearest)
                i0, i1 = image * height + i0, image * height + i1
                mine0 = owners[first_rows[which] + i0] == worker
                mine1 = owners[first_rows[which] + i1] == worker
                if not (mine0 or mine1):
                    continue
                share = fraction if step else np.float32(1) - fraction
                j0, j1, wx0, wx1, _, _ = _axis(uv[sample, 0], width, boundary, nearest)
                wx0, wx1 = wx0 * share, wx1 * share
                if mine0:
                    a = starts[which] + (i0 * width + j0) * channels
                    b = starts[which] + (i0 * width + j1) * channels
                    for k in range(channels):
                        g = grad_out[sample, k] * wy0
                        grad[a + k] += wx0 * g
                        grad[b + k] += wx1 * g
                if mine1:
                    a = starts[which] + (i1 * width + j0) * channels
                    b = starts[which] + (i1 * width + j1) * channels
                    for k in range(channels):
                        g = grad_out[sample, k] * wy1
                        grad[a + k] += wx0 * g
                        grad[b + k] += wx1 * g


@kernel(parallel=True, fastmath=_FLAGS)
def footprint_forward(uv_da, width, height, level):
    for sample in prange(uv_da.shape[0]):
        xx, xy = uv_da[sample, 0] * width, uv_da[sample, 1] * width
        yx, yy = uv_da[sample, 2] * height, uv_da[sample, 3] * height
        a, b, c = xx * xx + yx * yx, xy * xy + yy * yy, xx * xy + yx * yy
        half = np.float32(0.5) * (a - b)
        major = np.float32(0.5) * (a + b) + np.sqrt(half * half + c * c)
        level[sample] = np.float32(0.5) * np.log2(max(major, np.float32(1e-30)))


@kernel(parallel=True, fastmath=_FLAGS)
def footprint_backward(uv_da, width, height, grad_level, grad):
    half, zero = np.float32(0.5), np.float32(0)
    for sample in prange(uv_da.shape[0]):
        xx, xy = uv_da[sample, 0] * width, uv_da[sample, 1] * width
        yx, yy = uv_da[sample, 2] * height, uv_da[sample, 3] * height
        a, b, c = xx * xx + yx * yx, xy * xy + yy * yy, xx * xy + yx * yy
        root = np.sqrt(half * half * (a - b) * (a - b) + c * c)
        major = half * (a + b) + root
        # a round footprint has no major axis: the gradient of its mean radius
        skew = half * half * (a - b) / root if root > 0 else zero
        twist = c / root if root > 0 else zero
        scale = grad_level[sample] * half / (np.float32(np.log(2.0)) * major) if major > np.float32(1e-30) else zero
        by_a, by_b, by_c = scale * (half + skew), scale * (half - skew), scale * twist
        grad[sample, 0] = (2 * by_a * xx + by_c * xy) * width
        grad[sample, 1] = (2 * by_b * xy + by_c * xx) * width
        grad[sample, 2] = (2 * by_a * yx + by_c * yy) * height
        grad[sample, 3] = (2 * by_b * yy + by_c * yx) * height
