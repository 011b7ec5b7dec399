"""nvdiffrast behind the raster protocol (CUDA; installed by the user, see ``stspbr doctor``)."""

from __future__ import annotations

import torch
from torch import Tensor

from stspbr.render.backend import RasterBackend


def nvdiffrast_backend(device: torch.device) -> RasterBackend:
    """nvdiffrast's own operations with a CUDA context of their own on ``device``."""
    import nvdiffrast.torch as dr

    context = dr.RasterizeCudaContext(device=device)

    def rasterize(clip: Tensor, faces: Tensor, resolution: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return dr.rasterize(context, clip.contiguous(), faces.contiguous(), resolution)

    def interpolate(
        attributes: Tensor,
        rast: Tensor,
        faces: Tensor,
        rast_db: Tensor | None = None,
        diff_attributes: str | list[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        return dr.interpolate(attributes.contiguous(), rast, faces, rast_db=rast_db, diff_attrs=diff_attributes)

    def antialias(color: Tensor, rast: Tensor, clip: Tensor, faces: Tensor) -> Tensor:
        return dr.antialias(color.contiguous(), rast, clip.contiguous(), faces.contiguous())

    def texture(
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        mip_level_bias: Tensor | None = None,
        mip: list[Tensor] | None = None,
        filter_mode: str = "auto",
        boundary_mode: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        return dr.texture(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level)

    return RasterBackend("nvdiffrast", rasterize, interpolate, antialias, texture)
