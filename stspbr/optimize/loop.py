"""The one training loop of all stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.routing import Term, backpropagate, check_finite, logged_values
from stspbr.optimize.schedules import evaluate
from stspbr.recipe import OptimizeSettings
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

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during the stage."""

    def load_state(self, state: dict[str, Tensor]) -> None:
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
    reporter: Any,
    checkpoints: Checkpoints,
    resume: bool,
    device: torch.device,
    watch: Stopwatch | None = None,
) -> Stopwatch:
    """Run a stage's optimisation from its start or, with ``resume``, from the last checkpoint.

    Adam throughout; every group has its own rate and schedule over the fraction of the stage that is done.
    A checkpoint holds parameters, moments, the step and the thread count; all random numbers are functions
    of seed and step. On the same device a resumed run is therefore bit-identical to an uninterrupted one.
    """
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
    if resume and (saved := checkpoints.load(device)) is not None:
        if saved["threads"] != torch.get_num_threads() and set_threads(saved["threads"]) != saved["threads"]:
            reporter.message(f"this machine has fewer than the {saved['threads']} threads that the run began with")
        problem.load_state(saved["problem"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
        reporter.message(f"resumed at step {start} of {settings.iterations}")

    routing = "shared" if "joint" in groups else settings.routing  # one network cannot be driven apart
    watch = watch or Stopwatch()
    cpu = time.process_time()
    for step in range(start, settings.iterations):
        watch.last = {}
        progress = step / settings.iterations
        for group in optimizer.param_groups:
            rate = rates[group["name"]]
            group["lr"] = rate.rate * evaluate(rate.schedule, progress)
        began = time.perf_counter()
        terms = problem.terms(step, progress, watch)
        if device.type == "cpu" or step % settings.log_every == 0:
            check_finite(terms, step)
        with watch.part("backward"):
            backpropagate(terms, groups, routing)
        with watch.part("optimizer"):
            optimizer.step()
            problem.constrain()
        watch.last["step"] = time.perf_counter() - began
        watch.totals["step"] = watch.totals.get("step", 0.0) + watch.last["step"]
        done = step + 1
        reporter.step(
            done,
            logged_values(terms),
            {group["name"]: group["lr"] for group in optimizer.param_groups},
            dict(watch.last),
        )
        if done % settings.preview_every == 0 or done == settings.iterations:
            for tag, picture in problem.preview().items():
                reporter.image(tag, picture, done)
        if done % settings.checkpoint_every == 0 and done < settings.iterations:
            state = {"problem": problem.state(), "optimizer": optimizer.state_dict()}
            checkpoints.save({**state, "step": done, "threads": torch.get_num_threads()})
    watch.totals["steps"] = float(settings.iterations - start)
    watch.totals["cpu"] = time.process_time() - cpu  # of all threads: what other work on the machine does not stretch
    return watch
