"""Noise: measured where it is known, deaf to slopes, and what a pixel weighs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize import noise_model
from stspbr.optimize.noise_model import NoiseModel, measure_noise


def photographs(a: float, b: float, *, texture: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Slopes of all brightnesses with noise of variance a + b·I, and texture on a half."""
    rng = np.random.default_rng(seed)
    clean = np.linspace(0.02, 0.8, 200)[None, None, :, None] * np.ones((4, 100, 1, 3))
    clean = clean + texture * rng.normal(size=clean.shape) * (np.arange(100) < 50)[None, :, None, None]
    return torch.from_numpy((clean + np.sqrt(a + b * clean.clip(0)) * rng.normal(size=clean.shape)).astype(np.float32))


@pytest.mark.parametrize(("a", "b"), [(1e-5, 2e-4), (0.0, 1e-3), (4e-5, 0.0)])
def test_it_is_what_was_put_in(a, b):
    image = photographs(a, b)
    found = measure_noise(zip(image, torch.ones_like(image[..., :1]), strict=True), 1.0)
    value = torch.tensor([0.1, 0.5])
    assert found.variance(value).tolist() == pytest.approx((a + b * value).tolist(), rel=0.15)


def test_texture_on_half_of_it_does_not_pass_for_noise():
    image = photographs(1e-5, 2e-4, texture=0.1)
    found = measure_noise(zip(image, torch.ones_like(image[..., :1]), strict=True), 1.0)
    assert float(found.variance(torch.tensor(0.4)).sqrt()) < 2.5 * (1e-5 + 8e-5) ** 0.5


def test_nothing_to_measure_is_no_noise():
    image = photographs(1e-5, 2e-4)
    assert measure_noise(zip(image, torch.zeros_like(image[..., :1]), strict=True), 1.0) == NoiseModel(0.0, 0.0)


def test_a_part_of_many_values_says_the_same(monkeypatch):
    image = photographs(1e-5, 2e-4)
    monkeypatch.setattr(noise_model, "_MOST", 3000)  # of 15 000
    found = measure_noise(zip(image, torch.ones_like(image[..., :1]), strict=True), 1.0)
    value = torch.tensor([0.1, 0.5])
    assert found.variance(value).tolist() == pytest.approx((1e-5 + 2e-4 * value).tolist(), rel=0.2)


def test_weights():
    pixels = torch.tensor([[0.01] * 3, [0.1] * 3, [0.8] * 3])
    assert torch.equal(NoiseModel(0.0, 0.0).weight(pixels), torch.ones(3, 1))
    read_noise = NoiseModel(1e-4, 0.0).weight(pixels)
    assert (read_noise.diff(dim=0) > 0).all() and read_noise.max() <= 1  # dark pixels say the least
    assert (NoiseModel(1e-4, 0.0).of_means(4).weight(pixels) > read_noise).all()
    hardly = NoiseModel(1e-12, 1e-12).weight(pixels)
    assert (hardly > 0.999).all()
