"""The level set's bending energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.geometry.dmtet import DMTet

BOX = np.full(3, -1.0), np.full(3, 1.0)


def bending(values) -> float:
    dmtet = DMTet(24, *BOX)
    dmtet.init_sdf(values(dmtet.grid))
    return float(dmtet.smoothness().detach())


def test_plane_does_not_bend():
    assert bending(lambda x: x[:, 1] + 0.3 * x[:, 0] - 0.1) < 1e-8


def test_smaller_spheres_bend_more_and_noise_most():
    large, small = (bending(lambda x, r=r: x.norm(dim=1) - r) for r in (0.8, 0.4))
    noise = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 0.05
    noisy = bending(lambda x: x.norm(dim=1) - 0.8 + noise[: len(x)])
    assert small == pytest.approx(4.0 * large, rel=0.25)  # curvature squared
    assert noisy > 3.0 * small


def test_gradient_flattens_noise():
    dmtet = DMTet(16, *BOX)
    noise = torch.randn(len(dmtet.grid), generator=torch.Generator().manual_seed(0)) * 0.05
    dmtet.init_sdf(dmtet.grid.norm(dim=1) - 0.6 + noise)
    optimizer = torch.optim.SGD([dmtet.sdf], lr=0.5)
    start = float(dmtet.smoothness().detach())
    for _ in range(50):
        optimizer.zero_grad()
        dmtet.smoothness().backward()
        optimizer.step()
    assert float(dmtet.smoothness().detach()) < 0.5 * start
