"""`stspbr capture colmap|nerfstudio|llff|orb` and `stspbr export dataset`: in, out, and one line where it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from stspbr import cli
from stspbr.datasets.captures import EXPORT_KINDS, read_capture
from stspbr.datasets.transforms import read_transforms


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_out_and_in_again(command, tiny_run, tmp_path, kind):
    if kind == "colmap":
        pytest.importorskip("pycolmap")
    out = tmp_path / "deep/out"
    code, said, err = command("export", "dataset", tiny_run, "--to", kind, "--out", out, "--image-format", "png16")
    assert (code, said) == (0, f"{out}\n"), err
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing half-written beside it
    up = "+y" if kind in ("llff", "colmap") else "auto"
    code, said, err = command("capture", kind, tmp_path / "run", out, "--up", up)
    assert code == 0, err
    first = read_transforms(tiny_run / "capture/v0001")
    second = read_transforms(tmp_path / "run/capture/v0001")
    assert second.light is not None and [f.split for f in second.frames].count("test") == 2
    poses = {frame.split: frame.camera.camera_to_world for frame in reversed(second.frames)}
    expected = {frame.split: frame.camera.camera_to_world for frame in reversed(first.frames)}
    for split in ("train", "test"):
        assert poses[split] == pytest.approx(expected[split], abs=1e-9)


def test_other_images_and_text(command, tiny_run, tmp_path):
    pytest.importorskip("pycolmap")
    options = ["--to", "colmap", "--text", "--image-format", "exr", "--json", "--from", "v0001"]
    code, said, _ = command("export", "dataset", tiny_run, "--out", tmp_path / "out", *options)
    facts = json.loads(said)
    assert code == 0 and facts == {"dataset": str(tmp_path / "out"), "kind": "colmap", "warnings": []}
    assert (tmp_path / "out/sparse/0/cameras.txt").is_file() and len(list(tmp_path.glob("out/images/*.exr"))) == 8
    assert read_capture(tmp_path / "out").frames[0].saturation == np.inf


def test_one_line_where_it_fails(command, tiny_run, tmp_path):
    place = tmp_path / "taken"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    for words, wanted in (
        (("export", "dataset", tiny_run, "--to", "llff", "--out", place), "not empty"),
        (("export", "dataset", tiny_run, "--to", "film", "--out", tmp_path / "a"), "choose llff, nerf, nerfstudio"),
        (("export", "dataset", tiny_run, "--to", "llff", "--out", tmp_path / "a", "--image-format", "gif"), "gif"),
        (("export", "dataset", tmp_path, "--to", "llff", "--out", tmp_path / "a"), "stspbr capture"),
        (("export", "dataset", tiny_run, "--to", "llff", "--out", tmp_path / "taken/mine.txt/a"), "mine.txt"),
        (("capture", "llff", tmp_path / "run", place), "poses_bounds.npy does not exist"),
        (("capture", "colmap", tmp_path / "run", place), "contains no COLMAP model"),
        (("capture", "orb", tmp_path / "run", place), "not a Stanford-ORB scene"),
        (("capture", "nerfstudio", tmp_path / "run", place, "--up", "west"), "--up west: choose auto, +y"),
    ):
        code, out, err = command(*words)
        assert code == 2 and wanted in err and err.startswith("stspbr: ") and err.count("\n") == 1, (words, err)
        assert "Traceback" not in out + err
    assert [path.name for path in place.iterdir()] == ["mine.txt"] and not (tmp_path / "a").exists()
    assert not (tmp_path / "run/capture").exists() and not list(Path(tmp_path).glob(".*partial*"))


def test_what_the_reader_says_is_passed_on(command, tiny_run, tmp_path):
    pytest.importorskip("pycolmap")
    command("export", "dataset", tiny_run, "--to", "colmap", "--out", tmp_path / "out")
    picture = next((tmp_path / "out/images").iterdir())
    (tmp_path / "out/images/zzz.png").write_bytes(picture.read_bytes())
    code, _, err = command("capture", "colmap", tmp_path / "run", tmp_path / "out")
    assert code == 0 and "stspbr: warning: 1 (zzz.png) of 9 images have no pose" in err
    facts = json.loads((tmp_path / "run/capture/v0001/run.json").read_text())
    assert facts["warnings"][0].startswith("1 (zzz.png)")
    assert len(facts["warnings"]) == len(set(facts["warnings"]))


@pytest.mark.parametrize("name", ["capture llff", "capture colmap", "capture orb", "export dataset"])
def test_every_command_explains_itself(command, name):
    code, out, err = command(*name.split(), "--help")
    assert code == 0 and not err and "RUN" in out
