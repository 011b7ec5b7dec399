"""The order of tasks, lost ones, failing objects, and the time that is left; an engine of the test's runs nothing."""

from __future__ import annotations

import json

import pytest

from stspbr.fleet.engine import Engine
from stspbr.fleet.home import SharedHome
from stspbr.fleet.plan import Job, Needs, Task
from stspbr.fleet.schedule import Fleet, Progress, run_fleet
from stspbr.fleet.table import as_csv, as_json, remember, row, write_tables
from stspbr.fleet.work import Outcome
from stspbr.settings import PlannedStage, UnpackSettings, load_recipe

STAGES = ("one", "two", "report")


class Told(Engine):
    """Ends tasks one by one, in the order of their submission, as the test says."""

    def __init__(self, outcomes, slots=2):
        self.outcomes, self.slots, self.queue, self.log = outcomes, slots, [], []

    def room(self, needs):
        return len(self.queue) < self.slots and needs.gpus == 0

    def submit(self, task):
        self.queue.append(task)
        self.log.append(f"{task.object}:{task.stage}")

    def wait(self, seconds):
        if not self.queue:
            return []
        task = self.queue.pop(0)
        found = self.outcomes.get((task.object, task.stage), [])
        outcome = found.pop(0) if found else Outcome("done", seconds=2.0, hashes={task.stage: f"{task.object}-hash"})
        return [(task, outcome)]

    def close(self):
        pass


def fleet(names, retries=1, done=0, gpus=()):
    objects = []
    for name in names:
        tasks = [
            Task(name, stage, (), Needs(1, 0, float(name in gpus)), "", "", last=stage == "report") for stage in STAGES
        ]
        stages = [PlannedStage(stage, UnpackSettings(), None) for stage in STAGES[:-1]]
        objects.append(Progress.of(Job(name, load_recipe("demo"), 0, stages, tasks, done)))
    return Fleet(objects, retries)


def run(found, engine, tmp_path):
    told = []
    run_fleet(found, engine, SharedHome(str(tmp_path)), lambda one: told.append(one and (one.job.name, one.state)))
    return [one for one in told if one is not None]


def test_objects_are_finished_before_others_are_begun(tmp_path):
    found, engine = fleet("abc"), Told({}, slots=1)
    run(found, engine, tmp_path)
    assert engine.log == [f"{name}:{stage}" for name in "abc" for stage in STAGES]
    assert found.counts()["done"] == 3
    assert row(found.objects[0])["stages"] == {"one": 2.0, "two": 2.0, "report": 2.0}
    assert row(found.objects[0])["hash"] == "a-hash"


def test_what_is_done_is_not_run_again(tmp_path):
    found, engine = fleet("ab", done=3), Told({})
    assert run(found, engine, tmp_path) == [] and engine.log == [] and found.counts()["done"] == 2


def test_a_failing_object_does_not_stop_the_others(tmp_path):
    found, engine = fleet("abc"), Told({("b", "two"): [Outcome("failed", "it has no photographs")]})
    run(found, engine, tmp_path)
    assert [one.state for one in found.objects] == ["done", "failed", "done"]
    assert found.objects[1].line == "two: it has no photographs" and engine.log.count("b:two") == 1
    assert "b:report" not in engine.log


@pytest.mark.parametrize(("retries", "state", "tries"), [(0, "failed", 1), (1, "failed", 2), (2, "done", 3)])
def test_lost_tasks_are_tried_again(tmp_path, retries, state, tries):
    lost = [Outcome("lost", "the node is gone") for _ in range(2)]
    found, engine = fleet("ab", retries), Told({("a", "two"): lost})
    told = run(found, engine, tmp_path)
    one = found.objects[0]
    assert (one.state, engine.log.count("a:two")) == (state, tries) and found.objects[1].state == "done"
    assert one.lost == min(2, tries)
    assert ("a", "waiting") in told
    if state == "failed":
        assert "lost" in one.line and one.line.endswith("the node is gone")


def test_a_task_for_which_there_is_no_room_is_overtaken(tmp_path):
    found, engine = fleet("gab", gpus="g"), Told({})

    def room(needs):
        return len(engine.queue) < 2 and (needs.gpus == 0 or len(engine.log) >= 6)

    engine.room = room
    run(found, engine, tmp_path)
    assert engine.log[0] == "a:one" and engine.log[-1] == "g:report" and found.counts()["done"] == 3


def test_notes_of_this_try_alone_tell_how_far_it_is(tmp_path):
    found, engine, home = fleet("a"), Told({}), SharedHome(str(tmp_path))
    seen = []

    def tell(one):
        now = found.objects[0]
        seen.append((now.state, now.share(), now.note.get("step")))
        if one is not None and now.state == "queued" and now.stage == "two":
            home.note("a", {"token": "of an earlier try", "step": 9, "total_steps": 10})
        if one is None and now.state == "queued":
            home.note("a", {"token": now.token, "step": 5, "total_steps": 10, "seconds_left": 7.0})

    waits = engine.wait
    turns = iter(range(100))
    engine.wait = lambda seconds: [] if next(turns) % 3 else waits(seconds)
    run_fleet(found, engine, home, tell)
    assert ("running", 0.5, 5) in seen, "one of three tasks is done, and half of the second"
    assert not any(step == 9 for *_, step in seen)


def test_the_time_that_is_left():
    found = fleet("abcd")
    assert found.seconds_left() is None
    for one in found.objects[:2]:
        one.state, one.at, one.seconds = "done", 3, {"one": 10.0, "two": 20.0, "report": 1.0}
    assert found.seconds_left() == pytest.approx(62.0), "two objects, one after the other"
    for one in found.objects[2:]:
        one.state, one.at, one.note = "running", 1, {"seconds_left": 5.0}
    assert found.seconds_left() == pytest.approx(6.0), "side by side"


def test_tables_are_plain_data():
    found = fleet("ab")
    found.objects[0].line, found.objects[0].seconds = 'no "good", really', {"one": 1.25}
    rows = [row(one) for one in found.objects]
    data = json.loads(as_json(found, rows, {"fleet": "few"}))
    assert data["counts"]["waiting"] == 2 and data["objects"][0]["stages"] == {"one": 1.25}
    lines = as_csv(rows).splitlines()
    assert lines[0].endswith(",one_seconds") and '"no ""good"", really"' in lines[1] and len(lines) == 3


def test_a_later_start_remembers_what_is_still_the_same(tmp_path):
    home, first = SharedHome(str(tmp_path)), fleet("ab")
    remember(first.objects, home)  # there is no table yet
    run(first, Told({("a", "one"): [Outcome("lost", "gone")]}), tmp_path)
    write_tables(first, home, {})
    later = fleet("ab", done=3)
    for one, two in (("a", "a-hash"), ("b", "another")):
        progress = next(item for item in later.objects if item.job.name == one)
        progress.hashes = {"one": f"{one}-hash", "two": two}
    remember(later.objects, home)
    assert later.objects[0].seconds == {"one": 2.0, "two": 2.0, "report": 2.0} and later.objects[0].lost == 1
    assert later.objects[1].seconds == {"one": 2.0, "report": 2.0}, "the second stage is of other settings"
    (tmp_path / "fleet.json").write_text("[]")
    remember(later.objects, home)
