"""Several processes: the result of one, one writer, one line where one of them fails, and --resume to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stspbr.artifacts import ArtifactStore
from stspbr.render.light import _SCALE_PACE
from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session

SCRIPT = Path(__file__).with_name("two_processes.py")
GRIDS = [
    *(f"fields.{name}.{key}" for name in ("appearance", "reflectance") for key in ("levels=4", "log2_table_size=12")),
    "geometry.resolution=14",
    "light.mode=learned",
    "light.learned_resolution=16",
    "normals_from=0.5",
    "optimize.batch=3",
    "optimize.checkpoint_every=4",
    "optimize.preview_every=6",
    "optimize.log_every=1",
]
# from this start few entries have gradients that are mere rounding; from 0.09 more than a tenth of the light's have
FEW = [*GRIDS, "optimize.iterations=3", "fields.initial_metallic=0.15"]
# with cells that are halved on both at step 6
MORE = [*GRIDS, "optimize.iterations=12", "geometry.levels=1", "geometry.subdivide_at=[0.5]", "geometry.band_refresh=2"]
RECIPE = """
name = "tiny"
seed = 3

[capture]
kind = "mesh"
asset = "procedural:demo"
light = "procedural:demo"
views = 6
test_views = 2
resolution = 32
supersample = 1

[coarse]
geometry.resolution = 16
fields.appearance = { levels = 4, log2_table_size = 12, finest_resolution = 64 }
fields.reflectance = { levels = 4, log2_table_size = 12, finest_resolution = 64 }
optimize = { iterations = 12, batch = 3 }

[specialize]
optimize = { iterations = 12, batch = 3 }

[bake]
texture_resolution = 128
target_faces = 600
padding = 2
optimize = { iterations = 12, batch = 3 }

[evaluate]
samples = 2000
views = 1
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stspbr"]
PATIENCE = 600  # seconds until processes that do not end fail the test


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(rank: int, port: int, *arguments: str) -> subprocess.Popen:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    environment = {**os.environ, **{name: str(value) for name, value in {**place, **address}.items()}}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def two(tiny_run, tmp_path_factory):
    """What two processes left and said: the folder, and (exit code, stdout, stderr) of each."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("few", "whole", "stopped", "failed"):
        shutil.copytree(tiny_run / "capture", folder / name / "capture")
    port = free_port()
    processes = [start(rank, port, str(SCRIPT), str(folder), json.dumps(FEW), json.dumps(MORE)) for rank in range(2)]
    try:
        said = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return folder, [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def learned(path) -> dict[str, np.ndarray]:
    """An artifact's parameters; of a light its logarithm, whatever part of it the common scale has taken."""
    tensors = load_file(path)
    if "cube.common" in tensors:
        scale = _SCALE_PACE * tensors.pop("cube.common")
        tensors["cube.log_radiance"] = tensors["cube.log_radiance"] + scale
    return tensors


def test_two_processes_learn_what_one_learns(two, tiny_run, tmp_path):
    folder, _ = two
    one = tmp_path / "one"
    shutil.copytree(tiny_run / "capture", one / "capture")
    session = Session.open(one, device="cpu", threads=1, quiet=True)
    alone = run_coarse(session, settings_for(CoarseSettings, FEW))
    both = ArtifactStore(folder / "few").resolve("coarse")
    assert both.settings == alone.settings and both.files == alone.files
    for name in ("fields", "geometry", "light"):
        mine, theirs = (learned(a.file(f"{name}.safetensors")) for a in (alone, both))
        for key in mine:
            # Adam makes one length of every gradient: entries whose gradient is mere rounding move as they like
            assert np.quantile(np.abs(mine[key] - theirs[key]), 0.9) <= 1e-4 * np.abs(mine[key]).mean(), (name, key)


@pytest.mark.parametrize("rank", [0, 1])
def test_exchanges_leave_the_same_on_both(two, rank):
    folder, _ = two
    assert json.loads((folder / f"exchanges{rank}").read_text()) == {
        "gradients": [[1.0, 2.0, 3.0], [[3.0, 3.0], [3.0, 3.0]], None],
        "state": [0, [False, True]],
        "values": {"a": 2.0, "b": 2.0},
        "first": 0,
        "gathered": [[0.0, 7.0], [1.0, 7.0]],
    }


def test_an_interrupted_job_resumes_to_the_same_bits(two):
    folder, _ = two
    hashes = [(folder / f"hashes{rank}").read_text().split() for rank in range(2)]
    assert hashes[0] == hashes[1]
    whole, stopped = (ArtifactStore(folder / name).resolve("coarse") for name in ("whole", "stopped"))
    assert [whole.content_hash, stopped.content_hash] == hashes[0][1:]
    assert whole.manifest["files"] == stopped.manifest["files"]
    assert whole.version == stopped.version == "v0001"
    assert json.loads((whole.path / "run.json").read_text())["processes"] == 2
    assert not list((folder / "stopped" / ".checkpoints" / "coarse").glob("*"))


def test_one_rank_writes(two):
    folder, _ = two
    assert [row.version for row in ArtifactStore(folder / "whole").list() if row.stage == "coarse"] == ["v0001"]
    assert len(list((folder / "whole" / "logs" / "coarse").glob("events.*"))) == 1
    assert len(list((folder / "whole" / "logs" / "coarse" / "previews").glob("*.png"))) == 2


def interrupt_after_a_checkpoint(process: subprocess.Popen, run: Path) -> None:
    """Ctrl-C for torchrun as soon as a checkpoint stands."""
    deadline = time.monotonic() + PATIENCE
    while not list((run / ".checkpoints" / "coarse").glob("*.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_under_torchrun_itself(tiny_run, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        shutil.copytree(tiny_run / "capture", folder / "capture")
    options = [w for override in [*GRIDS, "optimize.iterations=100"] for w in ("--set", override)]

    def torchrun(folder: Path, *more: str) -> subprocess.Popen:
        command = [*TORCHRUN, "coarse", str(folder), "--device", "cpu", "--threads", "1", *more, *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with torchrun(run) as process:
        interrupt_after_a_checkpoint(process, run)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert error.count("stspbr: interrupted; run the same command with --resume") == 1
    assert not list(run.glob("coarse/*"))
    for folder, more in ((run, ["--resume"]), (whole, [])):
        with torchrun(folder, *more) as process:
            output, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, error
        assert ("resumed at step" in output) == bool(more)
        assert output.count("wrote") == 1
    results = [ArtifactStore(folder).resolve("coarse") for folder in (run, whole)]
    assert results[0].content_hash == results[1].content_hash


@pytest.mark.slow
def test_a_whole_recipe_under_torchrun(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    out = tmp_path / "run"
    command = [*TORCHRUN, "run", str(recipe), "--out", str(out), "--device", "cpu", "--threads", "1"]
    for again in (False, True):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("is up to date") == (6 if again else 0)
        assert done.stdout.count("error against the known asset") == 1
        rows = ArtifactStore(out).list()
        assert sorted(row.stage for row in rows) == sorted(
            ["capture", "coarse", "specialize", "bake", "unpack-orm", "evaluate"]
        )
        assert {(row.version, row.state) for row in rows} == {("v0001", "complete")}
    page = subprocess.run([*TORCHRUN, "report", str(out)], capture_output=True, text=True, timeout=PATIENCE)
    assert page.returncode == 0 and page.stdout.count("report.html") == 1


def test_a_failing_rank_ends_all_with_one_line(two):
    folder, ends = two
    assert [code for code, _, _ in ends] == [2, 2], ends
    assert [error for _, _, error in ends] == ["stspbr: process 1 of 2: made to fail\n", ""]
    assert [output for _, output, _ in ends] == ["", ""]
    assert not list((folder / "failed" / "coarse").glob("*"))
