"""The four raster operations as one protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RasterBackend:
    """Four functions with nvdiffrast's meaning and conventions; raster row 0 is at clip y = −1.

    Attributes:
        name: ``"cpu"``, ``"warp"`` or ``"nvdiffrast"``.
        rasterize: ``(clip [B, V, 4], faces [F, 3] int32, (H, W), behind=None) -> (rast [B, H, W, 4], rast_db
            [B, H, W, 4])``; rast is (u, v, z/w, triangle + 1), all zero in empty pixels. ``behind`` is the rast of the
            layer in front.
        interpolate: ``(attributes [B|1, V, C], rast, faces, rast_db=None, diff_attributes=None) ->
            (values [B, H, W, C], derivatives [B, H, W, 2·D])``.
        antialias: ``(color [B, H, W, C], rast, clip, faces) -> [B, H, W, C]``.
        texture: ``(tex [B|1, H, W, C] or cube [B|1, 6, N, N, C], uv [B, h, w, 2|3], uv_da=None,
            mip_level_bias=None, mip=None, filter_mode="auto", boundary_mode="wrap", max_mip_level=None)
            -> [B, h, w, C]``.
    """

    name: str
    rasterize: Callable[..., tuple[Tensor, Tensor]]
    interpolate: Callable[..., tuple[Tensor, Tensor]]
    antialias: Callable[..., Tensor]
    texture: Callable[..., Tensor]
