"""The glTF BRDF: its white furnace, reciprocity, and the directional-albedo integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stspbr.render import brdf
from stspbr.render.brdf_table import diffuse_fresnel, specular_albedo


def _furnace(albedo: float, roughness: float, metallic: float, n_dot_v: float, steps: int = 1200) -> float:
    """Radiance under a white sky by a plain grid over cos θ and φ."""
    u = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    cos_l, phi = u[None], 2 * math.pi * u[:, None]
    sin_l = (1 - cos_l * cos_l).sqrt()
    light = torch.stack([sin_l * phi.cos(), sin_l * phi.sin(), cos_l.expand(steps, steps)], -1).reshape(-1, 3)
    normal = torch.tensor([[0.0, 0, 1]], dtype=torch.float64)
    view = torch.tensor([[math.sqrt(1 - n_dot_v**2), 0, n_dot_v]], dtype=torch.float64)
    value = brdf.evaluate(
        normal, view, light, torch.full((1, 3), albedo, dtype=torch.float64),
        torch.full((1, 1), roughness, dtype=torch.float64), torch.full((1, 1), metallic, dtype=torch.float64),
    )  # fmt: skip
    return float(value.mean() * 2 * math.pi)


@pytest.mark.parametrize(
    ("albedo", "roughness", "metallic", "n_dot_v", "known"),
    [(0.6, 0.8, 0, 0.2, 0.616), (0.6, 0.8, 0, 1.0, 0.600), (0.03, 0.15, 0, 0.5, 0.101), (0.6, 0.8, 1, 0.2, 0.458)],
)
def test_white_furnace(albedo, roughness, metallic, n_dot_v, known):
    value = _furnace(albedo, roughness, metallic, n_dot_v)
    assert value == pytest.approx(known, rel=0.021)  # the known values are path traced
    a, b = specular_albedo(np.array(roughness), np.array(n_dot_v))
    f0 = 0.04 * (1 - metallic) + albedo * metallic
    table = f0 * a + b + albedo * (1 - metallic) * (1 - f0) * (1 - diffuse_fresnel(np.array(n_dot_v)))
    assert value == pytest.approx(float(table), rel=2e-3)


@pytest.mark.parametrize(
    ("roughness", "n_dot_v", "a", "b"),
    [(64, 64, 0.7606, 0.2005), (128, 128, 0.8343, 0.0219), (192, 64, 0.7152, 0.0275), (255, 255, 0.3093, 0.0)],
)
def test_directional_albedo_check_values(roughness, n_dot_v, a, b):
    got = specular_albedo(np.array((roughness + 0.5) / 256), np.array((n_dot_v + 0.5) / 256))
    assert got[0] == pytest.approx(a, abs=2.5e-3)
    assert got[1] == pytest.approx(b, abs=5e-4)


def test_directional_albedo_of_a_mirror_is_schlick():
    a, b = specular_albedo(np.array([0.0, 0.0]), np.array([1.0, 0.3]))
    np.testing.assert_allclose(b, [0.0, 0.7**5])
    np.testing.assert_allclose(a + b, 1.0)


def test_reciprocity_and_horizon():
    generator = torch.Generator().manual_seed(0)
    n = torch.tensor([[0.0, 0, 1]], dtype=torch.float64).expand(200, 3)
    v, light = (
        torch.nn.functional.normalize(torch.randn(200, 3, generator=generator, dtype=torch.float64), dim=-1)
        for _ in range(2)
    )
    v = v * torch.tensor([1, 1, -1.0], dtype=torch.float64).where(v[:, 2:] < 0, torch.ones(3, dtype=torch.float64))
    material = (
        torch.full((1, 3), 0.4, dtype=torch.float64),
        torch.full((1, 1), 0.3, dtype=torch.float64),
        torch.full((1, 1), 0.25, dtype=torch.float64),
    )
    value = brdf.evaluate(n, v, light, *material)
    assert (value[light[:, 2] <= 0] == 0).all()
    lit = light[:, 2] > 0
    swapped = brdf.evaluate(n, light, v, *material)
    torch.testing.assert_close((value / light[:, 2:])[lit], (swapped / v[:, 2:])[lit], rtol=1e-9, atol=1e-12)
