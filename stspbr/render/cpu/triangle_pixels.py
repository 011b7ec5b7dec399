"""Pixels grouped by the triangle they show: how gradients are summed into vertices without races."""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

PARTS = 8  # constant, so that nothing depends on the thread count


@kernel(parallel=True)
def group_pixels(ids, face_count):
    """Group pixels by triangle with a counting sort.

    Args:
        ids: ``[G, P]`` float32, triangle_id + 1 of ``P`` pixels in each of ``G`` independent groups; 0 is empty.
        face_count: number of triangles; ids beyond it are ignored.

    Returns:
        ``(group_starts [G+1], triangles [K], starts [K+1], pixels [M])``: group ``g`` shows the triangles
        ``triangles[group_starts[g]:group_starts[g+1]]``; the k-th covers ``pixels[starts[k]:starts[k+1]]``
        (indices in ``[0, P)``, ascending).
    """
    groups, count = ids.shape
    parts = max(1, PARTS // max(groups, 1))
    size = (count + parts - 1) // parts
    cursor = np.zeros((groups, parts, face_count), np.int32)
    for task in prange(groups * parts):
        g, part = task // parts, task % parts
        for p in range(part * size, min((part + 1) * size, count)):
            f = np.int64(ids[g, p]) - 1
            if 0 <= f < face_count:
                cursor[g, part, f] += 1
    covered, visible = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    for g in prange(groups):
        for f in range(face_count):
            here = 0
            for part in range(parts):
                here += cursor[g, part, f]
            covered[g] += here
            visible[g] += here > 0
    group_starts, group_base = np.zeros(groups + 1, np.int64), np.zeros(groups + 1, np.int64)
    for g in range(groups):
        group_starts[g + 1] = group_starts[g] + visible[g]
        group_base[g + 1] = group_base[g] + covered[g]
    triangles = np.empty(group_starts[groups], np.int32)
    starts = np.empty(group_starts[groups] + 1, np.int32)
    starts[group_starts[groups]] = group_base[groups]
    pixels = np.empty(group_base[groups], np.int32)
    for g in prange(groups):
        k, position = group_starts[g], group_base[g]
        for f in range(face_count):
            before = position
            for part in range(parts):
                here = cursor[g, part, f]
                cursor[g, part, f] = position
                position += here
            if position > before:
                triangles[k], starts[k] = f, before
                k += 1
    for task in prange(groups * parts):
        g, part = task // parts, task % parts
        for p in range(part * size, min((part + 1) * size, count)):
            f = np.int64(ids[g, p]) - 1
            if 0 <= f < face_count:
                pixels[cursor[g, part, f]] = p
                cursor[g, part, f] += 1
    return group_starts, triangles, starts, pixels
