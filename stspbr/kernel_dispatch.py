"""Which tensors the embedded Numba kernels take; the plain torch twins take all others, on any device."""

from __future__ import annotations

import torch

from stspbr.errors import StspbrError

BACKENDS = ("auto", "cpu", "torch")
"""``cpu``: the kernels; ``torch``: the twin; ``auto``: the kernels if they take the tensors, else the twin."""


def usable(backend: str, *tensors: torch.Tensor, what: str) -> bool:
    """Whether the kernels take these tensors (float32 on the CPU) and ``backend`` allows them.

    Raises:
        StspbrError: ``backend`` is ``cpu`` and they do not, or it is not one of ``BACKENDS``; ``what`` is named.
    """
    if backend not in BACKENDS:
        raise StspbrError(f"{what}: backend {backend!r} is not one of {', '.join(BACKENDS)}")
    odd = next((t for t in tensors if t.device.type != "cpu" or t.dtype != torch.float32), None)
    if backend == "cpu" and odd is not None:
        raise StspbrError(f"{what}: backend cpu takes float32 on the CPU, not {odd.dtype} on {odd.device}")
    return backend != "torch" and odd is None
