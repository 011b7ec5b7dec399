"""Warp kernels that draw triangles: small ones whole, large ones tile by tile.

Coverage is decided in integers on snapped vertices. The least key wins an atomic minimum, so that the order of the
threads does not matter. Triangles whose box is larger than ``SMALL`` pixels a side, and those that must be clipped, are
drawn tile by tile: a thread finds its pair of triangle and tile by a search in the running sum of their numbers of
tiles, and the host waits for nothing.
"""

from __future__ import annotations

import warp as wp

from stspbr.render.warp.triangle_kernels import (
    BROKEN,
    CLIP,
    EMPTY,
    Plane,
    Points,
    clip_polygon,
    corner_codes,
    depth_at,
    depth_key,
    depth_plane,
    pixel_box,
    polygon_box,
)
from stspbr.warp_runtime import warp_function, warp_kernel

# a vertex must snap alike wherever it is computed, and the CPU kernels fuse nothing either
wp.set_module_options({"fuse_fp": False}, module=__name__)

SMALL = 16  # pixels a side of the largest box that one thread draws
TILE = 8  # pixels a side of a tile, which one thread draws


@warp_function
def owns_its_centres(dx: wp.int64, dy: wp.int64):
    """0 if a centre on this edge belongs to the triangle (a top or left edge), else −1, which puts it outside."""
    zero = wp.int64(0)
    if dy < zero or (dy == zero and dx > zero):
        return zero
    return wp.int64(-1)


@warp_function
def draw(
    p0: wp.vec2i, p1: wp.vec2i, p2: wp.vec2i, plane: Plane, b: wp.int32, f: wp.int32, box: wp.vec4i, layered: wp.bool,
    front: wp.array3d[wp.int64], keys: wp.array3d[wp.int64],
):  # fmt: skip
    """One snapped triangle, of either orientation, into the keys of the pixels of ``box``.

    ``layered``: only what comes after the keys ``front`` is drawn.
    """
    x0, y0 = wp.int64(p0[0]), wp.int64(p0[1])
    xa, ya = wp.int64(p1[0]), wp.int64(p1[1])
    xb, yb = wp.int64(p2[0]), wp.int64(p2[1])
    area = (xa - x0) * (yb - y0) - (ya - y0) * (xb - x0)
    turned = area < wp.int64(0)
    x1, y1 = wp.where(turned, xb, xa), wp.where(turned, yb, ya)
    x2, y2 = wp.where(turned, xa, xb), wp.where(turned, ya, yb)
    if area != wp.int64(0):
        dx0, dy0, dx1, dy1, dx2, dy2 = x1 - x0, y1 - y0, x2 - x1, y2 - y1, x0 - x2, y0 - y2
        px = wp.int64(box[2] * 256 + 128)
        step = wp.int64(256)
        for row in range(box[0], box[1] + 1):
            py = wp.int64(row * 256 + 128)
            e0 = dx0 * (py - y0) - dy0 * (px - x0) + owns_its_centres(dx0, dy0)
            e1 = dx1 * (py - y1) - dy1 * (px - x1) + owns_its_centres(dx1, dy1)
            e2 = dx2 * (py - y2) - dy2 * (px - x2) + owns_its_centres(dx2, dy2)
            for column in range(box[2], box[3] + 1):
                if (e0 | e1 | e2) >= wp.int64(0):
                    key = depth_key(depth_at(plane, row, column), f)
                    behind = True
                    if layered:
                        behind = key > front[b, row, column]
                    if behind and key < keys[b, row, column]:
                        wp.atomic_min(keys, b, row, column, key)
                e0 -= dy0 * step
                e1 -= dy1 * step
                e2 -= dy2 * step


@warp_kernel
def draw_small(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], screen: wp.array2d[wp.vec2i], code: wp.array2d[wp.int32],
    height: wp.int32, width: wp.int32, layered: wp.bool, front: wp.array3d[wp.int64], keys: wp.array3d[wp.int64],
    tiles: wp.array2d[wp.int32],
):  # fmt: skip
    """Draw what has a small box, and count the tiles ``[B, F]`` of what has a large one; 0 of what must be clipped."""
    b, f = wp.tid()
    corners = faces[f]
    count = wp.int32(0)
    codes = corner_codes(code, b, corners)
    if (codes & (BROKEN | CLIP)) == 0:
        p0, p1, p2 = screen[b, corners[0]], screen[b, corners[1]], screen[b, corners[2]]
        box = pixel_box(wp.min(wp.min(p0, p1), p2), wp.max(wp.max(p0, p1), p2), height, width)
        if box[0] <= box[1] and box[2] <= box[3]:
            if box[1] - box[0] < SMALL and box[3] - box[2] < SMALL:
                seen, plane = depth_plane(clip, b, corners, height, width, True)
                if seen:
                    draw(p0, p1, p2, plane, b, f, box, layered, front, keys)
            else:
                count = ((box[1] - box[0]) // TILE + 1) * ((box[3] - box[2]) // TILE + 1)
    tiles[b, f] = count


@warp_kernel
def count_clipped(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], code: wp.array2d[wp.int32], height: wp.int32,
    width: wp.int32, tiles: wp.array2d[wp.int32],
):  # fmt: skip
    """Count the tiles of the triangles that must be clipped."""
    b, f = wp.tid()
    corners = faces[f]
    codes = corner_codes(code, b, corners)
    if (codes & BROKEN) == 0 and (codes & CLIP) != 0:
        number, points = clip_polygon(clip, b, corners, height, width)
        if number > 0:
            box = polygon_box(number, points, height, width)
            if box[0] <= box[1] and box[2] <= box[3]:
                tiles[b, f] = ((box[1] - box[0]) // TILE + 1) * ((box[3] - box[2]) // TILE + 1)


@warp_kernel
def draw_tiles(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], screen: wp.array2d[wp.vec2i], code: wp.array2d[wp.int32],
    height: wp.int32, width: wp.int32, ends: wp.array[wp.int64], threads: wp.int32, layered: wp.bool,
    front: wp.array3d[wp.int64], keys: wp.array3d[wp.int64],
):  # fmt: skip
    """Draw the triangles that have tiles; ``ends`` ``[B·F]`` is the running sum of their numbers."""
    pair = wp.int64(wp.tid())
    slots = ends.shape[0]
    total = ends[slots - 1]
    while pair < total:
        low, high = wp.int32(0), slots - 1
        while low < high:  # the first triangle whose running sum is above the pair's number
            middle = (low + high) // 2
            if ends[middle] > pair:
                high = middle
            else:
                low = middle + 1
        b, f = low // faces.shape[0], low % faces.shape[0]
        before = wp.int64(0)
        if low > 0:
            before = ends[low - 1]
        tile = wp.int32(pair - before)
        corners = faces[f]
        clipped = (corner_codes(code, b, corners) & CLIP) != 0
        number = wp.int32(3)
        points = Points()
        if clipped:
            number, points = clip_polygon(clip, b, corners, height, width)
        else:
            for k in range(3):
                p = screen[b, corners[k]]
                points[k, 0] = p[0]
                points[k, 1] = p[1]
        box = polygon_box(number, points, height, width)
        across = (box[3] - box[2]) // TILE + 1
        first, left = box[0] + (tile // across) * TILE, box[2] + (tile % across) * TILE
        box = wp.vec4i(first, wp.min(first + TILE - 1, box[1]), left, wp.min(left + TILE - 1, box[3]))
        seen, plane = depth_plane(clip, b, corners, height, width, not clipped)
        if seen:
            for i in range(2, number):
                p0 = wp.vec2i(points[0, 0], points[0, 1])
                p1 = wp.vec2i(points[i - 1, 0], points[i - 1, 1])
                p2 = wp.vec2i(points[i, 0], points[i, 1])
                draw(p0, p1, p2, plane, b, f, box, layered, front, keys)
        pair = pair + wp.int64(threads)


@warp_kernel
def front_keys(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], code: wp.array2d[wp.int32], behind: wp.array3d[wp.vec4],
    front: wp.array3d[wp.int64],
):  # fmt: skip
    """Keys of the layer in front: z/w again to the last bit, which float32 does not keep. Behind nothing is nothing."""
    b, row, column = wp.tid()
    key = EMPTY
    f = wp.int32(behind[b, row, column][3]) - 1
    if f >= 0 and f < faces.shape[0]:
        corners = faces[f]
        codes = corner_codes(code, b, corners)
        if (codes & BROKEN) == 0:
            seen, plane = depth_plane(clip, b, corners, behind.shape[1], behind.shape[2], (codes & CLIP) == 0)
            if seen:
                key = depth_key(depth_at(plane, row, column), f)
    front[b, row, column] = key
