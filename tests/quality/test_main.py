"""The command: which jobs it runs, what it says, what it returns, and that it does nothing twice."""

from __future__ import annotations

import json

import pytest

from stspbr.quality import __main__ as command
from stspbr.quality import runner
from stspbr.quality.ladder import Job, Size, recipe_of, settings_hash
from stspbr.quality.metrics import METRICS
from stspbr.quality.suite import Scene


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """Jobs that are done at once, with values that depend on configuration and seed; calls are counted."""
    ran = []

    def carry_out(job, size, home, machine, source):
        ran.append(job.name)
        record = {"job": job.name, "object": job.scene.object, "light": job.scene.light, "track": job.track,
                  "light_mode": job.light_mode, "configuration": job.configuration, "seed": job.seed,
                  "source": source, "status": "done", "error": None,
                  "settings_hash": settings_hash(recipe_of(job, size))}  # fmt: skip
        record["values"] = {m.name: {"joint": 2.0, "ours": 1.0, "floor": 0.5}[job.configuration] for m in METRICS}
        if job.name in broken:
            record.update(status="failed", error="step 3: the loss term B is not finite", values={})
        folder = home / "runs" / job.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / runner.RESULT).write_text(json.dumps(record))
        return record

    broken: set[str] = set()
    monkeypatch.setattr(runner, "carry_out", carry_out)
    return tmp_path, ran, broken


ARGUMENTS = ["small", "--tracks", "same", "--only", "letters-*-known-*"]


def test_runs_what_is_asked_for_once(ladder, capsys):
    home, ran, _ = ladder
    arguments = [*ARGUMENTS, "--out", str(home)]
    assert command.main(arguments) == 0
    assert ran == [f"letters-studio-same-known-{c}-s{s}" for s in (0, 1) for c in ("joint", "ours", "floor")]
    out = capsys.readouterr().out
    assert "6 jobs, 0 done, 6 to run" in out and "[6/6]" in out and "letters under studio" in out
    assert (home / "table.md").exists() and (home / "table.csv").exists()
    groups = json.loads((home / "table.json").read_text())["groups"]
    assert groups[0]["verdicts"]["roughness_mae"]["outcome"] == "better"
    assert groups[0]["verdicts"]["psnr"]["outcome"] == "worse"
    assert command.main(arguments) == 0
    assert len(ran) == 6 and "6 done, 0 to run" in capsys.readouterr().out


def test_results_of_other_sources_are_named_and_repeated_on_demand(ladder, capsys, monkeypatch):
    home, ran, _ = ladder
    arguments = [*ARGUMENTS, "--seeds", "1", "--out", str(home)]
    command.main(arguments)
    monkeypatch.setattr(runner, "source_hash", lambda: "other")
    assert command.main(arguments) == 0 and len(ran) == 3
    assert "3 results were made by other sources" in capsys.readouterr().out
    assert command.main([*arguments, "--redo-stale"]) == 0 and len(ran) == 6
    assert "other sources of stspbr" not in capsys.readouterr().out


def test_a_failed_job_stops_nothing_and_is_tried_again(ladder, capsys):
    home, ran, broken = ladder
    broken.add("letters-studio-same-known-joint-s0")
    arguments = [*ARGUMENTS, "--out", str(home)]
    assert command.main(arguments) == 1 and len(ran) == 6
    assert "FAILED, step 3: the loss term B" in capsys.readouterr().out
    assert "failed: joint, seed 0: step 3" in (home / "table.md").read_text()
    broken.clear()
    assert command.main(arguments) == 0 and ran[6:] == ["letters-studio-same-known-joint-s0"]


def test_interruption_keeps_the_table(ladder, capsys, monkeypatch):
    home, _, _ = ladder
    quick = runner.carry_out

    def interrupted(job, *rest):
        if job.configuration == "floor":
            raise KeyboardInterrupt
        return quick(job, *rest)

    monkeypatch.setattr(runner, "carry_out", interrupted)
    assert command.main([*ARGUMENTS, "--out", str(home)]) == 130
    assert "run the same command again" in capsys.readouterr().out
    assert "| ours | 1 |" in (home / "table.md").read_text()


def test_list_and_table_run_nothing(ladder, capsys):
    home, ran, _ = ladder
    assert command.main([*ARGUMENTS, "--out", str(home), "--list"]) == 0
    assert capsys.readouterr().out.count(": to do") == 6
    assert command.main([*ARGUMENTS, "--out", str(home), "--table"]) == 0
    assert ran == [] and (home / "table.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "--tracks", "same", "--only", "teapot-*"], "no job matches"),
        (["small", "--tracks", "same,bidirectional"], "choose from same, path"),
        (["small", "--tracks", "same", "--seeds", "0"], "at least 1"),
        (["small", "--tracks", "same", "--workers", "0"], "at least 1"),
        (["small", "--tracks", "same", "--configurations", "joint,hydra"], "hydra: choose from joint"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, capsys, arguments, message):
    assert command.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_rung_can_be_asked_for(tmp_path, capsys):
    asked = ["small", "--tracks", "same", "--seeds", "1", "--out", str(tmp_path), "--list", "--configurations"]
    assert command.main([*asked, "all"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert command.main([*asked, "ours,strict-routing"]) == 0
    two = capsys.readouterr().out.splitlines()
    # three rungs concern a learned light, and the floor knows it
    assert len(every) == 2 * (2 * 7 + 3 + 1) and len(two) == 2 * (2 * 2 + 1)
    assert any("strict-routing" in line for line in two) and not any("joint" in line for line in two)


def test_workers_bring_the_records_home(tmp_path):
    """Two processes; the jobs fail at once for want of their asset, and say so each for itself."""
    scene = Scene("absent", "studio", {"asset": str(tmp_path / "absent.obj"), "light": "procedural:studio"})
    jobs = [Job(scene, "same", "known", "ours", seed) for seed in (0, 1)]
    size = Size({"views": 3, "resolution": 16})
    records = list(command._results(jobs, 2, (size, tmp_path / "home", runner.Machine("cpu", threads=1), "source")))
    assert sorted(record["seed"] for record in records) == [0, 1]
    for record in records:
        assert record["status"] == "failed" and "absent.obj" in record["error"]
        assert json.loads((tmp_path / "home" / "runs" / record["job"] / runner.RESULT).read_text()) == record
