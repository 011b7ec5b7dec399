"""Which implementation takes which tensors."""

from __future__ import annotations

import pytest
import torch

from stspbr import kernel_dispatch
from stspbr.errors import StspbrError
from stspbr.kernel_dispatch import choose, usable


class There:
    """As much of a tensor as the choice reads."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype


CPU, CUDA, META = There("cpu"), There("cuda"), There("meta")
DOUBLE = There("cpu", torch.float64)


def reason(monkeypatch, text):
    monkeypatch.setattr(kernel_dispatch, "_reason_against_warp", lambda kind: text)


@pytest.mark.parametrize("absent", [None, "warp-lang is not installed"])
def test_auto_takes_kernels_for_single_precision_where_they_work(monkeypatch, absent):
    reason(monkeypatch, absent)
    on_cuda = "warp" if absent is None else "torch"
    for tensors, wanted in (
        ((CPU,), "cpu"),
        ((CUDA, CUDA), on_cuda),
        ((DOUBLE,), "torch"),
        ((CPU, DOUBLE), "torch"),
        ((There("cuda", torch.float64),), "torch"),
        ((CPU, CUDA), "torch"),
        ((META,), "torch"),
    ):
        assert choose("auto", *tensors, what="shading") == wanted
        assert usable("auto", *tensors, what="shading") == (wanted == "cpu")


def test_names_are_followed_or_refused_in_one_line(monkeypatch):
    reason(monkeypatch, None)
    assert choose("warp", CPU, what="shading") == choose("warp", CUDA, what="shading") == "warp"
    assert choose("torch", DOUBLE, what="shading") == "torch" and choose("cpu", CPU, what="shading") == "cpu"
    for backend, tensors, message in (
        ("cpu", (CUDA,), "shading: backend cpu takes float32 on the CPU, not torch.float32 on cuda"),
        ("warp", (CPU, DOUBLE), "backend warp takes float32 on the CPU or CUDA, not torch.float64 on cpu"),
        ("warp", (META,), "not torch.float32 on meta"),
        ("metal", (CPU,), "backend 'metal' is not one of auto, cpu, warp, torch"),
    ):
        with pytest.raises(StspbrError, match=message):
            choose(backend, *tensors, what="shading")
    reason(monkeypatch, "warp-lang is not installed")
    with pytest.raises(StspbrError, match="^shading: backend warp: warp-lang is not installed$"):
        choose("warp", CPU, what="shading")
