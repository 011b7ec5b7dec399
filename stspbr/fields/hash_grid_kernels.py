"""Numba kernels of the hash grid: features of points, and gradients by table and by point.

A level is a grid of ``resolution³`` cells whose vertices lie in the table one after the other where it is large
enough for all of them (x fastest), and else at a hash of their integer coordinates. ``features`` comes as a tuple of
that many zeros: its length is known when a kernel is compiled, so that the loops over features disappear.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_FLAGS = {"contract", "arcp", "nsz"}
_PRIME_Y, _PRIME_Z = np.uint32(2654435761), np.uint32(805459861)
_BLOCK = 256


@njit(cache=True, fastmath=_FLAGS)
def _cell(x, resolution):
    """Cell along one axis, and the position in it; x is clamped to [0, 1] (NaN: 0)."""
    if not (x > 0):
        x = np.float32(0)
    if x > 1:
        x = np.float32(1)
    position = x * np.float32(resolution)
    cell = min(np.int32(position), np.int32(resolution - 1))
    return np.uint32(cell), position - np.float32(cell)


@njit(cache=True, fastmath=_FLAGS)
def _strides(resolution, size):
    """Factors by which y and z enter a dense index, whether the level is dense, and the mask of a hashed one."""
    side = resolution + 1
    if side * side * side <= size:
        return np.uint32(side), np.uint32(side * side), True, np.uint32(0)
    return _PRIME_Y, _PRIME_Z, False, np.uint32(size - 1)


@njit(cache=True, fastmath=_FLAGS)
def _vertex(x, y, z, dense, mask):
    """Entry of a vertex, given its x and its y and z times their strides."""
    if dense:
        return np.uint64(x + y + z)
    return np.uint64((x ^ y ^ z) & mask)


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def hash_forward(points, table, resolutions, offsets, sizes, active, features, out):
    count = points.shape[0]
    levels = resolutions.size
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, count)
        for level in range(active):
            resolution, offset = resolutions[level], np.uint64(offsets[level])
            stride_y, stride_z, dense, mask = _strides(resolution, sizes[level])
            for sample in range(first, last):
                x0, fx = _cell(points[sample, 0], resolution)
                y0, fy = _cell(points[sample, 1], resolution)
                z0, fz = _cell(points[sample, 2], resolution)
                x1 = x0 + np.uint32(1)
                y0 *= stride_y
                z0 *= stride_z
                y1, z1 = y0 + stride_y, z0 + stride_z
                gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                a = offset + _vertex(x0, y0, z0, dense, mask)
                b = offset + _vertex(x1, y0, z0, dense, mask)
                c = offset + _vertex(x0, y1, z0, dense, mask)
                d = offset + _vertex(x1, y1, z0, dense, mask)
                e = offset + _vertex(x0, y0, z1, dense, mask)
                f = offset + _vertex(x1, y0, z1, dense, mask)
                g = offset + _vertex(x0, y1, z1, dense, mask)
                h = offset + _vertex(x1, y1, z1, dense, mask)
                for k in range(len(features)):
                    near = gy * (gx * table[a, k] + fx * table[b, k]) + fy * (gx * table[c, k] + fx * table[d, k])
                    far = gy * (gx * table[e, k] + fx * table[f, k]) + fy * (gx * table[g, k] + fx * table[h, k])
                    out[sample, level * len(features) + k] = gz * near + fz * far
        for sample in range(first, last):
            out[sample, active * len(features) : levels * len(features)] = 0


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def hash_backward_table(points, grad_out, resolutions, offsets, sizes, active, features, workers, grad):
    """Gradient by table into ``grad``, which need not be cleared. A level belongs to one worker, which adds its
    samples in order: the sums are the same for any number of workers."""
    count = points.shape[0]
    levels = resolutions.size
    for worker in prange(workers):
        for level in range(worker, levels, workers):
            grad[offsets[level] : offsets[level] + sizes[level]] = 0
        for block in range((count + _BLOCK - 1) // _BLOCK):  # levels inside: a block's gradients stay in the cache
            for level in range(worker, active, workers):
                resolution, offset = resolutions[level], np.uint64(offsets[level])
                stride_y, stride_z, dense, mask = _strides(resolution, sizes[level])
                for sample in range(block * _BLOCK, min((block + 1) * _BLOCK, count)):
                    x0, fx = _cell(points[sample, 0], resolution)
                    y0, fy = _cell(points[sample, 1], resolution)
                    z0, fz = _cell(points[sample, 2], resolution)
                    x1 = x0 + np.uint32(1)
                    y0 *= stride_y
                    z0 *= stride_z
                    y1, z1 = y0 + stride_y, z0 + stride_z
                    gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                    a = offset + _vertex(x0, y0, z0, dense, mask)
                    b = offset + _vertex(x1, y0, z0, dense, mask)
                    c = offset + _vertex(x0, y1, z0, dense, mask)
                    d = offset + _vertex(x1, y1, z0, dense, mask)
                    e = offset + _vertex(x0, y0, z1, dense, mask)
                    f = offset + _vertex(x1, y0, z1, dense, mask)
                    g = offset + _vertex(x0, y1, z1, dense, mask)
                    h = offset + _vertex(x1, y1, z1, dense, mask)
                    for k in range(len(features)):
                        value = grad_out[sample, level * len(features) + k]
                        near, far = gz * value, fz * value
                        low, high = gy * near, fy * near
                        grad[a, k] += gx * low
                        grad[b, k] += fx * low
                        grad[c, k] += gx * high
                        grad[d, k] += fx * high
                        low, high = gy * far, fy * far
                        grad[e, k] += gx * low
                        grad[f, k] += fx * low
                        grad[g, k] += gx * high
                        grad[h, k] += fx * high


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def hash_backward_points(points, table, grad_out, resolutions, offsets, sizes, active, features, grad):
    """Gradient by point; zero along an axis where the point is outside [0, 1]."""
    count = points.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, count)
        grad[first:last] = 0
        for level in range(active):
            resolution, offset = resolutions[level], np.uint64(offsets[level])
            stride_y, stride_z, dense, mask = _strides(resolution, sizes[level])
            scale = np.float32(resolution)
            for sample in range(first, last):
                x0, fx = _cell(points[sample, 0], resolution)
                y0, fy = _cell(points[sample, 1], resolution)
                z0, fz = _cell(points[sample, 2], resolution)
                x1 = x0 + np.uint32(1)
                y0 *= stride_y
                z0 *= stride_z
                y1, z1 = y0 + stride_y, z0 + stride_z
                gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                a = offset + _vertex(x0, y0, z0, dense, mask)
                b = offset + _vertex(x1, y0, z0, dense, mask)
                c = offset + _vertex(x0, y1, z0, dense, mask)
                d = offset + _vertex(x1, y1, z0, dense, mask)
                e = offset + _vertex(x0, y0, z1, dense, mask)
                f = offset + _vertex(x1, y0, z1, dense, mask)
                g = offset + _vertex(x0, y1, z1, dense, mask)
                h = offset + _vertex(x1, y1, z1, dense, mask)
                qa = qb = qc = qd = qe = qf = qg = qh = np.float32(0)
                for k in range(len(features)):
                    value = grad_out[sample, level * len(features) + k]
                    qa += value * table[a, k]
                    qb += value * table[b, k]
                    qc += value * table[c, k]
                    qd += value * table[d, k]
                    qe += value * table[e, k]
                    qf += value * table[f, k]
                    qg += value * table[g, k]
                    qh += value * table[h, k]
                along_x = gz * (gy * (qb - qa) + fy * (qd - qc)) + fz * (gy * (qf - qe) + fy * (qh - qg))
                along_y = gz * (gx * (qc - qa) + fx * (qd - qb)) + fz * (gx * (qg - qe) + fx * (qh - qf))
                near = gy * (gx * qa + fx * qb) + fy * (gx * qc + fx * qd)
                far = gy * (gx * qe + fx * qf) + fy * (gx * qg + fx * qh)
                grad[sample, 0] += scale * along_x
                grad[sample, 1] += scale * along_y
                grad[sample, 2] += scale * (far - near)
        for sample in range(first, last):
            for axis in range(3):
                if not (0 <= points[sample, axis] <= 1):
                    grad[sample, axis] = 0
