"""The raster backends that are there, behind one fixture: shared tests run over each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from stspbr.render.backend import get_backend, why_no_nvdiffrast


@dataclass(frozen=True)
class HostRaster:
    """A raster backend that takes and gives tensors on the CPU, wherever it works; gradients pass through.

    Attributes:
        name: of the backend.
        misplaced: share of pixels at edges that may go to a neighbour, by the snapping of vertices to a subpixel grid.
        tolerance: by which a test's own tolerances are multiplied: single precision in another order.
    """

    name: str
    misplaced: float
    tolerance: float
    rasterize: Callable[..., Any]
    interpolate: Callable[..., Any]
    antialias: Callable[..., Any]
    texture: Callable[..., Any]


@pytest.fixture(params=["cpu", "nvdiffrast"])
def raster(request) -> HostRaster:
    """``cpu``, and ``nvdiffrast`` on CUDA where both are there."""
    if request.param == "cpu":
        backend, device = get_backend("cpu", torch.device("cpu")), torch.device("cpu")
        return HostRaster("cpu", 0.003, 1.0, backend.rasterize, backend.interpolate, backend.antialias, backend.texture)
    if not torch.cuda.is_available():
        pytest.skip("nvdiffrast on CUDA: no GPU here")
    if (reason := why_no_nvdiffrast()) is not None:
        pytest.skip(f"nvdiffrast on CUDA: {reason}")
    device = torch.device("cuda", torch.cuda.current_device())
    backend = get_backend("nvdiffrast", device)
    operations = (backend.rasterize, backend.interpolate, backend.antialias, backend.texture)
    return HostRaster("nvdiffrast", 0.05, 20.0, *(on_device(operation, device) for operation in operations))


def on_device(operation: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """``operation`` with its tensors moved to ``device`` and its results moved back."""

    def move(value: Any, where: torch.device) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(where)
        if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor) for part in value):
            return [move(part, where) for part in value]
        return value

    def call(*args: Any, **kwargs: Any) -> Any:
        moved = [move(value, device) for value in args]
        out = operation(*moved, **{name: move(value, device) for name, value in kwargs.items()})
        return move(out, torch.device("cpu"))

    return call


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> torch.device:
    """Where torch twins are compared with the kernels."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("the torch twins on CUDA: no GPU here")
    return torch.device(request.param)
