"""Warp's kernels behind the raster protocol."""

from __future__ import annotations

from stspbr.render.raster_backend import RasterBackend
from stspbr.render.warp.antialias import Antialias
from stspbr.render.warp.interpolate import interpolate
from stspbr.render.warp.rasterize import rasterize
from stspbr.render.warp.texture import texture


def warp_backend() -> RasterBackend:
    """The operations for tensors on any device that Warp has; each backend keeps the edges of one triangle list."""
    return RasterBackend("warp", rasterize, interpolate, Antialias(), texture)
