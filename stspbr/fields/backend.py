"""The choice of what evaluates encodings and networks: our kernels, plain torch, or tiny-cuda-nn."""

from __future__ import annotations

import torch

from stspbr import kernel_dispatch
from stspbr.errors import StspbrError, why_not_importable
from stspbr.warp_runtime import why_no_warp

ENCODINGS = (*kernel_dispatch.BACKENDS, "tinycudann")


def choose_encoding(name: str, device: torch.device) -> str:
    """The encoding backend ``name`` for ``device``; ``"auto"`` is the best one available.

    On the CPU that is ``cpu``. On CUDA it is ``warp`` or else ``tinycudann``, if they can be imported, else ``torch``:
    a broken installation (built for another torch or another GPU) counts as absent here; `stspbr doctor` explains it.
    All backends have the same parameters, so each reads the state of any other.

    Raises:
        StspbrError: an unknown name, or a backend that does not fit the device, is absent or is broken.
    """
    if name not in ENCODINGS:
        raise StspbrError(f"encoding backend {name!r} is not one of {', '.join(ENCODINGS)}")
    if name == "auto":
        if device.type == "cpu":
            return "cpu"
        if device.type == "cuda" and why_no_warp(device) is None:
            return "warp"
        return "tinycudann" if device.type == "cuda" and why_no_tinycudann() is None else "torch"
    if name == "cpu" and device.type != "cpu":
        raise StspbrError(f"encoding backend cpu works on the CPU, not on {device}: use warp, torch or tinycudann")
    if name == "warp" and (reason := why_no_warp(device)) is not None:
        raise StspbrError(f"encoding backend warp: {reason}")
    if name == "tinycudann":
        if device.type != "cuda":
            raise StspbrError(f"encoding backend tinycudann needs an NVIDIA GPU, not {device}: use cpu or torch")
        if (reason := why_no_tinycudann()) is not None:
            raise StspbrError(f"encoding backend tinycudann: {reason}; see `stspbr doctor`, or use torch")
    return name


def why_no_tinycudann() -> str | None:
    """Why tiny-cuda-nn cannot be used, in one line; None if it can be imported."""
    return why_not_importable("tinycudann", "tinycudann")
