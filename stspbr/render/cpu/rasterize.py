"""Rasterise triangles: the one in each pixel, the point on it, and its derivatives by the vertices."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.render.cpu import barycentric_kernels, rasterize_kernels
from stspbr.render.cpu.triangle_pixels import group_pixels
from stspbr.render.raster_checks import check_rasterize


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, resolution: tuple[int, int], behind: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest triangle, barycentrics and their screen-space derivatives at every pixel centre.

    Pixel ``(row, column)`` has its centre at clip ``((2·column+1)/W − 1, (2·row+1)/H − 1)``. Triangles are
    clipped to −w ≤ z ≤ w and drawn from both sides; those of zero area cover nothing. A pixel on an edge of two
    triangles belongs to exactly one of them. Vertices are snapped to 1/256 pixel for coverage only. The nearest z/w
    wins, in a tie the lower triangle. Barycentrics are perspective-correct, refer to the unclipped triangle and are
    clamped to it; gradients ignore the clamp, which is below 1/256 pixel.

    Args:
        clip: ``[B, V, 4]`` float32 homogeneous clip-space positions (x, y, z, w).
        faces: ``[F, 3]`` int32 into V.
        resolution: ``(H, W)`` in pixels.
        behind: ``rast`` of the layer in front, from the same ``clip`` and ``faces``; each pixel then shows the next
            triangle in the order of z/w and, where that is equal, of ids. Pixels in which it is empty stay empty. None:
            the foremost layer.

    Returns:
        ``rast`` ``[B, H, W, 4]`` float32: (u, v, z/w, triangle_id + 1), where u weighs vertex 0, v vertex 1 and
        1−u−v vertex 2; all 0 in empty pixels. ``rast_db`` ``[B, H, W, 4]`` float32:
        (du/dX, du/dY, dv/dX, dv/dY) per pixel step along columns X and rows Y.
        Gradients reach x, y and w of ``clip`` through u, v and ``rast_db``; z/w and the id pass none.

    Raises:
        ValueError: a wrong shape, dtype or device, an index out of range, or an impossible resolution.
    """
    height, width = check_rasterize(clip, faces, resolution, behind, torch.device("cpu"))
    return _Rasterize.apply(clip, faces, height, width, behind)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, clip, faces, height, width, behind):
        clip, faces = clip.detach().contiguous(), faces.contiguous()
        rast = torch.empty(clip.shape[0], height, width, 4)
        rast_db = torch.empty_like(rast)
        positions, indices = clip.numpy(), faces.numpy()
        batch, count = clip.shape[0], faces.shape[0]
        screen = np.empty((batch, clip.shape[1], 2), np.int32)
        code = np.empty((batch, clip.shape[1]), np.uint8)
        rows = np.empty((batch, count, 2), np.int32)
        clipped = np.empty((batch, count), np.uint8)
        depth = np.empty((batch, count, 5), np.float64)
        rasterize_kernels.project(positions, height, width, screen, code)
        rasterize_kernels.set_up(positions, indices, height, width, screen, code, rows, clipped, depth)
        bands = (height + rasterize_kernels.BAND - 1) // rasterize_kernels.BAND
        starts, members = rasterize_kernels.bin_faces(rows, bands)
        front = rast[:0] if behind is None else behind.detach().contiguous()
        rasterize_kernels.draw_bands(
            positions, indices, screen, clipped, depth, starts, members, front.numpy(), rast.numpy()
        )
        barycentric_kernels.barycentrics(positions, indices, rast.numpy(), rast_db.numpy())
        ctx.save_for_backward(clip, faces, rast)
        ctx.set_materialize_grads(False)
        return rast, rast_db

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_rast, grad_db):
        clip, faces, rast = (tensor.detach() for tensor in ctx.saved_tensors)
        if not ctx.needs_input_grad[0] or (grad_rast is None and grad_db is None):
            return None, None, None, None, None
        ids = rast[..., 3].flatten(1)
        group_starts, triangles, starts, pixels = group_pixels(ids.numpy(), faces.shape[0])
        # the kernel needs an array for either gradient; a missing one is not read
        grads = [(rast if grad is None else grad.contiguous()).numpy() for grad in (grad_rast, grad_db)]
        given = grad_rast is not None, grad_db is not None
        corner_grad = barycentric_kernels.reduce_triangles(
            clip.numpy(), faces.numpy(), *grads, *given, group_starts, triangles, starts, pixels
        )
        grad_clip = torch.empty_like(clip)
        barycentric_kernels.scatter_corners(corner_grad, faces.numpy(), group_starts, triangles, grad_clip.numpy())
        return grad_clip, None, None, None, None
