"""A learned light's scale is found from what albedo can't imitate, highlights and rims, and albedo follows."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stspbr.optimize import light_scale
from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.flash import Flash
from stspbr.optimize.light_scale import best_log_scale, rescale_light
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.observations import Observations
from stspbr.render.backend import get_backend
from stspbr.render.cube_pyramid import texel_directions
from stspbr.render.light import EnvironmentCube
from stspbr.render.shading import shade
from stspbr.settings import LightScaleSettings

BACKEND = get_backend("cpu", torch.device("cpu"))
SIZE = 16


def unit(*shape, seed):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def true_radiance() -> torch.Tensor:
    direction = texel_directions(SIZE).float()
    lamp = ((direction * unit(3, seed=4)).sum(-1, keepdim=True) > 0.9).float()
    return 0.4 + 0.3 * direction[..., 1:2] + 8.0 * lamp.expand(-1, -1, -1, 3)


def sphere(count, roughness, metallic) -> Observations:
    """``count`` looks at a unit sphere of two colours under the true light."""
    normal, view = unit(count, 3, seed=0), unit(count, 3, seed=1)
    view = torch.where((view * normal).sum(1, True) < 0, -view, view)
    view = torch.nn.functional.normalize(view + 0.3 * normal, dim=1)
    albedo = torch.where(normal[:, :1] > 0, torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.2, 0.3]))
    light = EnvironmentCube(SIZE)
    light.set_radiance(true_radiance())
    owner, turn = torch.zeros(count, dtype=torch.int64), torch.eye(3)[None]
    flat = torch.ones(count, 1)
    radiance = shade(
        normal, view, albedo, roughness * flat, metallic * flat, light.prefilter().detach(), texture=BACKEND.texture,
        light_rotation=(turn, owner),
    )  # fmt: skip
    return Observations(0.8 * normal, normal, view, owner, turn, radiance.detach(), None)


def problem(scale) -> SimpleNamespace:
    """A bake whose light is ``scale`` times as bright as it should be, of an albedo of 0.3."""
    cube = EnvironmentCube(SIZE)
    cube.set_radiance(scale * true_radiance())
    maps = MaterialMaps(torch.full((4, 4, 3), 0.3), torch.full((4, 4, 2), 0.5), None, None)
    appearance = TextureAppearance(
        [maps], roughness_range=(0.05, 1.0), learn_normal=False, joint=False, backend=BACKEND
    )
    return SimpleNamespace(light=LearnedLight(cube, 0.0), appearance=appearance, transport=None, backend=BACKEND)


def asked(monkeypatch, seen, scale, times=1):
    """The light's mean radiance and the albedo, over those of the truth, after ``times`` answers."""
    own = problem(scale)
    monkeypatch.setattr(light_scale, "observe", lambda *_: seen)
    for _ in range(times):
        line = rescale_light(own, LightScaleSettings())
        assert line.startswith("light: ") and line.endswith("% explains the highlights best")
    albedo = own.appearance.materials[0].albedo
    return float(own.light.cube.radiance.detach().mean() / true_radiance().mean()), float(albedo.detach().mean() / 0.3)


@pytest.mark.parametrize("scale", [0.75, 1.0, 1.3])
@pytest.mark.parametrize(("roughness", "metallic"), [(0.1, 0.0), (0.4, 0.0), (0.2, 1.0)])
def test_the_scale_of_the_light_is_found(monkeypatch, roughness, metallic, scale):
    """Albedo takes the inverse: what is diffuse stays as bright as it was. Of a metal, the rim tells the scale."""
    light, albedo = asked(monkeypatch, sphere(6_000, roughness, metallic), scale)
    assert light == pytest.approx(1.0, abs=0.03)
    assert light * albedo == pytest.approx(scale, rel=1e-4)


def test_a_scale_that_is_far_off_is_found_in_several_answers(monkeypatch):
    light, albedo = asked(monkeypatch, sphere(6_000, 0.2, 0.0), 0.4, times=3)
    assert light == pytest.approx(1.0, abs=0.03)
    assert light * albedo == pytest.approx(0.4, rel=1e-4)
    own = problem(0.4)
    assert rescale_light(own, LightScaleSettings(answers=6)).startswith("light: +1")
    assert float(own.light.cube.radiance.detach().mean() / true_radiance().mean()) == pytest.approx(light, abs=0.02)


def test_normals_that_are_off_make_highlights_too_weak_but_no_worse_than_before(monkeypatch):
    seen = sphere(6_000, 0.2, 0.0)
    bent = torch.nn.functional.normalize(seen.normal + 0.05 * torch.randn(6_000, 3), dim=1)
    light, _ = asked(monkeypatch, replace(seen, normal=bent), 0.7, times=2)
    assert 0.75 < light < 1.05


def test_a_flash_is_scaled_with_the_light_that_stays(monkeypatch):
    own, flash = problem(0.8), Flash(3.0)
    own.light.flash = flash
    before = flash.intensity().detach()
    monkeypatch.setattr(light_scale, "observe", lambda *_: sphere(6_000, 0.2, 0.0))
    monkeypatch.setattr(LearnedLight, "prefiltered", lambda light: light.cube.prefilter())  # its lobes are tested apart
    rescale_light(own, LightScaleSettings())
    scale = float(own.light.cube.radiance.detach().mean() / (0.8 * true_radiance().mean()))
    assert scale > 1.1
    torch.testing.assert_close(flash.intensity().detach(), scale * before, rtol=1e-4, atol=0.0)


def test_networks_leave_their_albedo_to_the_common_scale(monkeypatch):
    own, seen = problem(0.75), sphere(6_000, 0.2, 0.0)
    own.appearance = object()  # networks, of which nothing is changed
    monkeypatch.setattr(light_scale, "observe", lambda *_: seen)
    own.light.cube.common.requires_grad_(False)
    before = own.light.cube.radiance.detach().clone()
    assert rescale_light(own, LightScaleSettings()) == "light: albedo has no common scale with it"
    assert torch.equal(own.light.cube.radiance, before)
    own.light.cube.common.requires_grad_(True)
    rescale_light(own, LightScaleSettings())
    scale = float(own.light.cube.radiance.detach().mean() / true_radiance().mean())
    assert scale == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(own.light.albedo_factor(), torch.full((3,), 0.75 / scale), rtol=1e-4, atol=0.0)


def test_nothing_seen_changes_nothing(monkeypatch):
    own, nothing = problem(0.8), sphere(10, 0.2, 0.0).at(slice(0, 0))
    before = own.light.cube.radiance.detach().clone()
    monkeypatch.setattr(light_scale, "observe", lambda *_: nothing)
    assert rescale_light(own, LightScaleSettings()) == "light: no point is seen"
    assert torch.equal(own.light.cube.radiance, before)


def parabola(grid, bottom, depth=1.0):
    return (1e-2 * (1.0 + depth * (grid - bottom).square()))[None]


def test_the_minimum_lies_between_the_scales_that_were_tried():
    grid = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)
    assert best_log_scale(grid, parabola(grid, 0.13, depth=30.0)) == pytest.approx(0.13, abs=0.01)
    assert best_log_scale(grid, parabola(grid, -3.0)) == pytest.approx(-0.4)
    assert best_log_scale(grid, parabola(grid, 3.0)) == pytest.approx(0.4)


def test_without_evidence_the_scale_stays_and_one_bad_cell_decides_nothing():
    grid = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)
    assert best_log_scale(grid, torch.full((5, 9), 0.01)) == pytest.approx(0.0, abs=1e-9)
    cells = parabola(grid, 0.1, depth=30.0).repeat(20, 1)
    cells[0] = 0.5 * (1.0 + 2.0 * (grid + 0.4))
    assert best_log_scale(grid, cells) == pytest.approx(0.1, abs=0.03)
    assert math.isfinite(best_log_scale(grid, torch.zeros(1, 9)))
