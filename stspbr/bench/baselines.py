"""The same work by what a user would pick instead, in one run on one machine, taken in turns.

Each comparison is a dict: ``name``; ``ours``/``theirs`` in words; ``ours_seconds``/``theirs_seconds``, each with the
lists ``wall`` and ``cpu`` over the repeats; ``ratio`` theirs / ours as ``{wall, cpu: [median, lowest, highest]}``; or
``skipped``, the reason why there is none.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from stspbr.bench.scenes import BenchScene
from stspbr.bench.settings import BenchSettings
from stspbr.errors import StspbrError
from stspbr.fields.hash_grid import HashGridEncoding
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import backpropagate

Step = Callable[[], object]
MITSUBA_SAMPLES = (1, 16)


def compare_with_peers(
    scene: BenchScene,
    settings: BenchSettings,
    problems: dict[str, Reconstruction],
    device: torch.device,
    repeats: int,
) -> Iterator[dict[str, Any]]:
    """Every comparison that this device has, one by one as they are done."""
    if device.type == "cpu":
        yield from _mitsuba(scene, settings, problems["refinement, learned light"], repeats)
        yield from _encodings(settings, repeats)
    yield _nvdiffrec(scene, settings, problems["coarse, learned light"], device, repeats)


def differentiate(problem: Reconstruction) -> Step:
    """One forward and backward pass of all terms over a batch, without the optimiser."""
    groups = problem.groups()

    def step() -> None:
        backpropagate(problem.terms(0, 0.5, Stopwatch()), groups, "strict")

    return step


def take_turns(
    name: str, ours: tuple[str, Step], theirs: tuple[str, Step], device: torch.device, repeats: int
) -> dict[str, Any]:
    """Time both, once each to warm up and then ``repeats`` times in turns, so that both see the same machine."""
    sides = {"ours": ours, "theirs": theirs}
    seconds: dict[str, dict[str, list[float]]] = {side: {"wall": [], "cpu": []} for side in sides}
    for turn in range(repeats + 1):
        for side, (_, step) in sides.items():
            wall, cpu = _timed(step, device)
            if turn > 0:
                seconds[side]["wall"].append(wall)
                seconds[side]["cpu"].append(cpu)
    ratio = {}
    for clock in ("wall", "cpu"):
        values = [b / a for a, b in zip(seconds["ours"][clock], seconds["theirs"][clock], strict=True)]
        ratio[clock] = [statistics.median(values), min(values), max(values)]
    return {
        "name": name,
        "ours": ours[0],
        "theirs": theirs[0],
        "ours_seconds": seconds["ours"],
        "theirs_seconds": seconds["theirs"],
        "ratio": ratio,
    }


def _timed(step: Step, device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _mitsuba(
    scene: BenchScene, settings: BenchSettings, problem: Reconstruction, repeats: int
) -> Iterator[dict[str, Any]]:
    """Mitsuba's path replay backpropagation at one bounce: it also casts shadows, and its images are noisy."""
    from stspbr.bench.mitsuba_baseline import MitsubaStep

    name = "Mitsuba 3, llvm_ad_rgb"
    try:
        theirs = MitsubaStep(scene, settings.batch)
    except StspbrError as error:
        yield {"name": name, "skipped": str(error)}
        return
    ours = (
        "refinement step without the optimiser: maps, light and vertices, losses and smoothness included",
        differentiate(problem),
    )
    for samples in MITSUBA_SAMPLES:
        words = (
            f"prb, direct light with shadows, {samples} samples a pixel forward and backward: maps and environment, "
            "squared error"
        )
        yield take_turns(
            f"{name}, {samples} spp",
            ours,
            (words, partial(theirs, samples)),
            torch.device("cpu"),
            repeats,
        )


def _encodings(settings: BenchSettings, repeats: int) -> Iterator[dict[str, Any]]:
    points = torch.rand(settings.points, 3, generator=torch.Generator().manual_seed(0))
    for levels, size in ((12, 15), (16, 19)):

        def step(backend: str, levels: int = levels, size: int = size) -> Step:
            grid = HashGridEncoding(
                levels, 2, size, 16, 512, generator=torch.Generator().manual_seed(0), backend=backend
            )
            x = points.clone().requires_grad_()

            def run() -> None:
                torch.autograd.grad(grid(x).square().sum(), [grid.table, x])

            return run

        yield take_turns(
            f"hash encoding in plain torch, {levels} levels of 2^{size}",
            (f"Numba kernels, {settings.points} points, gradients by table and points", step("cpu")),
            ("torch operations on the same points", step("torch")),
            torch.device("cpu"),
            repeats,
        )


def _nvdiffrec(
    scene: BenchScene, settings: BenchSettings, problem: Reconstruction, device: torch.device, repeats: int
) -> dict[str, Any]:
    from stspbr.bench.dense_step import WholeImageStep

    name = "nvdiffrec's configuration" + ("" if device.type == "cuda" else ", on our CPU kernels")
    try:
        theirs = WholeImageStep(scene, settings, problem, device)
    except StspbrError as error:
        return {"name": name, "skipped": str(error)}
    return take_turns(
        name,
        ("coarse step, learned light, without the optimiser", differentiate(problem)),
        (f"one network of 16 levels of 2^19 for all channels at every pixel of the images; {theirs.how}", theirs),
        device,
        repeats,
    )
