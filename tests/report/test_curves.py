"""Curves out of the TensorBoard logs."""

from __future__ import annotations

import math

import pytest

from stspbr.optimize.progress import Reporter
from stspbr.report.charts import compared_charts, run_charts
from stspbr.report.curves import Curve, latest_previews, read_curves, thinned


def write(folder, stage, values, total=None):
    with Reporter(stage, total or len(values), folder / "logs" / stage, quiet=True, log_every=1) as reporter:
        for step, value in enumerate(values, 1):
            reporter.step(step, {"mask": value, "A": 2.0 * value}, {"geometry": 0.01}, {})


def test_every_scalar_of_every_stage(tmp_path):
    write(tmp_path, "coarse", [4.0, 2.0, 1.0])
    curves = read_curves(tmp_path, ("coarse", "bake"))
    assert list(curves) == ["coarse"]
    assert curves["coarse"]["loss/mask"] == Curve([1, 2, 3], [4.0, 2.0, 1.0])
    assert curves["coarse"]["learning rate/geometry"].values == pytest.approx([0.01] * 3)


def test_a_later_run_of_the_stage_stands_in_place_of_the_earlier(tmp_path):
    write(tmp_path, "coarse", [9.0, 8.0, 7.0, 6.0])
    write(tmp_path, "coarse", [3.0, math.nan, 1.0])
    assert read_curves(tmp_path, ("coarse",))["coarse"]["loss/mask"] == Curve([1, 3], [3.0, 1.0])


def test_long_curves_are_thinned_by_means():
    long = Curve(list(range(1, 1002)), [float(k) for k in range(1, 1002)])
    short = thinned(long, 101)
    assert len(short.steps) == 101 and short.steps == sorted(set(short.steps))
    assert (short.values[0], short.values[-1], short.steps[-1]) == (1.0, 1001.0, 1001)
    assert all(abs(value - step) <= 5.0 for step, value in zip(short.steps, short.values, strict=True))
    assert thinned(short, 101) is short


def test_charts_leave_the_times_out_and_put_totals_first(tmp_path):
    write(tmp_path, "coarse", [4.0, 2.0])
    curves = {"coarse": {"loss/A/logl1": Curve([1], [1.0]), **read_curves(tmp_path, ("coarse",))["coarse"]}}
    charts = run_charts(curves)
    assert [chart["title"] for chart in charts] == ["coarse: losses", "coarse: learning rates"]
    assert [line["name"] for line in charts[0]["choices"][0]["series"]] == ["mask", "A", "A/logl1"]


def test_compared_charts_have_a_line_a_run():
    one, other = {"coarse": {"loss/A": Curve([1, 2], [4.0, 2.0])}}, {"coarse": {"loss/B": Curve([1], [5.0])}}
    (chart,) = compared_charts(["one", "other"], [one, other])
    assert [choice["label"] for choice in chart["choices"]] == ["A", "B"]
    assert [[line["name"] for line in choice["series"]] for choice in chart["choices"]] == [["one"], ["other"]]


def test_the_last_preview(tmp_path):
    folder = tmp_path / "logs" / "bake" / "previews"
    folder.mkdir(parents=True)
    for step in (5, 1000, 200):
        (folder / f"target_result_{step:06d}.png").write_bytes(b"")
    assert latest_previews(tmp_path, ("coarse", "bake")) == {"bake": folder / "target_result_001000.png"}
