"""Rasterise triangles with Warp: values, ties and gradients are those of ``stspbr.render.cpu.rasterize``."""

from __future__ import annotations

import torch

from stspbr.render.raster_checks import check_rasterize
from stspbr.render.warp import barycentric_kernels, rasterize_kernels, triangle_kernels
from stspbr.warp_runtime import launch

TILE_THREADS = 1 << 17  # threads on a GPU that share the tiles of large triangles


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, resolution: tuple[int, int], behind: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest triangle, barycentrics and their screen-space derivatives at every pixel centre.

    Arguments, results, gradients and errors are those of :func:`stspbr.render.cpu.rasterize.rasterize`, on the device
    of ``clip``. Depths that differ by less than 4·10⁻¹² of z/w are a tie. Off the CPU triangles with an index out of
    range cover nothing, as looking for them would wait for the device; nothing else waits either. Gradients are summed
    in double precision, on a GPU in any order unless :func:`stspbr.warp_runtime.set_deterministic` says otherwise.
    """
    height, width = check_rasterize(clip, faces, resolution, behind, clip.device)
    return _Rasterize.apply(clip, faces, height, width, behind)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, clip, faces, height, width, behind):
        clip, faces = clip.detach().contiguous(), faces.contiguous()
        batch, vertices, count = clip.shape[0], clip.shape[1], faces.shape[0]
        size, image = (height, width), (batch, height, width)
        screen = clip.new_empty(batch, vertices, 2, dtype=torch.int32)
        code = clip.new_empty(batch, vertices, dtype=torch.int32)
        keys = clip.new_full(image, int(triangle_kernels.EMPTY), dtype=torch.int64)
        rast, rast_db = clip.new_empty(*image, 4), clip.new_empty(*image, 4)
        launch(triangle_kernels.project, (batch, vertices), clip, *size, screen, code)
        layer: tuple[bool, torch.Tensor] = (False, keys[:0])
        if behind is not None:
            layer = (True, torch.empty_like(keys))
            launch(rasterize_kernels.front_keys, image, clip, faces, code, behind.detach().contiguous(), layer[1])
        if batch and count:
            tiles = clip.new_empty(batch, count, dtype=torch.int32)
            drawn = clip, faces, screen, code, *size
            launch(rasterize_kernels.draw_small, (batch, count), *drawn, *layer, keys, tiles)
            launch(rasterize_kernels.count_clipped, (batch, count), clip, faces, code, *size, tiles)
            ends = tiles.reshape(-1).cumsum(0, dtype=torch.int64)
            threads = 1 if clip.device.type == "cpu" else TILE_THREADS
            launch(rasterize_kernels.draw_tiles, threads, *drawn, ends, threads, *layer, keys)
        launch(barycentric_kernels.show, image, clip, faces, code, keys, rast, rast_db)
        ctx.save_for_backward(clip, faces, rast)
        ctx.set_materialize_grads(False)
        return rast, rast_db

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_rast, grad_db):
        clip, faces, rast = ctx.saved_tensors
        if not ctx.needs_input_grad[0] or (grad_rast is None and grad_db is None):
            return None, None, None, None, None
        # the kernel needs an array for either gradient; a missing one is not read
        grads = [rast if grad is None else grad.contiguous() for grad in (grad_rast, grad_db)]
        given = grad_rast is not None, grad_db is not None
        total = torch.zeros_like(clip, dtype=torch.float64)
        launch(barycentric_kernels.clip_gradient, rast.shape[:3], clip, faces, rast, *grads, *given, total)
        return total.float(), None, None, None, None
