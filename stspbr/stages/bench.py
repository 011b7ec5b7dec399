"""Bench: seconds per step by part at fixed settings, rays per second, and ratios to alternatives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stspbr.bench.baselines import compare_with_peers
from stspbr.bench.machine import describe_machine
from stspbr.bench.measure import measure
from stspbr.bench.rays import QUERIES, measure_rays
from stspbr.bench.scenes import make_problems, make_scene
from stspbr.bench.settings import bench_settings
from stspbr.files import atomic_path
from stspbr.stages.session import Session

SCHEMA = 1
_WARM_UP = 3


def run_bench(
    session: Session,
    name: str,
    *,
    steps: int,
    out: Path | None = None,
    compare: bool = False,
    repeats: int = 5,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure the settings ``name`` on the session's device.

    Args:
        steps: timed steps, after a few to warm up, and as many again under the clock that splits them into parts.
        out: JSON file for the result; written beside and renamed.
        compare: also time the alternatives, ``repeats`` times in turns; rays are always cast so often.
        log: called with one line per step of the work.

    Returns:
        ``schema`` (1), ``settings``, ``machine``, ``steps`` by name (see ``bench.measure.measure``), ``rays`` (see
        ``bench.rays``; empty on CUDA) and ``comparisons`` (see ``bench.baselines``).

    Raises:
        StspbrError: unknown settings.
    """
    settings, device, backend = bench_settings(name), session.device, session.backend
    log("making the scene")
    scene = make_scene(settings, backend, device)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "settings": {**vars(settings), "triangles": settings.triangles, "warm_up": _WARM_UP},
        "machine": describe_machine(device, session.threads),
        "steps": {},
        "rays": [],
        "comparisons": [],
    }
    problems = {}
    for step, optimize, problem in make_problems(scene, settings, backend, device):
        log(f"timing: {step}")
        result["steps"][step] = measure(problem, optimize, device, steps, _WARM_UP)
        problems[step] = problem
    if device.type == "cpu":
        log("timing: rays")
        result["rays"] = measure_rays(scene, settings, repeats)
    if compare:
        for comparison in compare_with_peers(scene, settings, problems, device, repeats):
            log(f"compared: {comparison['name']}")
            result["comparisons"].append(comparison)
    if out is not None:
        with atomic_path(out) as path:
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def step_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows for a terminal: wall (CPU) milliseconds of every part, forward and backward, of every step."""
    steps, rows = result["steps"], []
    for part in dict.fromkeys(part for step in steps.values() for part in step["parts"]):
        for way in ("forward", "backward"):
            cells = [step["parts"].get(part, {}).get(way) for step in steps.values()]
            if any(cells):
                label = _ALONE.get(part, f"{part}, {way}")
                rows.append([label, *("" if cell is None else _milliseconds(cell) for cell in cells)])
    rows.append(["step", *map(_milliseconds, steps.values())])
    for label, key in (("covered pixels/s", "covered_per_second"), ("image pixels/s", "pixels_per_second")):
        rows.append([label, *(f"{step[key]:,.0f}" for step in steps.values())])
    rows.append(["triangles", *(f"{step['triangles']:,}" for step in steps.values())])
    rows.append(["peak memory", *(f"{step['peak_bytes'] / 2**20:,.0f} MiB" for step in steps.values())])
    return ["wall (CPU) ms", *steps], rows


def comparison_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows: how many times as long the alternative takes."""
    rows = []
    for comparison in result["comparisons"]:
        if "skipped" in comparison:
            cells = ["skipped", comparison["skipped"]]
        else:
            cells = [_ratio(comparison["ratio"][clock]) for clock in ("wall", "cpu")]
        rows.append([comparison["name"], *cells])
    return ["instead of ours", "times as long (wall)", "times the CPU time"], rows


def ray_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows: millions of rays per second of one thread and of all."""
    rows = []
    for backend in result["rays"]:
        if "skipped" in backend:
            cells = ["skipped", backend["skipped"]]
        else:
            cells = [f"{backend[query]['cpu'] / 1e6:.2f} ({backend[query]['wall'] / 1e6:.2f})" for query in QUERIES]
        rows.append([backend["name"], *cells])
    return ["rays by", "any hit, Mray/s per thread (all, wall)", "closest hit"], rows


_ALONE = {"optimizer": "optimizer", "whole": "backward, whole", "rest": "backward, rest"}


def _milliseconds(cell: dict[str, float]) -> str:
    return f"{cell['wall'] * 1e3:.1f} ({cell['cpu'] * 1e3:.1f})"


def _ratio(values: list[float]) -> str:
    middle, low, high = values
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
