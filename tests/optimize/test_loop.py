"""The loop: schedules are applied, and a killed run goes on bit for bit."""

from __future__ import annotations

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.loop import Resized, optimize
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.optimize.views import batch_ids, step_generator
from stspbr.settings import CoarseSettings, settings_for


class Silent:
    """A reporter that keeps what it is told; it can stop the loop like a Ctrl-C."""

    def __init__(self, stop_after=None):
        self.rates, self.said, self.totals, self.stop_after = [], [], [], stop_after

    def expect(self, total):
        self.totals.append(total)

    def step(self, step, losses, rates, seconds):
        self.rates.append(rates)
        if step == self.stop_after:
            raise KeyboardInterrupt

    def image(self, *args):
        pass

    def message(self, text):
        self.said.append(text)


class Noisy:
    """Two parameters pulled to noisy targets, one by each kind of loss."""

    share, visited = 1.0, ()

    def __init__(self):
        self.module = torch.nn.ParameterDict({"a": torch.zeros(5), "b": torch.ones(5)})

    def groups(self):
        return {"appearance": [self.module["a"]], "reflectance": [self.module["b"]], "light": []}

    def maps(self):
        return []

    def terms(self, step, progress, watch):
        noise = torch.randn(5, generator=step_generator(step, 3, torch.device("cpu")))
        a, b = self.module["a"], self.module["b"]
        return [Term("A", ((a - noise) ** 2).sum(), STRICT_A), Term("B", ((b * a - noise) ** 2).sum(), STRICT_B)]

    def constrain(self):
        pass

    def preview(self):
        return {}

    def state(self):
        return {"all": self.module.state_dict()}

    def load_state(self, state):
        self.module.load_state_dict(state["all"])


SETTINGS = settings_for(
    CoarseSettings, ["optimize.iterations=20", "optimize.checkpoint_every=4", "optimize.rates.reflectance.rate=0.1"]
).optimize


def run(folder, problem, *, resume=False, stop_after=None, work=None, before=None, resize=None):
    reporter = Silent(stop_after)
    checkpoints = Checkpoints(folder, work or {"stage": "x"})
    device = torch.device("cpu")
    optimize(
        problem, SETTINGS, reporter=reporter, checkpoints=checkpoints, resume=resume, device=device, before=before,
        resize=resize,
    )  # fmt: skip
    return reporter


def values(problem):
    return torch.cat([p.detach() for p in problem.module.values()])


def test_resumed_run_is_bit_identical(tmp_path):
    whole = Noisy()
    run(tmp_path / "whole", whole)
    for stop in (5, 7, 20):
        folder = tmp_path / f"stop{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, Noisy(), stop_after=stop)
        again = Noisy()
        reporter = run(folder, again, resume=True)
        assert len(reporter.rates) == 20 - (stop - 1) // 4 * 4  # the interrupt comes before its step is saved
        assert torch.equal(values(again), values(whole))


@pytest.mark.parametrize("when", [0, 5, 8, 9, 20])
def test_what_comes_before_a_step_is_done_once(tmp_path, when):
    def moving(problem):
        def move():
            with torch.no_grad():
                problem.module["a"] += 10.0
            return "moved"

        return {when: move}

    straight = Noisy()
    assert run(tmp_path / "one", straight, before=moving(straight)).said == ["moved"]
    with pytest.raises(KeyboardInterrupt):
        first = Noisy()
        run(tmp_path / "two", first, stop_after=10, before=moving(first))
    second = Noisy()
    said = run(tmp_path / "two", second, resume=True, before=moving(second)).said
    # the checkpoint at step 8 is what was before it
    assert said == ["resumed at step 8 of 20"] + ["moved"] * (when >= 8)
    assert torch.equal(values(straight), values(second))


class Doubling(Noisy):
    """At step 10 every value of ``a`` gets a twin that is pulled in the same way."""

    def terms(self, step, progress, watch):
        noise = torch.randn(5, generator=step_generator(step, 3, torch.device("cpu")))
        a, b = self.module["a"], self.module["b"]
        pull = ((a - noise.repeat(len(a) // 5)) ** 2).sum()
        return [Term("A", pull, STRICT_A), Term("B", ((b * a[:5] - noise) ** 2).sum(), STRICT_B)]

    def load_state(self, state):
        self.module["a"] = torch.nn.Parameter(torch.zeros_like(state["all"]["a"]))
        super().load_state(state)

    def double(self):
        old = self.module["a"]
        self.module["a"] = torch.nn.Parameter(old.detach().repeat(2))
        return Resized("doubled", [(old, self.module["a"], lambda moment, order: moment.repeat(2))])


def test_parameters_of_another_shape_take_the_moments_along(tmp_path):
    plain, doubled = Noisy(), Doubling()
    run(tmp_path / "plain", plain)
    assert run(tmp_path / "doubled", doubled, resize={10: doubled.double}).said == ["doubled"]
    # the same steps but for the rounding of vector instructions, so the same moments
    torch.testing.assert_close(doubled.module["a"], torch.nn.Parameter(plain.module["a"].repeat(2)), rtol=1e-5, atol=0)
    torch.testing.assert_close(doubled.module["b"], plain.module["b"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("stop", [5, 9, 11, 14, 18])
def test_resumed_before_and_after_a_resize_to_the_same_bits(tmp_path, stop):
    whole, first, again = Doubling(), Doubling(), Doubling()
    run(tmp_path / "whole", whole, resize={10: whole.double})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", first, stop_after=stop, resize={10: first.double})
    said = run(tmp_path / "part", again, resume=True, resize={10: again.double}).said
    assert ("doubled" in said) == (stop <= 12)  # the interrupt comes before its step is saved
    assert torch.equal(values(again), values(whole))


def test_without_resume_it_starts_over(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Noisy(), stop_after=8)
    assert len(run(tmp_path, Noisy()).rates) == 20


def test_other_work_does_not_pick_up_the_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Noisy(), stop_after=8)
    assert len(run(tmp_path, Noisy(), resume=True, work={"stage": "y"}).rates) == 20


def test_truncated_checkpoint_is_one_line(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Noisy(), stop_after=8)
    path = next(tmp_path.glob("*.pt"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StspbrError, match="delete it to start over"):
        run(tmp_path, Noisy(), resume=True)


def test_a_run_that_more_processes_began_goes_on_and_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Noisy(), stop_after=8)
    path = next(tmp_path.glob("*.pt"))
    saved = torch.load(path, weights_only=True)
    threads = torch.get_num_threads()
    torch.save({**saved, "ranks": 2, "threads": threads + 1}, path)
    reporter = run(tmp_path, Noisy(), resume=True)
    assert reporter.said[0].startswith("checkpoint from 2 process(es) resumed with 1")
    assert len(reporter.rates) == 16 and torch.get_num_threads() == threads


def test_rates_follow_their_schedules(tmp_path):
    rates = run(tmp_path, Noisy()).rates
    assert rates[0]["reflectance"] == 0.0  # held back at the start of coarse
    assert rates[10]["reflectance"] == pytest.approx(0.1)
    assert rates[10]["appearance"] == pytest.approx(0.68 * SETTINGS.rates.appearance.rate)


def test_each_epoch_sees_every_frame_once():
    ids = [i for step in range(5) for i in batch_ids(step, 10, 4, 1)]
    assert sorted(ids[:10]) == list(range(10)) == sorted(ids[10:])
    assert ids[:10] != ids[10:]
    assert batch_ids(3, 10, 4, 1) == batch_ids(3, 10, 4, 1) != batch_ids(3, 10, 4, 2)
