from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from stspbr.doctor import diagnose as module
from stspbr.doctor.diagnose import Check, diagnose, healthy


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in diagnose()}


def test_everything_is_looked_at(checks):
    expected = {"stspbr", "python", "platform", "cores", "packages", "torch", "CUDA", "numba", "xatlas", "OpenImageIO"}
    expected |= {"tensorboard", "mitsuba", "disk", "--backend auto"}
    expected |= {"raster backend cpu", "raster backend warp"}
    expected |= {"encoding backend cpu"}
    assert expected <= set(checks)
    for check in checks.values():
        assert check.state in ("ok", "missing", "broken")
        assert check.detail and "\n" not in check.detail


def test_what_the_tests_themselves_need_is_there(checks):
    for name in ("python", "torch", "numba", "raster backend cpu", "encoding backend cpu"):
        assert checks[name].state == "ok", checks[name]


def test_a_missing_package_has_its_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "xatlas" else find(name))
    check = module._package("xatlas")
    assert (check.state, check.remedy) == ("missing", "pip install xatlas")
    assert not healthy([check])


def test_a_package_that_cannot_be_imported_is_broken(monkeypatch):
    original = importlib.import_module

    def broken(name, *rest):
        if name == "OpenImageIO":
            raise OSError("libOpenImageIO.so: cannot open shared object\nmore")
        return original(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    check = module._package("OpenImageIO")
    assert (check.state, check.detail) == ("broken", "libOpenImageIO.so: cannot open shared object")


def test_diagnose_does_not_raise_without_torch_and_numba():
    code = """
import json, sys
sys.modules["torch"] = sys.modules["numba"] = None  # importing them fails
from stspbr.doctor.diagnose import diagnose
print(json.dumps({check.name: check.state for check in diagnose()}))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    states = json.loads(answer.stdout)
    assert states["torch"] == states["numba"] == "missing"
    assert states["raster backends"] == "broken" and states["python"] == "ok"


def test_numbas_own_thread_pool_is_warned_of(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    (check,) = module._numba()
    assert (check.state, check.optional) == ("broken", True) and "tbb" in check.remedy
    assert healthy([check])


def test_too_little_disk_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FREE_DISK_GIB", 1e9)
    check = module._disk(tmp_path / "not" / "there" / "yet")
    assert check.state == "broken" and str(tmp_path) in check.detail


def test_a_diffusers_that_cannot_be_imported_is_broken_with_its_cause(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # importing it fails
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    (check,) = module._diffusers()
    assert check.state == "broken" and "stspbr[texture]" in check.detail and check.optional
