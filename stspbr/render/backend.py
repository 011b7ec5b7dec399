"""The choice of who performs the raster operations."""

from __future__ import annotations

import importlib
import importlib.util

import torch

from stspbr.errors import StspbrError
from stspbr.render.raster_backend import RasterBackend


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
