"""Antialias silhouettes, which makes coverage differentiable in the vertices."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.render.cpu import antialias_kernels
from stspbr.render.cpu.edge_topology import EdgeTopology, edge_topology
from stspbr.render.raster_checks import check_antialias

__all__ = ["EdgeTopology", "antialias", "edge_topology"]


def antialias(
    color: torch.Tensor,
    rast: torch.Tensor,
    clip: torch.Tensor,
    faces: torch.Tensor,
    topology: EdgeTopology | None = None,
) -> torch.Tensor:
    """Blend neighbouring pixels across silhouettes by the area that the edge leaves to each.

    Two adjacent pixels that show different triangles form a pair. If a silhouette edge of the nearer triangle passes
    between their centres at the fraction β from the first, then for β < ½ the first takes ½ − β of the second's
    colour, else the second takes β − ½ of the first's. Edges steeper than 45° (in pixels) act on horizontal pairs,
    the others on vertical ones. A silhouette edge has no face on its other side: it bounds the mesh, or all its faces
    are on one side on screen; a face seen exactly edge-on is on neither (Laine et al. 2020, "Modular Primitives for
    High-Performance Differentiable Rendering", section 3.4). Only edges of triangles that the pair shows are found:
    if faces at the outline are thinner than a pixel, much of it stays unblended and its gradient is too small; a
    higher resolution helps.

    Args:
        color: ``[B, H, W, C]`` float32 in a linear colour space.
        rast: ``[B, H, W, 4]`` float32 from ``rasterize`` with the same ``clip`` and ``faces``.
        clip: ``[B, V, 4]`` float32.
        faces: ``[F, 3]`` int32. Vertices must be shared between neighbours (no seams): a seam is a silhouette.
        topology: ``edge_topology(faces)``, to avoid its look-up by content.

    Returns:
        ``[B, H, W, C]``. Gradients reach ``color`` and x, y, w of the silhouettes' vertices in ``clip``.

    Raises:
        ValueError: a wrong shape, dtype or device, or an index out of range.
    """
    check_antialias(color, rast, clip, faces, torch.device("cpu"))
    if topology is None:
        topology = edge_topology(faces)
    elif topology.edge.shape != tuple(faces.shape):
        raise ValueError(f"topology is of {topology.edge.shape[0]} faces, but there are {faces.shape[0]}")
    return _Antialias.apply(color, clip, rast.detach(), faces, topology)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, color, clip, rast, faces, topology):
        color, clip = color.detach().contiguous(), clip.detach().contiguous()
        rast, faces = rast.contiguous(), faces.contiguous()
        batch, height, width = rast.shape[:3]
        flags = np.empty((batch, faces.shape[0]), np.uint8)
        shift = np.empty((2, batch, height, width), np.float32)
        code = np.empty((2, batch, height, width), np.uint8)
        positions, indices = clip.numpy(), faces.numpy()
        antialias_kernels.find_silhouettes(positions, indices, topology.edge, topology.start, topology.opposite, flags)
        antialias_kernels.find_crossings(rast.numpy(), positions, indices, flags, shift, code)
        out = torch.empty_like(color)
        antialias_kernels.blend(color.numpy(), shift, code, out.numpy())
        ctx.save_for_backward(color, clip, rast, faces)
        ctx.crossings = shift, code
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        color, clip, rast, faces = ctx.saved_tensors
        shift, code = ctx.crossings
        grad_out = grad_out.contiguous().numpy()
        grad_color = grad_clip = None
        if ctx.needs_input_grad[0]:
            grad_color = torch.empty_like(color)
            antialias_kernels.blend_backward(grad_out, shift, code, grad_color.numpy())
        if ctx.needs_input_grad[1]:
            grad_clip = torch.empty_like(clip)
            antialias_kernels.clip_backward(
                grad_out, color.numpy(), rast.numpy(), clip.numpy(), faces.numpy(), shift, code, grad_clip.numpy()
            )
        return grad_color, grad_clip, None, None, None
