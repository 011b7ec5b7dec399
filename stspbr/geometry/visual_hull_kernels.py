"""Numba kernel of the visual hull."""

from __future__ import annotations

import math

from numba import prange

from stspbr.kernel_cache import kernel


@kernel(parallel=True)
def carve(points, object_to_camera, fx, fy, cx, cy, near, outline, whole, distance):
    """Raise ``distance [V]`` to one frame's signed distance at ``points [V, 3]`` where the frame sees them.

    ``outline [H, W]``: signed pixels to the mask's outline, sampled bilinearly. ``whole``: the image shows all
    of the object, so that points beside the image are outside of it.
    """
    height, width = outline.shape
    m = object_to_camera
    for p in prange(points.shape[0]):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        depth = -(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        if depth <= near:
            continue
        column = cx + fx * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth
        row = cy - fy * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth
        if not whole and not (0.0 <= column < width and 0.0 <= row < height):
            continue
        beside_x = max(-column, column - width, 0.0)
        beside_y = max(-row, row - height, 0.0)
        column = min(max(column - 0.5, 0.0), width - 1.0)
        row = min(max(row - 0.5, 0.0), height - 1.0)
        j, i = min(int(column), max(width - 2, 0)), min(int(row), max(height - 2, 0))
        jn, inext = min(j + 1, width - 1), min(i + 1, height - 1)
        fj, fi = column - j, row - i
        top = outline[i, j] * (1.0 - fj) + outline[i, jn] * fj
        bottom = outline[inext, j] * (1.0 - fj) + outline[inext, jn] * fj
        pixels = top * (1.0 - fi) + bottom * fi + math.sqrt(beside_x * beside_x + beside_y * beside_y)
        metric = pixels * depth * 2.0 / (fx + fy)
        if metric > distance[p]:
            distance[p] = metric
