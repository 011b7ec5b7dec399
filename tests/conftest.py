"""Shared fixtures: a tiny capture of the procedural jar, and a session to work in."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium of the system with an empty profile; tests skip where it or playwright is absent."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            headless=False,  # the flags ask for the new headless mode themselves
            args=CHROMIUM_FLAGS,
        )
        yield context
        context.close()


@pytest.fixture
def new_page(browser):
    """``new_page(home, width, height)`` opens an empty page.

    At the end nothing may have gone wrong on any, and all that was asked for has an address that begins with ``home``.
    """
    pages, errors, strangers = [], [], []

    def make(home: str, width: int, height: int):
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        own = (home, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(own) or strangers.append(request.url))
        return page

    yield make
    for page in pages:
        page.close()
    assert errors == []
    assert strangers == []


@pytest.fixture(scope="session", autouse=True)
def filtered_lights(tmp_path_factory):
    """Filter each known light once, whatever runs and workers want it: many tests render by the same few lights.

    The folder is new in every session. Tests of the filter itself ask for ``unremembered_lights``.
    """
    prefilter = sys.modules.get("stspbr.render.prefilter")
    if prefilter is None:  # no test that was collected renders
        yield
        return
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "filtered-lights"
    folder.mkdir(exist_ok=True)
    compute = prefilter._prefilter_arrays

    @functools.wraps(compute)
    def remembered(radiance, base_resolution):
        path = prefilter._cache_path(radiance, base_resolution, folder)
        arrays = prefilter._read_cache(path)
        if arrays is None:
            arrays = compute(radiance, base_resolution)
            prefilter._write_cache(path, arrays)
        return arrays

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "_prefilter_arrays", remembered)
        yield


@pytest.fixture(scope="module")
def coarse_lights():
    """Known lights are filtered at 128² and not at 256²: a quarter of the work, and enough for runs of few pixels."""
    from stspbr.render import prefilter

    compute = prefilter._prefilter_arrays
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "_prefilter_arrays", lambda radiance, _: compute(radiance, 128))
        yield


@pytest.fixture
def unremembered_lights(monkeypatch):
    """Known lights are filtered whenever they are asked for."""
    from stspbr.render import prefilter

    monkeypatch.setattr(prefilter, "_prefilter_arrays", prefilter._prefilter_arrays.__wrapped__)


@pytest.fixture
def session(tmp_path):
    """A quiet session in an empty run folder."""
    from stspbr.stages.session import Session

    return Session.open(tmp_path / "run", device="cpu", quiet=True)


@pytest.fixture
def interrupted(monkeypatch):
    """``with interrupted(step):`` a stage is interrupted, as by Ctrl-C, when it is about to report that step."""
    from stspbr.optimize.progress import Reporter

    @contextlib.contextmanager
    def at(step: int):
        original = Reporter.step

        def interrupting(reporter, done, *rest):
            if done == step:
                raise KeyboardInterrupt
            original(reporter, done, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Reporter, "step", interrupting)
            with pytest.raises(KeyboardInterrupt):
                yield

    return at


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
