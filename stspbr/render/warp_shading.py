"""The algebra of the shading in NVIDIA Warp: ``plan`` and ``combine`` of ``shading``, one thread per point.

Formulas and gradients are those of ``shading_kernels``. No two threads write to one place, so nothing is atomic.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.warp_runtime import launch, warp_function, warp_kernel

_EPS2 = wp.constant(1e-4)
_F0 = wp.constant(0.04)


class WarpPlan(torch.autograd.Function):
    """``shading.plan_twin``. Arguments: ``table [G, G, 5·K + 3]`` on the points' device, its K, rotations and owner (or
    None), and ``skipped``."""

    @staticmethod
    def forward(
        ctx, normals: Tensor, view: Tensor, roughness: Tensor, table: Tensor, lookups: int, rotations: Tensor | None,
        owner: Tensor | None, skipped: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        inputs = normals.contiguous(), view.contiguous(), roughness.contiguous().view(-1)
        if rotations is not None and owner is not None:
            rotations, owner = rotations.detach().float().contiguous(), owner.long().contiguous()
        count = len(normals)
        directions, levels = normals.new_empty(lookups + 1, count, 3), normals.new_empty(lookups, count)
        weights = normals.new_empty(count, 3 * (lookups + 1))
        ctx.rest = table, rotations, owner, skipped
        launch(_plan, count, *inputs, *ctx.rest, directions, levels, weights)
        ctx.save_for_backward(*inputs)
        return directions, levels, weights

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        outputs = [torch.empty_like(value) for value in inputs]
        launch(_plan_backward, len(inputs[0]), *inputs, *ctx.rest, *(g.contiguous() for g in grads), *outputs)
        return outputs[0], outputs[1], outputs[2].view(-1, 1), None, None, None, None, None


class WarpCombine(torch.autograd.Function):
    """``shading.combine_twin``; the arguments are the same."""

    @staticmethod
    def forward(
        ctx, found: Tensor, around: Tensor, weights: Tensor, albedo: Tensor, metallic: Tensor, occlusion: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.occluded = occlusion is not None
        flat = metallic.reshape(-1), weights.new_empty(0) if occlusion is None else occlusion.reshape(-1)
        inputs = [value.contiguous() for value in (found, around, weights, albedo, *flat)]
        diffuse, specular = torch.empty_like(inputs[3]), torch.empty_like(inputs[3])
        launch(_combine, len(weights), *inputs, diffuse, specular)
        ctx.save_for_backward(*inputs)
        return diffuse, specular

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_diffuse: Tensor, grad_specular: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        outputs = [torch.empty_like(value) for value in inputs]
        grads = grad_diffuse.contiguous(), grad_specular.contiguous()
        launch(_combine_backward, len(inputs[2]), *inputs, *grads, *outputs)
        return *outputs[:4], outputs[4].view(-1, 1), outputs[5].view(-1, 1) if ctx.occluded else None


@wp.struct
class _Cell:
    """Where a point lies in the table of lobes.

    Attributes:
        soft: N·V, softly clamped at 0; root: of its square and the softness.
        i, j: the cell by roughness and by the root of ``soft``; x, y: the place in it.
    """

    soft: float
    root: float
    i: int
    j: int
    x: float
    y: float


@warp_function
def _cell(roughness: float, cosine: float, grid: int):
    cell = _Cell()
    cell.root = wp.sqrt(cosine * cosine + _EPS2)
    cell.soft = 0.5 * (cosine + cell.root)
    x, y = roughness * float(grid - 1), wp.sqrt(cell.soft) * float(grid - 1)
    cell.i = wp.clamp(int(wp.floor(x)), 0, grid - 2)
    cell.j = wp.clamp(int(wp.floor(y)), 0, grid - 2)
    cell.x = x - float(cell.i)
    cell.y = y - float(cell.j)
    return cell


@warp_function
def _value(table: wp.array3d[wp.float32], cell: _Cell, k: int):
    low = (1.0 - cell.y) * table[cell.i, cell.j, k] + cell.y * table[cell.i, cell.j + 1, k]
    high = (1.0 - cell.y) * table[cell.i + 1, cell.j, k] + cell.y * table[cell.i + 1, cell.j + 1, k]
    return (1.0 - cell.x) * low + cell.x * high


@warp_function
def _slopes(table: wp.array3d[wp.float32], cell: _Cell, k: int):
    """Derivatives of ``_value`` by the place in the cell."""
    a, b = table[cell.i, cell.j, k], table[cell.i, cell.j + 1, k]
    c, d = table[cell.i + 1, cell.j, k], table[cell.i + 1, cell.j + 1, k]
    return wp.vec2(
        (1.0 - cell.y) * (c - a) + cell.y * (d - b),
        (1.0 - cell.x) * (b - a) + cell.x * (d - c),
    )


@warp_function
def _light_level(level: float, skipped: int):
    """Level in a light that lacks the ``skipped`` finest ones, and its derivative: smooth, and never flat."""
    d = float(skipped)
    if skipped == 0:
        return wp.vec2(level, 1.0)
    if level < 2.0 * d:
        return wp.vec2(level * level / (4.0 * d), level / (2.0 * d))
    return wp.vec2(level - d, 1.0)


@warp_function
def _turn(rotations: wp.array[wp.mat33], owner: wp.array[wp.int64], p: int):
    """From the object's space to the light's."""
    if owner.shape[0] > 0:
        return rotations[int(owner[p])]
    return wp.identity(3, float)


@warp_kernel
def _plan(
    normals: wp.array[wp.vec3],
    view: wp.array[wp.vec3],
    roughness: wp.array[wp.float32],
    table: wp.array3d[wp.float32],
    rotations: wp.array[wp.mat33],
    owner: wp.array[wp.int64],
    skipped: int,
    directions: wp.array2d[wp.vec3],
    levels: wp.array2d[wp.float32],
    weights: wp.array2d[wp.float32],
):
    p = wp.tid()
    n, v = normals[p], view[p]
    cell = _cell(roughness[p], wp.dot(n, v), table.shape[0])
    mirrored = 2.0 * cell.soft * n - v
    turn = _turn(rotations, owner, p)
    normal, away = turn * n, turn * (mirrored - n)
    lookups = levels.shape[0]
    for k in range(lookups):
        level = _light_level(_value(table, cell, lookups + k), skipped)
        levels[k, p] = level[0]
        directions[k, p] = normal + _value(table, cell, k) * away
    directions[lookups, p] = normal
    for k in range(weights.shape[1]):
        weights[p, k] = _value(table, cell, 2 * lookups + k)


@warp_kernel
def _plan_backward(
    normals: wp.array[wp.vec3],
    view: wp.array[wp.vec3],
    roughness: wp.array[wp.float32],
    table: wp.array3d[wp.float32],
    rotations: wp.array[wp.mat33],
    owner: wp.array[wp.int64],
    skipped: int,
    grad_directions: wp.array2d[wp.vec3],
    grad_levels: wp.array2d[wp.float32],
    grad_weights: wp.array2d[wp.float32],
    grad_normals: wp.array[wp.vec3],
    grad_view: wp.array[wp.vec3],
    grad_roughness: wp.array[wp.float32],
):
    p = wp.tid()
    n, v = normals[p], view[p]
    cosine = wp.dot(n, v)
    cell = _cell(roughness[p], cosine, table.shape[0])
    mirrored = 2.0 * cell.soft * n - v
    lookups = grad_levels.shape[0]
    back = wp.transpose(_turn(rotations, owner, p))  # from the light's space to the object's
    to_normal, to_mirrored = back * grad_directions[lookups, p], wp.vec3(0.0, 0.0, 0.0)
    to_cell = wp.vec2(0.0, 0.0)
    for k in range(lookups):
        grad = back * grad_directions[k, p]
        mix = _value(table, cell, k)
        to_normal += (1.0 - mix) * grad
        to_mirrored += mix * grad
        to_cell += wp.dot(mirrored - n, grad) * _slopes(table, cell, k)
        level = _light_level(_value(table, cell, lookups + k), skipped)
        to_cell += level[1] * grad_levels[k, p] * _slopes(table, cell, lookups + k)
    for k in range(grad_weights.shape[1]):
        to_cell += grad_weights[p, k] * _slopes(table, cell, 2 * lookups + k)
    steps = float(table.shape[0] - 1)
    grad_roughness[p] = to_cell[0] * steps
    to_soft = to_cell[1] * steps * 0.5 / wp.sqrt(cell.soft) + 2.0 * wp.dot(n, to_mirrored)
    to_cosine = to_soft * 0.5 * (1.0 + cosine / cell.root)
    grad_normals[p] = to_normal + 2.0 * cell.soft * to_mirrored + to_cosine * v
    grad_view[p] = to_cosine * n - to_mirrored


@warp_function
def _light(found: wp.array2d[wp.vec3], around: wp.array[wp.vec3], k: int, p: int):
    """The k-th look-up of a point; the last is the diffuse one."""
    if k < found.shape[0]:
        return found[k, p]
    return around[p]


@warp_function
def _opened(occlusion: wp.array[wp.float32], p: int):
    if occlusion.shape[0] > 0:
        return occlusion[p]
    return 1.0


@warp_kernel
def _combine(
    found: wp.array2d[wp.vec3],
    around: wp.array[wp.vec3],
    weights: wp.array2d[wp.float32],
    albedo: wp.array[wp.vec3],
    metallic: wp.array[wp.float32],
    occlusion: wp.array[wp.float32],
    diffuse: wp.array[wp.vec3],
    specular: wp.array[wp.vec3],
):
    p = wp.tid()
    count = found.shape[0] + 1
    a, b, c = wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    for k in range(count):
        light = _light(found, around, k, p)
        a += weights[p, k] * light
        b += weights[p, count + k] * light
        c += weights[p, 2 * count + k] * light
    opened = _opened(occlusion, p)
    colour, dull = albedo[p], 1.0 - metallic[p]
    one = wp.vec3(1.0, 1.0, 1.0)
    f0 = _F0 * dull * one + metallic[p] * colour
    specular[p] = opened * (wp.cw_mul(f0, a) + b)
    diffuse[p] = opened * dull * wp.cw_mul(wp.cw_mul(colour, one - f0), c)


@warp_kernel
def _combine_backward(
    found: wp.array2d[wp.vec3],
    around: wp.array[wp.vec3],
    weights: wp.array2d[wp.float32],
    albedo: wp.array[wp.vec3],
    metallic: wp.array[wp.float32],
    occlusion: wp.array[wp.float32],
    grad_diffuse: wp.array[wp.vec3],
    grad_specular: wp.array[wp.vec3],
    grad_found: wp.array2d[wp.vec3],
    grad_around: wp.array[wp.vec3],
    grad_weights: wp.array2d[wp.float32],
    grad_albedo: wp.array[wp.vec3],
    grad_metallic: wp.array[wp.float32],
    grad_occlusion: wp.array[wp.float32],
):
    p = wp.tid()
    count = found.shape[0] + 1
    opened = _opened(occlusion, p)
    one = wp.vec3(1.0, 1.0, 1.0)
    colour, dull = albedo[p], 1.0 - metallic[p]
    f0 = _F0 * dull * one + metallic[p] * colour
    base, rest = dull * colour, one - f0
    gd, gs = grad_diffuse[p], grad_specular[p]
    by_a, by_b, by_c = opened * wp.cw_mul(gs, f0), opened * gs, opened * wp.cw_mul(gd, wp.cw_mul(base, rest))
    a, b, c = wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    for k in range(count):
        light = _light(found, around, k, p)
        wa, wb, wc = weights[p, k], weights[p, count + k], weights[p, 2 * count + k]
        a, b, c = a + wa * light, b + wb * light, c + wc * light
        grad_weights[p, k] = wp.dot(by_a, light)
        grad_weights[p, count + k] = wp.dot(by_b, light)
        grad_weights[p, 2 * count + k] = wp.dot(by_c, light)
        grad = wa * by_a + wb * by_b + wc * by_c
        if k < count - 1:
            grad_found[k, p] = grad
        else:
            grad_around[p] = grad
    to_f0 = opened * (wp.cw_mul(gs, a) - wp.cw_mul(gd, wp.cw_mul(base, c)))
    to_base = opened * wp.cw_mul(gd, wp.cw_mul(rest, c))
    grad_albedo[p] = metallic[p] * to_f0 + dull * to_base
    grad_metallic[p] = wp.dot(to_f0, colour - _F0 * one) - wp.dot(to_base, colour)
    if occlusion.shape[0] > 0:
        grad_occlusion[p] = wp.dot(gs, wp.cw_mul(f0, a) + b) + wp.dot(gd, wp.cw_mul(base, wp.cw_mul(rest, c)))
