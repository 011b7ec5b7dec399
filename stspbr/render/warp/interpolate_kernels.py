"""Warp kernels of interpolation; pixels are flat lists in groups that share one set of attributes."""

from __future__ import annotations

import warp as wp

from stspbr.warp_runtime import warp_function, warp_kernel


@warp_function
def corners_of(faces: wp.array[wp.vec3i], vertices: wp.int32, point: wp.vec4):
    """Whether a pixel shows a triangle that there is, and its corners."""
    f = wp.int32(point[3]) - 1
    corners = wp.vec3i(0, 0, 0)
    there = f >= 0 and f < faces.shape[0]
    if there:
        corners = faces[f]
        there = wp.min(corners) >= 0 and wp.max(corners) < vertices
    return there, corners


@warp_kernel
def values(
    attributes: wp.array3d[wp.float32], faces: wp.array[wp.vec3i], rast: wp.array2d[wp.vec4],
    out: wp.array3d[wp.float32],
):  # fmt: skip
    """``attributes [G, V, C]`` at ``rast [G, P]`` to ``out [G, P, C]``."""
    g, p, c = wp.tid()
    point = rast[g, p]
    there, corners = corners_of(faces, attributes.shape[1], point)
    value = wp.float32(0.0)
    if there:
        u, v = point[0], point[1]
        a0, a1, a2 = attributes[g, corners[0], c], attributes[g, corners[1], c], attributes[g, corners[2], c]
        value = u * a0 + v * a1 + (1.0 - u - v) * a2
    out[g, p, c] = value


@warp_kernel
def slopes(
    attributes: wp.array3d[wp.float32], faces: wp.array[wp.vec3i], rast: wp.array2d[wp.vec4],
    rast_db: wp.array2d[wp.vec4], selected: wp.array[wp.int32], out: wp.array3d[wp.float32],
):  # fmt: skip
    """Derivatives of the channels ``selected [D]`` along columns and rows to ``out [G, P, 2·D]``."""
    g, p, d = wp.tid()
    there, corners = corners_of(faces, attributes.shape[1], rast[g, p])
    along_x, along_y = wp.float32(0.0), wp.float32(0.0)
    if there:
        c = selected[d]
        db = rast_db[g, p]
        a2 = attributes[g, corners[2], c]
        to0, to1 = attributes[g, corners[0], c] - a2, attributes[g, corners[1], c] - a2
        along_x = to0 * db[0] + to1 * db[2]
        along_y = to0 * db[1] + to1 * db[3]
    out[g, p, 2 * d] = along_x
    out[g, p, 2 * d + 1] = along_y


@warp_kernel
def pixel_gradients(
    attributes: wp.array3d[wp.float32], faces: wp.array[wp.vec3i], rast: wp.array2d[wp.vec4],
    selected: wp.array[wp.int32], grad_out: wp.array3d[wp.float32], grad_slopes: wp.array3d[wp.float32],
    has_out: wp.bool, has_slopes: wp.bool, grad_rast: wp.array2d[wp.vec4], grad_db: wp.array2d[wp.vec4],
):  # fmt: skip
    """Gradient of ``rast [G, P]`` and, if there are slopes, of ``rast_db [G, P]``."""
    g, p = wp.tid()
    there, corners = corners_of(faces, attributes.shape[1], rast[g, p])
    by_u, by_v = wp.float32(0.0), wp.float32(0.0)
    by_db = wp.vec4()
    if there:
        i0, i1, i2 = corners[0], corners[1], corners[2]
        if has_out:
            for c in range(attributes.shape[2]):
                a2 = attributes[g, i2, c]
                by_u += grad_out[g, p, c] * (attributes[g, i0, c] - a2)
                by_v += grad_out[g, p, c] * (attributes[g, i1, c] - a2)
        if has_slopes:
            for d in range(selected.shape[0]):
                c = selected[d]
                a2 = attributes[g, i2, c]
                to0, to1 = attributes[g, i0, c] - a2, attributes[g, i1, c] - a2
                along_x, along_y = grad_slopes[g, p, 2 * d], grad_slopes[g, p, 2 * d + 1]
                by_db += wp.vec4(along_x * to0, along_y * to0, along_x * to1, along_y * to1)
    grad_rast[g, p] = wp.vec4(by_u, by_v, 0.0, 0.0)
    if has_slopes:
        grad_db[g, p] = by_db


@warp_kernel
def attribute_gradients(
    faces: wp.array[wp.vec3i], rast: wp.array2d[wp.vec4], grad_out: wp.array3d[wp.float32],
    grad: wp.array3d[wp.float64],
):  # fmt: skip
    """Add the gradient of the values to the corners' attributes ``grad [G, V, C]``."""
    g, p, c = wp.tid()
    point = rast[g, p]
    there, corners = corners_of(faces, grad.shape[1], point)
    by = grad_out[g, p, c]
    if there and by != 0.0:
        u, v = point[0], point[1]
        wp.atomic_add(grad, g, corners[0], c, wp.float64(u * by))
        wp.atomic_add(grad, g, corners[1], c, wp.float64(v * by))
        wp.atomic_add(grad, g, corners[2], c, wp.float64((1.0 - u - v) * by))


@warp_kernel
def attribute_gradients_of_slopes(
    faces: wp.array[wp.vec3i], rast: wp.array2d[wp.vec4], rast_db: wp.array2d[wp.vec4], selected: wp.array[wp.int32],
    grad_slopes: wp.array3d[wp.float32], grad: wp.array3d[wp.float64],
):  # fmt: skip
    """Add the gradient of the derivatives to the corners' attributes ``grad [G, V, C]``."""
    g, p, d = wp.tid()
    there, corners = corners_of(faces, grad.shape[1], rast[g, p])
    if there:
        c = selected[d]
        db = rast_db[g, p]
        along_x, along_y = grad_slopes[g, p, 2 * d], grad_slopes[g, p, 2 * d + 1]
        to0, to1 = along_x * db[0] + along_y * db[1], along_x * db[2] + along_y * db[3]
        wp.atomic_add(grad, g, corners[0], c, wp.float64(to0))
        wp.atomic_add(grad, g, corners[1], c, wp.float64(to1))
        wp.atomic_add(grad, g, corners[2], c, -wp.float64(to0 + to1))
