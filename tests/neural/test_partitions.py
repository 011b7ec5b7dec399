"""Masks, swaps and gradients of the partitions, against their formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.neural.partitions import Partitions, swapped
from stspbr.settings.scene_model import RepresentationSettings


def _partitions(size=24, adaptive=True, empty=False, widths=None, **settings):
    out = Partitions(RepresentationSettings(type="Pool", representation_dim=size, **settings), adaptive, empty)
    if widths is not None:
        out.widths.data = torch.tensor(widths)
    return out


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize("step", [0, 250, 400])
def test_masks_are_the_formula(step):
    part = _partitions(widths=[0.3, -0.2, 0.5], sharpening=300, final_sharpening=200, sharpen_sigmoid=1000.0)
    s = {0: 5.0, 250: 5.0 + 95.0 * 250 / 300, 400: 100.0 + 900.0 * 0.5}[step]
    p = np.exp([0.3, -0.2, 0.5]) / np.exp([0.3, -0.2, 0.5]).sum()
    x = (np.arange(24) + 1) / 24
    for k, (a, b) in enumerate(zip([0, p[0], p[0] + p[1]], np.cumsum(p), strict=True)):
        expected = np.ones(24)
        for q in (0, -1, 1):
            with np.errstate(over="ignore"):
                expected *= 1 - _sigmoid(s * (x - a - q)) + _sigmoid(s * (x - b - q))
        np.testing.assert_allclose(part.masks(step)[k].detach().numpy(), expected, atol=1e-5)


def test_a_batch_that_varies_one_factor_keeps_only_its_channels():
    part = _partitions(adaptive=False)
    vectors = torch.rand(4, 3, 24, 1, 1)
    found = part.combined(vectors, 1, 0)
    first, end = part.ranges()[1]
    own, common = vectors.mean(dim=1), vectors.mean(dim=(0, 1))
    torch.testing.assert_close(found[:, first:end], own[:, first:end])
    torch.testing.assert_close(found[:, :first], common[None, :first].expand(4, -1, -1, -1))
    torch.testing.assert_close(part.combined(vectors, -1, 0), own)


def test_widths_get_a_gradient_through_soft_borders():
    part = _partitions(sharpening=100, final_sharpening=10)
    (part.combined(torch.rand(4, 3, 24, 1, 1), 0, 50).square().sum()).backward()
    assert part.widths.grad.abs().max() > 1e-3


def test_the_empty_interval_is_zero_and_its_share_is_not_used():
    part = _partitions(empty=True, sharpening=1, final_sharpening=1, sharpen_sigmoid=1e4)
    found = part.combined(torch.ones(2, 3, 24, 1, 1), -1, 10)
    first, end = part.ranges()[3]
    assert found[:, first : end - 1].abs().max() < 1e-3
    assert found[:, : first - 1].min() > 0.999
    assert part.used().item() == pytest.approx(0.75)


def test_gradient_regularisation_is_the_formula_and_off_by_default():
    vectors = torch.rand(4, 1, 24, 1, 1)
    weights = torch.rand(4, 24, 1, 1)

    def gradient(rho):
        part = _partitions(adaptive=False, gradient_reg=rho)
        own = vectors.clone().requires_grad_()
        (part.combined(own, 2, 0) * weights).sum().backward()
        return own.grad[:, 0], part.masks(0)[2][:, None, None]

    plain, mask = gradient(0.0)
    pulled, _ = gradient(0.25)
    own = vectors[:, 0]
    expected = 0.25 * mask * (own - own.mean(dim=0, keepdim=True)) + (1 - 0.25 * mask) * plain
    torch.testing.assert_close(pulled, expected)
    assert (pulled - plain).abs().max() > 1e-2
    torch.testing.assert_close(plain, (1 - mask) * weights + mask * weights.mean(dim=0, keepdim=True))


def test_a_swap_takes_each_partition_from_its_scene():
    a, b, c = (torch.full((1, 6, 1, 1), float(k)) for k in range(3))
    assert swapped([a, b, c], [(0, 1), (1, 4), (4, 6)]).flatten().tolist() == [0, 1, 1, 1, 2, 2]
