"""The raster backends that are there, behind one fixture: shared tests run over each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from stspbr.render.backend import get_backend, why_no_nvdiffrast
from stspbr.warp_runtime import why_no_warp


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


@pytest.fixture(params=["cpu", "warp", "warp:cuda", "nvdiffrast:cuda"])
def raster(request) -> HostRaster:
    """``cpu``, ``warp`` on its CPU device, and on CUDA ``warp`` and ``nvdiffrast``, as far as they are there."""
    name, _, on = request.param.partition(":")
    if on and not torch.cuda.is_available():
        pytest.skip(f"{name} on CUDA: no GPU here")
    device = torch.device("cuda", torch.cuda.current_device()) if on else torch.device("cpu")
    reason = why_no_nvdiffrast() if name == "nvdiffrast" else why_no_warp(device) if name == "warp" else None
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    backend = get_backend(name, device)
    operations = (backend.rasterize, backend.interpolate, backend.antialias, backend.texture)
    exact = (0.05, 20.0) if name == "nvdiffrast" else (0.003, 1.0)
    return HostRaster(name, *exact, *(on_device(operation, device) if on else operation for operation in operations))


@pytest.fixture(params=["cpu", "warp"])
def own_raster(request) -> HostRaster:
    """Our own kernels on the CPU, whose edge cases are the same."""
    if request.param == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(reason)
    backend = get_backend(request.param, torch.device("cpu"))
    operations = (backend.rasterize, backend.interpolate, backend.antialias, backend.texture)
    return HostRaster(request.param, 0.003, 1.0, *operations)


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


@pytest.fixture(params=["cpu", "warp"])
def kernels(request) -> str:
    """Our kernels that are not raster operations, on the CPU: Numba's, and Warp's on its CPU device."""
    if request.param == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(reason)
    return request.param
