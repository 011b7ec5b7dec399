"""Time the steps of a problem: medians by part, throughput, peak memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from stspbr.bench.machine import peak_bytes, read_clocks, reset_peak
from stspbr.bench.profile import PartClock
from stspbr.bench.scenes import SteadyProblem
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.views import batch_ids
from stspbr.render.gbuffer import render_gbuffer
from stspbr.settings import OptimizeSettings

PARTS = (
    "frames", "light", "geometry", "rasterize", "material", "shade", "antialias", "losses", "smoothness", "optimizer",
    "rest",
)  # fmt: skip
"""The loop's names: ``frames`` gathers the views, ``geometry`` extracts the mesh and its normals, ``rasterize``
includes interpolation, ``material`` is encoding and network or the texture look-ups, ``losses`` includes the shape's
regularisers."""


def measure(
    problem: Reconstruction, settings: OptimizeSettings, device: torch.device, steps: int, warm_up: int
) -> dict[str, Any]:
    """Metrics of one problem, all seconds per step.

    Returns:
        ``wall``/``cpu``: median of undisturbed steps, with ``wall_quartiles``; ``parts``: by name and direction, from
        further steps under the clock; ``pixels``, ``covered``, ``triangles`` per step; ``pixels_per_second``,
        ``covered_per_second``; ``peak_bytes`` of the undisturbed steps.
    """
    reset_peak(device)
    walls: list[float] = []
    cpus: list[float] = []
    _run(problem, settings, device, warm_up + steps, Stopwatch(), lambda _: None, _Intervals(device, walls, cpus))
    peak = peak_bytes(device)
    walls, cpus = walls[warm_up:], cpus[warm_up:]
    clock = PartClock(device)
    _run(problem, settings, device, 1 + steps, clock, clock.watch_backward, clock)
    parts = _medians(clock.steps[1:])
    wall = statistics.median(walls)
    covered, triangles = _sizes(problem, settings, steps)
    height, width = problem.views.resolution
    pixels = settings.batch * height * width
    return {
        "wall": wall,
        "wall_quartiles": _quartiles(walls),
        "cpu": statistics.median(cpus),
        "steps": steps,
        "parts": parts,
        "pixels": pixels,
        "covered": covered,
        "triangles": triangles,
        "pixels_per_second": pixels / wall,
        "covered_per_second": covered / wall,
        "peak_bytes": peak,
    }


def _run(
    problem: Reconstruction,
    settings: OptimizeSettings,
    device: torch.device,
    steps: int,
    watch: Stopwatch,
    after_forward: Callable[[list], None],
    reporter: Any,
) -> None:
    """The loop of the stages, without previews and checkpoints."""
    length = {"iterations": steps, "checkpoint_every": steps + 1, "preview_every": steps + 1}
    steady, settings = SteadyProblem(problem, after_forward), settings.model_copy(update=length)
    optimize(steady, settings, reporter=reporter, checkpoints=None, resume=False, device=device, watch=watch)


class _Intervals:
    """A reporter that measures the time between the ends of steps."""

    def __init__(self, device: torch.device, walls: list[float], cpus: list[float]) -> None:
        self._device, self._walls, self._cpus = device, walls, cpus
        self._last = read_clocks(device)

    def step(self, *_: object) -> None:
        now = read_clocks(self._device)
        self._walls.append(now[0] - self._last[0])
        self._cpus.append(now[1] - self._last[1])
        self._last = now


def _medians(steps: list[dict[tuple[str, str], tuple[float, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median ``wall`` and ``cpu`` by part and direction; the loop's "backward" is split into parts and "rest"."""
    tidy = []
    for step in steps:
        step = dict(step)
        whole = step.pop(("backward", "forward"), (0.0, 0.0))
        named = [value for (part, way), value in step.items() if way == "backward" and part != "rest"]
        wall, cpu = (whole[k] - sum(value[k] for value in named) for k in range(2))
        step["rest", "backward"] = wall, cpu
        step["whole", "backward"] = whole
        tidy.append(step)
    keys = dict.fromkeys(key for step in tidy for key in step)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for part, direction in sorted(keys, key=lambda key: (_order(key[0]), key[1] == "backward")):
        values = [step.get((part, direction), (0.0, 0.0)) for step in tidy]
        wall, cpu = (statistics.median(value[k] for value in values) for k in range(2))
        out.setdefault(part, {})[direction] = {"wall": wall, "cpu": cpu}
    return out


def _order(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)


def _quartiles(values: list[float]) -> list[float]:
    low, _, high = statistics.quantiles(values * 2 if len(values) == 1 else values, n=4, method="inclusive")
    return [low, high]


@torch.no_grad()
def _sizes(problem: Reconstruction, settings: OptimizeSettings, steps: int) -> tuple[float, int]:
    """Mean number of covered pixels per step (over at most four steps), and of triangles."""
    surface = problem.geometry.surface()
    counts = []
    for step in range(min(steps, 4)):
        views, _ = problem.views.batch(batch_ids(step, len(problem.views), settings.batch, problem.seed))
        counts.append(len(render_gbuffer(surface, views, problem.backend).covered))
    return float(statistics.mean(counts)), len(surface.faces)
