"""Antialias silhouettes with Warp; the CPU's is ``stspbr.render.cpu.antialias``."""

from __future__ import annotations

from typing import NamedTuple

import torch

from stspbr.render.last_tensors import OfLastTensors
from stspbr.render.raster_checks import check_antialias
from stspbr.render.warp import antialias_kernels as kernels
from stspbr.warp_runtime import launch


class HalfEdges(NamedTuple):
    """The edges of a triangle list as sorted half-edges; number 3·f + c is the edge opposite to corner c of face f.

    Attributes:
        keys: ``[3F]`` int64, ascending; equal for the half-edges of one edge.
        order: ``[3F]`` int64, the half-edge at each place of ``keys``.
        place: ``[3F]`` int32, the place of each half-edge.
    """

    keys: torch.Tensor
    order: torch.Tensor
    place: torch.Tensor


def half_edges(faces: torch.Tensor, vertices: int) -> HalfEdges:
    """The half-edges of ``faces [F, 3]`` int32 into ``vertices`` vertices, on their device; nothing waits for it."""
    keys = faces.new_empty(3 * len(faces), dtype=torch.int64)
    launch(kernels.half_edges, tuple(faces.shape), faces, vertices, keys)
    keys, order = torch.sort(keys)
    place = torch.empty_like(keys, dtype=torch.int32)
    launch(kernels.places, len(keys), order, place)
    return HalfEdges(keys, order, place)


class Antialias:
    """``antialias`` of the protocol; the half-edges of the triangle list that it saw last are kept.

    Arguments, results, gradients and errors are those of :func:`stspbr.render.cpu.antialias.antialias` without
    ``topology``, on the device of ``color``. Gradients of vertices are summed in double precision.
    """

    def __init__(self) -> None:
        self._half_edges = OfLastTensors(half_edges)

    def __call__(
        self, color: torch.Tensor, rast: torch.Tensor, clip: torch.Tensor, faces: torch.Tensor
    ) -> torch.Tensor:
        check_antialias(color, rast, clip, faces, color.device)
        topology = self._half_edges(faces, clip.shape[1])
        return _Antialias.apply(color, clip, rast.detach(), faces.contiguous(), topology)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, color, clip, rast, faces, topology):
        color, clip, rast = color.detach().contiguous(), clip.detach().contiguous(), rast.contiguous()
        batch, height, width = rast.shape[:3]
        flags = faces.new_empty(batch, len(faces), dtype=torch.uint8)
        shift = color.new_empty(2, batch, height, width)
        code = torch.empty_like(shift, dtype=torch.uint8)
        launch(kernels.find_silhouettes, flags.shape, clip, faces, *topology, flags)
        launch(kernels.find_crossings, shift.shape, rast, clip, faces, flags, shift, code)
        out = torch.empty_like(color)
        launch(kernels.blend, color.shape, color, shift, code, out)
        ctx.save_for_backward(color, clip, rast, faces, shift, code)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        color, clip, rast, faces, shift, code = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad_color = grad_clip = None
        if ctx.needs_input_grad[0]:
            grad_color = torch.empty_like(color)
            launch(kernels.blend_gradient, color.shape, grad_out, shift, code, grad_color)
        if ctx.needs_input_grad[1]:
            total = torch.zeros_like(clip, dtype=torch.float64)
            launch(kernels.clip_gradient, shift.shape, grad_out, color, rast, clip, faces, shift, code, total)
            grad_clip = total.float()
        return grad_color, grad_clip, None, None, None
