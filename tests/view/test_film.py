"""Films: as many frames as there are pictures, in each format, and clear errors."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stspbr import cli
from stspbr.errors import StspbrError
from stspbr.stages.session import Session
from stspbr.stages.view import Turntable, run_turntable
from stspbr.view.film import write_film


def pictures(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    return [np.full((height, width, 3), 40 * k, np.uint8) for k in range(count)]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animated_pictures(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    assert write_film(path, pictures(5), fps=20) == 5
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.info["loop"] == 0
        for k in range(5):
            film.seek(k)
            film.load()
            assert film.info["duration"] == 50
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - 40 * k).max() <= 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_film_as_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v2 as imageio

    path = tmp_path / "film.mp4"
    assert write_film(path, pictures(6, height=33, width=49), fps=24) == 6
    with imageio.get_reader(path) as reader:
        frames = [np.asarray(frame) for frame in reader]
        assert reader.get_meta_data()["fps"] == pytest.approx(24)
    assert len(frames) == 6 and frames[0].shape == (32, 48, 3)
    assert [abs(frame.mean() - 40 * k) < 8 for k, frame in enumerate(frames)] == [True] * 6


def test_what_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(StspbrError, match=r"cannot write \.avi: use \.mp4, \.webp, \.gif"):
        write_film(tmp_path / "film.avi", pictures(2), 10)
    with pytest.raises(StspbrError, match="no picture"):
        write_film(tmp_path / "film.gif", [], 10)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        StspbrError, match=r"films as MP4 need the package imageio-ffmpeg: pip install 'stspbr\[view\]'"
    ):
        write_film(tmp_path / "film.mp4", pictures(2), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_turn_about_a_run(finished, tmp_path):
    done = CliRunner().invoke(
        cli.app, ["view", str(finished), "--turntable", str(tmp_path / "a.gif"), "--frames", "3", "--size", "64",
                  "--channel", "albedo", "--json", "--device", "cpu"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert '"frames": 3' in done.output
    with Image.open(tmp_path / "a.gif") as film:
        frames = [np.asarray(film.convert("RGB")).astype(int) for k in range(film.n_frames) if film.seek(k) is None]
    assert len(frames) == 3 and frames[0].shape == (64, 64, 3)
    assert all(np.ptp(frame) > 50 for frame in frames) and np.abs(frames[0] - frames[1]).mean() > 1


def test_a_capture_of_photos_shows_them(tiny_run, tmp_path):
    """Without the file that it was rendered from, a capture has its photos only."""
    from stspbr.artifacts import ArtifactStore

    run = tmp_path / "run"
    old = ArtifactStore(tiny_run).resolve("capture")
    with ArtifactStore(run).create("capture", settings={**old.settings, "asset": "gone.glb"}, seed=0) as draft:
        for name in old.files:
            (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old.file(name), draft.path / name)
    session = Session.open(run, device="cpu", quiet=True)
    assert run_turntable(session, tmp_path / "a.webp", Turntable(size=64, fps=5), []) == 8
    with Image.open(tmp_path / "a.webp") as film:
        assert film.n_frames == 8 and film.size == (64, 64)
        assert np.ptp(np.asarray(film.convert("RGB"))) > 60


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--show", "bake/v0007"], "--show bake/v0007: choose newest, bake/v0001"),
        (["--channel", "gloss"], "--channel gloss: choose shaded, albedo"),
        (["--light", "moon"], "--light moon: choose its own; --lights adds files"),
        (["--lights", "nothing.hdr"], "nothing.hdr"),
    ],
)
def test_a_wrong_option_is_one_line(finished, tmp_path, options, line):
    done = CliRunner().invoke(
        cli.app, ["view", str(finished), "--turntable", str(tmp_path / "a.gif"), "--device", "cpu", *options]
    )
    assert isinstance(done.exception, StspbrError) and line in str(done.exception)
    assert not (tmp_path / "a.gif").exists()
