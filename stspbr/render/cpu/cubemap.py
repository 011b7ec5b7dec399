"""Cube map lookup with mip levels on the CPU, seamless over edges and corners, differentiable in everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from stspbr.render.cpu.cubemap_kernels import cube_backward, cube_forward, sum_slabs
from stspbr.render.cpu.mip_chain import level_addresses, level_starts, split_like

_MAX_SLABS = 8


def sample_cube(
    levels: Sequence[torch.Tensor],
    directions: torch.Tensor,
    level: torch.Tensor | None = None,
    nearest: bool = False,
) -> torch.Tensor:
    """Look a cube map up by direction.

    Bilinear in a face and linear between the two mip levels around ``level``. A tap that falls off a face is the
    texel across the edge; beyond a corner, where there is none, it is the mean of the other three. So the result is
    continuous over the whole sphere, on every level.

    Args:
        levels: one ``[B or 1, 6, N, N, C]`` float32 tensor a mip level, finest first; faces in the order
            +X, −X, +Y, −Y, +Z, −Z with OpenGL's orientation.
        directions: ``[B, h, w, 3]``, of any length; a zero direction looks at the centre of +X.
        level: ``[B, h, w]`` mip level, clamped to ``[0, len(levels) − 1]``; ``None``: level 0 everywhere.
        nearest: take the nearest texel of a level instead; then directions get a zero gradient.

    Returns:
        ``[B, h, w, C]``. Gradients go to every level's texels, to the directions, and to ``level`` (zero where it is
        clamped); their sums are in a fixed order, whatever the number of threads.
    """
    shape = directions.shape
    flat_level = None if level is None else level.reshape(-1)
    out = _CubeLookup.apply(directions.reshape(-1, 3), flat_level, shape[1] * shape[2], nearest, *levels)
    return out.reshape(*shape[:3], levels[0].shape[-1])


class _CubeLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions, level, per_image, nearest, *levels):
        directions = directions.contiguous()
        level = directions.new_empty(0) if level is None else level.contiguous()
        levels = tuple(texels.contiguous() for texels in levels)
        ctx.save_for_backward(directions, level, *levels)
        ctx.per_image, ctx.nearest = per_image, nearest
        channels = levels[0].shape[-1]
        out = directions.new_empty(directions.shape[0], channels)
        if out.numel():
            cube_forward(
                level_addresses(levels), _sizes(levels), levels[0].shape[0], per_image, channels,
                directions.detach().numpy(), level.detach().numpy(), nearest, out.numpy(),
            )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        directions, level, *levels = ctx.saved_tensors
        want_directions, want_level, want_texels = (
            ctx.needs_input_grad[0],
            ctx.needs_input_grad[1],
            any(ctx.needs_input_grad[4:]),
        )
        count, channels = grad_out.shape
        total = sum(texels.numel() for texels in levels) if want_texels else 0
        # by the work alone, never by the threads: many samples on a small map are worth many partial sums
        runs = min(_MAX_SLABS, max(1, 64 * count // total)) if want_texels else _MAX_SLABS
        slabs = directions.new_empty(runs, total)
        grad_directions = torch.zeros_like(directions) if want_directions else directions.new_empty(0, 3)
        grad_level = torch.empty_like(level) if want_level else level.new_empty(0)
        cube_backward(
            level_addresses(levels), _sizes(levels), level_starts(levels), levels[0].shape[0], ctx.per_image, channels,
            directions.numpy(), level.numpy(), ctx.nearest,
            grad_out.contiguous().numpy(), slabs.numpy(), grad_directions.numpy(), grad_level.numpy(),
        )  # fmt: skip
        grad_levels: list[torch.Tensor | None] = [None] * len(levels)
        if want_texels:
            flat = slabs[0]
            if runs > 1:
                flat = directions.new_empty(total)
                sum_slabs(slabs.numpy(), flat.numpy())
            grad_levels = [
                grad if wanted else None
                for grad, wanted in zip(split_like(flat, levels), ctx.needs_input_grad[4:], strict=True)
            ]
        return (
            grad_directions if want_directions else None,
            grad_level if want_level else None,
            None,
            None,
            *grad_levels,
        )


def _sizes(levels: Sequence[torch.Tensor]) -> np.ndarray:
    return np.array([texels.shape[2] for texels in levels], dtype=np.int64)
