"""Numba kernels of the hash grid: features of points, and gradients by table and by point.

A level is a grid of ``resolution³`` cells whose vertices lie in the table one after the other where it is large
enough for all of them (x fastest), and else at a hash of their integer coordinates. Samples go through in blocks: the
entries of a block's cells are found first, by a loop without memory gathers that becomes vector code. ``features`` is
a tuple of that many zeros: its length is known when a kernel is compiled, so that the loops over features disappear.
Entries are unsigned: a signed index costs a test for being negative at each of the sixteen reads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

_FLAGS = {"contract", "arcp", "nsz"}
_PRIME_Y, _PRIME_Z = np.uint32(2654435761), np.uint32(805459861)
_BLOCK = 256


@kernel(fastmath=_FLAGS)
def _block_buffers():
    """Coordinates, entries of the eight vertices and positions in the cell, for a block of samples."""
    coordinates = np.empty((3, _BLOCK), np.float32)
    return coordinates, np.empty((8, _BLOCK), np.uint32), np.empty((3, _BLOCK), np.float32)


@kernel(fastmath=_FLAGS)
def _load(points, first, last, coordinates):
    """The points of a block by axis, clamped to [0, 1]; NaN becomes 0, so that no entry lies outside the table."""
    for sample in range(first, last):
        for axis in range(3):
            x = points[sample, axis]
            x = x if x > 0 else np.float32(0)
            coordinates[axis, sample - first] = x if x < 1 else np.float32(1)


@kernel(fastmath=_FLAGS)
def _find(coordinates, count, resolution, size, entries, fractions):
    """Entries in the level's table of the vertices around each point (x changes fastest), and positions in the cell."""
    scale, last = np.float32(resolution), np.int32(resolution - 1)
    side = resolution + 1
    dense = side * side * side <= size
    stride_y = np.uint32(side) if dense else _PRIME_Y
    stride_z = np.uint32(side * side) if dense else _PRIME_Z
    mask = np.uint32(size - 1)
    one = np.uint32(1)
    for i in range(count):
        x, y, z = coordinates[0, i] * scale, coordinates[1, i] * scale, coordinates[2, i] * scale
        cx, cy, cz = min(np.int32(x), last), min(np.int32(y), last), min(np.int32(z), last)
        fractions[0, i] = x - np.float32(cx)
        fractions[1, i] = y - np.float32(cy)
        fractions[2, i] = z - np.float32(cz)
        x0, y0, z0 = np.uint32(cx), np.uint32(cy) * stride_y, np.uint32(cz) * stride_z
        x1, y1, z1 = x0 + one, y0 + stride_y, z0 + stride_z
        if dense:
            entries[0, i] = x0 + y0 + z0
            entries[1, i] = x1 + y0 + z0
            entries[2, i] = x0 + y1 + z0
            entries[3, i] = x1 + y1 + z0
            entries[4, i] = x0 + y0 + z1
            entries[5, i] = x1 + y0 + z1
            entries[6, i] = x0 + y1 + z1
            entries[7, i] = x1 + y1 + z1
        else:
            entries[0, i] = (x0 ^ y0 ^ z0) & mask
            entries[1, i] = (x1 ^ y0 ^ z0) & mask
            entries[2, i] = (x0 ^ y1 ^ z0) & mask
            entries[3, i] = (x1 ^ y1 ^ z0) & mask
            entries[4, i] = (x0 ^ y0 ^ z1) & mask
            entries[5, i] = (x1 ^ y0 ^ z1) & mask
            entries[6, i] = (x0 ^ y1 ^ z1) & mask
            entries[7, i] = (x1 ^ y1 ^ z1) & mask


@kernel(fastmath=_FLAGS)
def _vertices(entries, i):
    return (
        np.uint64(entries[0, i]), np.uint64(entries[1, i]), np.uint64(entries[2, i]), np.uint64(entries[3, i]),
        np.uint64(entries[4, i]), np.uint64(entries[5, i]), np.uint64(entries[6, i]), np.uint64(entries[7, i]),
    )  # fmt: skip


@kernel(fastmath=_FLAGS)
def _weights(fractions, i):
    """Position in the cell along x, y and z, and what is left to one."""
    fx, fy, fz = fractions[0, i], fractions[1, i], fractions[2, i]
    one = np.float32(1)
    return fx, fy, fz, one - fx, one - fy, one - fz


@kernel(parallel=True, fastmath=_FLAGS)
def hash_forward(points, table, resolutions, offsets, sizes, active, features, out):
    count = points.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, count)
        coordinates, entries, fractions = _block_buffers()
        _load(points, first, last, coordinates)
        for level in range(active):
            column = level * len(features)
            own = table[offsets[level] : offsets[level] + sizes[level]]
            _find(coordinates, last - first, resolutions[level], sizes[level], entries, fractions)
            for i in range(last - first):
                a, b, c, d, e, f, g, h = _vertices(entries, i)
                fx, fy, fz, gx, gy, gz = _weights(fractions, i)
                for k in range(len(features)):
                    near = gy * (gx * own[a, k] + fx * own[b, k]) + fy * (gx * own[c, k] + fx * own[d, k])
                    far = gy * (gx * own[e, k] + fx * own[f, k]) + fy * (gx * own[g, k] + fx * own[h, k])
                    out[first + i, column + k] = gz * near + fz * far
        out[first:last, active * len(features) :] = 0


@kernel(parallel=True, fastmath=_FLAGS)
def hash_backward_table(points, grad_out, resolutions, offsets, sizes, active, features, workers, grad):
    """Gradient by table into ``grad``, which need not be cleared. A level belongs to one worker, which adds its
    samples in order: the sums are the same for any number of workers."""
    count = points.shape[0]
    for worker in prange(workers):
        coordinates, entries, fractions = _block_buffers()
        for level in range(worker, resolutions.size, workers):
            grad[offsets[level] : offsets[level] + sizes[level]] = 0
        for block in range((count + _BLOCK - 1) // _BLOCK):  # levels inside: a block's gradients stay in the cache
            first, last = block * _BLOCK, min((block + 1) * _BLOCK, count)
            _load(points, first, last, coordinates)
            for level in range(worker, active, workers):
                column = level * len(features)
                own = grad[offsets[level] : offsets[level] + sizes[level]]
                _find(coordinates, last - first, resolutions[level], sizes[level], entries, fractions)
                for i in range(last - first):
                    a, b, c, d, e, f, g, h = _vertices(entries, i)
                    fx, fy, fz, gx, gy, gz = _weights(fractions, i)
                    for k in range(len(features)):
                        value = grad_out[first + i, column + k]
                        near, far = gz * value, fz * value
                        low, high = gy * near, fy * near
                        own[a, k] += gx * low
                        own[b, k] += fx * low
                        own[c, k] += gx * high
                        own[d, k] += fx * high
                        low, high = gy * far, fy * far
                        own[e, k] += gx * low
                        own[f, k] += fx * low
                        own[g, k] += gx * high
                        own[h, k] += fx * high


@kernel(parallel=True, fastmath=_FLAGS)
def hash_backward_points(points, table, grad_out, resolutions, offsets, sizes, active, features, grad):
    """Gradient by point; zero along an axis where the point is outside [0, 1]."""
    count = points.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, count)
        coordinates, entries, fractions = _block_buffers()
        _load(points, first, last, coordinates)
        grad[first:last] = 0
        for level in range(active):
            column, scale = level * len(features), np.float32(resolutions[level])
            own = table[offsets[level] : offsets[level] + sizes[level]]
            _find(coordinates, last - first, resolutions[level], sizes[level], entries, fractions)
            for i in range(last - first):
                a, b, c, d, e, f, g, h = _vertices(entries, i)
                fx, fy, fz, gx, gy, gz = _weights(fractions, i)
                qa = qb = qc = qd = qe = qf = qg = qh = np.float32(0)
                for k in range(len(features)):
                    value = grad_out[first + i, column + k]
                    qa += value * own[a, k]
                    qb += value * own[b, k]
                    qc += value * own[c, k]
                    qd += value * own[d, k]
                    qe += value * own[e, k]
                    qf += value * own[f, k]
                    qg += value * own[g, k]
                    qh += value * own[h, k]
                along_x = gz * (gy * (qb - qa) + fy * (qd - qc)) + fz * (gy * (qf - qe) + fy * (qh - qg))
                along_y = gz * (gx * (qc - qa) + fx * (qd - qb)) + fz * (gx * (qg - qe) + fx * (qh - qf))
                near = gy * (gx * qa + fx * qb) + fy * (gx * qc + fx * qd)
                far = gy * (gx * qe + fx * qf) + fy * (gx * qg + fx * qh)
                grad[first + i, 0] += scale * along_x
                grad[first + i, 1] += scale * along_y
                grad[first + i, 2] += scale * (far - near)
        for sample in range(first, last):
            for axis in range(3):
                if not (0 <= points[sample, axis] <= 1):
                    grad[sample, axis] = 0
