"""The table's arithmetic with numbers that are known, and its files."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math

import numpy as np
import pytest

from stspbr.quality.metrics import METRICS, read_values
from stspbr.quality.statistics import Statistic, compare, count_outcomes, judge, statistic, targets
from stspbr.quality.table import as_csv, as_json, markdown, write_tables

BY_NAME = {metric.name: metric for metric in METRICS}


def record(configuration: str, seed: int, track: str = "same", mode: str = "known", error: str | None = None, **values):
    return {
        "job": f"ball-studio-{track}-{mode}-{configuration}-s{seed}",
        "object": "ball",
        "light": "studio",
        "track": track,
        "light_mode": mode,
        "configuration": configuration,
        "seed": seed,
        "status": "failed" if error else "done",
        "error": error,
        "values": values,
        "source": "s",
    }


RECORDS = [
    record("joint", 0, roughness_mae=0.10, psnr=30.0, false_metal=5.0, step_seconds=0.10),
    record("joint", 1, roughness_mae=0.14, psnr=32.0, false_metal=5.0, step_seconds=0.10),
    record("ours", 0, roughness_mae=0.03, psnr=31.5, false_metal=1.0, step_seconds=0.12),
    record("ours", 1, roughness_mae=0.05, psnr=30.5, false_metal=1.0, step_seconds=0.12),
    record("floor", 0, roughness_mae=0.02, psnr=40.0, false_metal=0.0),
    record("floor", 1, roughness_mae=0.02, psnr=40.0, false_metal=0.0),
]


def test_mean_and_sample_standard_deviation():
    assert statistic([1.0, 2.0, 4.5]) == Statistic(2.5, pytest.approx(math.sqrt(3.25)), 3)
    assert statistic([1.0, None, 3.0]) == Statistic(2.0, pytest.approx(math.sqrt(2.0)), 2)
    assert statistic([7.0]) == Statistic(7.0, None, 1)
    assert statistic([None]) is None and statistic([]) is None


def test_verdicts():
    error, score = BY_NAME["roughness_mae"], BY_NAME["psnr"]
    low, high = Statistic(0.04, 0.01, 3), Statistic(0.12, 0.03, 3)
    verdict = judge(error, low, high, Statistic(0.02, 0.0, 3))
    assert verdict.outcome == "better" and verdict.difference == pytest.approx(-0.08)
    assert verdict.spread == pytest.approx(math.hypot(0.01, 0.03)) and verdict.floor_ratio == pytest.approx(2.0)
    assert judge(error, high, low, None).outcome == "worse"
    assert judge(score, high, low, None).outcome == "better"
    assert judge(score, low, high, None).outcome == "worse"
    assert judge(error, Statistic(0.10, 0.02, 2), Statistic(0.12, 0.02, 2), None).outcome == "within"
    # farther apart than the spread, yet two seeds are too few to tell
    assert judge(error, Statistic(0.04, 0.01, 2), Statistic(0.12, 0.03, 2), None).outcome == "within"
    steady = judge(error, Statistic(0.1, 0.0, 2), Statistic(0.2, 0.0, 2), None)
    assert (steady.outcome, steady.p_value, steady.spread) == ("better", 0.0, 0.0)
    assert judge(error, Statistic(0.1, 0.0, 2), Statistic(0.2, 0.001, 2), None).outcome == "better"
    zero = Statistic(0.0, 0.0, 2)
    assert judge(error, zero, zero, zero).outcome == "equal"
    assert judge(error, zero, zero, zero).floor_ratio is None
    assert judge(error, Statistic(0.1, None, 1), low, None).outcome == "unknown"
    assert judge(error, None, low, None).outcome == "absent"


def test_the_p_value_is_that_of_all_permutations():
    """Welch's test of two larger samples against the share of relabellings that differ as much."""
    rng = np.random.default_rng(5)
    ours, joint = rng.normal(0.0, 1.0, 9), rng.normal(1.1, 1.0, 9)
    verdict = judge(BY_NAME["roughness_mae"], statistic(ours), statistic(joint), None)
    pooled, difference = np.concatenate([ours, joint]), abs(ours.mean() - joint.mean())
    sums = pooled[np.array(list(itertools.combinations(range(18), 9)))].sum(axis=1)
    extreme = np.abs(2 * sums - pooled.sum()) / 9 >= difference - 1e-12
    assert verdict.p_value == pytest.approx(extreme.mean(), rel=0.15)


def test_groups_rows_and_counts():
    (comparison,) = compare(RECORDS)
    assert comparison.group == ("ball", "studio", "same", "known")
    assert list(comparison.rows) == ["joint", "ours", "floor"]
    assert comparison.rows["joint"]["roughness_mae"] == Statistic(pytest.approx(0.12), pytest.approx(0.02828427), 2)
    outcomes = {name: verdict.outcome for name, verdict in comparison.verdicts.items() if verdict.outcome != "absent"}
    assert outcomes == {
        "roughness_mae": "within",
        "false_metal": "better",
        "psnr": "equal",
        "step_seconds": "worse",
    }
    counts = count_outcomes([comparison])
    assert counts["better"] == counts["within"] == counts["worse"] == counts["equal"] == 1
    assert sum(counts.values()) == sum(metric.judged for metric in METRICS)


def test_targets():
    (comparison,) = compare(RECORDS)
    found = {target.what: target for target in targets(comparison)}
    assert found["false metal %"].met and found["roughness MAE"].met
    assert found["metallic MAE"].met is None  # not measured is not met
    ratio = found["CPU s/step over joint's"]
    assert ratio.value == pytest.approx(1.2) and ratio.met is False


def test_assets_have_limits_of_their_own():
    values = {
        "roughness_mae": 0.04,
        "metallic_mae": 0.02,
        "albedo_psnr_scaled": 34.0,
        "relit": 31.0,
        "false_metal": 0.1,
    }
    learned, known = (record("ours", 0, "path", mode, **values) | {"object": "bob"} for mode in ("learned", "known"))
    found = {target.what: target.met for target in targets(compare([learned])[0])}
    assert found == {
        "false metal %": True, "roughness MAE": True, "metallic MAE": True, "albedo PSNR scaled dB": True,
        "relit PSNR dB": False,
    }  # fmt: skip
    found = {target.what: target.met for target in targets(compare([known])[0])}
    assert found == {"false metal %": True, "roughness MAE": False, "metallic MAE": False}


def test_the_baseline_that_is_lent_everything_has_its_own_verdicts():
    lent = [record("joint-lent", seed, roughness_mae=0.03 + 0.02 * seed, psnr=40.0) for seed in (0, 1)]
    (comparison,) = compare(RECORDS + lent)
    assert comparison.lent["roughness_mae"].outcome == "equal" and comparison.lent["psnr"].outcome == "worse"
    assert comparison.verdicts["roughness_mae"].outcome == "within" and not compare(RECORDS)[0].lent
    text = markdown([comparison], {})
    assert (
        "| ours − joint |" in text
        and "| ours − joint-lent |" in text
        and "joint-lent |" not in markdown(compare(RECORDS), {})
    )
    assert as_json([comparison], [], {})["groups"][0]["verdicts_against_lent"]["roughness_mae"]["difference"] == 0.0


def test_path_traced_groups_have_both_floors():
    path = [
        record("ours", 0, "path", roughness_mae=0.07),
        record("floor", 0, "path", roughness_mae=0.05),
        record("ours", 0, "path", "learned", roughness_mae=0.08),
    ]
    known, learned = compare(RECORDS + path)[1:]
    for group in (known, learned):
        assert group.rows["floor"]["roughness_mae"].mean == 0.05
        assert group.rows["floor, same shading"]["roughness_mae"].mean == pytest.approx(0.02)
        assert not group.verdicts  # there is no baseline to compare with
    (met,) = [t for t in targets(known) if t.what.startswith("roughness")]
    (missed,) = [t for t in targets(learned) if t.what.startswith("roughness")]
    assert met.limit == pytest.approx(0.075) and met.met and not missed.met


def test_failures_stand_in_the_table():
    records = [*RECORDS, record("ours", 2, error="step 7: the loss term B is not finite")]
    (comparison,) = compare(records)
    assert comparison.rows["ours"]["roughness_mae"].n == 2
    assert comparison.failures == {"ours": ["seed 2: step 7: the loss term B is not finite"]}
    text = markdown([comparison], {})
    assert "2 (1 failed)" in text and "- failed: ours, seed 2: step 7" in text


def test_a_group_where_all_failed_is_still_there():
    (comparison,) = compare([record("ours", 0, error="no"), record("joint", 0, roughness_mae=0.1)])
    assert comparison.rows["ours"]["roughness_mae"] is None
    assert comparison.verdicts["roughness_mae"].outcome == "absent"
    assert "| ours | 0 (1 failed) | – |" in markdown([comparison], {})


def test_files(tmp_path):
    write_tables(tmp_path, RECORDS, {"ladder": "test", "skipped": ["spot: skipped"]})
    text = (tmp_path / "table.md").read_text()
    assert "| joint | 2 |" in text and "0.1200 ± 0.0283" in text and "-0.0800 ± 0.0316" in text
    assert "ball under studio, same shading, light known" in text and "spot: skipped" in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    (row,) = [r for r in rows if (r["configuration"], r["metric"]) == ("ours", "roughness_mae")]
    assert float(row["mean"]) == pytest.approx(0.04) and float(row["spread"]) == pytest.approx(math.sqrt(2) * 0.01)
    assert row["n"] == "2" and float(row["floor"]) == pytest.approx(0.02)
    (row,) = [r for r in rows if (r["configuration"], r["metric"]) == ("ours", "chamfer")]
    assert row["mean"] == "" and row["n"] == "0"
    data = json.loads((tmp_path / "table.json").read_text())
    assert data["schema"] == 1 and len(data["jobs"]) == 6
    assert data["groups"][0]["rows"]["ours"]["roughness_mae"]["n"] == 2
    assert data["outcomes"]["better"] == 1 and data["groups"][0]["verdicts"]["roughness_mae"]["p_value"] > 0.05
    assert "| p |  | – |" not in text and "Welch's t-test over the seeds gives p ≤ 0.05" in text


def test_an_empty_ladder_has_a_table(tmp_path):
    assert write_tables(tmp_path, [], {"ladder": "small"}) == []
    assert "nothing to compare yet" in (tmp_path / "table.md").read_text()
    assert len(as_csv([]).splitlines()) == 1


class FakeArtifact:
    def __init__(self, path, settings=None):
        self.path, self.settings = path, settings
        self.manifest = {"device": "cpu"}

    def file(self, name):
        return self.path / name


def test_values_come_from_the_artifacts(tmp_path):
    lit = {"albedo_mae": 0.02, "roughness_mae": 0.03, "metallic_mae": 0.01, "false_metal_rate": 0.125}
    lit |= {"missed_metal_rate": None}
    errors = {
        "material": {"lit": lit},
        "geometry": {"chamfer_l1": 0.001, "f_score_0.5%": 0.99},
        "bake": {"mesh": {"boundary_edges": 4}, "held_out": {"psnr_mean": 31.0}},
    }
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "errors.json").write_text(json.dumps(errors))
    done = {"evaluate": FakeArtifact(tmp_path / "evaluate")}
    for stage, (steps, pace) in {"coarse": (100, 0.1), "specialize": (200, 0.2), "bake": (100, 0.3)}.items():
        (tmp_path / stage).mkdir()
        facts = {"seconds": 10.0, "seconds_per_step": {"step": 9 * pace, "cpu": pace}}
        (tmp_path / stage / "run.json").write_text(json.dumps(facts))
        (tmp_path / stage / "metrics.json").write_text("{}")
        done[stage] = FakeArtifact(tmp_path / stage, {"optimize": {"iterations": steps}})
    values = read_values(done)
    assert set(values) == set(BY_NAME)
    assert values["false_metal"] == 12.5 and values["missed_metal"] is None and values["normal_angle"] is None
    assert values["boundary_edges"] == 4 and values["psnr"] == 31.0
    assert values["step_seconds"] == pytest.approx(0.2) and values["wall_seconds"] == 30.0
    errors["views"] = {"psnr": 29.0}
    (tmp_path / "evaluate" / "errors.json").write_text(json.dumps(errors))
    assert read_values(done)["psnr"] == 29.0
    (tmp_path / "bake" / "metrics.json").write_text('{"convergence": {"steps": 300}}')  # more than the plan has
    assert read_values(done)["step_seconds"] == pytest.approx((10 + 40 + 90) / 600)
