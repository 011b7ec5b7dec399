from __future__ import annotations

import json
import math

import pytest

from stspbr.errors import StspbrError
from stspbr.settings.schedules import PRESETS, evaluate, parse_schedule


def prototype(name: str, step: int, total: int = 1000) -> float:
    """The formulas of the prototype for its N = 1000, by step."""
    half = total // 2
    if name == "coarse.geometry":
        return 10 ** (-0.0002 * step)
    if name == "coarse.A":
        return 1 - 0.32 * step / half if step < half else 0.68 * 10 ** (-0.0001 * (step - half))
    if name == "coarse.B":
        return step / half if step < half else 10 ** (-0.0002 * (step - half))
    if name in ("bake.A", "bake.geometry"):
        return step / 100 if step < 100 else 10 ** (-0.0002 * (step - 100))
    if step < 200:
        return 0.01 + 0.99 * step / 200
    return 1.0 if step < 400 else max(0.1, 1 - (step - 400) / 600)


@pytest.mark.parametrize(
    "name", [name for name in PRESETS if name not in ("constant", "cameras", "cosine", "scenes.widths")]
)
def test_presets_have_the_prototypes_shapes(name):
    for step in range(0, 1000, 7):
        # bake.B goes straight to 0.1 at the end; the prototype went towards 0 and stopped at 0.1
        tolerance = 0.1 if name == "bake.B" and step > 400 else 0.004
        assert evaluate(PRESETS[name], step / 1000) == pytest.approx(prototype(name, step), abs=tolerance)


def test_presets_parse_and_survive_json():
    for name, schedule in PRESETS.items():
        again = parse_schedule(json.loads(json.dumps(schedule)))
        assert again == schedule == parse_schedule(name)


def test_pieces_are_linear_or_exponential_and_constant_outside():
    schedule = [(0.2, 1.0, "linear"), (0.4, 3.0, "exponential"), (0.8, 0.03, "linear")]
    assert [evaluate(schedule, t) for t in (0.0, 0.2, 0.3, 0.4)] == pytest.approx([1.0, 1.0, 2.0, 3.0])
    assert [evaluate(schedule, t) for t in (0.6, 0.8, 1.0)] == pytest.approx([0.3, 0.03, 0.03])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("coarse.C", "no preset 'coarse.C'.*coarse.B"),
        ([], "list of knots"),
        (3, "list of knots"),
        ([[0.0, 1.0]], "knot 0.*expected"),
        ([[0.0, 1.0, "linear"], "end"], "knot 1.*expected"),
        ([[1.5, 1.0, "linear"]], "knot 0.*fraction"),
        ([[0.0, -1.0, "linear"]], "knot 0.*value"),
        ([[0.0, float("nan"), "linear"]], "knot 0.*value"),
        ([[0.0, True, "linear"]], "knot 0.*value"),
        ([[0.0, 1.0, "cubic"]], "knot 0.*cubic"),
        ([[0.5, 1.0, "linear"], [0.5, 1.0, "linear"]], "knot 1.*after"),
        ([[0.0, 0.0, "exponential"], [1.0, 1.0, "linear"]], "knot 1.*exponential"),
        ([[0.0, 1.0, "exponential"], [1.0, 0.0, "linear"]], "knot 1.*exponential"),
    ],
)
def test_bad_schedules_are_refused_with_their_place(values, message):
    with pytest.raises(StspbrError, match=f"^rates.light: .*{message}"):
        parse_schedule(values, "rates.light")


def test_the_cosine_is_one():
    for t in (0.0, 0.1, 0.37, 0.5, 0.93, 1.0):
        assert evaluate(PRESETS["cosine"], t) == pytest.approx(0.5 + 0.5 * math.cos(math.pi * t), abs=0.006)


def test_widths_of_scenes_wait_move_and_rest():
    found = [evaluate(PRESETS["scenes.widths"], t) for t in (0.0, 0.25, 0.4, 0.6, 0.7, 0.8, 1.0)]
    assert found == pytest.approx([0, 0, 1, 1, 1, 0, 0])
