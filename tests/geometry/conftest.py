"""What tests of implicit shapes share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.warp_runtime import why_no_warp


@pytest.fixture(params=["cpu", "warp"])
def kernels(request) -> str:
    """Our kernels on the CPU: Numba's, and Warp's on its CPU device."""
    if request.param == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(reason)
    return request.param


class Ring:
    """Evidence of a thin ring around a ball; nothing else is missed."""

    def ring(self, points: np.ndarray) -> np.ndarray:
        return np.hypot(np.hypot(points[:, 0], points[:, 2]) - 0.8, points[:, 1]) - 0.06

    def hull(self, points: np.ndarray) -> np.ndarray:
        return np.minimum(self.ring(points), np.linalg.norm(points, axis=1) - 0.5).astype(np.float32)

    def missed(self, points: np.ndarray) -> np.ndarray:
        return self.ring(points) < 0


@pytest.fixture
def gpu() -> torch.device:
    """A GPU on which Warp works."""
    if not torch.cuda.is_available():
        pytest.skip("Warp on CUDA: no GPU here")
    device = torch.device("cuda", torch.cuda.current_device())
    if (reason := why_no_warp(device)) is not None:
        pytest.skip(reason)
    return device
