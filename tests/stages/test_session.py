"""Which device and which backends a session takes, on this machine and on described ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render.backend import get_backend
from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages import session as module
from stspbr.stages.session import Session, _device


def described(monkeypatch, *, cuda: int, raster: str | None = None):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(module, "why_no_gpu_backend", lambda device: raster)


@pytest.mark.parametrize(
    ("machine", "name", "raster", "wanted"),
    [
        (dict(cuda=0), "auto", "auto", "cpu"),
        (dict(cuda=1), "auto", "auto", "cuda"),
        (dict(cuda=1), "auto", "nvdiffrast", "cuda"),
        (dict(cuda=1), "auto", "cpu", "cpu"),
        (dict(cuda=1), "cpu", "auto", "cpu"),
        (dict(cuda=2), "cuda:1", "auto", "cuda:1"),
        (dict(cuda=1), "auto", "warp", "cuda"),
        (dict(cuda=0), "auto", "warp", "cpu"),
        (dict(cuda=1, raster="warp-lang is not installed"), "auto", "auto", "cpu"),
        (dict(cuda=1, raster="warp-lang cannot be imported: undefined symbol"), "auto", "auto", "cpu"),
    ],
)
def test_device(monkeypatch, machine, name, raster, wanted):
    described(monkeypatch, **machine)
    assert str(_device(name, raster)) == wanted


def test_the_device_that_is_named_becomes_the_current_one(monkeypatch, tmp_path):
    described(monkeypatch, cuda=2)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(module, "get_backend", lambda name, device: get_backend("cpu", torch.device("cpu")))
    monkeypatch.setattr("stspbr.fields.backend.why_no_tinycudann", lambda: "tinycudann is not installed")
    session = Session.open(tmp_path, device="cuda:1", backend="nvdiffrast", quiet=True)
    assert current == [torch.device("cuda:1")] and session.encoding == "torch"


@pytest.mark.parametrize(
    ("machine", "name", "message"),
    [
        (dict(cuda=0), "cuda", "finds no CUDA device"),
        (dict(cuda=2), "cuda:2", "finds 2 CUDA"),
        (dict(cuda=1), "mps", "only cpu and cuda"),
        (dict(cuda=1), "gpu", "unknown"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, machine, name, message):
    described(monkeypatch, **machine)
    with pytest.raises(StspbrError, match=message):
        _device(name, "auto")


@pytest.mark.parametrize(
    ("backend", "encoding"),
    [("auto", "cpu"), ("cpu", "cpu"), ("auto+torch", "torch"), ("cpu+torch", "torch"), ("cpu+auto", "cpu")],
)
def test_backends_of_a_session(tmp_path, backend, encoding):
    session = Session.open(tmp_path, device="cpu", backend=backend, quiet=True)
    assert session.backends == {"raster": "cpu", "encoding": encoding}


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("opengl", "--backend opengl: unknown"),
        ("cpu+triton", "'triton' is not one of"),
        ("cpu+tinycudann", "needs an NVIDIA GPU, not cpu"),
        ("nvdiffrast", "needs an NVIDIA GPU, not cpu"),
    ],
)
def test_backends_that_do_not_fit(tmp_path, backend, message):
    with pytest.raises(StspbrError, match=message):
        Session.open(tmp_path, device="cpu", backend=backend, quiet=True)


def test_the_manifest_says_who_worked_and_the_hash_does_not(tiny_run, tmp_path):
    """The same settings under two encodings: settings and parents are equal, the backends are told apart."""
    from stspbr.stages.coarse import run_coarse

    small = ["geometry.resolution=8", "optimize.iterations=2", "optimize.batch=1"]
    small += [
        f"fields.{name}.{size}" for name in ("appearance", "reflectance") for size in ("levels=2", "log2_table_size=8")
    ]
    settings = settings_for(CoarseSettings, small)
    manifests = []
    shutil.copytree(tiny_run, tmp_path / "run")  # others share the capture
    for backend in ("cpu", "cpu+torch"):
        session = Session.open(tmp_path / "run", device="cpu", backend=backend, quiet=True)
        path = run_coarse(session, settings).path
        manifests.append(json.loads((path / "manifest.json").read_text(encoding="utf-8")))
    kernels, twins = manifests
    assert kernels["backends"] == {"raster": "cpu", "encoding": "cpu"}
    assert twins["backends"] == {"raster": "cpu", "encoding": "torch"}
    assert kernels["settings"] == twins["settings"] and kernels["parents"] == twins["parents"]


def test_the_grid_fills_a_given_box(tiny_run, tmp_path):
    """A tall box of 1 × 3 × 1: cells stay in it but for two at the short sides; the number of cells is the cube's."""
    from safetensors.numpy import load_file

    from stspbr.stages.coarse import run_coarse

    shutil.copytree(tiny_run, tmp_path / "run")
    settings = ["geometry.resolution=16", "geometry.initial=sphere", "optimize.iterations=1", "optimize.batch=1"]
    settings += [
        f"fields.{name}.{size}" for name in ("appearance", "reflectance") for size in ("levels=2", "log2_table_size=8")
    ]
    counts = {}
    for name, box in (("cube", "[-1, -1, -1, 1, 1, 1]"), ("tall", "[-0.4, -1.2, -0.4, 0.4, 1.2, 0.4]")):
        chosen = settings_for(CoarseSettings, [*settings, f"geometry.box={box}"])
        path = run_coarse(Session.open(tmp_path / "run", device="cpu", quiet=True), chosen).path
        state = load_file(path / "geometry.safetensors")
        counts[name] = len(state["shape.sdf"])
        low, high = state["shape.box_min"], state["shape.box_max"]
        np.testing.assert_allclose(low, -high)
        if name == "cube":
            assert high.tolist() == [1.0, 1.0, 1.0]
        else:
            assert high[1] == 1.0 and high[0] == high[2] and 1 / 3 + 2 * 2 / 24 < high[0] < 0.65
            mesh = json.loads((path / "metrics.json").read_text(encoding="utf-8"))["mesh"]
            assert mesh["watertight"] and mesh["components"] == 1
    assert 0.6 * counts["cube"] < counts["tall"] < 1.1 * counts["cube"]
