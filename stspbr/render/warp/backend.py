"""Warp's kernels behind the raster protocol."""

from __future__ import annotations

from stspbr.render.raster_backend import RasterBackend
from stspbr.render.warp.antialias import Antialias
from stspbr.render.warp.interpolate import interpolate
from stspbr.render.warp.rasterize import rasterize
from stspbr.render.warp.texture import Texture


def warp_backend() -> RasterBackend:
    """The operations for tensors on any device that Warp has; they keep what they made of the tensors seen last."""
    return RasterBackend("warp", rasterize, interpolate, Antialias(), Texture())
