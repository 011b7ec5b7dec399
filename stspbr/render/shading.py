"""Image-based shading of glTF metallic-roughness surfaces: the one function for every stage.

The lobes are sums of look-ups into a prefiltered light (``lobes``). In float32 the algebra of a point runs in fused
kernels, on the CPU and on a GPU; in double precision it runs in the plain torch twin below, which defines it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr import kernel_dispatch
from stspbr.render.brdf import DIELECTRIC_F0, base_reflectance
from stspbr.render.lamp import joined, lamp_look_up
from stspbr.render.lobes import LobeTable, load_lobe_table
from stspbr.render.prefilter import WIDTHS, PrefilteredLight

_SOFTNESS2 = 1e-4  # of the clamp of N·V at 0: squared, so that the clamp acts within 0.01


class Surroundings(Protocol):
    """What stands in the way of a distant light at N surface points."""

    def __call__(self, found: Tensor, around: Tensor, directions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The light as it arrives.

        Args:
            found: ``[K, N, 3]`` radiance that was looked up in ``directions [K, N, 3]``, world space, not normalised.
            around: ``[N, 3]`` cosine-weighted mean radiance about the normal.
            weights: ``[N, 3·(K + 1)]`` of the look-ups and of ``around``: specular by F0, specular by 1, diffuse.

        Returns:
            ``found`` and ``around`` with what is hidden replaced by what is seen instead.
        """


def shade(
    normals: Tensor,
    view: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    light: PrefilteredLight,
    *,
    texture: Callable[..., Tensor],
    light_rotation: tuple[Tensor, Tensor] | None = None,
    occlusion: Tensor | None = None,
    surroundings: Surroundings | None = None,
    to_lamp: Tensor | None = None,
    table: LobeTable | None = None,
    backend: str = "auto",
) -> Tensor:
    """Linear radiance ``[N, 3]`` towards the camera of N surface points under a distant light.

    Differentiable in all tensors and in the light's texels; exact under a white sky; no dead zone in roughness.
    Normals that face away are shaded as at grazing incidence, with a gradient that can turn them back.

    Args:
        normals: ``[N, 3]`` unit shading normals, object space.
        view: ``[N, 3]`` unit, from the point towards the camera, object space.
        albedo: ``[N, 3]`` linear, in [0, 1].
        roughness: ``[N, 1]`` perceptual, in [0, 1].
        metallic: ``[N, 1]`` in [0, 1].
        light: a prefiltered light, in world space.
        texture: the backend's texture function.
        light_rotation: rotations ``[R, 3, 3]`` object to world and each point's index into them ``[N]`` int; None:
            object space is world space. Rotations get no gradient.
        occlusion: ``[N, 1]``, 1 = open; multiplies both parts.
        surroundings: what is in the light's way; None: nothing, and no shadows.
        to_lamp: ``[N, 3]`` from each point to the light's lamp, object space; None: the lamp counts for nothing. The
            lamp is at the camera, so that its shadows lie behind what casts them: it is not hidden.
        table: lobes other than the shipped ones.
        backend: of the algebra: one of ``kernel_dispatch.BACKENDS``.
    """
    diffuse, specular = shade_parts(
        normals, view, albedo, roughness, metallic, light, texture=texture, light_rotation=light_rotation,
        occlusion=occlusion, surroundings=surroundings, to_lamp=to_lamp, table=table, backend=backend,
    )  # fmt: skip
    return diffuse + specular


def shade_parts(
    normals: Tensor,
    view: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    light: PrefilteredLight,
    *,
    texture: Callable[..., Tensor],
    light_rotation: tuple[Tensor, Tensor] | None = None,
    occlusion: Tensor | None = None,
    surroundings: Surroundings | None = None,
    to_lamp: Tensor | None = None,
    table: LobeTable | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The diffuse and the specular part of ``shade``, each ``[N, 3]``; the arguments are the same."""
    found = _look_up(normals, view, roughness, light, texture, light_rotation, surroundings, to_lamp, table, backend)
    return _combine(*found, albedo, metallic, occlusion, backend)


@torch.no_grad()
def pure_responses(
    normals: Tensor,
    view: Tensor,
    roughness: Tensor,
    light: PrefilteredLight,
    *,
    texture: Callable[..., Tensor],
    light_rotation: tuple[Tensor, Tensor] | None = None,
    surroundings: Surroundings | None = None,
    to_lamp: Tensor | None = None,
    table: LobeTable | None = None,
    backend: str = "auto",
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The radiance of a pure dielectric and of a pure metal as affine functions of albedo, without gradients.

    The arguments are those of ``shade``.

    Returns:
        (slope, offset) of the dielectric and of the metal, each ``[N, 3]``: for metallic 0 or 1 and without occlusion
        ``shade`` gives slope · albedo + offset.
    """
    found, around, weights = _look_up(
        normals, view, roughness, light, texture, light_rotation, surroundings, to_lamp, table, backend
    )
    white = normals.new_ones(normals.shape[0], 3)
    diffuse, dielectric = _combine(found, around, weights, white, torch.zeros_like(roughness), None, backend)
    _, mirror = _combine(found, around, weights, white, torch.ones_like(roughness), None, backend)
    # both lobes are F0 · a + b, with F0 = 0.04 and F0 = 1
    slope = (mirror - dielectric) / (1.0 - DIELECTRIC_F0)
    return (diffuse, dielectric), (slope, mirror - slope)


def _look_up(
    normals: Tensor,
    view: Tensor,
    roughness: Tensor,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    light_rotation: tuple[Tensor, Tensor] | None,
    surroundings: Surroundings | None,
    to_lamp: Tensor | None,
    table: LobeTable | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Specular light ``[K, N, 3]``, diffuse light ``[N, 3]`` and their weights ``[N, 3·(K + 1)]`` for ``combine``."""
    table = table or load_lobe_table()
    directions, levels, weights = plan(normals, view, roughness, table, light_rotation, len(light.specular), backend)
    towards, normal = directions.split([table.lookups, 1])
    found, around = look_up(towards, levels, normal, light, texture)
    if surroundings is not None:
        found, around = surroundings(found, around, towards, weights)
    if to_lamp is not None and light.lamp is not None:
        found, weights = joined(found, weights, lamp_look_up(normals, view, roughness, to_lamp, light.lamp))
    return found, around, weights


def plan(
    normals: Tensor,
    view: Tensor,
    roughness: Tensor,
    table: LobeTable,
    light_rotation: tuple[Tensor, Tensor] | None,
    light_levels: int,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Where N points look the light up: see ``plan_twin``.

    Args:
        light_levels: how many specular levels the light has.
    """
    skipped = len(WIDTHS) - light_levels
    kind = kernel_dispatch.choose(backend, normals, what="shading")
    if kind == "torch":
        return plan_twin(normals, view, roughness, table, light_rotation, skipped)
    rotations, owner = light_rotation if light_rotation is not None else (None, None)
    if kind == "cpu":
        return _Plan.apply(normals, view, roughness, table, rotations, owner, skipped)
    from stspbr.render.warp_shading import WarpPlan

    lobes = _table_tensor(table, normals), table.lookups
    return WarpPlan.apply(normals, view, roughness, *lobes, rotations, owner, skipped)


def look_up(
    towards: Tensor, levels: Tensor, normal: Tensor, light: PrefilteredLight, texture: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """The light ``[K, N, 3]`` in the directions ``towards [K, N, 3]`` at ``levels [K, N]``, and the diffuse light
    ``[N, 3]`` about ``normal [1, N, 3]``; linear in the light."""
    found = texture(
        light.specular[0][None], towards.reshape(1, 1, -1, 3), mip_level_bias=levels.reshape(1, 1, -1),
        mip=[level[None] for level in light.specular[1:]], filter_mode="linear-mipmap-linear", boundary_mode="cube",
    )  # fmt: skip
    around = texture(light.diffuse[None], normal[None], filter_mode="linear", boundary_mode="cube")
    return found.view(*levels.shape, 3), around.view(-1, 3)


def plan_twin(
    normals: Tensor,
    view: Tensor,
    roughness: Tensor,
    table: LobeTable,
    light_rotation: tuple[Tensor, Tensor] | None,
    skipped: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Look-up directions ``[K + 1, N, 3]`` (last: the normal), levels ``[K, N]`` and weights ``[N, 3·(K + 1)]``.

    Plain torch, any float type and device. ``skipped`` is how many of the finest levels the light lacks.
    """
    cosine = (normals * view).sum(-1, keepdim=True)
    soft = 0.5 * (cosine + (cosine * cosine + _SOFTNESS2).sqrt())
    grid, width = table.values.shape[0], table.values.shape[2]
    fx, fy = roughness * (grid - 1), soft.sqrt() * (grid - 1)
    i = fx.detach().floor().clamp(0, grid - 2)
    j = fy.detach().floor().clamp(0, grid - 2)
    fx, fy = fx - i, fy - j
    cell = (i * grid + j).long().squeeze(-1)
    flat = _table_tensor(table, normals).reshape(-1, width)
    low = flat.index_select(0, cell) * (1 - fy) + flat.index_select(0, cell + 1) * fy
    high = flat.index_select(0, cell + grid) * (1 - fy) + flat.index_select(0, cell + grid + 1) * fy
    values = low * (1 - fx) + high * fx
    k = table.lookups
    mirrored = 2 * soft * normals - view
    if light_rotation is not None:
        turn = light_rotation[0].to(normals.dtype).index_select(0, light_rotation[1].long())
        normals = (turn @ normals[..., None])[..., 0]
        mirrored = (turn @ mirrored[..., None])[..., 0]
    q = values[:, :k].T[..., None]
    directions = torch.cat([normals + q * (mirrored - normals), normals[None]])
    levels = values[:, k : 2 * k].T
    if skipped:
        levels = torch.where(levels < 2 * skipped, levels * levels / (4 * skipped), levels - skipped)
    return directions, levels, values[:, 2 * k :]


def _table_tensor(table: LobeTable, like: Tensor) -> Tensor:
    """The table on the device and in the type of ``like``; cached."""
    key = (like.device, like.dtype)
    if key not in table.on_device:
        table.on_device[key] = torch.as_tensor(table.values, device=like.device).to(like.dtype)
    return table.on_device[key]


def _combine(
    found: Tensor,
    around: Tensor,
    weights: Tensor,
    albedo: Tensor,
    metallic: Tensor,
    occlusion: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    kind = kernel_dispatch.choose(backend, found, what="shading")
    combine = _Combine.apply if kind == "cpu" else combine_twin
    if kind == "warp":
        from stspbr.render.warp_shading import WarpCombine

        combine = WarpCombine.apply
    return combine(found, around, weights, albedo, metallic, occlusion)


def combine_twin(
    found: Tensor, around: Tensor, weights: Tensor, albedo: Tensor, metallic: Tensor, occlusion: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Diffuse and specular radiance ``[N, 3]`` from the look-ups, in plain torch."""
    light = torch.cat([found, around[None]])
    a, b, c = (light[None] * weights.T.reshape(3, -1, weights.shape[0], 1)).sum(1)
    f0 = base_reflectance(albedo, metallic)
    diffuse, specular = albedo * (1 - metallic) * (1 - f0) * c, f0 * a + b
    return (diffuse, specular) if occlusion is None else (diffuse * occlusion, specular * occlusion)


class _Plan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, normals, view, roughness, table, rotations, owner, skipped):
        from stspbr.render.shading_kernels import plan_forward

        normals, view, roughness = normals.contiguous(), view.contiguous(), roughness.contiguous()
        count, lookups = normals.shape[0], table.lookups
        directions = normals.new_empty(lookups + 1, count, 3)
        levels, weights = normals.new_empty(lookups, count), normals.new_empty(count, 3 * (lookups + 1))
        if rotations is None:
            turns = np.eye(3, dtype=np.float32)[None], np.empty(0, np.int64)
        else:
            turns = rotations.detach().float().contiguous().numpy(), owner.long().contiguous().numpy()
        plan_forward(
            *_arrays(normals, view, roughness), table.values, *turns, skipped, *_arrays(directions, levels, weights)
        )
        ctx.save_for_backward(normals, view, roughness)
        ctx.rest = (table.values, *turns, skipped)
        return directions, levels, weights

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        from stspbr.render.shading_kernels import plan_backward

        inputs = ctx.saved_tensors
        outputs = [torch.empty_like(value) for value in inputs]
        grads = tuple(grad.contiguous() for grad in grads)
        plan_backward(*_arrays(*inputs), *ctx.rest, *_arrays(*grads), *_arrays(*outputs))
        return *outputs, None, None, None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, found, around, weights, albedo, metallic, occlusion):
        from stspbr.render.shading_kernels import combine_forward

        ctx.occluded = occlusion is not None
        occlusion = weights.new_empty(0, 1) if occlusion is None else occlusion
        inputs = [value.contiguous() for value in (found, around, weights, albedo, metallic, occlusion)]
        diffuse, specular = torch.empty_like(inputs[3]), torch.empty_like(inputs[3])
        combine_forward(*_arrays(*inputs), *_arrays(diffuse, specular))
        ctx.save_for_backward(*inputs)
        return diffuse, specular

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_diffuse, grad_specular):
        from stspbr.render.shading_kernels import combine_backward

        inputs = ctx.saved_tensors
        outputs = [torch.empty_like(value) for value in inputs]
        grads = (grad_diffuse.contiguous(), grad_specular.contiguous())
        combine_backward(*_arrays(*inputs), *_arrays(*grads), *_arrays(*outputs))
        return *outputs[:5], outputs[5] if ctx.occluded else None


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)
