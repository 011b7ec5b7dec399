"""The rule by which images and prior decide: closed cases."""

from __future__ import annotations

import math

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.evidence import (
    CLEAR,
    confidence,
    correlation_within,
    effective_looks,
    is_clear,
    log_likelihood_ratio,
    log_odds_against,
)
from stspbr.settings import CoarseSettings, settings_for


def against(grey: float, odds: float) -> float:
    return log_odds_against(torch.full((1, 3), grey), odds).item()


def test_odds_hold_for_dark_metals_and_vanish_for_bright_ones():
    assert against(0.0, 10.0) == against(0.03, 10.0) == pytest.approx(math.log(10.0))
    assert against(0.0999, 10.0) == pytest.approx(math.log(10.0))
    assert against(math.sqrt(0.1 / 3.0), 10.0) == pytest.approx(0.5 * math.log(10.0), rel=1e-4)
    assert against(0.34, 10.0) == against(1.0, 10.0) == 0.0
    assert against(0.05, 1.0) == 0.0


def test_no_prior_is_stronger_than_clear_evidence():
    assert against(0.05, 1e12) == pytest.approx(math.log(CLEAR))
    ratio = torch.tensor([math.log(CLEAR) * 1.0001])
    assert is_clear(ratio) and ratio.item() > against(0.05, 1e12)


@pytest.mark.parametrize("least", [0.02, 0.2])
def test_the_ratio_is_that_of_gaussian_likelihoods_with_a_fitted_scale(least):
    generator = torch.Generator().manual_seed(0)
    wrong, right = torch.randn(30, generator=generator) * 0.3, torch.randn(30, generator=generator) * 0.1

    def at_its_best(errors):  # the largest likelihood over all scales, by search
        scales = torch.linspace(least, 1.0, 20_000)[:, None]
        return (-0.5 * (errors / scales).square() - scales.log()).sum(dim=1).max().item()

    rms = [errors.square().mean().sqrt() for errors in (wrong, right)]
    ratio = log_likelihood_ratio(rms[0], rms[1], least, torch.tensor(30.0)).item()
    assert ratio == pytest.approx(at_its_best(right) - at_its_best(wrong), abs=1e-2)
    assert log_likelihood_ratio(rms[1], rms[0], least, torch.tensor(30.0)).item() == pytest.approx(-ratio, rel=1e-5)


def test_noise_and_few_looks_leave_it_open():
    one, other = torch.tensor(0.002), torch.tensor(0.0005)
    assert is_clear(log_likelihood_ratio(one, other, 0.0, torch.tensor(20.0)))
    assert not is_clear(log_likelihood_ratio(one, other, 0.01, torch.tensor(20.0)))
    assert not is_clear(log_likelihood_ratio(one, other, 0.0, torch.tensor(3.0)))
    assert log_likelihood_ratio(one, other, 0.0, torch.tensor(0.0)) == 0


def test_pixels_of_one_look_count_by_what_they_share():
    looks, count = torch.tensor(10.0), torch.tensor(50.0)
    assert effective_looks(count, looks, 1.0).item() == pytest.approx(10.0)
    assert effective_looks(count, looks, 0.0).item() == pytest.approx(50.0)
    assert effective_looks(count, looks, 0.5).item() == pytest.approx(10.0 * 5.0 / 3.0)
    assert effective_looks(torch.tensor(0.0), torch.tensor(0.0), 0.5).item() == 0.0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_correlation_within_looks_is_found_again(share):
    generator = torch.Generator().manual_seed(1)
    group = torch.arange(4000).repeat_interleave(5)
    common = torch.randn(4000, generator=generator, dtype=torch.float64).repeat_interleave(5)
    own = torch.randn(20_000, generator=generator, dtype=torch.float64)
    errors = math.sqrt(share) * common + math.sqrt(1.0 - share) * own
    shuffled = torch.randperm(20_000, generator=generator)
    assert correlation_within(errors[shuffled], group[shuffled]).item() == pytest.approx(share, abs=0.03)


def test_without_pairs_nothing_is_known_to_be_independent():
    assert correlation_within(torch.randn(10), torch.arange(10)) == 1.0


def test_confidence_is_that_of_the_likelier_kind():
    ratio = torch.tensor([0.0, math.log(3.0), -math.log(3.0), math.log(CLEAR)])
    torch.testing.assert_close(confidence(ratio), torch.tensor([0.0, 0.5, 0.5, (CLEAR - 1) / (CLEAR + 1)]))


@pytest.mark.parametrize("text", ["dielectric-first", "none", "0.5", "nan", "inf", "-3"])
def test_what_are_no_odds_is_refused_in_a_line_that_names_the_form(text):
    with pytest.raises(StspbrError) as caught:
        settings_for(CoarseSettings, [f"optimize.losses.metal_prior={text}"])
    line = str(caught.value)
    assert "\n" not in line and "metal_prior" in line and "10 for ten to one" in line


def test_odds_are_read():
    assert settings_for(CoarseSettings, ["optimize.losses.metal_prior=25"]).optimize.losses.metal_prior == 25.0
