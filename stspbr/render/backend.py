"""The four raster operations as one protocol, and the choice of who performs them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.errors import StspbrError


@dataclass(frozen=True)
class RasterBackend:
    """Four functions with nvdiffrast's meaning and conventions; raster row 0 is at clip y = −1.

    Attributes:
        name: ``"cpu"`` or ``"nvdiffrast"``.
        rasterize: ``(clip [B, V, 4], faces [F, 3] int32, (H, W)) -> (rast [B, H, W, 4], rast_db [B, H, W, 4])``;
            rast is (u, v, z/w, triangle + 1), all zero where nothing is seen.
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


def get_backend(name: str, device: torch.device) -> RasterBackend:
    """The backend ``name`` for tensors on ``device``; ``"auto"`` takes the best that is there.

    Raises:
        StspbrError: an unknown name, or a backend that is not installed or does not fit the device.
    """
    if name == "auto":
        name = "nvdiffrast" if device.type == "cuda" else "cpu"
    if name == "cpu":
        if device.type != "cpu":
            raise StspbrError(f"--backend cpu works on the CPU, not on {device}: use --device cpu")
        return _cpu_backend()
    if name == "nvdiffrast":
        if device.type != "cuda":
            raise StspbrError(f"--backend nvdiffrast needs an NVIDIA GPU, not {device}: use --backend cpu")
        if (reason := why_no_nvdiffrast()) is not None:
            raise StspbrError(f"{reason}: see `stspbr doctor`, or use --device cpu")
        from stspbr.render.nvdiffrast import nvdiffrast_backend

        return nvdiffrast_backend(device)
    raise StspbrError(f"--backend {name}: unknown; choose auto, cpu or nvdiffrast")


def why_no_nvdiffrast() -> str | None:
    """Why nvdiffrast cannot be used, in one line; None where it can be imported."""
    if importlib.util.find_spec("nvdiffrast") is None:
        return "nvdiffrast is not installed"
    try:
        importlib.import_module("nvdiffrast.torch")
    except Exception as error:  # built for another torch: the loader raises OSError, ImportError or worse
        lines = str(error).strip().splitlines()
        return f"nvdiffrast cannot be imported: {lines[0] if lines else type(error).__name__}"
    return None


def _cpu_backend() -> RasterBackend:
    from stspbr.render.cpu.antialias import antialias
    from stspbr.render.cpu.interpolate import interpolate
    from stspbr.render.cpu.rasterize import rasterize
    from stspbr.render.cpu.texture import texture

    return RasterBackend("cpu", rasterize, interpolate, antialias, texture)
