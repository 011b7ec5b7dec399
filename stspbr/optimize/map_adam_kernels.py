"""Numba kernels of :mod:`stspbr.optimize.map_adam`."""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

_ROWS = 8192  # summed one after the other, so that sums do not depend on the number of threads


@kernel(parallel=True)
def mean_square(rows):
    """``[C]`` float32 mean square of ``rows [T, C]`` over those that are not all zeros; zeros if there is none."""
    number, channels = rows.shape
    blocks = (number + _ROWS - 1) // _ROWS
    sums, seen = np.zeros((blocks, channels)), np.zeros(blocks, np.int64)
    for b in prange(blocks):
        part, count = np.zeros(channels), 0
        for t in range(b * _ROWS, min((b + 1) * _ROWS, number)):
            largest = np.float32(0.0)
            for c in range(channels):
                value = np.float64(rows[t, c]) * rows[t, c]
                part[c] += value
                largest = max(largest, abs(rows[t, c]))
            if largest > 0.0:
                count += 1
        sums[b] = part
        seen[b] = count
    total = np.zeros(channels)
    for b in range(blocks):  # in order
        total += sums[b]
    return (total / max(seen.sum(), 1)).astype(np.float32)


@kernel(parallel=True)
def move_texels(values, gradient, first, second, floor, first_decay, second_decay, rate, correction, tiny, share=1.0):
    """One step of all texels ``values [T, C]``, whose moments ``first`` and ``second`` are changed, too; all float32.

    Args:
        floor: ``[C]`` added to the second moments.
        rate: the step's size divided by the first moments' correction; correction: of the second moments.
        share: by which gradients are multiplied in the second moments.
    """
    number, channels = values.shape
    length = _ROWS * channels
    floors = np.empty(length, np.float32)
    for k in range(length):
        floors[k] = floor[k % channels]
    flat, gradients = values.reshape(-1), gradient.reshape(-1)
    means, squares = first.reshape(-1), second.reshape(-1)
    a, b = np.float32(first_decay), np.float32(second_decay)
    step, scale, least = np.float32(rate), np.float32(1.0 / correction), np.float32(tiny)
    part = np.float32(share * share)
    one = np.float32(1.0)
    for block in prange((number + _ROWS - 1) // _ROWS):
        begin, end = block * length, min((block + 1) * length, number * channels)
        value, grad, mean, square = flat[begin:end], gradients[begin:end], means[begin:end], squares[begin:end]
        for k in range(len(value)):  # plain and flat, so that it is vectorised
            g = grad[k]
            m = a * mean[k] + (one - a) * g
            v = b * square[k] + (one - b) * g * g * part
            mean[k] = m
            square[k] = v
            value[k] -= step * m / (np.sqrt(v * scale + floors[k]) + least)
