"""The learned light: a common scale that albedo and light share, and smoothness over the cube's edges."""

import pytest
import torch

from stspbr.optimize.lights import KnownLight, LearnedLight, in_units_of
from stspbr.render.cube_pyramid import texel_directions
from stspbr.render.light import EnvironmentCube, pairs_over_edges


def light(common_scale=True) -> LearnedLight:
    cube = EnvironmentCube(16, 0.5, common_scale)
    cube.set_radiance(torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)) + 0.1)
    return LearnedLight(cube, 0.005)


def test_what_the_light_takes_the_albedo_gives():
    learned = light()
    albedo = torch.tensor([[0.2, 0.3, 0.4]])
    before = learned.prefiltered().diffuse * in_units_of(learned, albedo)
    with torch.no_grad():
        learned.cube.common.copy_(torch.tensor([2.0, -1.0, 3.0]))
    after = learned.prefiltered().diffuse * in_units_of(learned, albedo)
    assert (learned.cube.radiance / light().cube.radiance).std(dim=(0, 1, 2)).max() < 1e-6
    assert float((learned.albedo_factor().detach() - 1.0).abs().min()) > 0.05
    torch.testing.assert_close(before, after)


def test_an_albedo_is_never_above_one():
    learned = light()
    with torch.no_grad():
        learned.cube.common.fill_(-20.0)
    assert float(in_units_of(learned, torch.full((4, 3), 0.9)).detach().max()) == 1.0


def test_settling_changes_no_image_and_ends_the_sharing():
    learned = light()
    with torch.no_grad():
        learned.cube.common.copy_(torch.tensor([2.0, -1.0, 3.0]))
    radiance = learned.cube.radiance.detach().clone()
    learned.settle()
    torch.testing.assert_close(learned.cube.radiance, radiance)
    assert learned.albedo_factor() is None and not learned.cube.common.requires_grad
    assert float(learned.cube.common.abs().max()) == 0.0


def test_without_a_common_scale_nothing_is_shared():
    learned, albedo = light(common_scale=False), torch.rand(4, 3)
    assert in_units_of(learned, albedo) is albedo
    assert in_units_of(KnownLight(learned.prefiltered()), albedo) is albedo


def test_the_scale_has_a_gradient_where_only_the_highlight_tells():
    """The diffuse part does not move with the scale; the highlight of a non-metal does."""
    learned = light()
    albedo = torch.tensor([[0.5, 0.5, 0.5]])
    prefiltered = learned.prefiltered()
    diffuse = (prefiltered.diffuse * in_units_of(learned, albedo)).sum()
    (flat,) = torch.autograd.grad(diffuse, [learned.cube.common], retain_graph=True)
    (steep,) = torch.autograd.grad(0.04 * prefiltered.specular[1].sum(), [learned.cube.common])
    assert float(flat.abs().max()) < 1e-3 * float(diffuse.detach())
    assert float(steep.min()) > 0.0


def test_smoothness_sees_every_pair_of_neighbours():
    cube = EnvironmentCube(16, 1.0)
    learned = LearnedLight(cube, 0.0, 2.0)
    (term,) = learned.regularizers()
    assert float(term.value.detach()) == 0.0
    # a texel in the middle of a face and one in its corner have four neighbours each
    pairs = 12 * 16 + 6 * 2 * 16 * 15
    for row, column in ((7, 8), (0, 0)):
        with torch.no_grad():
            cube.log_radiance.zero_()[3, row, column] = 1.0
        assert float(learned.regularizers()[0].value.detach()) == pytest.approx(2.0 * 4 * 0.99005 / pairs)


def test_neighbours_over_an_edge_are_neighbours():
    first, second = pairs_over_edges(16, torch.device("cpu"))
    directions = texel_directions(16).reshape(-1, 3)
    assert len(first) == 12 * 16 and len(set(zip(first.tolist(), second.tolist(), strict=True))) == 12 * 16
    angle = torch.rad2deg((directions[first] * directions[second]).sum(-1).clamp(max=1).acos())
    assert 90 / 16 / 2 < float(angle.min()) and float(angle.max()) < 90 / 16 * 1.5
