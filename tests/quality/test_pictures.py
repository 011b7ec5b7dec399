"""The page of relit assets: which runs it shows, that pictures stand beside their truth, what it says of bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.formats.images import read_stored, write_png8
from stspbr.quality import pictures
from stspbr.quality.runner import RESULT


def run(home, name, configuration, shade, *, track="path", status="done", relit=True):
    """A finished job of a ladder whose result is a square of a grey in front of a square of white."""
    folder = home / "runs" / f"{name}-{configuration}-{track}-{status}"
    with ArtifactStore(folder).create("evaluate", settings={}) as draft:
        views = [{"name": view, "psnr": 30.0} for view in ("low", "high")]
        for view, left in (("low", 2), ("high", 6)):
            for what, value in (("truth", 1.0), ("result", shade)):
                image = np.zeros((24, 24, 3), np.float32)
                image[left : left + 12, 4:16] = value
                path = draft.path / "relit" / f"square_{view}_{what}.png"
                path.parent.mkdir(exist_ok=True)
                write_png8(path, image, srgb=False)
        errors = {"relighting": {"square": {"per_view": views}} if relit else None}
        (draft.path / "errors.json").write_text(json.dumps(errors))
    record = {"object": name, "configuration": configuration, "track": track, "light_mode": "learned", "seed": 0,
              "status": status, "values": {"roughness_mae": shade, "relit": 30.0}}  # fmt: skip
    (folder / RESULT).write_text(json.dumps(record))


@pytest.fixture
def home(tmp_path):
    run(tmp_path, "bowl", "ours", 0.9)
    run(tmp_path, "bowl", "joint", 0.5)
    run(tmp_path, "bowl", "joint", 0.1, track="same")
    run(tmp_path, "cup", "ours", 0.8)
    run(tmp_path, "cup", "joint", 0.1, status="failed")
    run(tmp_path, "pot", "ours", 0.1, relit=False)
    run(tmp_path, "duck", "ours", 0.1)  # no picture of it may be shown
    return tmp_path


def test_the_page_has_what_was_relit(home, tmp_path, capsys):
    out = tmp_path / "page"
    assert pictures.main([str(home), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["assets.png", "bowl.png", "cup.png", "page.md"]
    page = (out / "page.md").read_text()
    assert "# Relit by square" in page and "| ours | – | – | 0.9000 |" in page and "| joint | – | – | 0.5000 |" in page
    assert page.index("## bowl") < page.index("## cup") and "pot" not in page and "0.1000" not in page
    sheet = read_stored(out / "bowl.png")
    assert {round(255 * 0.9), round(255 * 0.5), 255} <= set(np.unique(sheet))
    assert str(out / "page.md") in capsys.readouterr().out


def test_pictures_are_cut_to_the_object_and_differ_by_what_they_differ(home):
    runs = pictures.find_runs(home, pictures.Choice(objects=("bowl",)))["bowl"]
    ours, lent, joint, truth = pictures._row(runs, pictures.COLUMNS, 1)
    assert lent is None and ours.shape == joint.shape == truth.shape == (16, 16, 3)  # 12 with two of space about it
    none = pictures._difference(truth, truth)
    assert (none == none[0, 0]).all() and pictures._difference(lent, truth) is None
    off = [pictures._difference(picture, truth).sum() for picture in (truth, ours, joint)]
    assert off == sorted(set(off))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objects", "vase"], "no finished, relit run of vase (path-traced, light learned, seed 0)"),
        (["--light", "known"], "no finished, relit run of any object"),
        (["--configurations", "ours,hydra"], "--configurations ours,hydra: choose from joint"),
        (["--view", "-1"], "--view -1: give at least 0"),
    ],
)
def test_bad_input_is_one_line(home, tmp_path, capsys, arguments, message):
    assert pictures.main([str(home), "--out", str(tmp_path / "page"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "page").exists()
