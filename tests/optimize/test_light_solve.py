"""A light is found again from images of spheres, with its scale; what is unseen is filled; the transpose is one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stspbr.optimize.light_image import LightImage
from stspbr.optimize.light_solve import LightSolver
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.observations import Cells, Observations
from stspbr.render.backend import get_backend
from stspbr.render.cube_pyramid import solid_angles, texel_directions
from stspbr.render.light import EnvironmentCube
from stspbr.render.light_filter import light_filter
from stspbr.render.reference.texture import texture as reference_texture
from stspbr.render.shading import shade
from stspbr.settings import LightSolveSettings
from stspbr.threads import set_threads
from stspbr.transport.ground import FloorLight

TEXTURE = get_backend("cpu", torch.device("cpu")).texture
SIZE = 16


def unit(*shape, seed):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def true_radiance() -> torch.Tensor:
    """A coloured sky, darker below, with a lamp forty times as bright."""
    direction = texel_directions(SIZE).float()
    sky = 0.4 + 0.3 * direction[..., 1:2] + torch.tensor([0.2, 0.0, -0.1]) * direction[..., :1]
    lamp = ((direction * unit(3, seed=4)).sum(-1, keepdim=True) > 0.97).float()
    return sky + 16.0 * lamp


def sphere(count, material, dtype=torch.float32, half=False) -> Observations:
    """``count`` looks at the unit sphere under the true light in two poses; ``half``: at none that mirrors below."""
    normal, view = unit(count, 3, seed=0), unit(count, 3, seed=1)
    view = torch.where((view * normal).sum(1, True) < 0, -view, view)
    view = torch.nn.functional.normalize(view + 0.3 * normal, dim=1)
    turns = torch.linalg.qr(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2)))[0]
    owner = torch.arange(count) % 2
    if half:
        mirrored = 2 * (normal * view).sum(1, True) * normal - view
        up = (turns[owner] @ mirrored[..., None])[:, 1, 0] > 0.2
        normal, view, owner = normal[up], view[up], owner[up]
        material = material[up]
    light = EnvironmentCube(SIZE)
    light.set_radiance(true_radiance())
    radiance = shade(
        normal, view, material[:, :3], material[:, 3:4], material[:, 4:], light.prefilter().detach(), texture=TEXTURE,
        light_rotation=(turns, owner),
    )  # fmt: skip
    tensors = (value.to(dtype) for value in (0.8 * normal, normal, view))
    return Observations(*tensors, owner, turns.to(dtype), radiance.to(dtype), None)


def even(count, albedo, roughness, metallic):
    return torch.tensor([*albedo, roughness, metallic]).repeat(count, 1)


def solver_of(seen, start=None, **settings) -> LightSolver:
    light = LearnedLight(EnvironmentCube(SIZE, 0.5), 0.0)
    if start is not None:
        light.cube.set_radiance(start)
    problem = SimpleNamespace(backend=SimpleNamespace(texture=TEXTURE), transport=None)
    return LightSolver(problem, light, seen, LightSolveSettings(**{"smoothness": 1e-3, "steps": 60} | settings))


def relative_error(found, truth=None):
    truth = true_radiance() if truth is None else truth
    area = solid_angles(SIZE).float()[None, :, :, None]
    return float(((area * (found - truth).square()).sum() / (area * truth.square()).sum()).sqrt())


@pytest.mark.parametrize(
    ("metallic", "roughness", "limit", "irradiance"),
    [(1.0, 0.05, 0.02, 0.01), (0.0, 0.05, 0.35, 0.03), (1.0, 0.4, 0.7, 0.08)],
)
def test_a_light_is_found_again(metallic, roughness, limit, irradiance):
    """A mirror shows it exactly; of a rough metal it is a deconvolution, which leaves the lamp wider than it is."""
    material = even(4_000, (0.6, 0.5, 0.4), roughness, metallic)
    solver = solver_of(sphere(4_000, material))
    start = torch.full((6, SIZE, SIZE, 3), 0.5)
    found = solver.solve(material, None)
    assert relative_error(start) > 0.8
    assert relative_error(found) < limit
    diffuse = [light_filter(SIZE)(light).diffuse for light in (found, true_radiance())]
    assert float((diffuse[0] - diffuse[1]).norm() / diffuse[1].norm()) < irradiance
    assert solver.error(found, material) < 0.1 * solver.error(start, material)


def test_highlights_tell_the_scale_that_albedo_hides():
    """Albedo is taken as half of what it is: a fit of the light alone doubles it, one with albedo's factor does not."""
    material = even(4_000, (0.6, 0.5, 0.4), 0.2, 0.0)
    seen = sphere(4_000, material)
    wrong = material * torch.tensor([0.5, 0.5, 0.5, 1.0, 1.0])
    alone = solver_of(seen).solve(wrong, None)
    found = solver_of(seen, sweeps=8).solve(wrong, torch.zeros(4_000, dtype=torch.int64))
    mean = [float(light.mean() / true_radiance().mean()) for light in (alone, found)]
    assert mean[0] > 1.6
    assert abs(mean[1] - 1.0) < 0.1
    assert relative_error(found) < 0.45 < relative_error(alone)


def test_colours_keep_their_albedo_whichever_way_they_face():
    """An albedo that is brighter on one side makes a fit of the light alone darker there; one colour does not."""
    material = even(4_000, (0.6, 0.5, 0.4), 0.3, 0.0)
    seen = sphere(4_000, material)
    turned = (seen.rotations[seen.view] @ seen.normal[..., None])[..., 0]
    stained = material.clone()
    stained[:, :3] *= 1.0 + 0.3 * turned[:, :1]
    alone = solver_of(seen).solve(stained, None)
    found = solver_of(seen, sweeps=6).solve(material, torch.zeros(4_000, dtype=torch.int64))

    def slope(light):
        return float((light * texel_directions(SIZE).float()[..., :1]).mean())

    true = slope(true_radiance())
    assert abs(slope(found) - true) < 0.3 * abs(slope(alone) - true)


def test_what_is_left_is_fitted_by_the_albedo_of_cells():
    material = even(4_000, (0.6, 0.5, 0.4), 0.3, 0.0)
    seen = sphere(4_000, material)
    solver = solver_of(seen)
    wrong = material.clone()
    brighter = seen.position[:, 0] > 0
    wrong[brighter, :3] *= 1.25
    factor = solver.albedo_factor(true_radiance(), wrong, Cells(seen.position))
    inside = seen.position[:, 0].abs() > 0.2
    assert (factor[brighter & inside] - 0.8).abs().max() < 0.04
    assert (factor[~brighter & inside] - 1.0).abs().max() < 0.03


def test_what_no_look_up_saw_is_filled_from_its_neighbours():
    """Below the horizon nothing is mirrored: it must not stay at the grey of the start."""
    material = even(4_000, (0.6, 0.5, 0.4), 0.05, 1.0)
    seen = sphere(4_000, material, half=True)
    own = material[: len(seen)]
    found = solver_of(seen, start=torch.full((6, SIZE, SIZE, 3), 9.0)).solve(own, None)
    below = texel_directions(SIZE)[..., 1] < -0.3
    nearby = true_radiance()[(texel_directions(SIZE)[..., 1] - 0.2).abs() < 0.15]
    assert float((found[below] < 2.0).float().mean()) > 0.9  # but for the filled surroundings of the lamp
    assert 0.5 * float(nearby.median()) < float(found[below].median()) < float(nearby.mean())  # with the lamp


def test_the_result_is_the_same_with_any_number_of_threads_and_nowhere_dark():
    material = even(4_000, (0.6, 0.5, 0.4), 0.2, 0.0)
    seen, group = sphere(4_000, material), torch.arange(4_000) % 7
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            set_threads(threads)
            found.append(solver_of(seen, steps=10).solve(material, group))
            found.append(solver_of(seen).albedo_factor(found[0], material, Cells(seen.position, group)))
    finally:
        set_threads(before)
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])
    assert float(found[0].min()) > 0


@pytest.mark.parametrize("floor", [False, True])
def test_the_transpose_is_the_transpose(floor):
    material = even(60, (0.6, 0.5, 0.4), 0.3, 0.4)
    seen = sphere(60, material, torch.float64)
    light = LearnedLight(EnvironmentCube(SIZE), 0.0)
    if floor:
        below = EnvironmentCube(SIZE).prefilter().detach()
        light.floor = FloorLight(below, [0.3, 0.3, 0.3])
    light = light.double()
    image = LightImage(light, seen, material.double(), light.cube.radiance.detach(), texture=reference_texture)
    generator = torch.Generator().manual_seed(7)
    one = torch.rand(6, SIZE, SIZE, 3, generator=generator, dtype=torch.float64)
    other = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    for sharp in (False, True):
        with torch.no_grad():
            forward = image.linear(one, sharp)
        torch.testing.assert_close((forward * other).sum(), (one * image.adjoint(other, sharp)).sum())
    assert all(parameter.grad is None for parameter in light.parameters())
