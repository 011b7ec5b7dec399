"""2D texture lookup with mip levels on the CPU, as autograd functions around the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch.autograd.function import once_differentiable

from stspbr.render.cpu import texture2d_kernels as kernels
from stspbr.render.cpu.mip_chain import collect_mips, level_addresses, level_starts, split_like

_BOUNDARIES = {"wrap": kernels.WRAP, "clamp": kernels.CLAMP, "zero": kernels.ZERO}
_ROWS_A_BLOCK = 8


def sample_plane(
    levels: Sequence[torch.Tensor],
    uv: torch.Tensor,
    level: torch.Tensor | None = None,
    boundary_mode: str = "wrap",
    nearest: bool = False,
    halved: bool = False,
) -> torch.Tensor:
    """Look up a chain of levels ``[B or 1, H, W, C]`` at ``uv [B, h, w, 2]`` and mip ``level [B, h, w]``.

    The level is clamped to ``[0, len(levels) − 1]``; ``None`` is level 0. Gradients go to the levels, to ``uv``
    (zero for ``nearest``) and to ``level`` (zero where it is clamped). Returns ``[B, h, w, C]``.

    ``halved``: the levels are :func:`build_mips` of the first, which gets the gradients of all of them: one pass over
    one buffer, where autograd would keep and add a copy of each level.
    """
    shape = uv.shape
    flat_level = None if level is None else level.reshape(-1)
    boundary = _BOUNDARIES[boundary_mode]
    out = _PlaneLookup.apply(uv.reshape(-1, 2), flat_level, shape[1] * shape[2], boundary, nearest, halved, *levels)
    return out.reshape(*shape[:3], levels[0].shape[-1])


def footprint_level(uv_da: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Mip level ``[B, h, w]`` of a pixel's footprint: log2 of the major axis, in texels of a ``width × height``
    texture, of the ellipse to which ``uv_da [B, h, w, 4]`` maps the unit circle (−50 where ``uv_da`` is zero)."""
    return _FootprintLevel.apply(uv_da.reshape(-1, 4), width, height).reshape(uv_da.shape[:3])


class _PlaneLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, uv, level, per_image, boundary, nearest, halved, *levels):
        uv = uv.contiguous()
        level = uv.new_empty(0) if level is None else level.contiguous()
        levels = tuple(texels.contiguous() for texels in levels)
        ctx.save_for_backward(uv, level, *levels)
        ctx.settings = per_image, boundary, nearest, halved
        channels = levels[0].shape[-1]
        out = uv.new_empty(uv.shape[0], channels)
        if out.numel():
            kernels.plane_forward(
                level_addresses(levels), _sizes(levels), levels[0].shape[0], per_image, channels,
                uv.detach().numpy(), level.detach().numpy(), boundary, nearest, out.numpy(),
            )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        uv, level, *levels = ctx.saved_tensors
        per_image, boundary, nearest, halved = ctx.settings
        want_uv, want_level = ctx.needs_input_grad[:2]
        grad_out = grad_out.contiguous()
        textures, channels = levels[0].shape[0], levels[0].shape[-1]
        grad_uv = torch.zeros_like(uv) if want_uv else None
        grad_level = torch.empty_like(level) if want_level else None
        if (want_uv and not nearest) or want_level:
            points = uv.new_empty(0, 2) if grad_uv is None else grad_uv
            slopes = uv.new_empty(0) if grad_level is None else grad_level
            kernels.plane_backward_samples(
                level_addresses(levels), _sizes(levels), textures, per_image, channels,
                uv.numpy(), level.numpy(), boundary, grad_out.numpy(),
                points.numpy(), slopes.numpy(),
            )  # fmt: skip
        grad_levels: list[torch.Tensor | None] = [None] * len(levels)
        if any(ctx.needs_input_grad[6:]):
            rows = [textures * texels.shape[1] for texels in levels]
            first_rows = np.cumsum([0, *rows[:-1]], dtype=np.int64)
            workers = numba.get_num_threads()
            owners = ((np.arange(sum(rows)) // _ROWS_A_BLOCK) % workers).astype(np.int32)
            flat = uv.new_empty(sum(texels.numel() for texels in levels))
            kernels.plane_backward_texels(
                _sizes(levels), level_starts(levels), first_rows, owners, workers, textures, per_image, channels,
                uv.numpy(), level.numpy(), boundary, nearest, grad_out.numpy(), flat.numpy(),
            )  # fmt: skip
            if halved:
                collect_mips(flat.numpy(), level_starts(levels), _sizes(levels), textures, channels)
            grad_levels = [
                grad if wanted else None
                for grad, wanted in zip(split_like(flat, levels), ctx.needs_input_grad[6:], strict=True)
            ]
        return grad_uv, grad_level, None, None, None, None, *grad_levels


class _FootprintLevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, uv_da, width, height):
        uv_da = uv_da.contiguous()
        ctx.save_for_backward(uv_da)
        ctx.size = np.float32(width), np.float32(height)
        level = uv_da.new_empty(uv_da.shape[0])
        kernels.footprint_forward(uv_da.detach().numpy(), *ctx.size, level.numpy())
        return level

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_level):
        (uv_da,) = ctx.saved_tensors
        grad = torch.empty_like(uv_da)
        kernels.footprint_backward(uv_da.numpy(), *ctx.size, grad_level.contiguous().numpy(), grad.numpy())
        return grad, None, None


def _sizes(levels: Sequence[torch.Tensor]) -> np.ndarray:
    return np.array([texels.shape[1:3] for texels in levels], dtype=np.int64)
