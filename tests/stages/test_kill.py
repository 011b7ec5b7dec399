"""A stage that is killed outright leaves nothing half-written, and goes on to the very same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session

OVERRIDES = [
    *(f"fields.{name}.{key}" for name in ("appearance", "reflectance") for key in ("levels=4", "log2_table_size=12")),
    "geometry.resolution=14",
    "light.mode=learned",
    "light.learned_resolution=16",
    "optimize.iterations=60",
    "optimize.batch=2",
    "optimize.checkpoint_every=2",
    "optimize.preview_every=1000",
    "normals_from=0.5",
]
PATIENCE = 120  # seconds until a process that does not get going fails the test


def command(run, *options: str) -> list[str]:
    settings = [word for override in OVERRIDES for word in ("--set", override)]
    common = ["--device", "cpu", "--threads", "1", "--quiet"]
    return [sys.executable, "-m", "stspbr", "coarse", str(run), *common, *options, *settings]


def kill_after_a_checkpoint(process: subprocess.Popen, run) -> None:
    """SIGKILL as soon as two checkpoints have been written."""
    deadline, seen = time.monotonic() + PATIENCE, set()
    while len(seen) < 2:
        assert process.poll() is None, f"it ended before it could be killed, with {process.returncode}"
        assert time.monotonic() < deadline, "no checkpoint was written"
        seen |= {path.stat().st_mtime_ns for path in (run / ".checkpoints" / "coarse").glob("*.pt")}
        time.sleep(0.002)
    process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_stage_resumes_to_the_same_bits(tiny_run, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        shutil.copytree(tiny_run / "capture", folder / "capture")

    with subprocess.Popen(command(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        session = Session.open(whole, device="cpu", threads=1, quiet=True)
        kill_after_a_checkpoint(process, run)

    store = ArtifactStore(run)
    assert [row.stage for row in store.list()] == ["capture"]
    with pytest.raises(StspbrError, match="no finished 'coarse'"):
        store.resolve("coarse")
    assert not list(run.glob("coarse/*"))
    assert len(list((run / ".checkpoints" / "coarse").glob("*.pt"))) == 1

    resumed = subprocess.Popen(command(run, "--resume"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    expected = run_coarse(session, settings_for(CoarseSettings, OVERRIDES))  # meanwhile: the machine has time
    said, _ = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0, said

    found = store.resolve("coarse")
    assert found.version == "v0001"
    assert found.manifest["files"] == expected.manifest["files"]  # every payload file's name, size and SHA-256
    assert found.content_hash == expected.content_hash
    assert not list((run / ".checkpoints" / "coarse").glob("*.pt"))
    assert len(store.list()) == 2
