"""`stspbr fleet` from end to end: on this machine, on a Ray cluster that loses a worker, and through submitit."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fleets  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")


def test_a_failing_object_and_a_second_start(tmp_path):
    """One object is captured, one cannot be; then there is nothing left to do but to try that one again."""
    path = fleets.write_fleet(tmp_path, ("demo",), until="capture")
    lost = tmp_path / "lost"
    lost.mkdir()
    with path.open("a") as stream:
        stream.write(f'[[objects]]\nname = "lost"\ncapture = {{ kind = "nerf", folder = "{lost}" }}\n')
    code, records, errors = fleets.ended(fleets.start(path, "--workers", "1"))
    assert code == 1 and not errors, errors
    assert records[-1]["counts"]["done"] == 1 and records[-1]["counts"]["failed"] == 1
    rows = fleets.table(tmp_path / "runs")
    assert (rows["demo"]["state"], rows["demo"]["tasks"]) == ("done", "2/2")
    assert rows["lost"]["state"] == "failed" and rows["lost"]["line"].startswith(f"capture: {lost}")
    assert rows["demo"]["peak_gb"] > 0.1 and rows["demo"]["cpu_seconds"] > 1
    page = (tmp_path / "runs" / "fleet.html").read_text()
    assert rows["lost"]["line"] in page and "<script src" not in page and 'href="http' not in page
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    (made,) = (tmp_path / "runs" / "demo" / "capture").iterdir()
    written = (made / "manifest.json").stat().st_mtime_ns

    code, records, errors = fleets.ended(fleets.start(path, "--only", "demo"))
    assert (code, errors) == (0, "") and [list(record) for record in records] == [["files", "counts"]]
    assert (made / "manifest.json").stat().st_mtime_ns == written
    assert [place.name for place in (tmp_path / "runs" / "demo" / "capture").iterdir()] == ["v0001"]


def test_what_can_never_run_is_refused_before_anything_runs(tmp_path):
    path = fleets.write_fleet(tmp_path, ("demo",), until="capture")
    code, _, errors = fleets.ended(fleets.start(path, "--gpus", "99"))
    assert code == 2 and errors.count("\n") == 1
    assert "object demo: capture needs 1 core(s), 0.5 GB, 99 GPU(s), but this machine has" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_fleet_of_eight_with_two_workers_of_which_one_is_killed(tmp_path):
    path = fleets.write_fleet(tmp_path, fleets.ASSETS)
    process = fleets.start(path, "--engine", "ray", "--workers", "2")
    note = fleets.kill_a_worker(tmp_path / "runs", process)
    code, records, errors = fleets.ended(process)
    assert code == 0, errors
    assert not fleets.alive(note["child"]), "the stage's own process ended with its worker"
    rows = fleets.table(tmp_path / "runs")
    assert {row["state"] for row in rows.values()} == {"done"} and rows[note["object"]]["lost"] == 1
    assert any(record.get("lost") == 1 and record["state"] == "waiting" for record in records)
    for name, stages in fleets.without_a_fleet(tmp_path, fleets.ASSETS).items():
        assert {stage: rows[name]["hashes"][stage] for stage in stages} == stages

    code, records, _ = fleets.ended(fleets.start(path, "--engine", "ray", "--workers", "2"))
    assert code == 0 and len(records) == 1, "a second start does nothing, not even start a cluster"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
def test_submitit_and_an_object_store(tmp_path):
    path = fleets.write_fleet(tmp_path, ("demo", "letters"), more="[slurm]\ntimeout_min = 30")
    store = f"file://{tmp_path / 'store'}"
    where = ["--out", store, "--scratch", str(tmp_path / "scratch")]
    options = ["--engine", "slurm", "--address", "local", "--workers", "2", *where]
    here = os.getcwd()
    os.chdir(tmp_path)  # submitit's files
    try:
        code, _, errors = fleets.ended(fleets.start(path, *options))
    finally:
        os.chdir(here)
    assert code == 0, errors
    wanted = fleets.without_a_fleet(tmp_path, ("demo", "letters"))
    rows = {row["object"]: row for row in json.loads((tmp_path / "store" / "fleet.json").read_text())["objects"]}
    for name, stages in wanted.items():
        assert {stage: rows[name]["hashes"][stage] for stage in stages} == stages
        manifest = json.loads((tmp_path / "store" / name / "coarse" / "v0001" / "manifest.json").read_text())
        assert manifest["content_hash"] == stages["coarse"]
        assert not (tmp_path / "store" / name / ".checkpoints" / "coarse").exists() or not list(
            (tmp_path / "store" / name / ".checkpoints" / "coarse").iterdir()
        )
    code, records, _ = fleets.ended(fleets.start(path, *where))
    assert code == 0 and len(records) == 1
