"""Snapping, clipping and depth of triangles in Warp: what the kernels of the rasteriser share.

The rules are those of ``stspbr.render.cpu.rasterize_kernels``, to the bit: vertices snapped to 1/256 pixel, depth from
a plane in double precision. A pixel's key is 39 bits of z/w above 24 bits of the triangle's id.
"""

from __future__ import annotations

import warp as wp

from stspbr.warp_runtime import warp_function, warp_kernel

# a vertex must snap alike wherever it is computed, and the CPU kernels fuse nothing either
wp.set_module_options({"fuse_fp": False}, module=__name__)

REACH = wp.constant(wp.float64(1 << 20))  # guard band in pixels, as on the CPU
CLIP = wp.constant(64)  # bit of a vertex's code: the triangle must be clipped
BROKEN = wp.constant(128)  # bit of a vertex's code: not finite
STEPS = wp.constant(wp.float64((1 << 38) - 1))  # depth steps per unit of z/w: the deepest key is still below EMPTY
EMPTY = wp.constant(wp.int64((1 << 63) - 1))  # the key of a pixel without triangle
ID_BITS = wp.constant(wp.int64(24))
ID_MASK = wp.constant(wp.int64((1 << 24) - 1))
HALF = wp.constant(wp.float64(0.5))
ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))

Plane = wp.types.vector(length=5, dtype=wp.float64)
Polygon = wp.types.matrix(shape=(12, 4), dtype=wp.float64)
Points = wp.types.matrix(shape=(12, 2), dtype=wp.int32)


@warp_function
def snap(position: wp.float64, inverse_w: wp.float64, size: wp.int32):
    ndc = position * inverse_w
    return wp.int32(wp.floor((ndc * HALF + HALF) * wp.float64(size) * wp.float64(256.0) + HALF))


@warp_kernel
def project(
    clip: wp.array2d[wp.vec4], height: wp.int32, width: wp.int32, screen: wp.array2d[wp.vec2i],
    code: wp.array2d[wp.int32],
):  # fmt: skip
    """Snapped positions and codes ``[B, V]``: bits 0 to 5: beyond a plane of the view; ``CLIP``; ``BROKEN``."""
    b, i = wp.tid()
    p = clip[b, i]
    x, y, z, w = wp.float64(p[0]), wp.float64(p[1]), wp.float64(p[2]), wp.float64(p[3])
    guard_x, guard_y = REACH / wp.float64(width), REACH / wp.float64(height)
    bits = wp.int32(0)
    if x < -w:
        bits = bits | 1
    if x > w:
        bits = bits | 2
    if y < -w:
        bits = bits | 4
    if y > w:
        bits = bits | 8
    if z < -w:
        bits = bits | 16
    if z > w:
        bits = bits | 32
    if w > ZERO and wp.abs(z) <= w and wp.abs(x) <= guard_x * w and wp.abs(y) <= guard_y * w:
        screen[b, i] = wp.vec2i(snap(x, ONE / w, width), snap(y, ONE / w, height))
    else:
        bits = bits | CLIP
    if not (wp.isfinite(x) and wp.isfinite(y) and wp.isfinite(z) and wp.isfinite(w)):
        bits = bits | BROKEN
    code[b, i] = bits


@warp_function
def corner_codes(code: wp.array2d[wp.int32], b: wp.int32, corners: wp.vec3i):
    """The codes of a triangle's corners: their union, or ``BROKEN`` where nothing of it can be seen."""
    count = code.shape[1]
    for k in range(3):
        if corners[k] < 0 or corners[k] >= count:
            return BROKEN
    c0, c1, c2 = code[b, corners[0]], code[b, corners[1]], code[b, corners[2]]
    some = c0 | c1 | c2
    if (c0 & c1 & c2 & 63) != 0:
        return BROKEN
    return some


@warp_function
def distance(vertex: wp.vec4d, plane: wp.int32, guard_x: wp.float64, guard_y: wp.float64):
    """Signed distance of a homogeneous vertex to a clip plane; inside is not negative."""
    if plane == 0:
        return vertex[2] + vertex[3]
    if plane == 1:
        return vertex[3] - vertex[2]
    if plane == 2:
        return guard_x * vertex[3] + vertex[0]
    if plane == 3:
        return guard_x * vertex[3] - vertex[0]
    if plane == 4:
        return guard_y * vertex[3] + vertex[1]
    return guard_y * vertex[3] - vertex[1]


@warp_function
def clip_polygon(clip: wp.array2d[wp.vec4], b: wp.int32, corners: wp.vec3i, height: wp.int32, width: wp.int32):
    """Number of corners, and snapped corners, of a triangle clipped to the near and far planes and the guard band.

    Sutherland and Hodgman; an intersection is computed from the inner to the outer end, so that both triangles at an
    edge get the same point.
    """
    guard_x, guard_y = REACH / wp.float64(width), REACH / wp.float64(height)
    polygon = Polygon()
    points = Points()
    count = wp.int32(3)
    for corner in range(3):
        vertex = clip[b, corners[corner]]
        for k in range(4):
            polygon[corner, k] = wp.float64(vertex[k])
    for plane in range(6):
        spare = Polygon()
        kept = wp.int32(0)
        for i in range(count):
            after = i + 1
            if after == count:
                after = 0
            p = wp.vec4d(polygon[i, 0], polygon[i, 1], polygon[i, 2], polygon[i, 3])
            q = wp.vec4d(polygon[after, 0], polygon[after, 1], polygon[after, 2], polygon[after, 3])
            d0 = distance(p, plane, guard_x, guard_y)
            d1 = distance(q, plane, guard_x, guard_y)
            if d0 >= ZERO:
                for k in range(4):
                    spare[kept, k] = p[k]
                kept = kept + 1
            if (d0 >= ZERO) != (d1 >= ZERO):
                inside = d0 >= ZERO
                inner, outer = wp.where(inside, p, q), wp.where(inside, q, p)
                t = wp.where(inside, d0 / (d0 - d1), d1 / (d1 - d0))
                for k in range(4):
                    spare[kept, k] = inner[k] + t * (outer[k] - inner[k])
                kept = kept + 1
        count = kept
        polygon = spare
    if count < 3:
        count = 0
    for i in range(count):
        w = wp.max(polygon[i, 3], wp.float64(1.0e-300))
        # rounding may leave a point a hair outside its plane; at w = 0 that hair would be infinite
        x = wp.min(wp.max(polygon[i, 0], -guard_x * w), guard_x * w)
        y = wp.min(wp.max(polygon[i, 1], -guard_y * w), guard_y * w)
        points[i, 0] = snap(x, ONE / w, width)
        points[i, 1] = snap(y, ONE / w, height)
    return count, points


@warp_function
def pixel_box(low: wp.vec2i, high: wp.vec2i, height: wp.int32, width: wp.int32):
    """First and last row and column whose centres lie between snapped corners; first > last: none."""
    first, last = wp.max((low[1] + 127) >> 8, 0), wp.min((high[1] - 128) >> 8, height - 1)
    left, right = wp.max((low[0] + 127) >> 8, 0), wp.min((high[0] - 128) >> 8, width - 1)
    return wp.vec4i(first, last, left, right)


@warp_function
def polygon_box(number: wp.int32, points: Points, height: wp.int32, width: wp.int32):
    low = wp.vec2i(points[0, 0], points[0, 1])
    high = low
    for i in range(1, number):
        p = wp.vec2i(points[i, 0], points[i, 1])
        low = wp.min(low, p)
        high = wp.max(high, p)
    return pixel_box(low, high, height, width)


@warp_function
def edge_normals(clip: wp.array2d[wp.vec4], b: wp.int32, i0: wp.int32, i1: wp.int32, i2: wp.int32):
    """Homogeneous edge functions n0, n1, n2 of (x, y, w) of three vertices, and the vertices as rows 3 to 5."""
    v0, v1, v2 = clip[b, i0], clip[b, i1], clip[b, i2]
    p0 = wp.vec3d(wp.float64(v0[0]), wp.float64(v0[1]), wp.float64(v0[3]))
    p1 = wp.vec3d(wp.float64(v1[0]), wp.float64(v1[1]), wp.float64(v1[3]))
    p2 = wp.vec3d(wp.float64(v2[0]), wp.float64(v2[1]), wp.float64(v2[3]))
    return wp.cross(p1, p2), wp.cross(p2, p0), wp.cross(p0, p1), p0, p1, p2


@warp_function
def depth_plane(
    clip: wp.array2d[wp.vec4], b: wp.int32, corners: wp.vec3i, height: wp.int32, width: wp.int32, whole: wp.bool
):
    """Whether the triangle is not edge-on, and z/w = d[0] + column·d[1] + row·d[2] within [d[3], d[4]].

    Vertices are taken in index order: copies of a face, turned or flipped, get the very same plane and tie.
    """
    i0, i2 = wp.min(corners), wp.max(corners)
    i1 = corners[0] + corners[1] + corners[2] - i0 - i2
    n0, n1, n2, p0, p1, p2 = edge_normals(clip, b, i0, i1, i2)
    z0, z1, z2 = wp.float64(clip[b, i0][2]), wp.float64(clip[b, i1][2]), wp.float64(clip[b, i2][2])
    plane = Plane()
    det = n0[0] * p0[0] + n0[1] * p0[1] + n0[2] * p0[2]
    if det == ZERO or not wp.isfinite(det):
        return False, plane
    inverse = ONE / det
    slope_x = (z0 * n0[0] + z1 * n1[0] + z2 * n2[0]) * inverse
    slope_y = (z0 * n0[1] + z1 * n1[1] + z2 * n2[1]) * inverse
    offset = (z0 * n0[2] + z1 * n1[2] + z2 * n2[2]) * inverse
    per_column, per_row = ONE / wp.float64(width), ONE / wp.float64(height)
    plane[0] = offset + slope_x * (per_column - ONE) + slope_y * (per_row - ONE)
    plane[1] = slope_x * (TWO / wp.float64(width))
    plane[2] = slope_y * (TWO / wp.float64(height))
    plane[3] = -ONE
    plane[4] = ONE
    if whole:  # a centre just outside a steep triangle must not extrapolate its depth
        ends = wp.vec3d(z0 / p0[2], z1 / p1[2], z2 / p2[2])
        plane[3] = wp.min(ends)
        plane[4] = wp.max(ends)
    return True, plane


@warp_function
def depth_at(plane: Plane, row: wp.int32, column: wp.int32):
    z = (plane[0] + wp.float64(row) * plane[2]) + wp.float64(column) * plane[1]
    return wp.min(wp.max(z, plane[3]), plane[4])


@warp_function
def depth_key(z: wp.float64, f: wp.int32):
    return (wp.int64((z + ONE) * STEPS) << ID_BITS) | wp.int64(f)
