"""The choice of the backend of the raster operations."""

from __future__ import annotations

import torch

from stspbr.errors import StspbrError, why_not_importable
from stspbr.render.raster_backend import RasterBackend
from stspbr.warp_runtime import why_no_warp

RASTER_BACKENDS = ("auto", "cpu", "warp", "nvdiffrast")


def get_backend(name: str, device: torch.device) -> RasterBackend:
    """The backend ``name`` for tensors on ``device``; ``"auto"`` chooses by the device.

    Raises:
        StspbrError: an unknown name, or a backend that is not installed or does not fit the device.
    """
    if name not in RASTER_BACKENDS:
        raise StspbrError(f"--backend {name}: unknown; choose {', '.join(RASTER_BACKENDS[:-1])} or nvdiffrast")
    if name == "auto":
        name = "cpu" if device.type == "cpu" else gpu_backend(device)
    if name == "cpu":
        if device.type != "cpu":
            raise StspbrError(f"--backend cpu works on the CPU, not on {device}: use --device cpu")
        from stspbr.render.cpu.antialias import antialias
        from stspbr.render.cpu.interpolate import interpolate
        from stspbr.render.cpu.rasterize import rasterize
        from stspbr.render.cpu.texture import texture

        return RasterBackend("cpu", rasterize, interpolate, antialias, texture)
    if name == "warp":
        if (reason := why_no_warp(device)) is not None:
            raise StspbrError(f"--backend warp: {reason}")
        from stspbr.render.warp.backend import warp_backend

        return warp_backend()
    if device.type != "cuda":
        raise StspbrError(f"--backend nvdiffrast needs an NVIDIA GPU, not {device}: use --backend cpu")
    if (reason := why_no_nvdiffrast()) is not None:
        raise StspbrError(f"{reason}: see `stspbr doctor`, or use --device cpu")
    from stspbr.render.nvdiffrast import nvdiffrast_backend

    return nvdiffrast_backend(device)


def gpu_backend(device: torch.device) -> str:
    """What ``auto`` takes on ``device``, a GPU: ``warp`` if it can be used there, else ``nvdiffrast``.

    Raises:
        StspbrError: neither can.
    """
    if (reason := why_no_gpu_backend(device)) is not None:
        raise StspbrError(reason)
    return "warp" if why_no_warp(device) is None else "nvdiffrast"


def why_no_gpu_backend(device: torch.device) -> str | None:
    """Why no raster operations can run on ``device``, a GPU, in one line; None if some can."""
    if (no_warp := why_no_warp(device)) is None or why_no_nvdiffrast() is None:
        return None
    return f"no raster operations for {device}: {no_warp}"


def why_no_nvdiffrast() -> str | None:
    """Why nvdiffrast cannot be used, in one line; None if it can be imported."""
    return why_not_importable("nvdiffrast", "nvdiffrast.torch")
