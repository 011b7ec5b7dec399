"""A tiny run in which every stage is done, and what a stage that goes on leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stspbr.optimize.progress import Reporter
from stspbr.render.light import EnvironmentCube
from stspbr.settings import BakeSettings, CoarseSettings, SpecializeSettings, settings_for
from stspbr.stages.bake import run_bake
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.view_source import RunSource
from stspbr.view.viewer import Viewer

GRIDS = [
    f"fields.{name}.{key}"
    for name in ("appearance", "reflectance")
    for key in ("levels=4", "log2_table_size=12", "finest_resolution=64")
]
STEPS = ["optimize.iterations=2", "optimize.batch=2", "optimize.preview_every=1"]


@pytest.fixture(scope="session")
def finished(tiny_run, tmp_path_factory) -> Path:
    """A run with a capture, a coarse and a specialised result and a bake; tests only read it."""
    run = tmp_path_factory.mktemp("view") / "jar"
    shutil.copytree(tiny_run, run)
    session = Session.open(run, device="cpu", quiet=True)
    run_coarse(
        session, settings_for(CoarseSettings, [*GRIDS, *STEPS, "geometry.resolution=16", "light.mode=learned",
                                               "light.learned_resolution=16"])
    )  # fmt: skip
    run_specialize(session, settings_for(SpecializeSettings, [*STEPS, "survey.at=[]", "light_solve.steps=5"]))
    run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=64", "target_faces=600", "padding=2"]))
    return run


@pytest.fixture
def going_on(finished, tmp_path) -> Path:
    """A copy of the run whose bake goes on: there is a log of this process, a preview and a surface, no artifact."""
    run = tmp_path / "jar"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "bake")
    return run


@pytest.fixture
def dead_process() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def viewer_of(run: Path, lights: list[str] | None = None) -> Viewer:
    """What the tabs share, without a page."""
    session = Session.open(run, device="cpu", quiet=True)
    source = RunSource(session, lights)
    source.prefiltered = lambda light: EnvironmentCube.from_latlong(light, 32).prefilter().detach()  # coarse, but quick
    return Viewer(run, source)


def log(run: Path, stage: str, steps: int, process: int | None = None) -> None:
    """Logged losses and a preview of a stage, by this process or as if by another one."""
    folder = run.parent / f"{run.name}-{stage}-being-written"  # else a page sees a stage
    with Reporter(stage, 100, folder, quiet=True, log_every=1) as reporter:
        for step in range(1, steps + 1):
            reporter.step(step, {"A": 1.0 / step, "mask": 0.5 / step}, {}, {})
        reporter.image("target | result", np.full((8, 16, 3), 0.5), steps)
    (path,), (picture,) = folder.glob("events.out.tfevents.*"), (folder / "previews").iterdir()
    final = run / "logs" / stage
    (final / "previews").mkdir(parents=True, exist_ok=True)
    picture.rename(final / "previews" / picture.name)
    began = int(time.time()) + 5 + len(list(final.iterdir()))  # after all that is finished, and after older logs
    path.rename(final / f"events.out.tfevents.{began}.{socket.gethostname()}.{process or os.getpid()}.0")
    shutil.rmtree(folder)


def tree(run: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file, and the time of every folder, of a run."""
    return {
        str(path.relative_to(run)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in [run, *run.rglob("*")]
    }
