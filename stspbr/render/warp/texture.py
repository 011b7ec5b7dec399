"""Texture look-up with Warp: 2D and cube maps, mip levels, gradients to all inputs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from stspbr.errors import StspbrError
from stspbr.render.last_tensors import OfLastTensors
from stspbr.render.raster_checks import check_texture
from stspbr.render.warp import cube_kernels, mip_kernels, plane_kernels
from stspbr.warp_runtime import launch

_BOUNDARIES = {"wrap": plane_kernels.WRAP, "clamp": plane_kernels.CLAMP, "zero": plane_kernels.ZERO}
MAPS = 8  # constant textures whose mip levels are kept
_MAX_VALUES = 1 << 31  # of all levels together: kernels count them in 32 bits


class Texture:
    """``texture`` of the protocol; the mip levels of the constant textures that it saw last are kept.

    Arguments, results, gradients and errors are those of :func:`stspbr.render.cpu.texture.texture`, on the device of
    ``tex``, with at most 16 levels. Gradients of texels are summed in single precision, on a GPU in any order unless
    :func:`stspbr.warp_runtime.set_deterministic` says otherwise.
    """

    def __init__(self) -> None:
        self._mips = OfLastTensors(build_mips, MAPS)

    def __call__(
        self,
        tex: torch.Tensor,
        uv: torch.Tensor,
        uv_da: torch.Tensor | None = None,
        mip_level_bias: torch.Tensor | None = None,
        mip: Sequence[torch.Tensor] | None = None,
        filter_mode: str = "auto",
        boundary_mode: str = "wrap",
        max_mip_level: int | None = None,
    ) -> torch.Tensor:
        given = tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level
        filter_mode = check_texture(*given, tex.device)
        levels, level = [tex], None
        if "mipmap" in filter_mode:
            if mip is None:
                mip = build_mips(tex, max_mip_level) if tex.requires_grad else self._mips(tex, max_mip_level)
            levels = [tex, *mip][: None if max_mip_level is None else max_mip_level + 1]
            level = mip_level_bias
            if uv_da is not None:
                level = _FootprintLevel.apply(uv_da.reshape(-1, 4), tex.shape[2], tex.shape[1]).reshape(uv_da.shape[:3])
                level = level if mip_level_bias is None else level + mip_level_bias
            if level is not None and filter_mode == "linear-mipmap-nearest":
                level = torch.floor(level.detach() + 0.5)
        _check_size(levels)
        settings: dict[str, Any] = {"nearest": filter_mode == "nearest"}
        lookup: Any = _CubeLookup
        if boundary_mode != "cube":
            lookup, settings = _PlaneLookup, {"boundary": _BOUNDARIES[boundary_mode], **settings}
        flat_level = uv.new_empty(0) if level is None else level.reshape(-1)
        out = lookup.apply(uv.reshape(-1, uv.shape[-1]), flat_level, uv.shape[1] * uv.shape[2], settings, *levels)
        return out.reshape(*uv.shape[:3], tex.shape[-1])


def build_mips(tex: torch.Tensor, max_level: int | None = None) -> list[torch.Tensor]:
    """Levels 1, 2, … of a mip chain, as :func:`stspbr.render.cpu.mip_chain.build_mips` makes them; differentiable."""
    levels: list[torch.Tensor] = []
    while max_level is None or len(levels) < max_level:
        height, width = tex.shape[-3:-1]
        if height == width == 1 or (height > 1 and height % 2) or (width > 1 and width % 2):
            break
        coarser = _Halve.apply(tex.reshape(-1, *tex.shape[-3:]))
        tex = coarser.reshape(*tex.shape[:-3], *coarser.shape[1:])
        levels.append(tex)
    return levels


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tex):
        images, height, width, channels = ctx.shape = tex.shape
        out = tex.new_empty(images, max(1, height // 2), max(1, width // 2), channels)
        launch(mip_kernels.halve, out.shape, tex.contiguous(), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        grad = grad_out.new_zeros(ctx.shape)
        launch(mip_kernels.spread, ctx.shape, grad_out.contiguous(), grad)
        return grad


class _FootprintLevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, uv_da, width, height):
        uv_da = uv_da.contiguous()
        ctx.save_for_backward(uv_da)
        ctx.size = float(width), float(height)
        level = uv_da.new_empty(len(uv_da))
        launch(plane_kernels.footprints, len(uv_da), uv_da, *ctx.size, level)
        return level

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_level):
        (uv_da,) = ctx.saved_tensors
        grad = torch.empty_like(uv_da)
        launch(plane_kernels.footprint_gradients, len(uv_da), uv_da, *ctx.size, grad_level.contiguous(), grad)
        return grad, None, None


class _Lookup(torch.autograd.Function):
    """A look-up of ``points [N, 2|3]`` in levels, by the kernels of a module; its settings go before the results."""

    @staticmethod
    def run(ctx, kernels, points, level, per_image, settings, levels):
        points, level = points.contiguous(), level.contiguous()
        levels = tuple(texels.contiguous() for texels in levels)
        ctx.save_for_backward(points, level, *levels)
        ctx.per_image, ctx.settings = per_image, settings
        out = points.new_empty(len(points), levels[0].shape[-1])
        launch(kernels.look_up, out.shape, _chain(levels, per_image), points, level, *settings.values(), out)
        return out

    @staticmethod
    def gradients(ctx, kernels, grad_out, taken):
        """``taken``: names of the settings that the gradients by sample depend on."""
        points, level, *levels = ctx.saved_tensors
        want_points, want_level = ctx.needs_input_grad[:2]
        grad_out, chain = grad_out.contiguous(), _chain(levels, ctx.per_image)
        # the gradient of a sample by the nearest texel is zero, which its kernel does not write
        grad_points, grad_level = torch.zeros_like(points), torch.zeros_like(level)
        moves = want_points and not ctx.settings["nearest"]
        if moves or want_level:
            launch(
                kernels.sample_gradients, len(points), chain, points, level, *(ctx.settings[name] for name in taken),
                grad_out, moves, want_level, grad_points, grad_level,
            )  # fmt: skip
        grad_levels: list[torch.Tensor | None] = [None] * len(levels)
        if any(ctx.needs_input_grad[4:]):
            flat = points.new_zeros(sum(texels.numel() for texels in levels))
            given = points, level, *ctx.settings.values()
            launch(kernels.texel_gradients, grad_out.shape, chain, *given, grad_out, flat)
            parts = torch.split(flat, [texels.numel() for texels in levels])
            grad_levels = [part.view(texels.shape) for part, texels in zip(parts, levels, strict=True)]
        to_samples = grad_points if want_points else None, grad_level if want_level else None
        return *to_samples, None, None, *grad_levels


class _PlaneLookup(_Lookup):
    @staticmethod
    def forward(ctx, points, level, per_image, settings, *levels):
        return _Lookup.run(ctx, plane_kernels, points, level, per_image, settings, levels)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        return _Lookup.gradients(ctx, plane_kernels, grad_out, ["boundary"])


class _CubeLookup(_Lookup):
    @staticmethod
    def forward(ctx, points, level, per_image, settings, *levels):
        return _Lookup.run(ctx, cube_kernels, points, level, per_image, settings, levels)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        return _Lookup.gradients(ctx, cube_kernels, grad_out, ["nearest"])


def _chain(levels: Sequence[torch.Tensor], per_image: int) -> Any:
    """What kernels know of contiguous levels; the caller keeps the tensors alive."""
    chain = mip_kernels.Chain()
    empty = [0] * (mip_kernels.MAX_LEVELS - len(levels))
    starts = [0, *itertools.accumulate(texels.numel() for texels in levels[:-1])]
    chain.addresses = mip_kernels.Addresses(*(texels.data_ptr() for texels in levels), *empty)
    chain.starts = mip_kernels.Offsets(*starts, *empty)
    chain.heights = mip_kernels.Sizes(*(texels.shape[-3] for texels in levels), *empty)
    chain.widths = mip_kernels.Sizes(*(texels.shape[-2] for texels in levels), *empty)
    chain.top, chain.textures = len(levels) - 1, levels[0].shape[0]
    chain.per_image, chain.channels = per_image, levels[0].shape[-1]
    return chain


def _check_size(levels: Sequence[torch.Tensor]) -> None:
    if len(levels) > mip_kernels.MAX_LEVELS:
        raise StspbrError(f"texture: {len(levels)} mip levels, but Warp's kernels take {mip_kernels.MAX_LEVELS}")
    if (total := sum(texels.numel() for texels in levels)) >= _MAX_VALUES:
        raise StspbrError(
            f"texture: {total} values, but Warp's kernels take less than {_MAX_VALUES}: use a smaller one"
        )
