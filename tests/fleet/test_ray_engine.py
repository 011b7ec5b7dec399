"""Ray's engine alone: a worker that is killed in the middle of a task, and a stdout that is ours."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time

import pytest

from stspbr.fleet.engine import Engine
from stspbr.fleet.home import SharedHome
from stspbr.fleet.plan import Job, Needs, Task
from stspbr.fleet.schedule import Fleet, Progress, run_fleet
from stspbr.fleet.work import Outcome
from stspbr.settings import PlannedStage, UnpackSettings, load_recipe

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture
def engine(tmp_path):
    """Two workers. A task notes its process; the first try of each lasts until it is killed."""
    from stspbr.fleet.ray_engine import RayEngine

    place = str(tmp_path / "pid")

    def work(task):
        first = not os.path.exists(f"{place}-{task.object}")
        with open(f"{place}-{task.object}", "w") as stream:
            stream.write(str(os.getpid()))
        if first and task.object == "lost":
            time.sleep(600)
        if task.object == "fails":
            return Outcome("failed", "no photographs")
        return Outcome("done", hashes={"stage": "0"})

    found = RayEngine("local", 2, 2, work)
    yield found
    found.close()


def test_a_killed_worker_is_a_lost_task_that_is_tried_again(engine: Engine, tmp_path, capfd):
    objects = []
    for name in ("lost", "fails", "fine"):
        tasks = [Task(name, "stage", (), Needs(1, 10**6, 0.0), "", "")]
        stages = [PlannedStage("stage", UnpackSettings(), None)]
        objects.append(Progress.of(Job(name, load_recipe("demo"), 0, stages, tasks)))

    def kill():
        pid = tmp_path / "pid-lost"
        while not pid.is_file() or not pid.read_text():
            time.sleep(0.05)
        os.kill(int(pid.read_text()), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    told = []
    run_fleet(Fleet(objects, 1), engine, SharedHome(str(tmp_path)), lambda one: one and told.append(one.line))
    assert [one.state for one in objects] == ["done", "failed", "done"]
    assert [one.lost for one in objects] == [1, 0, 0] and objects[1].line == "stage: no photographs"
    assert any(line.startswith("stage was lost (WorkerCrashedError") for line in told)
    time.sleep(1.0)  # until Ray has heard of it, too
    assert capfd.readouterr().out == ""
