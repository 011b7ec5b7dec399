"""``stspbr bench``: what it prints and what it writes."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from stspbr import cli
from stspbr.stages.bench import comparison_table, ray_table, step_table


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stspbr", "bench", *argv])
        code, threads = 0, torch.get_num_threads()
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        torch.set_num_threads(threads)
        return code, *capsys.readouterr()

    return run


def test_json_and_the_file_hold_the_same(command, tmp_path):
    out = tmp_path / "folder" / "bench.json"
    code, text, errors = command("--settings", "tiny", "--steps", "1", "--json", "--out", str(out))
    result = json.loads(text)
    assert code == 0 and errors == ""
    assert json.loads(out.read_text()) == result
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    assert result["schema"] == 1 and result["settings"]["name"] == "tiny" and result["comparisons"] == []
    assert set(result["steps"]) == {f"{s}, {k} light" for s in ("coarse", "refinement") for k in ("known", "learned")}
    machine = result["machine"]
    assert machine["torch"] == torch.__version__ and machine["numba"] and machine["cores"] >= 1
    assert machine["device"] == "cpu" and machine["cpu"]

    assert [row["name"] for row in result["rays"]] == ["numba", "embreex", "mitsuba"]
    heading, rows = step_table(result)
    assert heading[1:] == list(result["steps"])
    labels = [row[0] for row in rows]
    assert {"shade, forward", "shade, backward", "optimizer", "backward, rest", "step", "peak memory"} <= set(labels)
    assert len(labels) == len(set(labels))


def test_unknown_settings_are_one_line(command, tmp_path):
    code, _, errors = command("--settings", "large", "--out", str(tmp_path / "x.json"))
    assert code == 2
    assert errors == "stspbr: --settings large: unknown; choose cpu, gpu, tiny\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_gpu_settings_without_a_gpu_say_what_is_missing(command):
    code, _, errors = command("--settings", "gpu")
    assert code == 2
    assert errors.startswith("stspbr: --device cuda: torch finds no CUDA device")


def test_ratios_and_reasons_are_rows():
    ratio = {"wall": [2.0, 1.5, 2.5], "cpu": [3.0, 2.0, 4.0]}
    result = {"comparisons": [{"name": "a", "ratio": ratio}, {"name": "b", "skipped": "not installed"}]}
    assert comparison_table(result)[1] == [
        ["a", "2.0 (1.5 to 2.5)", "3.0 (2.0 to 4.0)"],
        ["b", "skipped", "not installed"],
    ]


def test_rays_and_missing_backends_are_rows():
    rates = {"wall": 3e6, "cpu": 2e6}
    result = {"rays": [{"name": "a", "any": rates, "closest": rates}, {"name": "b", "skipped": "not installed"}]}
    assert ray_table(result)[1] == [["a", "2.00 (3.00)", "2.00 (3.00)"], ["b", "skipped", "not installed"]]
