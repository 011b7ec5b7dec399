"""The one training loop of all stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.distributed import Ranks
from stspbr.optimize.map_adam import MapAdam, Visited
from stspbr.optimize.pacing import Steady
from stspbr.optimize.progress import Reporting
from stspbr.optimize.routing import Term, backpropagate, check_finite, logged_values
from stspbr.settings.schedules import evaluate
from stspbr.threads import set_threads


class LoopSettings(Protocol):
    """What the loop reads of a stage's settings; see ``OptimizeSettings``."""

    @property
    def iterations(self) -> int: ...

    @property
    def rates(self) -> Any: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def preview_every(self) -> int: ...

    @property
    def log_every(self) -> int: ...

    def routing_of(self, groups: Any) -> Literal["strict", "shared"]: ...


class Problem(Protocol):
    """The interface of an optimisation problem to the loop."""

    @property
    def share(self) -> float:
        """The part of its views' pixels that the last step drew, in (0, 1]; see ``MapAdam``."""

    @property
    def visited(self) -> Sequence[Visited]:
        """What the last step saw of the maps, if it drew a part of its views; all ranks have the same maps in it."""

    def groups(self) -> dict[str, list[Tensor]]:
        """Parameters by group, named as in ``RateSettings``."""

    def maps(self) -> list[Tensor]:
        """Those parameters whose elements are texels of a map: see ``MapAdam``."""

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        """The loss terms of one step; ``progress`` is the part of the plan that is done, in [0, 1)."""

    def constrain(self) -> None:
        """Bring parameters back into their ranges after a step."""

    def preview(self) -> dict[str, Any]:
        """Display-encoded pictures ``[H, W, 3]`` by tag."""

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that changes during the stage, by part."""

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of ``state``."""


@dataclass(frozen=True)
class Resized:
    """Parameters that others, of another shape, have replaced.

    Attributes:
        message: a line for the log, or None.
        replaced: each old parameter, the new one, and a function that makes a moment of the new one from a moment of
            the old one and its order, 1 or 2.
    """

    message: str | None
    replaced: Sequence[tuple[Tensor, Tensor, Callable[[Tensor, int], Tensor]]]


class Stopwatch:
    """Seconds of a step by part, and their totals over the stage."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.totals: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds of the enclosed block to ``name``."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.last[name] = self.last.get(name, 0.0) + seconds
        self.totals[name] = self.totals.get(name, 0.0) + seconds


def optimize(
    problem: Problem,
    settings: LoopSettings,
    *,
    reporter: Reporting,
    checkpoints: Checkpoints | None,
    resume: bool,
    device: torch.device,
    ranks: Ranks | None = None,
    watch: Stopwatch | None = None,
    before: Mapping[int, Callable[[], str]] | None = None,
    resize: Mapping[int, Callable[[], Resized]] | None = None,
    pace: Steady | None = None,
) -> Stopwatch:
    """Run a stage's optimisation from its start or, with ``resume``, from the last checkpoint.

    Adam throughout, for maps with a floor (``MapAdam``); every group has its own rate and schedule over the stage's
    progress. A checkpoint contains parameters, moments, the step and the thread count; all random numbers are functions
    of seed and step. On the CPU a resumed run is therefore bit-identical to an uninterrupted one; a GPU sums in no
    fixed order. On a GPU the terms are checked and read only at steps that are logged or saved and at the last, so that
    the host does not wait in between; the seconds of a part are those that the host spent on it.

    Args:
        ranks: the processes that share the work; all of them call this, and ``problem.terms`` is each one's share. Only
            the first reports, previews and saves.
        before: by planned step, a function that changes the problem before that step and returns a line for the log;
            the first rank runs it, and the others copy its state. That of step ``settings.iterations`` runs after the
            last step.
        resize: by planned step, a function that gives parameters another shape before that step, and before ``before``;
            every rank runs it.
        pace: through the planned steps; None: one by one.

    Returns:
        The stopwatch, with its totals over the stage.

    Raises:
        StspbrError: a loss is not finite, the checkpoint cannot be read or written, another rank failed.
    """
    ranks = ranks or Ranks()
    saved = checkpoints.load(device) if resume and checkpoints else None
    if saved is not None:
        problem.load_state(saved["problem"])  # which may bring parameters of another shape
    groups = {name: [p for p in params if p.requires_grad] for name, params in problem.groups().items()}
    groups = {name: params for name, params in groups.items() if params}
    rates = {name: getattr(settings.rates, name) for name in groups}
    optimizer = MapAdam(
        [{"params": params, "lr": 0.0, "name": name} for name, params in groups.items()],
        problem.maps(),
        betas=(0.9, 0.999),
        eps=1e-15,  # light and texel gradients are far below Adam's usual 1e-8
        fused=True,
    )
    start, pace = 0, pace or Steady(settings.iterations)
    if saved is not None:
        writers = saved.get("ranks", 1)
        if writers != ranks.size:
            change = f"checkpoint from {writers} process(es) resumed with {ranks.size}"
            reporter.message(f"{change}: the result is equal up to rounding only")
        elif saved["threads"] != torch.get_num_threads() and set_threads(saved["threads"]) != saved["threads"]:
            reporter.message(f"this machine has fewer than the {saved['threads']} threads with which the run started")
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
        pace.load_state(saved.get("pace"), start)
        reporter.message(f"resumed at step {start} of {pace.total(start)}")
    watch = watch or Stopwatch()
    cpu = time.process_time()
    if ranks.size > 1:
        if len(set(ranks.gather(start))) > 1:
            raise StspbrError("the processes see different checkpoints: put the run into a folder that all share")
        ranks.copy_from_first(problem.state())

    def interlude(step: int) -> None:
        if before and step in before:
            with watch.part("interlude"):
                reporter.message(ranks.first(before[step]))
                ranks.copy_from_first(problem.state())

    routing = settings.routing_of(groups)
    step, expected = start - 1, settings.iterations
    while not pace.over:
        step += 1
        watch.last = {}
        if resize and pace.planned in resize and not pace.waits:
            with watch.part("interlude"):
                resized = resize[pace.planned]()
                _replace(optimizer, groups, resized)
                ranks.copy_from_first(problem.state())
                if resized.message:
                    reporter.message(resized.message)
        if not pace.waits:
            interlude(pace.planned)
        progress = pace.planned / settings.iterations
        for group in optimizer.param_groups:
            rate = rates[group["name"]]
            group["lr"] = rate.rate * evaluate(rate.schedule, progress)
        began = time.perf_counter()
        terms = problem.terms(step, progress, watch)
        if device.type == "cpu" or pace.ends or _looks(step + 1, start, settings):
            check_finite(terms, step)
        with watch.part("backward"):
            backpropagate(terms, groups, routing)
        if ranks.size > 1:
            with watch.part("exchange"):
                losses = [visit.loss for visit in problem.visited]
                ranks.sum_gradients([p for parameters in groups.values() for p in parameters] + losses)
        with watch.part("optimizer"):
            optimizer.share, optimizer.progress, optimizer.visited = problem.share, progress, problem.visited
            optimizer.step()
            problem.constrain()
        watch.last["step"] = time.perf_counter() - began
        watch.totals["step"] = watch.totals.get("step", 0.0) + watch.last["step"]
        done = step + 1
        values = logged_values(terms)
        line = pace.stepped(step, ranks)
        if (total := pace.total(done)) != expected:
            expected = total
            reporter.expect(total)
        if step == start or done % settings.log_every == 0 or pace.over:  # when the reporter reads
            values = ranks.sum_values(values)
        reporter.step(done, values, {group["name"]: group["lr"] for group in optimizer.param_groups}, dict(watch.last))
        if line:
            reporter.message(f"step {done}: {line}")
        if pace.over:
            interlude(settings.iterations)
        if not ranks.is_first:
            continue
        if done % settings.preview_every == 0 or pace.over:
            for tag, picture in problem.preview().items():
                reporter.image(tag, picture, done)
        if checkpoints and done % settings.checkpoint_every == 0 and not pace.over:
            state = {"problem": problem.state(), "optimizer": optimizer.state_dict()}
            if paced := pace.state():
                state["pace"] = paced
            checkpoints.save({**state, "step": done, "threads": torch.get_num_threads(), "ranks": ranks.size})
    watch.totals["steps"] = float(step + 1 - start)
    watch.totals["cpu"] = time.process_time() - cpu  # of all threads: independent of other work on the machine
    return watch


def _replace(optimizer: torch.optim.Adam, groups: dict[str, list[Tensor]], resized: Resized) -> None:
    """Put the new parameters in the place of the old ones in ``groups`` and the optimiser, with their moments."""
    for old, new, carried in resized.replaced:
        for parameters in [*groups.values(), *(group["params"] for group in optimizer.param_groups)]:
            parameters[:] = [new if parameter is old else parameter for parameter in parameters]
        if (state := optimizer.state.pop(old, None)) is not None:
            moments = {name: carried(state[name], order) for order, name in ((1, "exp_avg"), (2, "exp_avg_sq"))}
            optimizer.state[new] = state | moments


def _looks(done: int, start: int, settings: LoopSettings) -> bool:
    """Whether the loss is read after ``done`` steps: at those that are logged or saved, and the first."""
    return done % settings.log_every == 0 or done % settings.checkpoint_every == 0 or done == start + 1
