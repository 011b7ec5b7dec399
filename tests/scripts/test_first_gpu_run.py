"""The script for a first GPU: its rehearsal on the CPU, and what it makes of steps that crash, hang, fail or differ."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SCRIPT = SCRIPTS / "first_gpu_run.py"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("first_gpu_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def writes(text: str) -> str:
    """A step's program that writes its result, and then does what ``text`` says."""
    return f"import json, os, sys, time\nresult = sys.argv[-1]\n{text}"


@pytest.mark.parametrize(
    ("program", "state", "line"),
    [
        ("open(result, 'w').write(json.dumps({'state': 'ok', 'figures': {'a': 1}}))", "ok", ""),
        ("os.kill(os.getpid(), 9)", "crashed", "exit code -9"),
        ("print('began'); sys.stdout.flush(); time.sleep(60)", "too long", "ended after"),
        ("open(result, 'w').write('half'); os._exit(3)", "crashed", "exit code 3"),
    ],
)
def test_a_step_stops_no_other(script, program, state, line):
    found = script.run_step([sys.executable, "-c", writes(program)], 2.0)
    assert found["state"] == state and line in found.get("line", "")
    assert found["said"].strip() == ("began" if state == "too long" else "")


def test_what_a_step_finds_is_judged(script, monkeypatch, tmp_path):
    import first_gpu_steps as steps

    def differs(device):
        out = steps.Outcome({"device": device})
        out.check("first", 0.1, 0.2)
        out.check("second", 0.3, 0.2)
        out.check("not a number", float("nan"), 0.2)
        return out

    def fails(device):
        raise RuntimeError("CUDA error: <illegal> address\nand more")

    def skips(device):
        raise steps.Skip("there is none")

    report = {"device": "cpu", "started": "now", "python": "3", "platform": "here", "steps": []}
    for name, run in (("differs", differs), ("fails", fails), ("skips", skips)):
        monkeypatch.setitem(script.STEPS, name, steps.Step(f"about {name}", 1, run))
        assert script.main(["--step", name, "--result", str(tmp_path / name)]) == 0
        found = json.loads((tmp_path / name).read_text())
        report["steps"].append({"name": name, "about": "", "seconds": 1.0, **found})
    first, second, third = report["steps"]
    assert first["state"] == "differs" and first["line"] == "second is 0.3, at most 0.2 was expected (and 1 more)"
    assert second["state"] == "failed" and second["line"] == "RuntimeError: CUDA error: <illegal> address"
    assert third["state"] == "skipped" and third["line"] == "there is none"
    text = script.page(report)
    assert "&lt;illegal&gt;" in text and "<illegal>" not in text and "second" in text
    assert script.main(["--only", "nosuch"]) == 2


def test_the_rehearsal_on_the_cpu(tmp_path):
    """Steps that need CUDA are skipped with their reason; the comparison itself works, and is not always content."""
    only = [word for name in ("nvdiffrast-raster", "torch-grid", "learning") for word in ("--only", name)]
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--out", str(tmp_path), "--patience", "10", *only]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    states = {step["name"]: step["state"] for step in report["steps"]}
    assert states == {"torch-grid": "ok", "learning": "skipped", "nvdiffrast-raster": "skipped"}
    grid = report["steps"][0]
    assert {check["name"] for check in grid["checks"]} == {"values", "points", "table"}
    assert all(0 <= check["value"] <= check["limit"] for check in grid["checks"])
    assert "nvdiffrast works on CUDA only" in (tmp_path / "report.html").read_text()
