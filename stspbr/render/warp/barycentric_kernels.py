"""Warp kernels of the points that pixels show: barycentrics, their derivatives and the gradient by the vertices.

The formulas are those of ``stspbr.render.cpu.barycentric_kernels``; each pixel adds its part of the gradient by itself.
"""

from __future__ import annotations

import warp as wp

from stspbr.render.warp.triangle_kernels import (
    CLIP,
    EMPTY,
    ID_MASK,
    ONE,
    TWO,
    ZERO,
    corner_codes,
    depth_at,
    depth_plane,
    edge_normals,
)
from stspbr.warp_runtime import warp_function, warp_kernel

# a vertex must snap alike wherever it is computed, and the CPU kernels fuse nothing either
wp.set_module_options({"fuse_fp": False}, module=__name__)


@warp_function
def centre(row: wp.int32, column: wp.int32, height: wp.int32, width: wp.int32):
    """The centre of a pixel in clip units as (X, Y, 1), which an edge function multiplies."""
    x = wp.float64(2 * column + 1) / wp.float64(width) - ONE
    return wp.vec3d(x, wp.float64(2 * row + 1) / wp.float64(height) - ONE, ONE)


@warp_kernel
def show(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], code: wp.array2d[wp.int32], keys: wp.array3d[wp.int64],
    rast: wp.array3d[wp.vec4], rast_db: wp.array3d[wp.vec4],
):  # fmt: skip
    """(u, v, z/w, id + 1) and (du/dX, du/dY, dv/dX, dv/dY) of the triangle that won each pixel."""
    b, row, column = wp.tid()
    height, width = keys.shape[1], keys.shape[2]
    key = keys[b, row, column]
    if key == EMPTY:
        rast[b, row, column] = wp.vec4()
        rast_db[b, row, column] = wp.vec4()
    else:
        f = wp.int32(key & ID_MASK)
        corners = faces[f]
        whole = (corner_codes(code, b, corners) & CLIP) == 0
        _seen, plane = depth_plane(clip, b, corners, height, width, whole)
        n0, n1, n2, _p0, _p1, _p2 = edge_normals(clip, b, corners[0], corners[1], corners[2])
        sums = n0 + n1 + n2
        scale_x, scale_y = TWO / wp.float64(width), TWO / wp.float64(height)
        at = centre(row, column, height, width)
        inverse = wp.float64(0.0)
        total = wp.dot(sums, at)
        if total != ZERO:
            inverse = ONE / total
        u, v = wp.dot(n0, at) * inverse, wp.dot(n1, at) * inverse
        rast_db[b, row, column] = wp.vec4(
            wp.float32(scale_x * inverse * (n0[0] - u * sums[0])),
            wp.float32(scale_y * inverse * (n0[1] - u * sums[1])),
            wp.float32(scale_x * inverse * (n1[0] - v * sums[0])),
            wp.float32(scale_y * inverse * (n1[1] - v * sums[1])),
        )
        u = wp.min(wp.max(u, ZERO), ONE)  # snapping may have let in a centre that is a hair outside
        v = wp.min(wp.max(v, ZERO), ONE - u)
        z = depth_at(plane, row, column)
        rast[b, row, column] = wp.vec4(wp.float32(u), wp.float32(v), wp.float32(z), wp.float32(f + 1))


@warp_function
def add(grad: wp.array3d[wp.float64], b: wp.int32, vertex: wp.int32, value: wp.vec3d):
    wp.atomic_add(grad, b, vertex, 0, value[0])
    wp.atomic_add(grad, b, vertex, 1, value[1])
    wp.atomic_add(grad, b, vertex, 3, value[2])


@warp_kernel
def clip_gradient(
    clip: wp.array2d[wp.vec4], faces: wp.array[wp.vec3i], rast: wp.array3d[wp.vec4], grad_rast: wp.array3d[wp.vec4],
    grad_db: wp.array3d[wp.vec4], has_rast: wp.bool, has_db: wp.bool, grad: wp.array3d[wp.float64],
):  # fmt: skip
    """Add the gradient of each pixel's u, v and derivatives to x, y and w of its triangle's vertices ``[B, V, 4]``."""
    b, row, column = wp.tid()
    f = wp.int32(rast[b, row, column][3]) - 1
    if f >= 0:
        height, width = rast.shape[1], rast.shape[2]
        corners = faces[f]
        n0, n1, n2, p0, p1, p2 = edge_normals(clip, b, corners[0], corners[1], corners[2])
        sums = n0 + n1 + n2
        at = centre(row, column, height, width)
        total = wp.dot(sums, at)
        if total != ZERO:
            inverse = ONE / total
            u, v = wp.dot(n0, at) * inverse, wp.dot(n1, at) * inverse
            by_u, by_v = wp.float64(0.0), wp.float64(0.0)
            by_inverse = wp.float64(0.0)  # beyond what u and v pass on
            by_n0, by_n1, by_sums = wp.vec3d(), wp.vec3d(), wp.vec3d()
            if has_rast:
                g = grad_rast[b, row, column]
                by_u, by_v = wp.float64(g[0]), wp.float64(g[1])
            if has_db:
                g = grad_db[b, row, column]
                scale_x, scale_y = TWO / wp.float64(width), TWO / wp.float64(height)
                to_u = wp.vec3d(scale_x * wp.float64(g[0]), scale_y * wp.float64(g[1]), ZERO)
                to_v = wp.vec3d(scale_x * wp.float64(g[2]), scale_y * wp.float64(g[3]), ZERO)
                by_n0, by_n1 = to_u * inverse, to_v * inverse
                by_sums = -(to_u * u + to_v * v) * inverse
                by_u -= wp.dot(to_u, sums) * inverse
                by_v -= wp.dot(to_v, sums) * inverse
                by_inverse = wp.dot(to_u, n0 - u * sums) + wp.dot(to_v, n1 - v * sums)
            by_total = -(by_u * u + by_v * v) * inverse - by_inverse * inverse * inverse
            by_sums = by_sums + by_total * at
            # n2 enters through the sum alone; n0 = p1 × p2, n1 = p2 × p0, n2 = p0 × p1
            by_n0 = by_n0 + by_u * inverse * at + by_sums
            by_n1 = by_n1 + by_v * inverse * at + by_sums
            add(grad, b, corners[0], wp.cross(by_n1, p2) + wp.cross(p1, by_sums))
            add(grad, b, corners[1], wp.cross(p2, by_n0) + wp.cross(by_sums, p0))
            add(grad, b, corners[2], wp.cross(by_n0, p1) + wp.cross(p0, by_n1))
