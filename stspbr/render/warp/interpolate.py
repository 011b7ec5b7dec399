"""Interpolate vertex attributes at the rasterised points with Warp; the CPU's is ``stspbr.render.cpu.interpolate``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from stspbr.render.raster_checks import check_interpolate
from stspbr.render.warp import interpolate_kernels as kernels
from stspbr.warp_runtime import launch


def interpolate(
    attributes: torch.Tensor,
    rast: torch.Tensor,
    faces: torch.Tensor,
    rast_db: torch.Tensor | None = None,
    diff_attributes: str | list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attribute values at every pixel and, on request, their derivatives along the image's axes.

    Arguments, results, gradients and errors are those of :func:`stspbr.render.cpu.interpolate.interpolate`, on the
    device of ``attributes``; off the CPU pixels of triangles with an index out of range are 0. Gradients of attributes
    are summed in double precision.
    """
    device = attributes.device
    selected = check_interpolate(attributes, rast, faces, rast_db, diff_attributes, device)
    return _Interpolate.apply(attributes, rast, rast_db if selected else None, faces, _on(device, tuple(selected)))


@functools.lru_cache(maxsize=64)
def _on(device: torch.device, selected: Sequence[int]) -> torch.Tensor:
    return torch.tensor(selected, dtype=torch.int32, device=device)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, rast, rast_db, faces, selected):
        attributes, rast, faces = attributes.detach().contiguous(), rast.detach().contiguous(), faces.contiguous()
        rast_db = None if rast_db is None else rast_db.detach().contiguous()
        groups, channels, wanted = attributes.shape[0], attributes.shape[2], len(selected)
        out = rast.new_empty(*rast.shape[:3], channels)
        out_da = rast.new_empty(*rast.shape[:3], 2 * wanted)
        points = _flat(rast, groups)
        launch(kernels.values, (*points.shape[:2], channels), attributes, faces, points, _flat(out, groups))
        if wanted:
            steps, size = _flat(rast_db, groups), (*points.shape[:2], wanted)
            launch(kernels.slopes, size, attributes, faces, points, steps, selected, _flat(out_da, groups))
        ctx.save_for_backward(attributes, rast, rast_db, faces, selected)
        ctx.set_materialize_grads(False)
        return out, out_da

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_da):
        attributes, rast, rast_db, faces, selected = ctx.saved_tensors
        has_out, has_slopes = grad_out is not None, grad_da is not None and len(selected) > 0
        if not has_out and not has_slopes:
            return None, None, None, None, None
        groups = attributes.shape[0]
        points = _flat(rast, groups)
        # a missing gradient is not read, but the kernels need an array in its place
        by_values = _flat(grad_out.contiguous() if has_out else rast, groups)
        by_slopes = _flat(grad_da.contiguous() if has_slopes else rast, groups)
        grad_attributes = grad_rast = grad_db = None
        if ctx.needs_input_grad[1] or (ctx.needs_input_grad[2] and has_slopes):
            grad_rast = torch.empty_like(rast)
            grad_db = torch.empty_like(rast) if has_slopes else None
            grads = _flat(grad_rast, groups), _flat(grad_rast if grad_db is None else grad_db, groups)
            given = selected, by_values, by_slopes, has_out, has_slopes
            launch(kernels.pixel_gradients, points.shape[:2], attributes, faces, points, *given, *grads)
        if ctx.needs_input_grad[0]:
            total = torch.zeros_like(attributes, dtype=torch.float64)
            if has_out:
                launch(kernels.attribute_gradients, by_values.shape, faces, points, by_values, total)
            if has_slopes:
                steps, size = _flat(rast_db, groups), (*points.shape[:2], len(selected))
                launch(kernels.attribute_gradients_of_slopes, size, faces, points, steps, selected, by_slopes, total)
            grad_attributes = total.float()
        return grad_attributes, grad_rast, grad_db, None, None


def _flat(image: torch.Tensor, groups: int) -> torch.Tensor:
    """``[B,H,W,K]`` as ``[groups, pixels, K]``: images with common attributes become one list."""
    pixels = image.shape[0] * image.shape[1] * image.shape[2]
    return image.reshape(groups, pixels // max(groups, 1), image.shape[3])
