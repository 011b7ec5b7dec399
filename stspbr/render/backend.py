"""The choice of the backend of the raster operations."""

from __future__ import annotations

import torch

from stspbr.errors import StspbrError, why_not_importable
from stspbr.render.raster_backend import RasterBackend


def get_backend(name: str, device: torch.device) -> RasterBackend:
    """The backend ``name`` for tensors on ``device``; ``"auto"`` chooses by the device.

    Raises:
        StspbrError: an unknown name, or a backend that is not installed or does not fit the device.
    """
    if name == "auto":
        name = "nvdiffrast" if device.type == "cuda" else "cpu"
    if name == "cpu":
        if device.type != "cpu":
            raise StspbrError(f"--backend cpu works on the CPU, not on {device}: use --device cpu")
        from stspbr.render.cpu.antialias import antialias
        from stspbr.render.cpu.interpolate import interpolate
        from stspbr.render.cpu.rasterize import rasterize
        from stspbr.render.cpu.texture import texture

        return RasterBackend("cpu", rasterize, interpolate, antialias, texture)
    if name == "nvdiffrast":
        if device.type != "cuda":
            raise StspbrError(f"--backend nvdiffrast needs an NVIDIA GPU, not {device}: use --backend cpu")
        if (reason := why_no_nvdiffrast()) is not None:
            raise StspbrError(f"{reason}: see `stspbr doctor`, or use --device cpu")
        from stspbr.render.nvdiffrast import nvdiffrast_backend

        return nvdiffrast_backend(device)
    raise StspbrError(f"--backend {name}: unknown; choose auto, cpu or nvdiffrast")


def why_no_nvdiffrast() -> str | None:
    """Why nvdiffrast cannot be used, in one line; None if it can be imported."""
    return why_not_importable("nvdiffrast", "nvdiffrast.torch")
