"""The one training loop of all stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.distributed import Ranks
from stspbr.optimize.progress import Reporting
from stspbr.optimize.routing import Term, backpropagate, check_finite, logged_values
from stspbr.settings import OptimizeSettings
from stspbr.settings.schedules import evaluate
from stspbr.threads import set_threads


class Problem(Protocol):
    """What a stage optimises."""

    def groups(self) -> dict[str, list[Tensor]]:
        """Parameters by group; names are those of ``RateSettings``."""

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        """The loss terms of one step; ``progress`` is step / iterations in [0, 1)."""

    def constrain(self) -> None:
        """Bring parameters back into their ranges after a step."""

    def preview(self) -> dict[str, Any]:
        """Display-encoded pictures ``[H, W, 3]`` by tag."""

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that changes during the stage, by part."""

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of ``state``."""


class Stopwatch:
    """Seconds of a step by part, and their totals over the stage."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.totals: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the seconds of the enclosed block to ``name``."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.last[name] = self.last.get(name, 0.0) + seconds
        self.totals[name] = self.totals.get(name, 0.0) + seconds


def optimize(
    problem: Problem,
    settings: OptimizeSettings,
    *,
    reporter: Reporting,
    checkpoints: Checkpoints | None,
    resume: bool,
    device: torch.device,
    ranks: Ranks | None = None,
    watch: Stopwatch | None = None,
    before: Mapping[int, Callable[[], str]] | None = None,
) -> Stopwatch:
    """Run a stage's optimisation from its start or, with ``resume``, from the last checkpoint.

    Adam throughout; every group has its own rate and schedule over the fraction of the stage that is done.
    A checkpoint holds parameters, moments, the step and the thread count; all random numbers are functions
    of seed and step. On the CPU a resumed run is therefore bit-identical to an uninterrupted one; a GPU adds up in
    no fixed order. There the terms are checked and read only at steps that are logged, kept or the last, so that the
    host does not wait for it between them, and the seconds of a part are those that the host spent on it.

    Args:
        ranks: the processes that share the work, all of which call this; ``problem.terms`` is one's share of it. The
            first alone reports, previews and saves.
        before: step to what changes the problem before that step and says in one line what it did; the first rank
            does it, and the others take over its state.

    Raises:
        StspbrError: a loss is not finite, the checkpoint cannot be read or written, another rank failed.
    """
    ranks = ranks or Ranks()
    groups = {name: [p for p in params if p.requires_grad] for name, params in problem.groups().items()}
    groups = {name: params for name, params in groups.items() if params}
    rates = {name: getattr(settings.rates, name) for name in groups}
    optimizer = torch.optim.Adam(
        [{"params": params, "lr": 0.0, "name": name} for name, params in groups.items()],
        betas=(0.9, 0.999),
        eps=1e-15,  # light and texel gradients are far below Adam's usual 1e-8
        fused=True,
    )
    start = 0
    if resume and checkpoints and (saved := checkpoints.load(device)) is not None:
        begun_by = saved.get("ranks", 1)
        if begun_by != ranks.size:
            reporter.message(f"begun by {begun_by} process(es), goes on with {ranks.size}: equal within rounding only")
        elif saved["threads"] != torch.get_num_threads() and set_threads(saved["threads"]) != saved["threads"]:
            reporter.message(f"this machine has fewer than the {saved['threads']} threads that the run began with")
        problem.load_state(saved["problem"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
        reporter.message(f"resumed at step {start} of {settings.iterations}")
    watch = watch or Stopwatch()
    cpu = time.process_time()
    if ranks.size > 1:
        if len(set(ranks.gather(start))) > 1:
            raise StspbrError("the processes see different checkpoints: the run's folder must be one that all share")
        ranks.copy_from_first(problem.state())

    routing = settings.routing_of(groups)
    for step in range(start, settings.iterations):
        watch.last = {}
        if before and step in before:
            with watch.part("interlude"):
                reporter.message(ranks.first(before[step]))
                ranks.copy_from_first(problem.state())
        progress = step / settings.iterations
        for group in optimizer.param_groups:
            rate = rates[group["name"]]
            group["lr"] = rate.rate * evaluate(rate.schedule, progress)
        began = time.perf_counter()
        terms = problem.terms(step, progress, watch)
        if device.type == "cpu" or _looks(step + 1, start, settings):
            check_finite(terms, step)
        with watch.part("backward"):
            backpropagate(terms, groups, routing)
        if ranks.size > 1:
            with watch.part("exchange"):
                ranks.sum_gradients([parameter for parameters in groups.values() for parameter in parameters])
        with watch.part("optimizer"):
            optimizer.step()
            problem.constrain()
        watch.last["step"] = time.perf_counter() - began
        watch.totals["step"] = watch.totals.get("step", 0.0) + watch.last["step"]
        done = step + 1
        values = logged_values(terms)
        if step == start or done % settings.log_every == 0 or done == settings.iterations:  # when the reporter reads
            values = ranks.sum_values(values)
        reporter.step(
            done,
            values,
            {group["name"]: group["lr"] for group in optimizer.param_groups},
            dict(watch.last),
        )
        if not ranks.is_first:
            continue
        if done % settings.preview_every == 0 or done == settings.iterations:
            for tag, picture in problem.preview().items():
                reporter.image(tag, picture, done)
        if checkpoints and done % settings.checkpoint_every == 0 and done < settings.iterations:
            state = {"problem": problem.state(), "optimizer": optimizer.state_dict()}
            checkpoints.save({**state, "step": done, "threads": torch.get_num_threads(), "ranks": ranks.size})
    watch.totals["steps"] = float(settings.iterations - start)
    watch.totals["cpu"] = time.process_time() - cpu  # of all threads: what other work on the machine does not stretch
    return watch


def _looks(done: int, start: int, settings: OptimizeSettings) -> bool:
    """Whether the loss is read after ``done`` steps: it is logged then, or what it led to is kept."""
    regular = done % settings.log_every == 0 or done % settings.checkpoint_every == 0
    return regular or done in (start + 1, settings.iterations)
