"""The quadrature reference against closed forms and against a plain sum over the BRDF."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render import brdf
from stspbr.render.brdf_table import diffuse_fresnel, specular_albedo
from stspbr.render.quadrature import integrate_light, quadrature_radiance, sphere_points
from stspbr.scene.light import EnvironmentLight, latlong_to_direction


def _smooth_light(height: int = 64) -> EnvironmentLight:
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    d = latlong_to_direction(np.stack([u, v], -1))
    lamp = 6 * np.exp(12 * (d @ np.array([0.48, 0.6, 0.64]) - 1))
    radiance = np.stack([0.5 + 0.4 * d[..., 0], 0.5 + 0.4 * d[..., 1], 0.5 + lamp], -1)
    return EnvironmentLight(radiance.astype(np.float32))


def test_white_sky_gives_the_directional_albedo():
    n, v = sphere_points(6, 0.1, 0.9)
    white = EnvironmentLight(np.ones((8, 16, 3), np.float32))
    cosine = (n * v).sum(-1)
    got = integrate_light(n, v, np.array([0.4]), white, 128, 128)
    a, b = specular_albedo(np.full(6, 0.4), cosine)
    np.testing.assert_allclose(got.specular[:, 0], a, atol=2e-4)
    np.testing.assert_allclose(got.specular_grazing[:, 1], b, atol=2e-4)
    np.testing.assert_allclose(got.diffuse[:, 2], 1 - diffuse_fresnel(cosine), atol=2e-4)
    np.testing.assert_allclose(got.cosine, 1.0, atol=1e-12)


@pytest.mark.parametrize("roughness", [0.5, 0.9])
def test_against_a_sum_over_the_sphere(roughness):
    light = _smooth_light()
    n, v = sphere_points(5, 0.2, 0.95)
    albedo, metallic = np.array([[0.7, 0.3, 0.1]]), np.array([[0.4]])
    got = quadrature_radiance(n, v, albedo, np.array([roughness]), metallic, light)
    fine = 256
    row, column = np.meshgrid((np.arange(fine) + 0.5) / fine, (np.arange(2 * fine) + 0.5) / (2 * fine), indexing="ij")
    directions = latlong_to_direction(np.stack([column, row], -1)).reshape(-1, 3)
    area = np.sin(np.pi * row).ravel() * 2 * math.pi**2 / (2 * fine * fine)
    # the light bilinearly, at the sphere's own sample points
    x, y = column.ravel() * light.radiance.shape[1] - 0.5, row.ravel() * light.radiance.shape[0] - 0.5
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    height, width = light.radiance.shape[:2]
    at = lambda a, b: light.radiance[np.clip(a, 0, height - 1), b % width].astype(np.float64)  # noqa: E731
    radiance = (1 - fy) * ((1 - fx) * at(i, j) + fx * at(i, j + 1)) + fy * (
        (1 - fx) * at(i + 1, j) + fx * at(i + 1, j + 1)
    )
    tensor = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    for k in range(5):
        value = brdf.evaluate(
            tensor(n[k : k + 1]), tensor(v[k : k + 1]), tensor(directions), tensor(albedo),
            torch.full((1, 1), roughness, dtype=torch.float64), tensor(metallic),
        ).numpy()  # fmt: skip
        np.testing.assert_allclose(got[k], (value * radiance * area[:, None]).sum(0), rtol=3e-3)


def test_narrow_lobe_converges_to_the_mirrored_light():
    light = _smooth_light(256)
    n, v = sphere_points(4, 0.3, 0.9)
    coarse = integrate_light(n, v, np.array([0.05]), light, 64, 16)
    fine = integrate_light(n, v, np.array([0.05]), light, 256, 16)
    np.testing.assert_allclose(coarse.specular, fine.specular, rtol=2e-3)


def test_refuses_normals_that_face_away():
    n, v = sphere_points(3, 0.3, 0.9)
    with pytest.raises(StspbrError, match="faces away"):
        integrate_light(n, -v, np.array([0.5]), _smooth_light(), 8, 8)
