"""Metrics: names, units and directions; what is best; that nothing is invented where something is missing."""

from __future__ import annotations

import pytest

from stspbr.report.metrics import best, headline, metric_of, metrics, with_unit
from stspbr.report.records import read_record


@pytest.fixture
def found(make_run):
    return {metric.key: metric for metric in metrics(read_record(make_run(logs=False)))}


def test_values_come_with_unit_direction_and_standard_error(found):
    mae = found["material.lit.albedo_mae"]
    assert (mae.value, mae.standard_error, mae.better) == (0.02, 0.0001, "low")
    assert (mae.group, mae.column, mae.label) == ("Material", "lit surface", "albedo MAE")
    assert (mae.text, mae.spread_text) == ("0.0200", "0.0001")
    assert found["material.dark.false_metal_rate"].text == "3.00 %"
    assert found["views.psnr"].text == "31.50 dB" and found["views.psnr"].better == "high"
    assert found["material.lit.roughness_bias"].better == "zero"
    assert found["geometry.f_score_0.5%"].label == "F-score at 0.5 %"
    assert found["geometry.boundary_edges"].better == "low" and found["geometry.boundary_edges"].text == "4"
    assert found["relighting.hall.psnr_scaled"].label == "PSNR, after the scale"
    assert found["light.direction_error"].text == "4.00 °"
    assert found["time.total"].value == pytest.approx(5 * 12.5)


def test_another_asset_has_columns_of_its_own(make_run):
    record = read_record(make_run(logs=False))
    record.errors["other"] = {"name": "theirs.glb", **{k: record.errors[k] for k in ("material", "geometry", "views")}}
    found = {metric.key: metric for metric in metrics(record)}
    theirs = found["other.material.lit.albedo_mae"]
    assert (theirs.group, theirs.column, theirs.better) == ("Material", "theirs.glb: lit surface", "low")
    assert found["other.views.psnr"].column == "theirs.glb: held-out views"
    assert "other.geometry.reference.genus" not in found
    assert not any(metric.key.startswith("other.") for metric in headline(list(found.values())))


def test_what_has_no_number_has_no_row(found):
    assert "views.lpips" not in found and "material.lit.missed_metal_rate" not in found
    assert not any("per_view" in key or "views.count" in key or "matrix" in key or key.endswith("_se") for key in found)


def test_the_reference_has_no_direction(found):
    assert found["geometry.reference.boundary_edges"].better is None
    assert found["geometry.genus"].better is None and found["material.lit.count"].better is None


def test_the_headline_takes_what_there_is(make_run):
    keys = [metric.key for metric in headline(metrics(read_record(make_run(logs=False))))]
    assert keys[0] == "views.psnr" and "bake.held_out.psnr_mean" not in keys
    bare = metrics(read_record(make_run("bare", stages=("capture", "coarse", "specialize", "bake"), logs=False)))
    assert [metric.key for metric in headline(bare)] == ["bake.held_out.psnr_mean"]


@pytest.mark.parametrize(
    ("values", "better", "wanted"),
    [
        ([1.0, 2.0, None], "high", [1]),
        ([1.0, 2.0, None], "low", [0]),
        ([-0.1, 0.3, 0.1], "zero", [0, 2]),
        ([1.0, 1.0], "low", []),  # no contest
        ([1.0, None], "low", []),
        ([1.0, 2.0], None, []),
    ],
)
def test_the_best_run(values, better, wanted):
    assert best(values, better) == wanted


def test_numbers_for_people():
    assert with_unit(0.0042, "%", signed=True) == "+0.42 %"
    assert with_unit(12.0, "n") == "12" and with_unit(1200.0, "s") == "20.0 min"
    assert (
        with_unit(0.0012345, "") == "0.00123" and with_unit(0.012345, "") == "0.0123" and with_unit(0.0, "") == "0.0000"
    )
    assert metric_of("ms_ssim", 0.9).label == "MS-SSIM"
