"""Look-ups in the maps of several materials: each pixel reads the map of its triangle's material."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def material_pixels(triangle: Tensor, face_material: Tensor | None, count: int) -> list[Tensor] | None:
    """The pixels, out of N, of each of ``count`` materials.

    Args:
        triangle: ``[N]`` int64; face_material: ``[F]`` int64, or None for one material.

    Returns:
        ``count`` index tensors, each ascending; None for one material, which has all pixels.
    """
    if count == 1 or face_material is None:
        return None
    owner = face_material.index_select(0, triangle)
    return [torch.nonzero(owner == material).squeeze(1) for material in range(count)]


def sample_maps(
    maps: Sequence[Tensor], pixels: list[Tensor] | None, uv: Tensor, uv_da: Tensor, texture: Callable[..., Tensor]
) -> Tensor:
    """``[N, C]``: trilinear look-ups that repeat outside the unit square; differentiable in maps and ``uv``.

    Args:
        maps: one ``[1, H, W, C]`` per material, each of its own size.
        pixels: from ``material_pixels``.
        uv: ``[N, 2]``; uv_da: ``[N, 4]`` their screen-space derivatives.
        texture: the backend's operation.
    """
    if pixels is None:
        return _lookup(maps[0], uv, uv_da, texture)
    # a map without pixels is skipped and gets no gradient
    seen = [(image, chosen) for image, chosen in zip(maps, pixels, strict=True) if len(chosen)]
    if not seen:
        return uv.new_zeros(0, maps[0].shape[-1])
    values = [_lookup(image, uv.index_select(0, k), uv_da.index_select(0, k), texture) for image, k in seen]
    return torch.cat(values).index_select(0, torch.argsort(torch.cat([chosen for _, chosen in seen])))


def _lookup(image: Tensor, uv: Tensor, uv_da: Tensor, texture: Callable[..., Tensor]) -> Tensor:
    if image.shape[1] == image.shape[2] == 1:
        return image.reshape(1, -1).expand(len(uv), -1)
    at = uv[None, None].contiguous(), uv_da[None, None].contiguous()
    return texture(image, *at, filter_mode="linear-mipmap-linear", boundary_mode="wrap")[0, 0]
