"""Numba kernel for the texels that a chart touches beside its own."""

from __future__ import annotations

import math

import numpy as np

from stspbr.kernel_cache import kernel

TOUCHED = math.sqrt(0.5)  # from a texel's centre to its corner: a chart shows in texels that are nearer


@kernel
def reach_squared():
    """Squared texels within which a texel's square touches a face; a little more, for what lies on the corner."""
    return TOUCHED * TOUCHED * (1.0 + 1e-9)


@kernel
def nearest_on_edges(px, py, ax, ay, bx, by, cx, cy):
    """Squared distance from a point to a triangle's outline, the edge that is nearest and the place along it."""
    best, edge, place = np.inf, 0, 0.0
    for e in range(3):
        if e == 0:
            sx, sy, ex, ey = ax, ay, bx, by
        elif e == 1:
            sx, sy, ex, ey = bx, by, cx, cy
        else:
            sx, sy, ex, ey = cx, cy, ax, ay
        dx, dy = ex - sx, ey - sy
        length = dx * dx + dy * dy
        along = 0.0
        if length > 0.0:
            along = min(max(((px - sx) * dx + (py - sy) * dy) / length, 0.0), 1.0)
        x, y = sx + along * dx - px, sy + along * dy - py
        squared = x * x + y * y
        if squared < best:
            best, edge, place = squared, e, along
    return best, edge, place


@kernel
def nearest_on_charts(points, faces, height, width, inside, triangle, barycentric):
    """Give texels that are not ``inside`` but within reach of a face the nearest point of the nearest face.

    ``points [T, 2]`` float64 UVs in texels; ``triangle [H·W]`` and ``barycentric [H·W, 3]`` are changed. One
    thread: of equally near faces the first one wins, always.
    """
    best = np.full(height * width, reach_squared())
    for f in range(faces.shape[0]):
        ax, ay = points[faces[f, 0], 0], points[faces[f, 0], 1]
        bx, by = points[faces[f, 1], 0], points[faces[f, 1], 1]
        cx, cy = points[faces[f, 2], 0], points[faces[f, 2], 1]
        if (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) == 0.0:
            continue  # a face without area in the texture shows nothing
        first_row = max(0, int(math.floor(min(ay, by, cy) - 0.5 - TOUCHED)))
        last_row = min(height - 1, int(math.ceil(max(ay, by, cy) - 0.5 + TOUCHED)))
        first_column = max(0, int(math.floor(min(ax, bx, cx) - 0.5 - TOUCHED)))
        last_column = min(width - 1, int(math.ceil(max(ax, bx, cx) - 0.5 + TOUCHED)))
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                t = row * width + column
                if inside[t]:
                    continue
                # The centre is outside of every chart, so that the nearest point lies on one of three edges.
                squared, edge, along = nearest_on_edges(column + 0.5, row + 0.5, ax, ay, bx, by, cx, cy)
                if squared < best[t]:
                    best[t] = squared
                    triangle[t] = f
                    barycentric[t, edge] = 1.0 - along
                    barycentric[t, (edge + 1) % 3] = along
                    barycentric[t, (edge + 2) % 3] = 0.0
