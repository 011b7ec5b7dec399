"""Warp kernels of the 2D texture look-up: values, gradients by sample, gradients by texel, footprints.

The formulas are those of ``stspbr.render.cpu.texture2d_kernels``; gradients of texels are atomic sums.
"""

from __future__ import annotations

import warp as wp

from stspbr.render.warp.mip_kernels import Chain, bracket, image_of, texels_of
from stspbr.warp_runtime import warp_function, warp_kernel

WRAP, CLAMP, ZERO = 0, 1, 2
LN2 = wp.constant(0.6931471805599453)
TINY = wp.constant(1.0e-30)


@wp.struct
class Axis:
    """Two texels along one axis, their weights, and the derivatives of the weights by the position in texels."""

    first: wp.int32
    second: wp.int32
    weight0: wp.float32
    weight1: wp.float32
    slope0: wp.float32
    slope1: wp.float32


@warp_function
def taps(coordinate: wp.float32, size: wp.int32, boundary: wp.int32, nearest: wp.bool):
    x = coordinate
    if boundary == WRAP:
        x = coordinate - wp.floor(coordinate)
    x = x * wp.float32(size)
    if not nearest:
        x = x - 0.5
    # far outside is like just outside (both taps are), and no number, NaN included, may leave the integers
    if not (x >= -2.0):
        x = wp.float32(-2.0)
    if x > wp.float32(size + 1):
        x = wp.float32(size + 1)
    first = wp.int32(wp.floor(x))
    second = first + 1
    fraction = x - wp.float32(first)
    slope = wp.float32(1.0)
    if nearest:
        second = first
        fraction = wp.float32(0.0)
        slope = wp.float32(0.0)
    keep0, keep1 = wp.float32(1.0), wp.float32(1.0)
    if boundary == WRAP:
        if first < 0:
            first = first + size
        if first >= size:
            first = first - size
        if second < 0:
            second = second + size
        if second >= size:
            second = second - size
    elif boundary == ZERO:
        if first < 0 or first >= size:
            keep0 = wp.float32(0.0)
        if second < 0 or second >= size:
            keep1 = wp.float32(0.0)
    axis = Axis()
    axis.first = wp.min(wp.max(first, 0), size - 1)
    axis.second = wp.min(wp.max(second, 0), size - 1)
    axis.weight0 = (1.0 - fraction) * keep0
    axis.weight1 = fraction * keep1
    axis.slope0 = -slope * keep0
    axis.slope1 = slope * keep1
    return axis


@warp_function
def corners_of(chain: Chain, level: wp.int32, image: wp.int32, across: Axis, down: Axis):
    """Numbers of the first channels of the four texels around a sample."""
    width = chain.widths[level]
    row0 = (image * chain.heights[level] + down.first) * width
    row1 = (image * chain.heights[level] + down.second) * width
    return chain.channels * wp.vec4i(
        row0 + across.first, row0 + across.second, row1 + across.first, row1 + across.second
    )


@warp_function
def value_at(
    chain: Chain, level: wp.int32, image: wp.int32, uv: wp.vec2, k: wp.int32, boundary: wp.int32, nearest: wp.bool
):
    across = taps(uv[0], chain.widths[level], boundary, nearest)
    down = taps(uv[1], chain.heights[level], boundary, nearest)
    at = corners_of(chain, level, image, across, down)
    texels = texels_of(chain, level, 1)
    above = across.weight0 * texels[at[0] + k] + across.weight1 * texels[at[1] + k]
    below = across.weight0 * texels[at[2] + k] + across.weight1 * texels[at[3] + k]
    return down.weight0 * above + down.weight1 * below


@warp_kernel
def look_up(
    chain: Chain, uv: wp.array[wp.vec2], level: wp.array[wp.float32], boundary: wp.int32, nearest: wp.bool,
    out: wp.array2d[wp.float32],
):  # fmt: skip
    """``out [N, C]``; an empty ``level`` is 0."""
    sample, k = wp.tid()
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    value = value_at(chain, lower, image, uv[sample], k, boundary, nearest)
    if fraction != 0.0:
        coarse = value_at(chain, upper, image, uv[sample], k, boundary, nearest)
        value = (1.0 - fraction) * value + fraction * coarse
    out[sample, k] = value


@warp_kernel
def sample_gradients(
    chain: Chain, uv: wp.array[wp.vec2], level: wp.array[wp.float32], boundary: wp.int32,
    grad_out: wp.array2d[wp.float32], want_uv: wp.bool, want_level: wp.bool, grad_uv: wp.array[wp.vec2],
    grad_level: wp.array[wp.float32],
):  # fmt: skip
    """Gradients by uv and by level."""
    sample = wp.tid()
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    along = wp.vec2(0.0, 0.0)
    slope = wp.float32(0.0)
    for step in range(2):
        if step == 0 or (upper > lower and (fraction != 0.0 or want_level)):
            which = wp.where(step == 1, upper, lower)
            share = wp.where(step == 1, fraction, 1.0 - fraction)
            across = taps(uv[sample][0], chain.widths[which], boundary, False)
            down = taps(uv[sample][1], chain.heights[which], boundary, False)
            at = corners_of(chain, which, image, across, down)
            texels = texels_of(chain, which, 1)
            q = wp.vec4(0.0, 0.0, 0.0, 0.0)
            for k in range(chain.channels):
                q += grad_out[sample, k] * wp.vec4(
                    texels[at[0] + k], texels[at[1] + k], texels[at[2] + k], texels[at[3] + k]
                )
            above, below = across.weight0 * q[0] + across.weight1 * q[1], across.weight0 * q[2] + across.weight1 * q[3]
            value = above * down.weight0 + below * down.weight1
            slope += wp.where(step == 1, value, -value)
            by_x = (q[0] * across.slope0 + q[1] * across.slope1) * down.weight0
            by_x += (q[2] * across.slope0 + q[3] * across.slope1) * down.weight1
            by_y = above * down.slope0 + below * down.slope1
            along += share * wp.vec2(wp.float32(chain.widths[which]) * by_x, wp.float32(chain.heights[which]) * by_y)
    if want_uv:
        grad_uv[sample] = along
    if want_level:
        grad_level[sample] = wp.where(upper > lower, slope, 0.0)


@warp_function
def add_texels(
    chain: Chain, level: wp.int32, image: wp.int32, uv: wp.vec2, k: wp.int32, boundary: wp.int32, nearest: wp.bool,
    value: wp.float32, grad: wp.array[wp.float32],
):  # fmt: skip
    across = taps(uv[0], chain.widths[level], boundary, nearest)
    down = taps(uv[1], chain.heights[level], boundary, nearest)
    at = corners_of(chain, level, image, across, down)
    start = wp.int32(chain.starts[level]) + k
    wp.atomic_add(grad, start + at[0], value * across.weight0 * down.weight0)
    wp.atomic_add(grad, start + at[1], value * across.weight1 * down.weight0)
    wp.atomic_add(grad, start + at[2], value * across.weight0 * down.weight1)
    wp.atomic_add(grad, start + at[3], value * across.weight1 * down.weight1)


@warp_kernel
def texel_gradients(
    chain: Chain, uv: wp.array[wp.vec2], level: wp.array[wp.float32], boundary: wp.int32, nearest: wp.bool,
    grad_out: wp.array2d[wp.float32], grad: wp.array[wp.float32],
):  # fmt: skip
    """Add the gradient by texel to the flat ``grad`` of all levels."""
    sample, k = wp.tid()
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    g = grad_out[sample, k]
    if g != 0.0:
        add_texels(chain, lower, image, uv[sample], k, boundary, nearest, (1.0 - fraction) * g, grad)
        if fraction != 0.0:
            add_texels(chain, upper, image, uv[sample], k, boundary, nearest, fraction * g, grad)


@warp_kernel
def footprints(uv_da: wp.array[wp.vec4], width: wp.float32, height: wp.float32, level: wp.array[wp.float32]):
    """log2 of the major axis of a pixel's footprint in texels."""
    sample = wp.tid()
    m = scaled(uv_da[sample], width, height)
    a, b, c = m[0] * m[0] + m[2] * m[2], m[1] * m[1] + m[3] * m[3], m[0] * m[1] + m[2] * m[3]
    half = 0.5 * (a - b)
    major = 0.5 * (a + b) + wp.sqrt(half * half + c * c)
    level[sample] = 0.5 * wp.log2(wp.max(major, TINY))


@warp_kernel
def footprint_gradients(
    uv_da: wp.array[wp.vec4], width: wp.float32, height: wp.float32, grad_level: wp.array[wp.float32],
    grad: wp.array[wp.vec4],
):  # fmt: skip
    sample = wp.tid()
    m = scaled(uv_da[sample], width, height)
    a, b, c = m[0] * m[0] + m[2] * m[2], m[1] * m[1] + m[3] * m[3], m[0] * m[1] + m[2] * m[3]
    half = 0.5 * (a - b)
    root = wp.sqrt(half * half + c * c)
    major = 0.5 * (a + b) + root
    # a round footprint has no major axis: the gradient of its mean radius
    skew, twist = wp.float32(0.0), wp.float32(0.0)
    if root > 0.0:
        skew = 0.5 * half / root
        twist = c / root
    scale = wp.float32(0.0)
    if major > TINY:
        scale = grad_level[sample] * 0.5 / (LN2 * major)
    by_a, by_b, by_c = scale * (0.5 + skew), scale * (0.5 - skew), scale * twist
    grad[sample] = wp.vec4(
        (2.0 * by_a * m[0] + by_c * m[1]) * width,
        (2.0 * by_b * m[1] + by_c * m[0]) * width,
        (2.0 * by_a * m[2] + by_c * m[3]) * height,
        (2.0 * by_b * m[3] + by_c * m[2]) * height,
    )


@warp_function
def scaled(uv_da: wp.vec4, width: wp.float32, height: wp.float32):
    return wp.vec4(uv_da[0] * width, uv_da[1] * width, uv_da[2] * height, uv_da[3] * height)
