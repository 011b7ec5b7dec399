"""Who evaluates encodings and networks: the Numba kernels, plain torch, or tiny-cuda-nn."""

from __future__ import annotations

import importlib
import importlib.util

import torch

from stspbr.errors import StspbrError

ENCODINGS = ("auto", "cpu", "torch", "tinycudann")


def choose_encoding(name: str, device: torch.device) -> str:
    """The encoding backend ``name`` for ``device``; ``"auto"`` is the best that is there.

    On the CPU that is ``cpu``. On CUDA it is ``tinycudann`` where it can be imported, else ``torch``: an installation
    that is broken (built for another torch or another GPU) counts as absent here, and `stspbr doctor` explains it.
    Parameters are the same under every backend, so a state that one has made is read by all.

    Raises:
        StspbrError: an unknown name, or a backend that does not fit the device, is absent or is broken.
    """
    if name not in ENCODINGS:
        raise StspbrError(f"encoding backend {name!r} is none of {', '.join(ENCODINGS)}")
    if name == "auto":
        if device.type == "cpu":
            return "cpu"
        return "tinycudann" if device.type == "cuda" and why_no_tinycudann() is None else "torch"
    if name == "cpu" and device.type != "cpu":
        raise StspbrError(f"encoding backend cpu works on the CPU, not on {device}: use torch or tinycudann")
    if name == "tinycudann":
        if device.type != "cuda":
            raise StspbrError(f"encoding backend tinycudann needs an NVIDIA GPU, not {device}: use cpu or torch")
        if (reason := why_no_tinycudann()) is not None:
            raise StspbrError(f"encoding backend tinycudann: {reason}; see `stspbr doctor`, or use torch")
    return name


def why_no_tinycudann() -> str | None:
    """Why tiny-cuda-nn cannot be used, in one line; None where it can be imported."""
    if importlib.util.find_spec("tinycudann") is None:
        return "tinycudann is not installed"
    try:
        importlib.import_module("tinycudann")
    except Exception as error:  # its bindings raise whatever the loader does
        lines = str(error).strip().splitlines()
        return f"tinycudann cannot be imported: {lines[0] if lines else type(error).__name__}"
    return None
