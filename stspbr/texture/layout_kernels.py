"""Numba kernels for layouts that were not made for baking: faces that repeat, overlap or have no area."""

from __future__ import annotations

import math

import numpy as np

from stspbr.kernel_cache import kernel
from stspbr.texture.atlas_kernels import nearest_on_edges, reach_squared

_MOST_TILES = 8  # of a face that repeats more often, along u or v, only so many tiles are looked at, evenly spread


@kernel
def _span(low, high, side):
    """First and last tile of an extent in texels (a texel's reach included), and the step over the tiles between."""
    first, last = math.floor((low - 1.0) / side), math.floor((high + 1.0) / side)
    return int(first), int(last), int((last - first + _MOST_TILES) // _MOST_TILES)


@kernel
def _side(sx, sy, ex, ey, px, py, sign):
    """Twice the area of (s, e, p): positive inside; 0 or −1 on the edge, which is one face's of the two that meet."""
    across = ((sx - px) * (ey - py) - (sy - py) * (ex - px)) * sign
    if across == 0.0 and not ((ey - sy) * sign > 0.0 or (ey == sy and (ex - sx) * sign < 0.0)):
        return -1.0
    return across


@kernel
def _visit(points, faces, height, width, count, first, limit, triangle, barycentric):
    """Go over all texels whose centre lies in a face, modulo the unit square; count them, or keep some of each.

    With ``limit`` 0 ``count [H·W]`` is raised; else every ``ceil(count / limit)``-th point of each texel is written
    to ``triangle`` and ``barycentric`` from ``first [H·W]`` on, in the order of the faces. A face without area
    shows itself at the texels under its corners.
    """
    seen = np.zeros(height * width, np.int64)
    for f in range(faces.shape[0]):
        ax, ay = points[faces[f, 0], 0], points[faces[f, 0], 1]
        bx, by = points[faces[f, 1], 0], points[faces[f, 1], 1]
        cx, cy = points[faces[f, 2], 0], points[faces[f, 2], 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            for e in range(3):
                px, py = points[faces[f, e], 0], points[faces[f, e], 1]
                t = (int(math.floor(py)) % height) * width + int(math.floor(px)) % width
                if limit == 0:
                    count[t] += 1
                    continue
                step = (count[t] + limit - 1) // limit
                if seen[t] % step == 0:
                    k = first[t] + seen[t] // step
                    triangle[k] = f
                    barycentric[k, :] = 0.0
                    barycentric[k, e] = 1.0
                seen[t] += 1
            continue
        sign = 1.0 if area > 0.0 else -1.0
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        v_first, v_last, v_step = _span(low_y, high_y, height)
        u_first, u_last, u_step = _span(low_x, high_x, width)
        for tile_v in range(v_first, v_last + 1, v_step):
            top = max(int(math.floor(low_y - 0.5)), tile_v * height)
            bottom = min(int(math.ceil(high_y - 0.5)), tile_v * height + height - 1)
            for tile_u in range(u_first, u_last + 1, u_step):
                left = max(int(math.floor(low_x - 0.5)), tile_u * width)
                right = min(int(math.ceil(high_x - 0.5)), tile_u * width + width - 1)
                for row in range(top, bottom + 1):
                    py = row + 0.5
                    for column in range(left, right + 1):
                        px = column + 0.5
                        wa = _side(bx, by, cx, cy, px, py, sign)
                        wb = _side(cx, cy, ax, ay, px, py, sign)
                        wc = _side(ax, ay, bx, by, px, py, sign)
                        if wa < 0.0 or wb < 0.0 or wc < 0.0:
                            continue
                        wa, wb, wc = wa / abs(area), wb / abs(area), wc / abs(area)
                        t = (row - tile_v * height) * width + column - tile_u * width
                        if limit == 0:
                            count[t] += 1
                            continue
                        step = (count[t] + limit - 1) // limit
                        if seen[t] % step == 0:
                            k = first[t] + seen[t] // step
                            triangle[k] = f
                            barycentric[k, 0], barycentric[k, 1], barycentric[k, 2] = wa, wb, wc
                        seen[t] += 1


@kernel
def _rim(points, faces, height, width, inside, triangle, barycentric):
    """As ``nearest_on_charts``, modulo the unit square."""
    best = np.full(height * width, reach_squared())
    for f in range(faces.shape[0]):
        ax, ay = points[faces[f, 0], 0], points[faces[f, 0], 1]
        bx, by = points[faces[f, 1], 0], points[faces[f, 1], 1]
        cx, cy = points[faces[f, 2], 0], points[faces[f, 2], 1]
        if (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) == 0.0:
            continue
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        v_first, v_last, v_step = _span(low_y, high_y, height)
        u_first, u_last, u_step = _span(low_x, high_x, width)
        for tile_v in range(v_first, v_last + 1, v_step):
            top = max(int(math.floor(low_y - 0.5)) - 1, tile_v * height)
            bottom = min(int(math.ceil(high_y - 0.5)) + 1, tile_v * height + height - 1)
            for tile_u in range(u_first, u_last + 1, u_step):
                left = max(int(math.floor(low_x - 0.5)) - 1, tile_u * width)
                right = min(int(math.ceil(high_x - 0.5)) + 1, tile_u * width + width - 1)
                for row in range(top, bottom + 1):
                    for column in range(left, right + 1):
                        t = (row - tile_v * height) * width + column - tile_u * width
                        if inside[t]:
                            continue
                        squared, edge, along = nearest_on_edges(column + 0.5, row + 0.5, ax, ay, bx, by, cx, cy)
                        if squared < best[t]:
                            best[t] = squared
                            triangle[t] = f
                            barycentric[t, edge] = 1.0 - along
                            barycentric[t, (edge + 1) % 3] = along
                            barycentric[t, (edge + 2) % 3] = 0.0


def layout_points(
    points: np.ndarray, faces: np.ndarray, height: int, width: int, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Up to ``limit`` points of the surface for each texel that faces touch, modulo the unit square.

    Args:
        points: ``[T, 2]`` float64 UVs in texels; faces: ``[F, 3]``.

    Returns:
        ``texel [N]`` int64 ascending with repeats, ``triangle [N]`` int32, ``barycentric [N, 3]`` float32,
        ``inside [N]`` bool: the texel's centre lies in the face.
    """
    texels = height * width
    count = np.zeros(texels, np.int64)
    nothing, no_weights = np.zeros(0, np.int32), np.zeros((0, 3), np.float32)
    _visit(points, faces, height, width, count, np.zeros(0, np.int64), 0, nothing, no_weights)
    step = -(-count // limit)
    kept = -(-count // np.maximum(step, 1))
    first = np.cumsum(kept) - kept
    total = int(kept.sum())
    triangle, barycentric = np.zeros(total, np.int32), np.zeros((total, 3), np.float32)
    _visit(points, faces, height, width, count, first, limit, triangle, barycentric)

    near, weights = np.full(texels, -1, np.int32), np.zeros((texels, 3), np.float32)
    _rim(points, faces, height, width, count > 0, near, weights)
    rim = np.flatnonzero(near >= 0)
    texel = np.concatenate([np.repeat(np.arange(texels), kept), rim])
    order = np.argsort(texel, kind="stable")
    inside = np.concatenate([np.ones(total, bool), np.zeros(len(rim), bool)])
    triangle = np.concatenate([triangle, near[rim]])
    barycentric = np.concatenate([barycentric, weights[rim]])
    return texel[order], triangle[order], barycentric[order], inside[order]
