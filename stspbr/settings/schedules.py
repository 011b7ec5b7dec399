"""Learning-rate multipliers and regulariser ramps as functions of t = step / total steps of the stage.

Fractions instead of step numbers, so that a run of another length has the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stspbr.errors import StspbrError

Shape = Literal["linear", "exponential"]
Schedule = list[tuple[float, float, Shape]]
"""Knots (t, value, shape): ``shape`` is the interpolation from this knot to the next one."""

PRESETS: Mapping[str, Schedule] = {
    "constant": [(0.0, 1.0, "linear")],
    "cosine": [(k / 16, 0.5 + 0.5 * math.cos(math.pi * k / 16), "linear") for k in range(17)],
    # The prototype's 10^(-0.0002 step) over 1000 steps.
    "coarse.geometry": [(0.0, 1.0, "exponential"), (1.0, 0.63, "exponential")],
    "coarse.A": [(0.0, 1.0, "linear"), (0.5, 0.68, "exponential"), (1.0, 0.606, "exponential")],
    "coarse.B": [(0.0, 0.0, "linear"), (0.5, 1.0, "exponential"), (1.0, 0.794, "exponential")],
    "cameras": [(0.0, 1.0, "linear"), (0.7, 1.0, "exponential"), (1.0, 0.1, "exponential")],
    "bake.geometry": [(0.0, 0.0, "linear"), (0.1, 1.0, "exponential"), (1.0, 0.66, "exponential")],
    "bake.A": [(0.0, 0.0, "linear"), (0.1, 1.0, "exponential"), (1.0, 0.66, "exponential")],
    "scenes.widths": [
        (0.0, 0.0, "linear"),
        (0.25, 0.0, "linear"),
        (0.4, 1.0, "linear"),
        (0.7, 1.0, "linear"),
        (0.8, 0.0, "linear"),
    ],
    "bake.B": [(0.0, 0.01, "linear"), (0.2, 1.0, "linear"), (0.4, 1.0, "linear"), (1.0, 0.1, "linear")],
}
"""The prototype's shapes as fractions of the stage (A falls while B rises; refinement warms up and then decays), a
constant, and half a cosine. Widths of partitions wait until every factor has been learned, and rest when borders are
hard."""


def evaluate(schedule: Sequence[tuple[float, float, Shape]], t: float) -> float:
    """Value of the schedule at ``t``; before its first and after its last knot it is constant."""
    if t <= schedule[0][0]:
        return schedule[0][1]
    for (start, first, shape), (end, second, _) in zip(schedule, schedule[1:], strict=False):
        if t < end:
            s = (t - start) / (end - start)
            if shape == "exponential":
                return first * (second / first) ** s
            return first + (second - first) * s
    return schedule[-1][1]


def parse_schedule(values: Any, where: str = "schedule") -> Schedule:
    """A schedule from a recipe: the name of a preset, or a list of triples ``[t, value, shape]``.

    Args:
        values: knots with t in [0, 1] strictly ascending and values >= 0, or a key of ``PRESETS``.
        where: for errors, e.g. ``"coarse.optimize.rates.light"``.

    Raises:
        StspbrError: anything else; the line gives the knot's number.
    """
    if isinstance(values, str):
        if values not in PRESETS:
            raise StspbrError(f"{where}: no preset {values!r}; choose {', '.join(PRESETS)}")
        return list(PRESETS[values])
    if not isinstance(values, Sequence) or not values:
        raise StspbrError(f"{where}: expected a list of knots [t, value, 'linear' or 'exponential']")
    knots: Schedule = []
    for number, knot in enumerate(values):
        if not isinstance(knot, Sequence) or isinstance(knot, str) or len(knot) != 3:
            raise StspbrError(f"{where}: knot {number}: expected [t, value, 'linear' or 'exponential'], not {knot!r}")
        t, value, shape = knot
        if not _is_number(t) or not 0 <= t <= 1:
            raise StspbrError(f"{where}: knot {number}: t is a fraction of the stage in [0, 1], not {t!r}")
        if not _is_number(value) or value < 0:
            raise StspbrError(f"{where}: knot {number}: the value is a finite number >= 0, not {value!r}")
        if shape not in ("linear", "exponential"):
            raise StspbrError(f"{where}: knot {number}: shape is 'linear' or 'exponential', not {shape!r}")
        if knots and t <= knots[-1][0]:
            raise StspbrError(f"{where}: knot {number}: t = {t} does not come after {knots[-1][0]}")
        if knots and knots[-1][2] == "exponential" and (value == 0 or knots[-1][1] == 0):
            raise StspbrError(f"{where}: knot {number}: an exponential piece cannot start or end at 0; use 'linear'")
        knots.append((float(t), float(value), shape))
    return knots


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
