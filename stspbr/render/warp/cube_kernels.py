"""Warp kernels of the cube map look-up: seamless bilinear taps, two mip levels, and their gradients.

Faces are in OpenGL's order and orientation: +X, −X, +Y, −Y, +Z, −Z, column along s, row along t. The formulas are those
of ``stspbr.render.cpu.cubemap_kernels``; gradients of texels are atomic sums.
"""

from __future__ import annotations

import warp as wp

from stspbr.render.warp.mip_kernels import Chain, bracket, image_of, texels_of
from stspbr.warp_runtime import warp_function, warp_kernel

THIRD = wp.constant(1.0 / 3.0)


@wp.struct
class Place:
    """Where a direction meets the cube: the face, u and v in [0, 1], and 1/(2c) of the major component c."""

    face: wp.int32
    u: wp.float32
    v: wp.float32
    half: wp.float32


@wp.struct
class Taps:
    """Four texels, the fractions between them, and which of them lies beyond a corner (−1: none)."""

    at: wp.vec4i
    fx: wp.float32
    fy: wp.float32
    missing: wp.int32


@warp_function
def face_of(d: wp.vec3):
    """Face of a direction, and (s, t, c): coordinates on it and the length of the major component."""
    ax, ay, az = wp.abs(d[0]), wp.abs(d[1]), wp.abs(d[2])
    if az > ax and az > ay:
        if d[2] < 0.0:
            return 5, wp.vec3(-d[0], -d[1], az)
        return 4, wp.vec3(d[0], -d[1], az)
    if ay > ax:
        if d[1] < 0.0:
            return 3, wp.vec3(d[0], -d[2], ay)
        return 2, wp.vec3(d[0], d[2], ay)
    if d[0] < 0.0:
        return 1, wp.vec3(d[2], -d[1], ax)
    return 0, wp.vec3(-d[2], -d[1], ax)


@warp_function
def direction_of(face: wp.int32, stc: wp.vec3):
    """The inverse; being a signed permutation it also carries gradients by (s, t, c) to gradients by direction."""
    s, t, c = stc[0], stc[1], stc[2]
    if face == 0:
        return wp.vec3(c, -t, -s)
    if face == 1:
        return wp.vec3(-c, -t, s)
    if face == 2:
        return wp.vec3(s, c, t)
    if face == 3:
        return wp.vec3(s, -c, -t)
    if face == 4:
        return wp.vec3(s, -t, c)
    return wp.vec3(-s, -t, -c)


@warp_function
def texel(face: wp.int32, i: wp.int32, j: wp.int32, n: wp.int32):
    """Number of texel (row i, column j); one step off the face is the texel across the edge, off two edges is −1."""
    rows, columns = i >= 0 and i < n, j >= 0 and j < n
    if rows and columns:
        return (face * n + i) * n + j
    if not rows and not columns:
        return -1
    # in half texels from the centre of a cube of half size n, the off-face component is the largest: n + 1; floats
    # hold these integers exactly
    beyond = direction_of(face, wp.vec3(wp.float32(2 * j + 1 - n), wp.float32(2 * i + 1 - n), wp.float32(n)))
    other, stc = face_of(beyond)
    column = wp.min(wp.max((wp.int32(stc[0]) + n - 1) // 2, 0), n - 1)
    row = wp.min(wp.max((wp.int32(stc[1]) + n - 1) // 2, 0), n - 1)
    return (other * n + row) * n + column


@warp_function
def taps_of(place: Place, n: wp.int32, nearest: wp.bool):
    """The tap beyond a corner, which has no texel, is the mean of the other three: the same from all three faces."""
    taps = Taps()
    taps.missing = -1
    size = wp.float32(n)
    if nearest:
        row, column = wp.min(wp.int32(place.v * size), n - 1), wp.min(wp.int32(place.u * size), n - 1)
        a = (place.face * n + row) * n + column
        taps.at = wp.vec4i(a, a, a, a)
        return taps
    x, y = place.u * size - 0.5, place.v * size - 0.5
    j, i = wp.int32(wp.floor(x)), wp.int32(wp.floor(y))
    taps.fx = x - wp.float32(j)
    taps.fy = y - wp.float32(i)
    a, b = texel(place.face, i, j, n), texel(place.face, i, j + 1, n)
    c, d = texel(place.face, i + 1, j, n), texel(place.face, i + 1, j + 1, n)
    if a < 0:
        taps.missing = 0
    if b < 0:
        taps.missing = 1
    if c < 0:
        taps.missing = 2
    if d < 0:
        taps.missing = 3
    taps.at = wp.vec4i(wp.where(a < 0, b, a), wp.where(b < 0, a, b), wp.where(c < 0, a, c), wp.where(d < 0, a, d))
    return taps


@warp_function
def weights_of(taps: Taps):
    fx, fy = taps.fx, taps.fy
    w = wp.vec4((1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy)
    if taps.missing >= 0:
        share = w[taps.missing] * THIRD
        w = wp.vec4(
            wp.where(taps.missing == 0, 0.0, w[0] + share),
            wp.where(taps.missing == 1, 0.0, w[1] + share),
            wp.where(taps.missing == 2, 0.0, w[2] + share),
            wp.where(taps.missing == 3, 0.0, w[3] + share),
        )
    return w


@warp_function
def locate(direction: wp.vec3):
    """A zero or NaN direction looks at the centre of a face."""
    face, stc = face_of(direction)
    place = Place()
    place.face = face
    if stc[2] > 0.0:
        place.half = 0.5 / stc[2]
    place.u = within(stc[0] * place.half + 0.5)
    place.v = within(stc[1] * place.half + 0.5)
    return place


@warp_function
def within(u: wp.float32):
    """u between 0 and 1; 0 if it is NaN."""
    if u >= 0.0 and u <= 1.0:
        return u
    return wp.where(u > 1.0, 1.0, 0.0)


@warp_function
def value_at(chain: Chain, level: wp.int32, image: wp.int32, place: Place, k: wp.int32, nearest: wp.bool):
    n = chain.widths[level]
    taps = taps_of(place, n, nearest)
    w = weights_of(taps)
    at = chain.channels * (taps.at + image * 6 * n * n * wp.vec4i(1, 1, 1, 1))
    texels = texels_of(chain, level, 6)
    return w[0] * texels[at[0] + k] + w[1] * texels[at[1] + k] + w[2] * texels[at[2] + k] + w[3] * texels[at[3] + k]


@warp_kernel
def look_up(
    chain: Chain, directions: wp.array[wp.vec3], level: wp.array[wp.float32], nearest: wp.bool,
    out: wp.array2d[wp.float32],
):  # fmt: skip
    """``out [N, C]``; an empty ``level`` is 0."""
    sample, k = wp.tid()
    place = locate(directions[sample])
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    value = value_at(chain, lower, image, place, k, nearest)
    if fraction != 0.0:
        value = (1.0 - fraction) * value + fraction * value_at(chain, upper, image, place, k, nearest)
    out[sample, k] = value


@warp_kernel
def sample_gradients(
    chain: Chain, directions: wp.array[wp.vec3], level: wp.array[wp.float32], nearest: wp.bool,
    grad_out: wp.array2d[wp.float32], want_directions: wp.bool, want_level: wp.bool,
    grad_directions: wp.array[wp.vec3], grad_level: wp.array[wp.float32],
):  # fmt: skip
    """Gradients by direction (zero of the nearest texel) and by level."""
    sample = wp.tid()
    place = locate(directions[sample])
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    along_u, along_v, slope = wp.float32(0.0), wp.float32(0.0), wp.float32(0.0)
    for step in range(2):
        if step == 0 or (upper > lower and (fraction != 0.0 or want_level)):
            which = wp.where(step == 1, upper, lower)
            share = wp.where(step == 1, fraction, 1.0 - fraction)
            n = chain.widths[which]
            taps = taps_of(place, n, nearest)
            w = weights_of(taps)
            at = chain.channels * (taps.at + image * 6 * n * n * wp.vec4i(1, 1, 1, 1))
            texels = texels_of(chain, which, 6)
            q = wp.vec4(0.0, 0.0, 0.0, 0.0)
            for k in range(chain.channels):
                q += grad_out[sample, k] * wp.vec4(
                    texels[at[0] + k], texels[at[1] + k], texels[at[2] + k], texels[at[3] + k]
                )
            value = wp.dot(w, q)
            slope += wp.where(step == 1, value, -value)
            mean = (q[0] + q[1] + q[2] + q[3]) * THIRD
            if taps.missing >= 0:
                mean = mean - q[taps.missing] * THIRD
            qa, qb = wp.where(taps.missing == 0, mean, q[0]), wp.where(taps.missing == 1, mean, q[1])
            qc, qd = wp.where(taps.missing == 2, mean, q[2]), wp.where(taps.missing == 3, mean, q[3])
            scale = share * wp.float32(n)
            along_u += scale * ((qb - qa) * (1.0 - taps.fy) + (qd - qc) * taps.fy)
            along_v += scale * ((qc - qa) * (1.0 - taps.fx) + (qd - qb) * taps.fx)
    if want_level:
        grad_level[sample] = wp.where(upper > lower, slope, 0.0)
    if want_directions and not nearest:
        ds, dt = along_u * place.half, along_v * place.half
        # s/c falls with c: d(s/2c)/dc = −(s/c)·1/2c, and s/c = 2u − 1
        dc = -(ds * (2.0 * place.u - 1.0) + dt * (2.0 * place.v - 1.0))
        grad_directions[sample] = direction_of(place.face, wp.vec3(ds, dt, dc))


@warp_function
def add_texels(
    chain: Chain, level: wp.int32, image: wp.int32, place: Place, k: wp.int32, nearest: wp.bool, value: wp.float32,
    grad: wp.array[wp.float32],
):  # fmt: skip
    n = chain.widths[level]
    taps = taps_of(place, n, nearest)
    w = weights_of(taps)
    at = chain.channels * (taps.at + image * 6 * n * n * wp.vec4i(1, 1, 1, 1))
    start = wp.int32(chain.starts[level]) + k
    wp.atomic_add(grad, start + at[0], value * w[0])
    wp.atomic_add(grad, start + at[1], value * w[1])
    wp.atomic_add(grad, start + at[2], value * w[2])
    wp.atomic_add(grad, start + at[3], value * w[3])


@warp_kernel
def texel_gradients(
    chain: Chain, directions: wp.array[wp.vec3], level: wp.array[wp.float32], nearest: wp.bool,
    grad_out: wp.array2d[wp.float32], grad: wp.array[wp.float32],
):  # fmt: skip
    """Add the gradient by texel to the flat ``grad`` of all levels."""
    sample, k = wp.tid()
    place = locate(directions[sample])
    lower, upper, fraction = bracket(level, sample, chain.top)
    image = image_of(chain, sample)
    g = grad_out[sample, k]
    if g != 0.0:
        add_texels(chain, lower, image, place, k, nearest, (1.0 - fraction) * g, grad)
        if fraction != 0.0:
            add_texels(chain, upper, image, place, k, nearest, fraction * g, grad)
