"""Interpolate vertex attributes at the rasterised points."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.render.cpu import interpolate_kernels
from stspbr.render.cpu.triangle_pixels import group_pixels
from stspbr.render.raster_checks import check_interpolate


def interpolate(
    attributes: torch.Tensor,
    rast: torch.Tensor,
    faces: torch.Tensor,
    rast_db: torch.Tensor | None = None,
    diff_attributes: str | list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attribute values at every pixel and, on request, their derivatives along the image's axes.

    Args:
        attributes: ``[B, V, C]`` float32, or ``[1, V, C]`` shared by all images.
        rast: ``[B, H, W, 4]`` float32 from ``rasterize``, or a list of its pixels, e.g. ``[1, 1, N, 4]``.
        faces: ``[F, 3]`` int32 into V: the rasterised triangles in the same order; their indices may differ.
        rast_db: ``[B, H, W, 4]`` float32 from ``rasterize``; needed for derivatives only.
        diff_attributes: channels to differentiate: indices, ``"all"`` or None.

    Returns:
        Values ``[B, H, W, C]`` and derivatives ``[B, H, W, 2·D]``: dA0/dX, dA0/dY, dA1/dX, … per pixel step of
        the D chosen channels in the given order. Both are 0 in empty pixels of ``rast``. Gradients reach
        ``attributes``, u and v of ``rast``, and ``rast_db``.

    Raises:
        ValueError: a wrong shape, dtype or device, an index out of range, or derivatives without ``rast_db``.
    """
    selected = check_interpolate(attributes, rast, faces, rast_db, diff_attributes, torch.device("cpu"))
    channels = np.array(selected, dtype=np.int32)
    return _Interpolate.apply(attributes, rast, rast_db if selected else None, faces, channels)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, rast, rast_db, faces, selected):
        attributes, rast, faces = attributes.detach().contiguous(), rast.detach().contiguous(), faces.contiguous()
        rast_db = None if rast_db is None else rast_db.detach().contiguous()
        groups, channels = attributes.shape[0], attributes.shape[2]
        out = torch.empty(*rast.shape[:3], channels)
        out_da = torch.empty(*rast.shape[:3], 2 * len(selected))
        points, slopes, *outputs = (_flat(image, groups) for image in (rast, _or(rast_db, rast), out, out_da))
        interpolate_kernels.forward(attributes.numpy(), faces.numpy(), points, slopes, selected, *outputs)
        ctx.save_for_backward(attributes, rast, rast_db, faces)
        ctx.selected = selected
        ctx.set_materialize_grads(False)
        return out, out_da

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_da):
        attributes, rast, rast_db, faces = ctx.saved_tensors
        has_out = grad_out is not None
        selected = ctx.selected if grad_da is not None else ctx.selected[:0]
        if not has_out and not len(selected):
            return None, None, None, None, None
        groups, channels = attributes.shape[0], attributes.shape[2]
        flat_rast, flat_db = _flat(rast, groups), _flat(_or(rast_db, rast), groups)
        # a missing gradient is not read, but the kernels need an array in its place
        flat_out = _flat(grad_out.contiguous() if has_out else rast, groups)
        flat_da = _flat(grad_da.contiguous() if len(selected) else rast, groups)
        given = selected, flat_out, flat_da, has_out
        grad_attributes = grad_rast = grad_db = None
        if ctx.needs_input_grad[1] or (ctx.needs_input_grad[2] and len(selected)):
            grad_rast = torch.empty_like(rast)
            grad_db = torch.empty_like(rast) if len(selected) else None
            grads = _flat(grad_rast, groups), _flat(_or(grad_db, grad_rast), groups)
            interpolate_kernels.backward_pixels(attributes.numpy(), faces.numpy(), flat_rast, *given, *grads)
        if ctx.needs_input_grad[0]:
            ids = np.ascontiguousarray(flat_rast[..., 3])
            group_starts, triangles, starts, pixels = group_pixels(ids, faces.shape[0])
            corner_grad = interpolate_kernels.reduce_triangles(
                flat_rast, flat_db, *given, channels, group_starts, starts, pixels
            )
            grad_attributes = torch.empty_like(attributes)
            place = faces.numpy(), group_starts, triangles
            interpolate_kernels.scatter_corners(corner_grad, *place, grad_attributes.numpy())
        return grad_attributes, grad_rast, grad_db, None, None


def _or(tensor, substitute):
    return substitute if tensor is None else tensor


def _flat(image, groups):
    """``[B,H,W,K]`` as ``[groups, pixels, K]``: images with common attributes become one list."""
    return image.numpy().reshape(groups, int(np.prod(image.shape[:3])) // max(groups, 1), image.shape[3])
