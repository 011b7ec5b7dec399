"""The pace by the loss on the training views: it waits while that falls, leaps when it is flat, and can be resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.distributed import Ranks
from stspbr.optimize.loop import optimize
from stspbr.optimize.pacing import Converging, Shown, trend_of
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.optimize.views import batch_ids, step_generator
from stspbr.settings import CoarseSettings, ConvergenceSettings, RefineSettings, settings_for
from tests.optimize.test_loop import Noisy, Silent

VIEWS, BATCH, EPOCH = 20, 4, 5


def losses_of(level, rng, steps, memory=0.0):
    """``level(step)`` of 20 unlike views, with noise that a step's views share, and of their own."""
    views = rng.normal(0.0, 1.0, VIEWS)
    rows, common = [], 0.0
    for step in range(steps):
        ids = batch_ids(step, VIEWS, BATCH, 3)
        common = memory * common + 0.02 * rng.normal()
        rows.append((step, ids, level(step) + views[ids] + common + 0.02 * rng.normal(size=BATCH)))
    return rows


def flat_arrays(rows):
    steps = np.repeat([row[0] for row in rows], BATCH)
    return steps, np.concatenate([row[1] for row in rows]), np.concatenate([row[2] for row in rows])


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_the_slope_is_found_under_levels_that_differ_a_hundred_times_as_much(memory):
    found = [
        trend_of(*flat_arrays(losses_of(lambda s: -0.003 * s, np.random.default_rng(seed), 60, memory)))
        for seed in range(100)
    ]
    slopes = np.array([trend.slope for trend in found])
    assert slopes.mean() == pytest.approx(-0.003, abs=3 * slopes.std() / 100**0.5)
    held = np.mean([trend.low < -0.003 < trend.high for trend in found])
    assert slopes.std() < 0.001
    assert 0.85 < held < 1.0  # two standard errors hold it about as often as they say


def test_views_that_are_seen_once_tell_nothing():
    assert trend_of(np.arange(4), np.arange(4), np.zeros(4)) is None


def carried_out(pace, level, seed=0):
    """The planned step of every step, and what was said."""
    rng = np.random.default_rng(seed)
    views, planned, said = rng.normal(0.0, 1.0, VIEWS), [], []
    step = 0
    while not pace.over:
        planned.append(pace.planned)
        ids = batch_ids(step, VIEWS, BATCH, 3)
        logs = level(step) + views[ids] + 0.003 * rng.normal() + 0.003 * rng.normal(size=BATCH)
        pace.now = Shown(ids, {str(place): torch.tensor(np.exp(log)) for place, log in enumerate(logs)})
        said.append(pace.stepped(step, Ranks()))
        step += 1
    return planned, [line for line in said if line]


def pacing(changes=(), interludes=(), iterations=100, **settings):
    how = ConvergenceSettings(**{"wait_at": [0.5], **settings})
    pace = Converging(how, iterations, EPOCH, lambda: pace.now, changes, interludes)
    return pace


def test_a_falling_loss_is_waited_for_up_to_the_most_steps():
    planned, said = carried_out(pacing(most=1.5), lambda step: -0.01 * step)
    assert len(planned) == 150 and planned.count(50) == 51
    assert planned == sorted(planned) and set(planned) == set(range(100))
    assert "waits at 50 %" in said[0] and "150 steps at most" not in said[0] and "at most 150" in said[1]


def test_it_goes_on_soon_after_the_loss_is_flat():
    planned, said = carried_out(pacing(most=3.0), lambda step: -0.02 * min(step, 90))
    waited = planned.count(50) - 1
    assert 40 <= waited <= 40 + 25  # the loss is flat from step 90 on; the slope is that of 20 steps
    assert set(planned) == set(range(100)) and "goes on from 50 %" in said[1]


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_loss_ends_the_stage_early_and_passes_over_no_interlude(seed):
    pace = pacing(early=True, interludes=(0, 30, 50), changes=(40,))
    planned, said = carried_out(pace, lambda step: 0.0, seed)
    assert len(planned) < 100 and planned[-1] == 99
    assert {0, 30, 40, *range(50, 100)} <= set(planned)
    facts = pace.facts()
    assert (facts["steps"], facts["planned"]) == (len(planned), 100)
    assert facts["leapt"] - facts["waited"] == 100 - len(planned)
    assert "goes from" in said[0]


def test_a_falling_loss_leaps_nowhere_and_a_flat_one_waits_for_nothing():
    assert carried_out(pacing(early=True), lambda step: -0.01 * step)[0] == list(range(100))
    assert carried_out(pacing(most=2.0), lambda step: 0.0)[0] == list(range(100))


def test_after_a_change_the_loss_has_to_be_seen_anew():
    planned, said = carried_out(pacing(most=2.0, changes=(50,)), lambda step: 0.0)
    assert 2 * EPOCH < planned.count(50) <= 6 * EPOCH and "not been seen for long enough" in said[0]


class Watched(Noisy):
    """Parameters pulled to noisy targets that are scheduled by progress; a view's loss is its distance."""

    def __init__(self):
        self.module = torch.nn.ParameterDict({"a": torch.full((VIEWS,), 9.0), "b": torch.ones(VIEWS)})
        self.shown = Shown([], {})

    def terms(self, step, progress, watch):
        ids = batch_ids(step, VIEWS, BATCH, 3)
        noise = 0.1 * torch.randn(BATCH, generator=step_generator(step, 3, torch.device("cpu")))
        a, b = self.module["a"][ids], self.module["b"][ids]
        each = (a - noise - progress).square()
        self.shown = Shown(ids, {str(place): loss.detach() for place, loss in enumerate(each)})
        return [Term("A", each.sum(), STRICT_A), Term("B", (b * a - noise).square().sum(), STRICT_B)]


SETTINGS = settings_for(
    CoarseSettings, ["optimize.iterations=60", "optimize.checkpoint_every=8", "optimize.rates.appearance.rate=0.05"]
).optimize


def run(folder, *, paced=True, resume=False, stop_after=None, **how):
    problem, reporter = Watched(), Silent(stop_after)
    pace = None
    if paced:
        convergence = ConvergenceSettings(**{"most": 1.5, "wait_at": [0.5], **how})
        pace = Converging(convergence, 60, EPOCH, lambda: problem.shown, (), (30, 45))

    def move():
        with torch.no_grad():
            problem.module["a"] += 1.0
        return "moved"

    optimize(
        problem, SETTINGS, reporter=reporter, checkpoints=Checkpoints(folder, {"stage": "x"}), resume=resume,
        device=torch.device("cpu"), before={30: move, 45: move, 60: move}, pace=pace,
    )  # fmt: skip
    return torch.cat([p.detach() for p in problem.module.values()]), reporter


def test_a_run_that_waited_resumes_to_the_same_bits(tmp_path):
    whole, said = run(tmp_path / "whole")
    assert len(said.rates) > 60 and said.said.count("moved") == 3
    for stop in (30, 34, 62):  # at the start of the wait, in it, after it
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(stop), stop_after=stop)
        again, reporter = run(tmp_path / str(stop), resume=True)
        assert torch.equal(again, whole)
        assert len(reporter.rates) == len(said.rates) - (stop - 1) // 8 * 8
        assert reporter.totals[-1:] == said.totals[-1:] == [len(said.rates)] or not reporter.totals


def test_a_pace_that_neither_waits_nor_leaps_gives_the_bits_of_none(tmp_path):
    plain, _ = run(tmp_path / "plain", paced=False)
    paced, reporter = run(tmp_path / "paced", tolerance=0.99)  # no fall is large enough
    assert torch.equal(plain, paced) and not reporter.totals


def test_what_cannot_be_paced_is_refused():
    with pytest.raises(StspbrError, match=r"refine's rounds"):
        settings_for(RefineSettings, ["optimize.convergence.most=2"])
    with pytest.raises(StspbrError, match="most"):
        settings_for(CoarseSettings, ["optimize.convergence.most=0.5"])
    assert not CoarseSettings().optimize.convergence.on
