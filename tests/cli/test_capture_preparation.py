"""What `stspbr capture …` says and takes: preparation options, and the check's table."""

from __future__ import annotations

import json
import sys

import pytest

from stspbr import cli
from stspbr.datasets.captures import read_capture


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, argv)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


def test_options_reach_the_frames(command, tiny_run, tmp_path):
    folder = tiny_run / "capture" / "v0001"
    options = ["--crop", "--crop-margin", "0.2", "--max-side", "20", "--light-frame", "camera", "--quiet"]
    assert command("capture", "nerfstudio", tmp_path / "run", folder, *options) == (0, "", "")
    frames = read_capture(tmp_path / "run" / "capture" / "v0001").frames
    assert len(frames) == 8 and max(frames[0].image.shape) == 20
    assert all((frame.camera.camera_to_world[:3, 3] == 0).all() for frame in frames)
    settings = json.loads((tmp_path / "run" / "capture" / "v0001" / "manifest.json").read_text())["settings"]
    wanted = {"crop": True, "crop_margin": 0.2, "max_side": 20, "light_frame": "camera", "image_scale": 1.0}
    assert wanted.items() <= settings.items() and settings["exposure"] == "given"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--light-frame", "moon"], "--light-frame moon: choose world, camera or object"),
        (["--exposure", "auto"], "exposure"),
        (["--image-scale", "0.5"], "image-scale"),
        (["--max-side", "2"], "max-side"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(command, tiny_run, tmp_path, options, wanted):
    code, _, err = command("capture", "nerfstudio", tmp_path / "run", tiny_run / "capture" / "v0001", *options)
    assert code == 2 and wanted in err and "Traceback" not in err
    assert not (tmp_path / "run" / "capture").exists()


def test_the_check_prints_a_table_and_its_warnings(command, tiny_run, tmp_path):
    code, out, err = command("capture", "check", tiny_run, "--out", tmp_path / "out")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["training", "/", "held-out", "views", "6", "/", "2"]
    header = next(line for line in lines if line.startswith("frame "))
    rows = [line for line in lines if line.startswith("images/")]
    assert len(rows) == 8 and all(row.split()[1] in ("train", "test") for row in rows)
    assert header.split()[-1] == "warnings"
    assert any(line.startswith("warning: only 6 training views") and line.endswith("[few-views]") for line in lines)
    assert str(tmp_path / "out" / "check.html") in lines[-1]


def test_the_check_as_json_and_quiet(command, tiny_run, tmp_path):
    code, out, err = command("capture", "check", tiny_run / "capture" / "v0001", "--out", tmp_path / "a", "--json")
    assert code == 0 and err == ""
    metrics = json.loads(out)
    assert metrics["out"] == str(tmp_path / "a") and len(metrics["frames"]) == 8
    assert "few-views" in [finding["code"] for finding in metrics["findings"]]
    assert command("capture", "check", tiny_run, "--out", tmp_path / "b", "--quiet") == (0, "", "")
    assert (tmp_path / "b" / "check.html").is_file()


def test_a_check_of_nothing_is_one_line(command, tmp_path):
    code, out, err = command("capture", "check", tmp_path / "none")
    assert code == 2 and out == "" and err.count("\n") == 1 and "none" in err and "check the path" in err
