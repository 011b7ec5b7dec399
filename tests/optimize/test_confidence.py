"""What pixels say about texels: derivatives, noise, weights, shares that sum to one, and what a missing view does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.optimize import confidence
from stspbr.optimize.confidence import gather, information_maps, jacobian_of, light_gain_std, std_maps, view_noise
from stspbr.optimize.influence import influence
from stspbr.optimize.losses import tonemap, tonemap_slope
from stspbr.optimize.observations import Observations
from stspbr.optimize.posterior import PRIOR_STD, covariance, matrix, prior
from stspbr.render.shading import shade
from stspbr.render.shading_error import BANDS, EXPECTED_DB, ROUGHNESS, expected_error
from tests.optimize.conftest import photographed_jar


def points(count: int, seed: int = 0) -> tuple[Observations, torch.Tensor]:
    """Points seen from the front, and their materials ``[N, 5]``."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    eye = torch.nn.functional.normalize(normal + 0.7 * torch.randn(count, 3, generator=generator), dim=1)
    eye = torch.where((eye * normal).sum(1, True) < 0.2, normal, eye)
    view = torch.zeros(count, dtype=torch.int64)
    occlusion = 0.5 + 0.5 * torch.rand(count, 1, generator=generator)
    seen = Observations(normal, normal, eye, view, torch.eye(3)[None], torch.zeros(count, 3), occlusion)
    material = torch.rand(count, 5, generator=generator)
    material[:, 3] = 0.15 + 0.8 * material[:, 3]
    return seen, material


def test_jacobian_is_that_of_finite_differences(jar):
    seen, material = points(400)
    light = jar.light.prefiltered()

    def rendered(values: torch.Tensor) -> torch.Tensor:
        out = shade(
            seen.normal, seen.to_eye, values[:, :3], values[:, 3:4], values[:, 4:], light, texture=jar.backend.texture,
            light_rotation=(seen.rotations, seen.view), occlusion=seen.occlusion,
        )  # fmt: skip
        return tonemap(out).double()

    found, value = jacobian_of(seen, material, light, jar.backend.texture)
    torch.testing.assert_close(tonemap(value).double(), rendered(material), rtol=1e-4, atol=1e-5)
    for k, own in enumerate([found.albedo, found.roughness, found.metallic]):
        step = 0.02 if k == 1 else 0.005
        columns = slice(0, 3) if k == 0 else slice(2 + k, 3 + k)
        up, down = material.clone(), material.clone()
        up[:, columns] += step
        down[:, columns] -= step
        wanted = (rendered(up) - rendered(down)) / (2 * step)
        error = (own.double() - wanted).norm() / wanted.norm()
        assert error < 0.01, (k, float(error))


def test_noise_of_a_view_is_robust_and_per_view():
    rng = np.random.default_rng(0)
    residual = torch.as_tensor(rng.normal(size=(3000, 3)) * 0.02, dtype=torch.float32)
    view = torch.arange(3000) % 3
    residual[view == 1] *= 3.0
    residual[::20] = 1.0  # shadows that nobody modelled
    told = torch.ones(3000, dtype=torch.bool)
    told[view == 2] = False
    noise = view_noise(residual, view, told, 3)
    assert noise[0] == pytest.approx(0.02, rel=0.15) and noise[1] == pytest.approx(0.06, rel=0.15)
    both = 1.48 * residual[told].flatten().sub(residual[told].median()).abs().median()
    assert noise[2] == pytest.approx(float(both), rel=0.01)  # nothing of its own: that of all


def test_expected_error_of_the_shading_is_that_of_its_documents():
    lines = [line for line in open("docs/shading.md", encoding="utf-8") if line.startswith(("| metal", "| dielectric"))]
    cells: dict[float, list[list[float]]] = {}
    for line in lines:
        parts = [part.strip() for part in line.strip().strip("|").split("|")]
        cells.setdefault(float(parts[1]), []).append([float(part.split()[0]) for part in parts[2:]])
    assert sorted(cells) == list(ROUGHNESS)
    for row, value in zip(EXPECTED_DB, ROUGHNESS, strict=True):
        np.testing.assert_allclose(row, np.mean(cells[value], axis=0), atol=0.15)
    middle = torch.tensor([0.5 * sum(band) for band in BANDS])
    found = expected_error(torch.full((4,), ROUGHNESS[1]), middle)
    np.testing.assert_allclose(-20 * np.log10(found.numpy()), EXPECTED_DB[1], rtol=1e-5)
    beyond = expected_error(torch.tensor([0.01]), torch.tensor([0.0]))
    assert float(beyond) == pytest.approx(10 ** (-EXPECTED_DB[0][0] / 20), rel=1e-4)


def test_a_look_up_and_its_transpose_agree(jar):
    evidence = gather(jar, 10**9)
    assert len(evidence.seen) > 1000
    side = [(32, 32)]
    values, maps = torch.rand(len(evidence.seen), 4), torch.rand(32, 32, 4)
    by_pixel = (evidence.reads.lookup([maps]).double() * values).sum()
    by_texel = (evidence.reads.collected(values, side)[0].double() * maps).sum()
    torch.testing.assert_close(by_pixel, by_texel, rtol=1e-5, atol=0.0)
    ones = evidence.reads.collected(torch.ones(len(values), 1), side)[0].double().sum()
    assert float(ones) == pytest.approx(len(values), rel=1e-5)  # no pixel counts more than once


@pytest.fixture(scope="module")
def one_sided():
    """Two neighbouring views of the jar, and of them the pixels that read less than two texels: much is unseen."""
    jar = photographed_jar(only=[0, 1])
    evidence = gather(jar, 10**9)
    sharp = evidence.reads.uv_da.abs().amax(1, keepdim=True) * 32 < 1.0
    return jar, replace(evidence, weight=torch.where(sharp, evidence.weight, 0.0))


def test_seen_texels_are_surer_than_unseen_ones_which_have_the_prior(one_sided):
    jar, evidence = one_sided
    information = information_maps(jar, evidence)
    std = std_maps(information[0])
    told = evidence.reads.collected((evidence.weight > 0).float(), [(32, 32)])[0][..., 0]
    prior_std = torch.tensor(PRIOR_STD)
    unseen, seen = told == 0, told > 0.5
    assert unseen.sum() > 50 and seen.sum() > 50
    torch.testing.assert_close(std[unseen], prior_std.expand(int(unseen.sum()), 5))
    assert bool((std <= prior_std * (1 + 1e-6)).all())
    assert float((std[seen][:, 3] < 0.5 * 0.3).float().mean()) > 0.3
    row, column = divmod(int(information[0][..., 9].argmax()), 32)
    whole = np.linalg.inv(matrix(information[0][row, column].double() + prior(information[0].double())).numpy())
    np.testing.assert_allclose(std[row, column], np.sqrt(np.diag(whole)), rtol=1e-4)


def test_noise_in_the_photographs_becomes_noise_in_the_evidence():
    quiet, loud = (gather(photographed_jar(4, noise), 10**9) for noise in (0.01, 0.04))
    ratio = loud.noise / quiet.noise
    assert bool(((ratio > 3.0) & (ratio < 5.0)).all())


@pytest.mark.parametrize("channel", ["albedo", "roughness", "metallic"])
@pytest.mark.parametrize("texels", [1, 10, 40])
def test_shares_of_all_pixels_and_of_the_prior_sum_to_one(jar, channel, texels):
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    seen = torch.nonzero(information[0][..., 9] > 0)
    chosen = torch.zeros(32, 32, dtype=torch.bool)
    picked = seen[torch.linspace(0, len(seen) - 1, texels).long()]
    chosen[picked[:, 0], picked[:, 1]] = True
    found = influence(evidence, information, [chosen], channel)
    assert bool((found.share >= -1e-9).all()) and 0.0 <= found.prior <= 1.0
    assert float(found.share.double().sum()) + found.prior == pytest.approx(1.0, abs=1e-5)
    share, _ = found.by_view(evidence.seen.view, len(jar.views))
    assert float(share.sum()) == pytest.approx(float(found.share.sum()), abs=1e-5)


@pytest.mark.parametrize("channel", ["albedo", "roughness"])
def test_few_texels_and_many_are_asked_by_the_same_formula(jar, channel, monkeypatch):
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    chosen = torch.zeros(32, 32, dtype=torch.bool)
    chosen[10:13, 10:14] = True
    few = influence(evidence, information, [chosen], channel)
    monkeypatch.setattr("stspbr.optimize.influence.FEW", 0)
    many = influence(evidence, information, [chosen], channel)
    torch.testing.assert_close(few.share, many.share, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(few.pull, many.pull, rtol=1e-3, atol=1e-6)
    assert few.prior == pytest.approx(many.prior, rel=1e-3) and few.std == pytest.approx(many.std, rel=1e-4)


def test_shares_of_an_unseen_texel_are_the_prior_s(one_sided):
    jar, evidence = one_sided
    information = information_maps(jar, evidence)
    found = influence(evidence, information, [information[0].abs().sum(-1) == 0], "metallic")
    assert found.prior == pytest.approx(1.0) and float(found.share.abs().max()) == 0.0
    assert found.std == pytest.approx(PRIOR_STD[4], rel=1e-6)


def test_the_pull_of_a_pixel_is_its_part_of_the_step(jar):
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    place = int(information[0][..., 9].argmax())
    chosen = torch.zeros(32 * 32, dtype=torch.bool)
    chosen[place] = True
    found = influence(evidence, information, [chosen.view(32, 32)], "roughness")
    force = evidence.reads.collected(evidence.pull(), [(32, 32)])[0].reshape(-1, 5)[place].double()
    step = covariance(information[0].reshape(-1, 12)[place])[3] @ force
    assert float(found.pull.double().sum()) == pytest.approx(float(step), rel=1e-3, abs=1e-9)


def test_few_of_many_pixels_say_about_the_same(jar):
    every, few = gather(jar, 10**9), gather(jar, 1500)
    assert len(few.seen) < 0.6 * len(every.seen)
    total, part = (information_maps(jar, own)[0].double().sum((0, 1)) for own in (every, few))
    torch.testing.assert_close(part[9:], total[9:], rtol=0.35, atol=0.0)
    one, other = (std_maps(information_maps(jar, own)[0])[..., 3] for own in (every, few))
    seen = one < 0.25
    assert float(np.corrcoef(one[seen], other[seen])[0, 1]) > 0.6


def test_very_large_maps_are_taken_in_blocks(jar, monkeypatch):
    monkeypatch.setattr(confidence, "FINEST", 16)
    evidence = gather(jar, 10**9)
    coarse = information_maps(jar, evidence)[0]
    assert coarse.shape == (16, 16, 12)
    monkeypatch.undo()
    fine = information_maps(jar, evidence)[0]
    torch.testing.assert_close(coarse.sum((0, 1)), fine.sum((0, 1)), rtol=1e-4, atol=1e-2)


def test_light_gains_are_those_of_the_whole_problem(jar, monkeypatch):
    """The marginal of the dense precision matrix of all texels and three gains."""
    monkeypatch.setattr(confidence, "FINEST", 8)
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    own, weight = evidence.jacobian, evidence.weight.double()
    slope = (tonemap_slope(evidence.value) * evidence.value).double()
    whole = torch.zeros(64 * 5 + 3, 64 * 5 + 3, dtype=torch.float64)
    flat = information[0].reshape(-1, 12).double()
    for texel in range(64):
        place = slice(5 * texel, 5 * texel + 5)
        whole[place, place] = matrix(flat[texel] + prior(flat))
    for colour in range(3):
        columns = torch.zeros(len(weight), 5, dtype=torch.float64)
        columns[:, colour] = own.albedo[:, colour]
        columns[:, 3], columns[:, 4] = own.roughness[:, colour], own.metallic[:, colour]
        mixed = (weight * slope[:, colour : colour + 1] * columns).float()
        coupling = evidence.reads.collected(mixed, [(8, 8)])[0].reshape(-1).double()
        whole[320 + colour, :320] = whole[:320, 320 + colour] = coupling
        whole[320 + colour, 320 + colour] = (weight[:, 0] * slope[:, colour].square()).sum()
    wanted = torch.linalg.inv(whole)[320:, 320:].diagonal().sqrt()
    torch.testing.assert_close(light_gain_std(evidence, information), wanted, rtol=0.02, atol=0.0)
