"""``stspbr compare``: runs side by side, in the terminal, as data and as a page."""

from __future__ import annotations

import json
import sys

import pytest

from stspbr import cli
from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.stages.compare import compare_runs, comparison_table


def make_run(folder, psnr, mae=None, rate=0.01):
    store = ArtifactStore(folder)
    with store.create("bake", settings={"optimize": {"rate": rate, "batch": 4}}, seed=1) as draft:
        (draft.path / "metrics.json").write_text(json.dumps({"held_out": {"psnr_mean": psnr}}))
        draft.run["seconds"] = 10.0
    if mae is not None:
        with store.create("evaluate", settings={}, parents=[draft.artifact], seed=1) as evaluation:
            errors = {"material": {"used": 9, "lit": {"albedo_mae": mae, "albedo_mae_se": 0.001}}, "geometry": {}}
            (evaluation.path / "errors.json").write_text(json.dumps(errors))
            evaluation.run["seconds"] = 1.0
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / "first", 30.0, 0.02),
        make_run(tmp_path / "second", 29.0, 0.01, rate=0.02),
        make_run(tmp_path / "third", 31.0),
    ]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, argv)])
        monkeypatch.chdir(tmp_path)
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return call


def test_metrics_best_and_differences(runs):
    comparison = compare_runs(runs)
    rows = {row.key: row for row in comparison.rows}
    mae = rows["material.lit.albedo_mae"]
    assert mae.values == [0.02, 0.01, None] and mae.best == [1]
    assert mae.differences == [None, pytest.approx(-0.01), None]
    assert mae.difference_texts == ["", "-0.0100", ""]
    psnr = rows["bake.held_out.psnr_mean"]
    assert psnr.values == [30.0, 29.0, 31.0] and psnr.best == [2]
    assert rows["time.bake"].best == []  # all the same
    assert [row.group for row in comparison.rows] == ["Material", "Training", *["Time"] * 3]


def test_only_settings_that_differ(runs):
    assert compare_runs(runs).settings == [("bake.optimize.rate", ["0.01", "0.02", "0.01"])]


def test_rows_for_the_terminal(runs):
    rows = comparison_table(compare_runs(runs))
    assert rows[0] == (
        "Material: lit surface",
        "albedo MAE",
        [("0.0200", "", False), ("0.0100", "-0.0100", True), ("none", "", False)],
    )


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / place / "run", 30.0) for place in ("a", "b")]
    assert compare_runs(runs).names == ["a/run", "b/run"]


def test_the_page_and_the_table(command, runs, tmp_path):
    code, out, err = command("compare", *runs)
    assert (code, err) == (0, "") and "albedo MAE" in out and "0.0100 *" in out and "compare.html" in out
    assert "third: there is no evaluation of this bake" in out
    assert (tmp_path / "compare.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_is_the_whole_table_and_nothing_else(command, runs, tmp_path):
    code, out, _ = command("compare", "--json", *runs)
    data = json.loads(out)
    assert code == 0 and data["page"] is None and not (tmp_path / "compare.html").exists()
    assert [run["name"] for run in data["runs"]] == ["first", "second", "third"]
    assert [run["evaluated"] for run in data["runs"]] == [True, True, False]
    entry = next(row for row in data["metrics"] if row["key"] == "material.lit.albedo_mae")
    assert entry["values"] == [0.02, 0.01, None] and entry["standard_errors"] == [0.001, 0.001, None]
    assert (entry["best"], entry["better"]) == ([1], "low")
    assert data["settings"] == [{"key": "bake.optimize.rate", "values": ["0.01", "0.02", "0.01"]}]
    code, out, _ = command("compare", "--json", *runs, "--out", tmp_path / "b.html")
    assert json.loads(out)["page"] == str(tmp_path / "b.html") and (tmp_path / "b.html").is_file()


def test_user_errors_are_one_line(command, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong, said in (
        ([runs[0]], "two or more runs"),
        ([runs[0], runs[0]], "named twice"),
        ([runs[0], tmp_path / "empty"], "is not a run"),
        ([runs[0], tmp_path / "nowhere"], "no such folder"),
    ):
        code, out, err = command("compare", *wrong)
        assert (code, out) == (2, "") and err.count("\n") == 1 and said in err


def test_library_errors(runs):
    with pytest.raises(StspbrError, match="two or more runs"):
        compare_runs(runs[:1])
