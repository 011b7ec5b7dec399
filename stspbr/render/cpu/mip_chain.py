"""Mip chains: building them, choosing the two levels of a sample, and handing one to a kernel without a copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange, types
from numba.extending import intrinsic
from torch.autograd.function import once_differentiable

# Numba's disk cache looks only at a kernel's own file: after a change to float_pointer or mip_bracket also touch the
# kernel modules that use them.
_FLAGS = {"contract", "arcp", "nsz"}


def build_mips(tex: torch.Tensor, max_level: int | None = None) -> list[torch.Tensor]:
    """Levels 1, 2, … of a mip chain, each texel the mean of 2×2 of the level before (2×1 where one side is 1).

    The chain ends at 1×1, at ``max_level``, or, for sizes that are no powers of two, where a side greater than 1 is
    odd: there is no exact halving of it.

    Args:
        tex: ``[B, H, W, C]`` float32 on the CPU, or a cube map ``[B, 6, N, N, C]`` (each face on its own).
        max_level: the coarsest level to build.

    Returns:
        The levels without ``tex``, finest first; differentiable.
    """
    levels: list[torch.Tensor] = []
    while max_level is None or len(levels) < max_level:
        height, width = tex.shape[-3:-1]
        if height == width == 1 or (height > 1 and height % 2) or (width > 1 and width % 2):
            break
        coarser = _Halve.apply(tex.reshape(-1, *tex.shape[-3:]))
        tex = coarser.reshape(*tex.shape[:-3], *coarser.shape[1:])
        levels.append(tex)
    return levels


def level_addresses(levels: Sequence[torch.Tensor]) -> np.ndarray:
    """Addresses ``[L]`` int64 of contiguous float32 CPU tensors; the caller keeps the tensors alive."""
    return np.array([level.data_ptr() for level in levels], dtype=np.int64)


def split_like(flat: torch.Tensor, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Views of a flat buffer, one after the other, each with the shape of a level."""
    parts = torch.split(flat, [level.numel() for level in levels])
    return [part.view(level.shape) for part, level in zip(parts, levels, strict=True)]


def level_starts(levels: Sequence[torch.Tensor]) -> np.ndarray:
    """Where each level starts in such a buffer: ``[L]`` int64."""
    return np.cumsum([0] + [level.numel() for level in levels[:-1]], dtype=np.int64)


@intrinsic
def float_pointer(typingctx, address):
    """Inside a kernel: the int64 ``address`` as a pointer to float32 that can be indexed."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@njit(cache=True, fastmath=_FLAGS)
def mip_bracket(level, sample, top):
    """Lower and upper mip level, and the fraction between them; equal levels where the level is clamped (or NaN)."""
    if level.size == 0:
        return 0, 0, np.float32(0)
    wanted = level[sample]
    if not (wanted > 0):
        return 0, 0, np.float32(0)
    if wanted >= top:
        return top, top, np.float32(0)
    lower = int(wanted)
    return lower, lower + 1, wanted - np.float32(lower)


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tex):
        images, height, width, channels = ctx.shape = tex.shape
        out = tex.new_empty(images, max(1, height // 2), max(1, width // 2), channels)
        _halve(tex.detach().contiguous().numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        grad = grad_out.new_empty(ctx.shape)
        _spread(grad_out.contiguous().numpy(), grad.numpy())
        return grad


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def _halve(tex, out):
    images, height, width, channels = out.shape
    tall, wide = tex.shape[1] // height, tex.shape[2] // width
    scale = np.float32(1.0 / (tall * wide))
    for row in prange(images * height):
        image, i = row // height, row % height
        if tall == 2 and wide == 2:
            above, below, to = tex[image, 2 * i], tex[image, 2 * i + 1], out[image, i]
            for j in range(np.uint64(width)):
                for k in range(np.uint64(channels)):
                    first = above[2 * j, k] + above[2 * j + 1, k]
                    to[j, k] = (first + below[2 * j, k] + below[2 * j + 1, k]) * scale
            continue
        for j in range(width):
            for k in range(channels):
                total = np.float32(0)
                for di in range(tall):
                    for dj in range(wide):
                        total += tex[image, i * tall + di, j * wide + dj, k]
                out[image, i, j, k] = total * scale


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def _spread(grad_out, grad):
    images, height, width, channels = grad.shape
    tall, wide = height // grad_out.shape[1], width // grad_out.shape[2]
    scale = np.float32(1.0 / (tall * wide))
    for row in prange(images * height):
        image, i = row // height, row % height
        for j in range(width):
            for k in range(channels):
                grad[image, i, j, k] = grad_out[image, i // tall, j // wide, k] * scale


@njit(parallel=True, cache=True, fastmath=_FLAGS)
def collect_mips(flat, starts, sizes, textures, channels):
    """Gradients by the levels of ``build_mips``, one after the other in ``flat``: each level's is spread over the
    finer one and added, the coarsest first, until level 0 holds the gradient by the texture."""
    for fine in range(sizes.shape[0] - 2, -1, -1):
        height, width = sizes[fine, 0], sizes[fine, 1]
        tall, wide = height // sizes[fine + 1, 0], width // sizes[fine + 1, 1]
        scale = np.float32(1.0 / (tall * wide))
        for row in prange(textures * height):
            image, i = row // height, row % height
            to = starts[fine] + row * width * channels
            source = starts[fine + 1] + (image * (height // tall) + i // tall) * (width // wide) * channels
            for j in range(width // wide):
                for dj in range(wide):
                    for k in range(channels):
                        flat[to + (j * wide + dj) * channels + k] += flat[source + j * channels + k] * scale
