"""`capture check --drop`: a new version without some frames, and what it refuses."""

from __future__ import annotations

import shutil

import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.datasets.transforms import read_transforms
from stspbr.errors import StspbrError
from stspbr.stages.capture_check import run_capture_check
from stspbr.stages.capture_drop import drop_frames, dropped_frames


@pytest.fixture
def run(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "capture", tmp_path / "run" / "capture")
    return tmp_path / "run"


def test_frames_are_left_out_and_nothing_else_changes(run):
    check, _ = run_capture_check(run)
    names = [frame.name for frame in check.frames]
    chosen = dropped_frames(check, f"{names[1]},{names[2]}")
    before = ArtifactStore(run).resolve("capture")
    after = drop_frames(run, None, chosen)
    assert chosen == names[1:3] and after.version != before.version
    kept = read_transforms(after.path)
    assert [frame.name for frame in kept.frames] == [name for name in names if name not in chosen]
    assert after.settings == {**before.settings, "dropped": sorted(chosen)}
    assert len(after.files) == len(before.files) - 2
    old = {frame.name: frame for frame in read_transforms(before.path).frames}
    assert all((frame.image == old[frame.name].image).all() for frame in kept.frames)


def test_what_cannot_be_dropped(run):
    check, _ = run_capture_check(run)
    names = [frame.name for frame in check.frames]
    with pytest.raises(StspbrError, match="--drop nonesuch: there is no such frame"):
        dropped_frames(check, "nonesuch")
    with pytest.raises(StspbrError, match="no frame is blurred"):
        dropped_frames(check, "blurred")
    with pytest.raises(StspbrError, match="at least 3 are needed"):
        drop_frames(run, None, names[2:])
    assert len(list((run / "capture").glob("v*"))) == 1
