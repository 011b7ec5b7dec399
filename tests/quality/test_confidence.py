"""Figures of stds against errors, and the table and the resuming of their command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stspbr.metrics.light import main_lights
from stspbr.quality import confidence as command
from stspbr.quality.confidence_cases import OBJECTS, Case
from stspbr.quality.confidence_checks import near_a_lamp
from stspbr.quality.confidence_figures import (
    area_under_curve,
    by_confidence,
    correlations,
    factors,
    rank_figures,
    within,
)
from stspbr.scene.light import EnvironmentLight, latlong_to_direction


def test_errors_of_a_gaussian_rank_and_lie_as_their_std_says():
    rng = np.random.default_rng(0)
    std = np.exp(rng.uniform(-5.0, -1.0, size=(20_000, 1))) * np.ones(5)
    error = np.abs(rng.normal(size=std.shape) * std)
    found = rank_figures(std, error)
    assert all(own["within"] == pytest.approx(0.954, abs=0.01) for own in found.values())
    assert all(own["monotone"] and own["ratio"] > 15 for own in found.values())
    assert found["albedo"]["spearman"] > found["roughness"]["spearman"] > 0.6  # the mean of three errors is steadier
    shuffled = rank_figures(std, rng.permutation(error))
    assert found["roughness"]["ceiling"] == pytest.approx(found["roughness"]["spearman"], abs=0.02)
    assert shuffled["roughness"]["ceiling"] > 0.6  # it asks no error
    assert abs(shuffled["roughness"]["spearman"]) < 0.03 and shuffled["roughness"]["ratio"] < 1.5


def test_area_under_the_curve_counts_pairs():
    score, positive = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    # pairs: .35 beats .1, not .4; .8 beats both; .4 beats .1 and ties .4
    assert area_under_curve(score, positive) == pytest.approx((1 + 2 + 1.5) / 6)
    assert area_under_curve(score, np.zeros(5, bool)) is None


def test_factors_bring_the_errors_of_their_own_object_within_two_std():
    rng = np.random.default_rng(1)
    std = rng.uniform(0.01, 0.1, size=(5000, 5))
    error = np.abs(rng.normal(size=std.shape)) * std * 3.0
    found = factors(std, error)
    assert found["roughness"] == pytest.approx(3.0 * 1.96 / 2.0, rel=0.05)
    assert within(std, error, found) == {name: pytest.approx(0.95, abs=1e-3) for name in found}


def test_correlations_are_per_channel_and_none_without_change():
    rng = np.random.default_rng(2)
    one = rng.normal(size=(400, 5))
    two = one.copy()
    two[:, 3] *= -1.0
    two[:, 4] = 0.0
    assert correlations(one, two) == {"albedo": pytest.approx(1.0), "roughness": pytest.approx(-1.0), "metallic": None}


def test_errors_by_confidence_leave_empty_ranges_out():
    sure, before, after = np.array([0.05, 0.2, 0.2]), np.array([0.4, 0.2, 0.4]), np.array([0.2, 0.2, 0.2])
    rows = by_confidence(sure, before, after)
    assert [(row["from"], row["to"]) for row in rows] == [(-1.0, 0.1), (0.1, 0.3), (-1.0, 2.0)]
    assert rows[1]["before"] == pytest.approx(0.3) and rows[1]["after"] == pytest.approx(0.2)


def test_the_usual_weight_of_a_texel_is_not_that_of_the_many_that_a_filter_grazes():
    from stspbr.quality.confidence_trials import _usual

    grazed, shown = torch.full((90, 100, 1), 1e-4), torch.full((10, 100, 1), 0.3)
    assert _usual([grazed, shown]) == pytest.approx(0.3)


def test_some_objects_were_never_looked_at_while_tuning():
    assert {name for name, own in OBJECTS.items() if not own.tuned} >= {"letters", "gunmetal", "boombox"}
    assert Case("letters", "path", "small").stage_settings("coarse").transport.mode == "on"
    assert Case("letters", "same", "small").stage_settings("bake").confidence.fill == "off"


def test_what_mirrors_any_part_of_a_lamp_is_near_it():
    radiance = np.full((90, 180, 3), 0.1, np.float32)
    radiance[40:50, :20] = radiance[40:50, -20:] = 5.0  # 80° wide, across the seam, behind the camera
    radiance[44:46, 100:102] = 100.0  # a small lamp
    light = EnvironmentLight(radiance)
    lamps = np.stack([direction for direction, _ in main_lights(light)])

    def asked(u, v):
        return bool(near_a_lamp(light, lamps, latlong_to_direction(np.array([[u / 180, v / 90]])))[0])

    assert asked(0, 45) and asked(18, 45) and asked(24, 45) and asked(162, 42)
    assert not asked(30, 45) and not asked(0, 60) and not asked(150, 45)
    assert asked(101, 45) and asked(104, 45) and not asked(110, 45) and not asked(60, 20)


VALUES = {
    "ranks": {
        "ranks": {
            name: {"spearman": 0.5, "ratio": 9.0, "monotone": True, "within": 0.9, "auc": 0.8}
            for name in ("albedo", "roughness", "metallic")
        },
        "fill": {"roughness": {"roughness": [{"from": -1.0, "to": 0.1, "before": 0.4, "after": 0.3}]}},
        "lamps": {"never": None, "mirrored": 0.9},
        "shares_off_by": 2e-6,
        "jacobian_off_by": {"albedo": 0.001, "roughness": 0.02, "metallic": 0.001},
    },
    "removal": {"views": [{"same": {"correlation": {"albedo": 0.7, "roughness": 0.5, "metallic": None}}}]},
    "five": {
        "errors": {
            "none": {"albedo": 9.0},
            "chosen": {"albedo": 1.0},
            "random 0": {"albedo": 1.0},
            "random 1": {"albedo": 3.0},
        }
    },
    "time": {"share": 0.2},
}


def test_a_second_call_finds_what_the_first_did_and_the_table_marks_what_misses(tmp_path, monkeypatch, capsys):
    ran = []

    def work(case, part, home, threads):
        ran.append((case.label, part))
        if part == "five" and case.track == "path":
            raise command.StspbrError("nothing is seen")
        values = json.loads(json.dumps(VALUES[part]))
        if part == "five":
            for own in values["errors"].values():
                own |= {"roughness": 1.0, "metallic": 1.0}
        return values

    monkeypatch.setattr(command, "_work", work)
    arguments = ["letters", "--home", str(tmp_path)]
    assert command.main(arguments) == 1  # five failed on one track
    assert len(ran) == 8
    assert command.main(arguments) == 1 and len(ran) == 9  # only that one again
    assert command.main([*arguments, "--tracks", "same"]) == 0 and len(ran) == 9
    text = (tmp_path / "table-small.md").read_text()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]] for line in text.splitlines()
            if line.startswith("| ")}  # fmt: skip
    assert "letters (never tuned on)" in text
    assert rows["five views chosen, error ÷ random ones', all: albedo"] == ["0.500", "≤ 1.000"]
    same, path = text.split("Path-traced")
    assert "| Spearman of std and error: roughness | **0.50** | ≥ 0.60 |" in same
    assert "| Spearman of std and error: roughness | 0.50 | ≥ 0.45 |" in path
    assert "| a view removed, correlation: roughness | **0.50** | ≥ 0.60 |" in same
    assert "| J off finite differences | **0.0200** | ≤ 0.0100 |" in same
    assert "| fill, error after ÷ before: roughness, confidence < 0.1 | 0.75 | ≤ 1.00 |" in same
    assert "confidence's share of the stage's CPU time, default steps | **0.20**" in same
    assert "no lamp's mirror direction" not in text  # no object has a value there


def test_other_settings_are_other_records(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(command, "_work", lambda *how: ran.append(how) or VALUES["time"])
    case = Case("letters", "same", "small")
    command.carry_out(case, "time", tmp_path, 1)
    monkeypatch.setattr(Case, "stage_settings", lambda self, stage, *more: OTHER)
    command.carry_out(case, "time", tmp_path, 1)
    assert len(ran) == 2


class OTHER:
    @staticmethod
    def model_dump(mode: str) -> dict:
        return {"iterations": 1}


def test_unknown_objects_and_missing_assets_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("STSPBR_ASSETS", raising=False)
    assert command.main(["vase", "boombox", "--tracks", "same", "--parts", "ranks", "--home", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "vase: no such object; choose from jar" in said and "set STSPBR_ASSETS" in said
