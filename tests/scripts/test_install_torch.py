"""Which build of torch is chosen; nothing here asks pip, the network or the driver."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install_torch.py"
CPU_WHEEL = {"version": "2.13.0+cpu", "requires_dist": ["sympy"]}
PLAIN_CPU_WHEEL = {"version": "2.13.0", "requires_dist": ["sympy", "networkx"]}
CUDA_WHEEL = {"version": "2.13.0", "requires_dist": ["sympy", "nvidia-cublas==13.1; platform_system == 'Linux'"]}
CUDA_LOCAL_WHEEL = {"version": "2.13.0+cu130", "requires_dist": []}


@pytest.fixture
def script(monkeypatch):
    """The script as a module of which nothing starts a process."""
    spec = importlib.util.spec_from_file_location("install_torch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def forbidden(*args, **kwargs):
        raise AssertionError(f"the test started {args}")

    monkeypatch.setattr(subprocess, "run", forbidden)
    monkeypatch.setattr(subprocess, "call", forbidden)
    return module


def answers(monkeypatch, script, wheels: dict[str, dict | None], index: bool = False) -> None:
    """Let pip find ``wheels`` (by requirement) and PyTorch's CPU index answer or not."""
    monkeypatch.setattr(script, "pip_would_choose", wheels.get)
    monkeypatch.setattr(script, "index_answers", lambda url, version: index and url == script.CPU_INDEX)


@pytest.mark.parametrize(
    "wheel, cpu",
    [
        (CPU_WHEEL, True),
        (PLAIN_CPU_WHEEL, True),
        (CUDA_WHEEL, False),
        (CUDA_LOCAL_WHEEL, False),
        ({"version": "2.13.0"}, True),
        ({"version": "2.13.0", "requires_dist": None}, True),
        ({"version": "2.13.0", "requires_dist": ["cuda-bindings>=13"]}, False),
    ],
)
def test_cpu_builds_are_told_apart(script, wheel, cpu):
    assert script.is_cpu_build(wheel) is cpu


def test_other_systems_take_what_pip_chooses(monkeypatch, script):
    monkeypatch.setattr(script, "pip_would_choose", lambda requirement: pytest.fail("no need to ask"))
    for gpu in (False, True):
        assert script.choose("2.13.0", linux=False, gpu=gpu) == ["torch==2.13.0"]


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("wheel", [CPU_WHEEL, PLAIN_CPU_WHEEL])
def test_without_gpu_a_cpu_build_that_pip_finds_is_taken(monkeypatch, script, wheel, index):
    answers(monkeypatch, script, {"torch==2.13.0": wheel}, index)
    assert script.choose("2.13.0", linux=True, gpu=False) == [f"torch=={wheel['version']}"]


@pytest.mark.parametrize("wheel", [CUDA_WHEEL, CUDA_LOCAL_WHEEL, None])
def test_without_gpu_else_the_cpu_index_if_it_answers(monkeypatch, script, wheel):
    answers(monkeypatch, script, {"torch==2.13.0": wheel}, index=True)
    arguments = script.choose("2.13.0", linux=True, gpu=False)
    assert arguments == ["--extra-index-url", script.CPU_INDEX, "torch==2.13.0+cpu"]
    answers(monkeypatch, script, {"torch==2.13.0": wheel}, index=False)
    assert script.choose("2.13.0", linux=True, gpu=False) == ["torch==2.13.0"]


def test_with_a_gpu_a_cpu_build_is_avoided(monkeypatch, script):
    answers(monkeypatch, script, {"torch==2.13.0": CPU_WHEEL, "torch===2.13.0": CUDA_WHEEL}, index=True)
    assert script.choose("2.13.0", linux=True, gpu=True) == ["torch===2.13.0"]
    answers(monkeypatch, script, {"torch==2.13.0": CPU_WHEEL})  # there is no other one
    assert script.choose("2.13.0", linux=True, gpu=True) == ["torch==2.13.0"]
    for wheel in (CUDA_WHEEL, CUDA_LOCAL_WHEEL, None):
        answers(monkeypatch, script, {"torch==2.13.0": wheel}, index=True)
        assert script.choose("2.13.0", linux=True, gpu=True) == ["torch==2.13.0"]


def test_the_pin_is_read_from_the_constraints(script, tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("numpy==2.4.0\ntorchmetrics==1.9.0\ntorch==2.13.0  # newest\n")
    assert script.pinned_version(path) == "2.13.0"
    path.write_text("torchmetrics==1.9.0\n# torch==2.0.0\n")
    with pytest.raises(SystemExit, match="torch==VERSION"):
        script.pinned_version(path)


def test_the_repository_s_own_constraints_pin_torch(script):
    assert script.pinned_version(SCRIPT.parents[1] / "constraints.txt")[0].isdigit()


def completed(monkeypatch, stdout: str, returncode: int = 0) -> None:
    answer = subprocess.CompletedProcess([], returncode, stdout, "")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)


def slow(*args, **kwargs):
    raise subprocess.TimeoutExpired("pip", 1)


def test_what_pip_reports_is_read(monkeypatch, script):
    completed(monkeypatch, json.dumps({"install": [{"metadata": CPU_WHEEL}]}))
    assert script.pip_would_choose("torch==2.13.0") == CPU_WHEEL
    for stdout, code in (("", 1), ("no JSON", 0), ("{}", 0), ('{"install": []}', 0)):
        completed(monkeypatch, stdout, code)
        assert script.pip_would_choose("torch==2.13.0") is None
    monkeypatch.setattr(subprocess, "run", slow)
    assert script.pip_would_choose("torch==2.13.0") is None


def test_an_index_answers_only_with_the_version(monkeypatch, script):
    completed(monkeypatch, "torch (2.13.0+cpu)\nAvailable versions: 2.13.0+cpu, 2.12.0+cpu\n")
    assert script.index_answers(script.CPU_INDEX, "2.13.0") is True
    assert script.index_answers(script.CPU_INDEX, "2.14.0") is False
    completed(monkeypatch, "2.13.0+cpu", returncode=1)
    assert script.index_answers(script.CPU_INDEX, "2.13.0") is False
    monkeypatch.setattr(subprocess, "run", slow)
    assert script.index_answers(script.CPU_INDEX, "2.13.0") is False


def test_a_gpu_is_what_the_driver_lists(monkeypatch, script):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    assert script.has_gpu() is False
    monkeypatch.setattr(script.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    for stdout, code, wanted in (("GPU 0: NVIDIA", 0, True), ("", 0, False), ("GPU lost", 9, False)):
        completed(monkeypatch, stdout, code)
        assert script.has_gpu() is wanted
    monkeypatch.setattr(subprocess, "run", slow)
    assert script.has_gpu() is False


@pytest.mark.parametrize("installed, calls", [("2.13.0", 0), ("2.12.0", 1), (None, 1)])
def test_main_installs_only_what_is_not_there(monkeypatch, script, tmp_path, installed, calls):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch==2.13.0\n")
    commands = []
    monkeypatch.setattr(script.sys, "argv", ["install_torch.py", str(constraints)])
    monkeypatch.setattr(script, "installed_version", lambda: installed)
    monkeypatch.setattr(script, "has_gpu", lambda: False)
    answers(monkeypatch, script, {"torch==2.13.0": CPU_WHEEL})
    monkeypatch.setattr(subprocess, "call", lambda command: commands.append(command) or 7)
    assert script.main() == (7 if calls else 0)
    assert len(commands) == calls
    for command in commands:
        assert command[: len(script.PIP)] == script.PIP
        assert command[command.index("-c") + 1] == str(constraints)


def test_installed_version_leaves_the_local_part_out(monkeypatch, script):
    monkeypatch.setattr(script.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert script.installed_version() == "2.13.0"

    def absent(name):
        raise script.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(script.importlib.metadata, "version", absent)
    assert script.installed_version() is None
