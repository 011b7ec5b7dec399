"""Numba kernels of the cube map lookup: seamless bilinear taps, two mip levels, and every gradient in one pass.

Faces are in OpenGL's order and orientation: +X, −X, +Y, −Y, +Z, −Z, column along s, row along t.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel
from stspbr.render.cpu.mip_chain import float_pointer, mip_bracket

_FLAGS = {"contract", "arcp", "nsz"}


@kernel(fastmath=_FLAGS)
def direction_to_face(x, y, z):
    """Face, coordinates s and t on it, and the length c of the major component: texture coordinates are s/c, t/c."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if az > ax and az > ay:
        if z < 0:
            return 5, -x, -y, az
        return 4, x, -y, az
    if ay > ax:
        if y < 0:
            return 3, x, -z, ay
        return 2, x, z, ay
    if x < 0:
        return 1, z, -y, ax
    return 0, -z, -y, ax


@kernel(fastmath=_FLAGS)
def face_to_direction(face, s, t, c):
    """The inverse; being a signed permutation it also carries gradients by (s, t, c) to gradients by direction."""
    if face == 0:
        return c, -t, -s
    if face == 1:
        return -c, -t, s
    if face == 2:
        return s, c, t
    if face == 3:
        return s, -c, -t
    if face == 4:
        return s, -t, c
    return -s, -t, -c


@kernel(fastmath=_FLAGS)
def _texel(face, i, j, n):
    """Number of texel (row i, column j); one step off the face is the texel across the edge, off two edges is −1."""
    row_inside = 0 <= i < n
    column_inside = 0 <= j < n
    if row_inside and column_inside:
        return (face * n + i) * n + j
    if not row_inside and not column_inside:
        return -1
    # in half texels from the centre of a cube of half size n, the off-face component is the largest: n + 1
    x, y, z = face_to_direction(face, 2 * j + 1 - n, 2 * i + 1 - n, n)
    face, s, t, _ = direction_to_face(x, y, z)
    j = min(max((s + n - 1) // 2, 0), n - 1)
    i = min(max((t + n - 1) // 2, 0), n - 1)
    return (face * n + i) * n + j


@kernel(fastmath=_FLAGS)
def _edge_taps(face, i, j, n):
    """Four texels around a cell that reaches over the border of a face, and which of them is missing (−1: none)."""
    a = _texel(face, i, j, n)
    b = _texel(face, i, j + 1, n)
    c = _texel(face, i + 1, j, n)
    d = _texel(face, i + 1, j + 1, n)
    if a < 0:
        return b, b, c, d, 0
    if b < 0:
        return a, a, c, d, 1
    if c < 0:
        return a, b, a, d, 2
    if d < 0:
        return a, b, c, a, 3
    return a, b, c, d, -1


@kernel(fastmath=_FLAGS)
def _taps(face, u, v, n, nearest):
    """Four texels, the fractions between them, and the tap beyond a corner (−1: none): the mean of the other three
    stands for it, which is what makes the corner the same from all three faces."""
    size = np.float32(n)
    if nearest:
        a = (face * n + min(int(v * size), n - 1)) * n + min(int(u * size), n - 1)
        return a, a, a, a, np.float32(0), np.float32(0), -1
    x = u * size - np.float32(0.5)
    y = v * size - np.float32(0.5)
    j = int(np.floor(x))
    i = int(np.floor(y))
    fx = x - np.float32(j)
    fy = y - np.float32(i)
    if 0 <= i < n - 1 and 0 <= j < n - 1:
        a = (face * n + i) * n + j
        return a, a + 1, a + n, a + n + 1, fx, fy, -1
    a, b, c, d, missing = _edge_taps(face, i, j, n)
    return a, b, c, d, fx, fy, missing


@kernel(fastmath=_FLAGS)
def _weights(fx, fy, missing):
    one = np.float32(1)
    wa, wb, wc, wd = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    if missing < 0:
        return wa, wb, wc, wd
    third = np.float32(1.0 / 3.0)
    if missing == 0:
        return np.float32(0), wb + wa * third, wc + wa * third, wd + wa * third
    if missing == 1:
        return wa + wb * third, np.float32(0), wc + wb * third, wd + wb * third
    if missing == 2:
        return wa + wc * third, wb + wc * third, np.float32(0), wd + wc * third
    return wa + wd * third, wb + wd * third, wc + wd * third, np.float32(0)


@kernel(fastmath=_FLAGS)
def _locate(directions, sample):
    """Face and coordinates u, v in [0, 1] of a direction, with s/c, t/c and 1/(2c); a zero or NaN one looks at 0.5."""
    face, s, t, c = direction_to_face(directions[sample, 0], directions[sample, 1], directions[sample, 2])
    half = np.float32(0.5) / c if c > 0 else np.float32(0)
    u = s * half + np.float32(0.5)
    v = t * half + np.float32(0.5)
    if not (0 <= u <= 1):
        u = np.float32(1) if u > 1 else np.float32(0)
    if not (0 <= v <= 1):
        v = np.float32(1) if v > 1 else np.float32(0)
    return face, u, v, half


@kernel(parallel=True, fastmath=_FLAGS)
def cube_forward(addresses, sizes, textures, per_image, channels, directions, level, nearest, out):
    top = sizes.size - 1
    for sample in prange(directions.shape[0]):
        face, u, v, _ = _locate(directions, sample)
        lower, upper, fraction = mip_bracket(level, sample, top)
        image = sample // per_image if textures > 1 else 0
        n = sizes[lower]
        first = image * 6 * n * n
        fine = float_pointer(addresses[lower])
        a, b, c, d, fx, fy, missing = _taps(face, u, v, n, nearest)
        wa, wb, wc, wd = _weights(fx, fy, missing)
        a, b, c, d = (first + a) * channels, (first + b) * channels, (first + c) * channels, (first + d) * channels
        if fraction == 0:
            for k in range(channels):
                out[sample, k] = wa * fine[a + k] + wb * fine[b + k] + wc * fine[c + k] + wd * fine[d + k]
            continue
        n = sizes[upper]
        first = image * 6 * n * n
        coarse = float_pointer(addresses[upper])
        e, f, g, h, fx, fy, missing = _taps(face, u, v, n, nearest)
        we, wf, wg, wh = _weights(fx, fy, missing)
        e, f, g, h = (first + e) * channels, (first + f) * channels, (first + g) * channels, (first + h) * channels
        rest = np.float32(1) - fraction
        for k in range(channels):
            low = wa * fine[a + k] + wb * fine[b + k] + wc * fine[c + k] + wd * fine[d + k]
            high = we * coarse[e + k] + wf * coarse[f + k] + wg * coarse[g + k] + wh * coarse[h + k]
            out[sample, k] = rest * low + fraction * high


@kernel(parallel=True, fastmath=_FLAGS)
def cube_backward(
    addresses, sizes, starts, textures, per_image, channels, directions, level, nearest,
    grad_out, slabs, grad_directions, grad_level,
):  # fmt: skip
    """Gradients of the lookup. ``slabs [K, total]`` (empty: not wanted) are partial sums over K runs of samples, whose
    number is fixed by the caller: the sums do not depend on the threads. Empty gradient arrays are not wanted."""
    top = sizes.size - 1
    count = directions.shape[0]
    want_texels = slabs.shape[1] > 0
    want_directions = grad_directions.shape[0] > 0 and not nearest
    want_level = grad_level.size > 0
    runs = slabs.shape[0]
    for run in prange(runs):
        sums = slabs[run]
        sums[:] = 0
        for sample in range(count * run // runs, count * (run + 1) // runs):
            face, u, v, half = _locate(directions, sample)
            lower, upper, fraction = mip_bracket(level, sample, top)
            image = sample // per_image if textures > 1 else 0
            along_u = along_v = slope = np.float32(0)
            for step in range(2):
                share = fraction if step else np.float32(1) - fraction
                if step and (upper == lower or (fraction == 0 and not want_level)):
                    continue
                which = upper if step else lower
                n = sizes[which]
                a, b, c, d, fx, fy, missing = _taps(face, u, v, n, nearest)
                wa, wb, wc, wd = _weights(fx, fy, missing)
                first = image * 6 * n * n
                a, b = (first + a) * channels, (first + b) * channels
                c, d = (first + c) * channels, (first + d) * channels
                if want_texels:
                    start = starts[which]
                    ta, tb, tc, td = start + a, start + b, start + c, start + d
                    for k in range(channels):
                        g = share * grad_out[sample, k]
                        sums[ta + k] += wa * g
                        sums[tb + k] += wb * g
                        sums[tc + k] += wc * g
                        sums[td + k] += wd * g
                if want_directions or want_level:
                    texels = float_pointer(addresses[which])
                    qa = qb = qc = qd = np.float32(0)
                    for k in range(channels):
                        g = grad_out[sample, k]
                        qa += g * texels[a + k]
                        qb += g * texels[b + k]
                        qc += g * texels[c + k]
                        qd += g * texels[d + k]
                    value = wa * qa + wb * qb + wc * qc + wd * qd
                    slope += value if step else -value
                    third = np.float32(1.0 / 3.0)
                    if missing == 0:
                        qa = (qb + qc + qd) * third
                    elif missing == 1:
                        qb = (qa + qc + qd) * third
                    elif missing == 2:
                        qc = (qa + qb + qd) * third
                    elif missing == 3:
                        qd = (qa + qb + qc) * third
                    scale = share * np.float32(n)
                    along_u += scale * ((qb - qa) * (np.float32(1) - fy) + (qd - qc) * fy)
                    along_v += scale * ((qc - qa) * (np.float32(1) - fx) + (qd - qb) * fx)
            if want_level:
                grad_level[sample] = slope if upper > lower else np.float32(0)
            if want_directions:
                ds, dt = along_u * half, along_v * half
                # s/c falls with c: d(s/2c)/dc = −(s/c)·1/2c, and s/c = 2u − 1
                dc = -(ds * (np.float32(2) * u - np.float32(1)) + dt * (np.float32(2) * v - np.float32(1)))
                gx, gy, gz = face_to_direction(face, ds, dt, dc)
                grad_directions[sample, 0] = gx
                grad_directions[sample, 1] = gy
                grad_directions[sample, 2] = gz


@kernel(parallel=True, fastmath=_FLAGS)
def sum_slabs(slabs, total):
    """``total[i] = Σ slabs[:, i]``, always in the order of the slabs."""
    block = 4096
    for part in prange((total.size + block - 1) // block):
        start, stop = part * block, min((part + 1) * block, total.size)
        for i in range(start, stop):
            total[i] = slabs[0, i]
        for run in range(1, slabs.shape[0]):
            for i in range(start, stop):
                total[i] += slabs[run, i]
