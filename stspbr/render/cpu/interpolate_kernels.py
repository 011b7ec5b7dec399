"""Numba kernels of interpolation; pixels are flat lists in groups that share one set of attributes."""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

FAST = {"contract", "arcp", "nsz"}
BLOCK = 1024  # pixels of one task


@kernel(parallel=True, fastmath=FAST)
def forward(attributes, faces, rast, rast_db, selected, out, out_da):
    """``attributes [G,V,C]``, ``rast [G,P,4]``, ``rast_db`` likewise (read only where ``selected`` has entries)
    to ``out [G,P,C]`` and ``out_da [G,P,2·D]``."""
    groups, count, channels, wanted = rast.shape[0], rast.shape[1], attributes.shape[2], selected.shape[0]
    blocks = (count + BLOCK - 1) // BLOCK
    for task in prange(groups * blocks):
        g, begin = task // blocks, (task % blocks) * BLOCK
        for p in range(begin, min(begin + BLOCK, count)):
            f = np.int64(rast[g, p, 3]) - 1
            if f < 0 or f >= faces.shape[0]:
                out[g, p] = 0.0
                out_da[g, p] = 0.0
                continue
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            u, v = rast[g, p, 0], rast[g, p, 1]
            w = np.float32(1.0) - u - v
            for c in range(channels):
                out[g, p, c] = u * attributes[g, i0, c] + v * attributes[g, i1, c] + w * attributes[g, i2, c]
            for k in range(wanted):
                c = selected[k]
                to0 = attributes[g, i0, c] - attributes[g, i2, c]
                to1 = attributes[g, i1, c] - attributes[g, i2, c]
                out_da[g, p, 2 * k] = to0 * rast_db[g, p, 0] + to1 * rast_db[g, p, 2]
                out_da[g, p, 2 * k + 1] = to0 * rast_db[g, p, 1] + to1 * rast_db[g, p, 3]


@kernel(parallel=True, fastmath=FAST)
def backward_pixels(attributes, faces, rast, selected, grad_out, grad_da, has_out, grad_rast, grad_db):
    """Gradient of ``rast`` ``[G,P,4]`` and, where ``selected`` has entries, of ``rast_db`` ``[G,P,4]``."""
    groups, count, channels, wanted = rast.shape[0], rast.shape[1], attributes.shape[2], selected.shape[0]
    blocks = (count + BLOCK - 1) // BLOCK
    for task in prange(groups * blocks):
        g, begin = task // blocks, (task % blocks) * BLOCK
        for p in range(begin, min(begin + BLOCK, count)):
            gu = gv = np.float32(0.0)
            gux = guy = gvx = gvy = np.float32(0.0)
            f = np.int64(rast[g, p, 3]) - 1
            if 0 <= f < faces.shape[0]:
                i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
                if has_out:
                    for c in range(channels):
                        gu += grad_out[g, p, c] * (attributes[g, i0, c] - attributes[g, i2, c])
                        gv += grad_out[g, p, c] * (attributes[g, i1, c] - attributes[g, i2, c])
                for k in range(wanted):
                    c = selected[k]
                    to0 = attributes[g, i0, c] - attributes[g, i2, c]
                    to1 = attributes[g, i1, c] - attributes[g, i2, c]
                    gux += grad_da[g, p, 2 * k] * to0
                    guy += grad_da[g, p, 2 * k + 1] * to0
                    gvx += grad_da[g, p, 2 * k] * to1
                    gvy += grad_da[g, p, 2 * k + 1] * to1
            grad_rast[g, p, 0], grad_rast[g, p, 1], grad_rast[g, p, 2], grad_rast[g, p, 3] = gu, gv, 0.0, 0.0
            if wanted:
                grad_db[g, p, 0], grad_db[g, p, 1], grad_db[g, p, 2], grad_db[g, p, 3] = gux, guy, gvx, gvy


@kernel(parallel=True, fastmath=FAST)
def reduce_triangles(rast, rast_db, selected, grad_out, grad_da, has_out, channels, group_starts, starts, pixels):
    """Gradient ``[K, 3, C]`` float64 of the corners of the visible triangles, summed over their pixels."""
    visible = starts.shape[0] - 1
    group = np.empty(visible, np.int32)
    for g in range(rast.shape[0]):
        group[group_starts[g] : group_starts[g + 1]] = g
    out = np.empty((visible, 3, channels), np.float64)
    for k in prange(visible):
        g = group[k]
        for corner in range(3):
            for c in range(channels):
                out[k, corner, c] = 0.0
        for m in range(starts[k], starts[k + 1]):
            p = pixels[m]
            if has_out:
                u, v = rast[g, p, 0], rast[g, p, 1]
                w = np.float32(1.0) - u - v
                for c in range(channels):
                    out[k, 0, c] += u * grad_out[g, p, c]
                    out[k, 1, c] += v * grad_out[g, p, c]
                    out[k, 2, c] += w * grad_out[g, p, c]
            for d in range(selected.shape[0]):
                c = selected[d]
                to0 = grad_da[g, p, 2 * d] * rast_db[g, p, 0] + grad_da[g, p, 2 * d + 1] * rast_db[g, p, 1]
                to1 = grad_da[g, p, 2 * d] * rast_db[g, p, 2] + grad_da[g, p, 2 * d + 1] * rast_db[g, p, 3]
                out[k, 0, c] += to0
                out[k, 1, c] += to1
                out[k, 2, c] -= to0 + to1
    return out


@kernel(parallel=True, fastmath=FAST)
def scatter_corners(corner_grad, faces, group_starts, triangles, grad_attributes):
    """Add the corners' gradients into ``grad_attributes`` ``[G,V,C]``; a slice of channels has one owner."""
    groups, vertices, channels = grad_attributes.shape
    parts = (channels + 3) // 4
    for task in prange(groups * parts):
        g, begin = task // parts, (task % parts) * 4
        end = min(begin + 4, channels)
        total = np.zeros((vertices, 4), np.float64)
        for k in range(group_starts[g], group_starts[g + 1]):
            for corner in range(3):
                vertex = faces[triangles[k], corner]
                for c in range(begin, end):
                    total[vertex, c - begin] += corner_grad[k, corner, c]
        for vertex in range(vertices):
            for c in range(begin, end):
                grad_attributes[g, vertex, c] = total[vertex, c - begin]
