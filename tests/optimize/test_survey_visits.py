"""Which points are visited: what is unsure is, what is known is not, and of too many the least known most."""

from __future__ import annotations

import pytest
import torch

from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.observations import Cells, observe
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.optimize.survey import survey
from stspbr.optimize.survey_visits import drawn_by, metallic_std, reaching
from stspbr.settings import SurveySettings
from tests.optimize.test_survey import METAL, PAINT, light, networks, problem  # noqa: F401


@pytest.fixture(scope="module")
def seen_truth(light):  # noqa: F811
    whole = problem(light, FieldAppearance(networks(), 0.0))
    seen = observe(whole, 10**6)
    metal = seen.position[:, :1] > 0
    return whole, seen, torch.cat([torch.where(metal, METAL, PAINT), torch.full_like(metal, 0.7, dtype=torch.float32),
                                   metal.float()], dim=1)  # fmt: skip


def test_more_views_make_a_cell_s_metallic_surer_and_never_beyond_the_prior(seen_truth):
    whole, seen, own = seen_truth
    cells = Cells(seen.position)
    every = metallic_std(whole, seen, own, cells)
    assert every.shape == (cells.count,) and (every <= PRIOR_STD[4] + 1e-6).all()
    few = seen.view < 6
    fewer = metallic_std(whole, seen.at(few), own[few], Cells(seen.position[few]))
    assert every.median() < 0.6 * fewer.median()


def test_where_the_networks_are_wrong_the_cell_is_less_sure(seen_truth):
    whole, seen, own = seen_truth
    cells = Cells(seen.position)
    wrong = own.clone()
    wrong[:, :3] *= 0.5
    assert metallic_std(whole, seen, wrong, cells).median() > 2.0 * metallic_std(whole, seen, own, cells).median()


def test_a_point_is_worth_a_visit_if_two_std_reach_to_the_other_kind():
    metallic, std = torch.tensor([0.0, 0.0, 1.0, 0.5]), torch.tensor([0.2, 0.3, 0.26, 0.01])
    assert reaching(metallic, std).tolist() == [False, True, True, True]


def test_the_least_known_are_drawn_most_and_of_few_all():
    std = torch.cat([torch.full((50_000,), 0.01), torch.full((50_000,), 0.3)])
    found = drawn_by(std, 20_000, seed=3)
    assert len(found) == pytest.approx(20_000, rel=0.05) and torch.equal(found, drawn_by(std, 20_000, seed=3))
    assert (found >= 50_000).float().mean() == pytest.approx(30 / 31, abs=0.01)
    assert torch.equal(drawn_by(std, 100_000, seed=3), torch.arange(100_000))


@pytest.mark.slow
def test_a_survey_that_visits_by_std_finds_the_metal(light):  # noqa: F811
    fields = networks(metallic=0.01)
    whole = problem(light, FieldAppearance(fields, 0.0))
    survey(whole, fields, SurveySettings(visits="std"))
    seen = observe(whole, 10**6)
    metal, paint = seen.position[:, 0] > 0.1, seen.position[:, 0] < -0.1
    with torch.no_grad():
        found = fields(seen.position).metallic
    assert (found[metal] > 0.5).float().mean() > 0.97
    assert (found[paint] > 0.5).float().mean() < 0.03
