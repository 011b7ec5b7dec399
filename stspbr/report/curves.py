"""The curves of a run: every scalar that the stages wrote for TensorBoard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One scalar over the steps of a stage; ``steps`` increase, ``values`` are finite."""

    steps: list[int]
    values: list[float]


def read_curves(run: Path, stages: tuple[str, ...]) -> dict[str, dict[str, Curve]]:
    """Stage to tag (``loss/mask``, ``learning rate/geometry``, …) to curve; stages without a log are absent."""
    found = {stage: CurveReader(run / "logs" / stage).read() for stage in stages}
    return {stage: curves for stage, curves in found.items() if curves}


def latest_previews(run: Path, stages: tuple[str, ...]) -> dict[str, Path]:
    """Stage to its last preview picture."""
    out = {}
    for stage in stages:
        pictures = sorted((run / "logs" / stage / "previews").glob("*.png"), key=lambda path: (_step(path), path.name))
        if pictures:
            out[stage] = pictures[-1]
    return out


def thinned(curve: Curve, limit: int = MAX_POINTS) -> Curve:
    """At most ``limit`` points: means over intervals of equal length; the first and the last point are kept."""
    count = len(curve.steps)
    if count <= limit:
        return curve
    edges = [round(1 + k * (count - 2) / (limit - 2)) for k in range(limit - 1)]
    steps, values = curve.steps[:1], curve.values[:1]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        steps.append(curve.steps[(start + end - 1) // 2])
        values.append(math.fsum(curve.values[start:end]) / (end - start))
    return Curve([*steps, curve.steps[-1]], [*values, curve.values[-1]])


class CurveReader:
    """The scalars of one stage's log, which may be going on: every ``read`` reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: Any = None

    def read(self) -> dict[str, Curve]:
        """Tag to curve; nothing if there is no log."""
        if not self._folder.is_dir() or not any(self._folder.glob("events.out.tfevents.*")):
            return {}
        if self._events is None:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

            kinds = ("compressedHistograms", "images", "audio", "histograms", "tensors")
            guidance = {"scalars": 0, **dict.fromkeys(kinds, 1)}
            self._events = EventAccumulator(str(self._folder), size_guidance=guidance)
        self._events.Reload()
        curves = {}
        for tag in self._events.Tags()["scalars"]:
            curve = _without_rewritten_steps([(event.step, event.value) for event in self._events.Scalars(tag)])
            if curve.steps:
                curves[tag] = curve
        return curves


def _without_rewritten_steps(points: list[tuple[int, float]]) -> Curve:
    """If a stage was run again in the same folder, the later run's steps replace the earlier ones."""
    steps: list[int] = []
    values: list[float] = []
    for step, value in points:
        while steps and steps[-1] >= step:
            steps.pop()
            values.pop()
        if math.isfinite(value):
            steps.append(int(step))
            values.append(float(value))
    return Curve(steps, values)


def _step(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1
