"""Shared fixtures: a tiny capture of the procedural jar, and a session to work in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stspbr.threads import prepare_process

prepare_process()

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"


@pytest.fixture(scope="session")
def shared_assets() -> Path:
    """The folder of real assets; tests that want it skip where it is absent."""
    if not ASSETS.is_dir():
        pytest.skip(f"{ASSETS} is absent")
    return ASSETS


NODE_JUDGES = Path(__file__).resolve().parent / "node"


@pytest.fixture(scope="session")
def node_judge() -> Callable[..., bytes]:
    """Run a script of ``tests/node``: ``node_judge("validate.js", path, …, data=b"")`` gives what it prints.

    Tests that want it skip where node or its packages are absent (``npm ci`` in that folder; ``make test`` does it).
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (NODE_JUDGES / "node_modules" / "gltf-validator").is_dir():
        pytest.skip("tests/node has no packages: npm ci in that folder, or make test")

    def judge(script: str, *arguments: str | Path, data: bytes = b"") -> bytes:
        command = [node, str(NODE_JUDGES / script), *map(str, arguments)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return judge


@pytest.fixture
def session(tmp_path):
    """A quiet session in an empty run folder."""
    from stspbr.stages.session import Session

    return Session.open(tmp_path / "run", device="cpu", quiet=True)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A run folder that holds a capture of the jar: 6 + 2 views of 32²."""
    from stspbr.settings import CaptureMeshSettings
    from stspbr.stages.capture import run_capture
    from stspbr.stages.session import Session

    run = tmp_path_factory.mktemp("tiny")
    settings = CaptureMeshSettings(
        asset="procedural:demo", light="procedural:demo", views=6, test_views=2, resolution=32, supersample=1
    )
    run_capture(Session.open(run, device="cpu", quiet=True), settings)
    return run
