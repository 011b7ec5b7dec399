"""The hash grid in NVIDIA Warp: all points and levels in one launch forward, and in one backward.

The layout is that of ``hash_grid_kernels``. A thread has one point and one level; neighbours share the level, so that
they read one table. The features of a level are one vector, whose length is known when a kernel is compiled. Gradients
are float32 sums by atomic addition, eight to the table and one to the point: see ``warp_runtime.set_deterministic``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.warp_runtime import launch, warp_function, warp_kernel

_COMPILED_FEATURES = (1, 2, 4)
"""Features per level whose kernels are compiled together; others are compiled when they are first used."""
_PRIME_Y = wp.constant(wp.uint32(2654435761))
_PRIME_Z = wp.constant(wp.uint32(805459861))


class WarpGridLookup(torch.autograd.Function):
    """Features ``[N, levels · features]`` of points ``[N, 3]``; the levels from ``active`` on are zero.

    Arguments as of ``hash_grid_torch``; ``layout``: ``[L, 3]`` int32 on the points' device, resolution, offset and size
    of each level.
    """

    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, layout: Tensor, active: int) -> Tensor:
        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table, layout)
        ctx.active = active
        levels, features = len(layout), table.shape[1]
        out = (x.new_empty if active == levels else x.new_zeros)(len(x), levels, features)
        launch(_kernels(features)[0], (active, len(x)), x, table, layout, out)
        return out.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, table, layout = ctx.saved_tensors
        to_points, to_table = ctx.needs_input_grad[:2]
        grad_x, grad_table = torch.zeros_like(x), torch.zeros_like(table)
        features = table.shape[1]
        grad = grad.contiguous().view(len(x), len(layout), features)
        launch(
            _kernels(features)[1], (ctx.active, len(x)), x, table, layout, grad, to_table, to_points, grad_table,
            grad_x,
        )  # fmt: skip
        return grad_x if to_points else None, grad_table if to_table else None, None, None


def level_layout(resolutions: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, device: torch.device) -> Tensor:
    """The ``layout`` of ``WarpGridLookup``."""
    return torch.from_numpy(np.stack([resolutions, offsets, sizes], axis=1).astype(np.int32)).to(device)


@wp.struct
class _Cell:
    """What a point reads of a level: entries of the eight vertices, x fastest, and its position in the cell."""

    near: wp.vec4i
    far: wp.vec4i
    fraction: wp.vec3


@warp_function
def _clamped(x: float):
    """Into [0, 1]; NaN becomes 0, so that no entry lies outside the table."""
    return wp.min(x, 1.0) if x > 0.0 else 0.0


@warp_function
def _find(point: wp.vec3, resolution: int, offset: int, size: int):
    position = wp.vec3(_clamped(point[0]), _clamped(point[1]), _clamped(point[2])) * float(resolution)
    cx = wp.min(int(position[0]), resolution - 1)
    cy = wp.min(int(position[1]), resolution - 1)
    cz = wp.min(int(position[2]), resolution - 1)
    cell = _Cell()
    cell.fraction = position - wp.vec3(float(cx), float(cy), float(cz))
    side = resolution + 1
    if wp.int64(side) * wp.int64(side) * wp.int64(side) <= wp.int64(size):
        first = offset + cx + side * (cy + side * cz)
        above = first + side * side
        cell.near = wp.vec4i(first, first + 1, first + side, first + side + 1)
        cell.far = wp.vec4i(above, above + 1, above + side, above + side + 1)
        return cell
    mask = wp.uint32(size - 1)
    x0, y0, z0 = wp.uint32(cx), wp.uint32(cy) * _PRIME_Y, wp.uint32(cz) * _PRIME_Z
    x1, y1, z1 = x0 + wp.uint32(1), y0 + _PRIME_Y, z0 + _PRIME_Z
    cell.near = wp.vec4i(
        offset + int((x0 ^ y0 ^ z0) & mask), offset + int((x1 ^ y0 ^ z0) & mask),
        offset + int((x0 ^ y1 ^ z0) & mask), offset + int((x1 ^ y1 ^ z0) & mask),
    )  # fmt: skip
    cell.far = wp.vec4i(
        offset + int((x0 ^ y0 ^ z1) & mask), offset + int((x1 ^ y0 ^ z1) & mask),
        offset + int((x0 ^ y1 ^ z1) & mask), offset + int((x1 ^ y1 ^ z1) & mask),
    )  # fmt: skip
    return cell


@warp_kernel
def _forward(
    points: wp.array[wp.vec3],
    table: wp.array[Any],
    layout: wp.array[wp.vec3i],
    out: wp.array2d[Any],
):
    level, p = wp.tid()
    own = layout[level]
    cell = _find(points[p], own[0], own[1], own[2])
    f = cell.fraction
    g = wp.vec3(1.0, 1.0, 1.0) - f
    near = g[1] * (g[0] * table[cell.near[0]] + f[0] * table[cell.near[1]])
    near += f[1] * (g[0] * table[cell.near[2]] + f[0] * table[cell.near[3]])
    far = g[1] * (g[0] * table[cell.far[0]] + f[0] * table[cell.far[1]])
    far += f[1] * (g[0] * table[cell.far[2]] + f[0] * table[cell.far[3]])
    out[p, level] = g[2] * near + f[2] * far


@warp_kernel
def _backward(
    points: wp.array[wp.vec3],
    table: wp.array[Any],
    layout: wp.array[wp.vec3i],
    grad: wp.array2d[Any],
    to_table: bool,
    to_points: bool,
    grad_table: wp.array[Any],
    grad_points: wp.array[wp.vec3],
):
    """Added to ``grad_table`` and ``grad_points``; zero along an axis on which a point is outside [0, 1]."""
    level, p = wp.tid()
    own = layout[level]
    point = points[p]
    cell = _find(point, own[0], own[1], own[2])
    f = cell.fraction
    g = wp.vec3(1.0, 1.0, 1.0) - f
    value = grad[p, level]
    if to_table:
        low, high = (g[1] * g[2]) * value, (f[1] * g[2]) * value
        wp.atomic_add(grad_table, cell.near[0], g[0] * low)
        wp.atomic_add(grad_table, cell.near[1], f[0] * low)
        wp.atomic_add(grad_table, cell.near[2], g[0] * high)
        wp.atomic_add(grad_table, cell.near[3], f[0] * high)
        low, high = (g[1] * f[2]) * value, (f[1] * f[2]) * value
        wp.atomic_add(grad_table, cell.far[0], g[0] * low)
        wp.atomic_add(grad_table, cell.far[1], f[0] * low)
        wp.atomic_add(grad_table, cell.far[2], g[0] * high)
        wp.atomic_add(grad_table, cell.far[3], f[0] * high)
    if to_points:
        q000, q100 = wp.dot(value, table[cell.near[0]]), wp.dot(value, table[cell.near[1]])
        q010, q110 = wp.dot(value, table[cell.near[2]]), wp.dot(value, table[cell.near[3]])
        q001, q101 = wp.dot(value, table[cell.far[0]]), wp.dot(value, table[cell.far[1]])
        q011, q111 = wp.dot(value, table[cell.far[2]]), wp.dot(value, table[cell.far[3]])
        x = g[2] * (g[1] * (q100 - q000) + f[1] * (q110 - q010)) + f[2] * (g[1] * (q101 - q001) + f[1] * (q111 - q011))
        y = g[2] * (g[0] * (q010 - q000) + f[0] * (q110 - q100)) + f[2] * (g[0] * (q011 - q001) + f[0] * (q111 - q101))
        z = g[1] * (g[0] * (q001 - q000) + f[0] * (q101 - q100)) + f[1] * (g[0] * (q011 - q010) + f[0] * (q111 - q110))
        slope = float(own[0]) * wp.vec3(x, y, z)
        for axis in range(3):
            if not (point[axis] >= 0.0 and point[axis] <= 1.0):
                slope[axis] = 0.0
        wp.atomic_add(grad_points, p, slope)


@functools.cache
def _kernels(features: int) -> tuple[Any, Any]:
    """``_forward`` and ``_backward`` for so many features per level."""
    rows = wp.array(dtype=wp.types.vector(length=features, dtype=wp.float32))
    plane = wp.array2d(dtype=rows.dtype)
    common = [wp.array(dtype=wp.vec3), rows, wp.array(dtype=wp.vec3i), plane]
    return wp.overload(_forward, common), wp.overload(_backward, [*common, bool, bool, rows, wp.array(dtype=wp.vec3)])


for _features in _COMPILED_FEATURES:
    _kernels(_features)
