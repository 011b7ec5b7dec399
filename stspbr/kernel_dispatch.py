"""Which of our kernels take which tensors: Numba's on the CPU, Warp's on a GPU, plain torch everywhere."""

from __future__ import annotations

import functools
from typing import Literal, get_args

import torch

from stspbr.errors import StspbrError
from stspbr.warp_runtime import why_no_warp

Implementation = Literal["cpu", "warp", "torch"]
"""``cpu``: the embedded Numba kernels, float32 on the CPU; ``warp``: the same in NVIDIA Warp, float32 on CUDA and, to
test them, on the CPU; ``torch``: the plain twin, any device and float type."""
BACKENDS = ("auto", *get_args(Implementation))
"""``auto``: ``cpu`` for float32 on the CPU, ``warp`` for float32 on CUDA if Warp can be imported, else ``torch``."""


def choose(backend: str, *tensors: torch.Tensor, what: str) -> Implementation:
    """The implementation of ``what`` that ``backend``, one of ``BACKENDS``, is for these tensors.

    Raises:
        StspbrError: another name, or tensors that the named kernels do not take, or no Warp.
    """
    if backend not in BACKENDS:
        raise StspbrError(f"{what}: backend {backend!r} is not one of {', '.join(BACKENDS)}")
    if backend == "torch":
        return "torch"
    kinds = {tensor.device.type for tensor in tensors}
    single = all(tensor.dtype == torch.float32 for tensor in tensors)
    if backend == "auto":
        if single and kinds == {"cpu"}:
            return "cpu"
        return "warp" if single and kinds == {"cuda"} and _reason_against_warp("cuda") is None else "torch"
    allowed, where = ({"cpu"}, "the CPU") if backend == "cpu" else ({"cpu", "cuda"}, "the CPU or CUDA")
    odd = next((t for t in tensors if t.dtype != torch.float32 or t.device.type not in allowed), None)
    if odd is not None:
        raise StspbrError(f"{what}: backend {backend} takes float32 on {where}, not {odd.dtype} on {odd.device}")
    if backend == "cpu":
        return "cpu"
    if (reason := next(filter(None, map(_reason_against_warp, kinds)), None)) is not None:
        raise StspbrError(f"{what}: backend warp: {reason}")
    return "warp"


def usable(backend: str, *tensors: torch.Tensor, what: str) -> bool:
    """Whether the Numba kernels take these tensors, for what has no Warp kernels; as ``choose``."""
    return choose(backend, *tensors, what=what) == "cpu"


@functools.cache
def _reason_against_warp(kind: str) -> str | None:
    """``why_no_warp`` on a kind of device, asked once: the choice is made several times per step."""
    return why_no_warp(torch.device(kind))
