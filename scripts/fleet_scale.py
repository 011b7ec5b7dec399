"""How a fleet grows: the model of docs/scale.md, checked with the fleet's own scheduling and Ray's.

    python scripts/fleet_scale.py --objects 96 --slots 8          # stub stages, their durations divided by --speed
    python scripts/fleet_scale.py --overheads                     # tasks per second, and seconds to plan an object
    python scripts/fleet_scale.py --model                         # the table for 10, 1 000 and 100 000 objects

A stub stage sleeps as long as the stage would take, so that many of them share a core; all else is what a real fleet
runs: the plan, the queue, Ray's scheduler, its workers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPREAD = 0.25  # of the objects' sizes about their mean, as a standard deviation of the logarithm


@dataclass(frozen=True)
class Quality:
    """An object at one quality: seconds of one core by stage, bytes of its capture and of all that it leaves."""

    name: str
    seconds: dict[str, float]
    capture: float
    kept: float

    @property
    def moved(self) -> float:
        """Bytes between storage and nodes: photographs in, all versions out, the capture into each later task."""
        return PHOTOGRAPHS + self.kept + (len(self.seconds) - 1) * self.capture

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


PHOTOGRAPHS = 60 * 5e6  # bytes
START = 5.0  # seconds of one core until a task's process has imported what it needs; measured, see docs/scale.md
TASKS_PER_SECOND = 340.0  # that one driver and Ray's scheduler hand out; measured with --overheads


def qualities() -> list[Quality]:
    """Sixty photographs of 12 megapixels: seconds by the package's own estimate on the machine of its constants."""
    from stspbr.settings import load_recipe
    from stspbr.stages.time_estimate import Photographs, expected_seconds

    photos = Photographs([(4000, 3000)] * 60, masked=False)
    out = []
    for name, capture, kept in (("draft", 15e6, 60e6), ("standard", 180e6, 280e6), ("fine", 1.15e9, 1.3e9)):
        seconds = expected_seconds(load_recipe(f"photos-{name}"), photos, 1.0)
        out.append(Quality(name, {**seconds, "report": 10.0}, capture, kept))
    return out


def model(objects: int, slots: int, seconds: dict[str, float], start: float = START) -> dict[str, float]:
    """Seconds of a fleet: all work over all slots and half a chain's tail, or the longest chain if that is longer.

    Args:
        slots: tasks at once; seconds: of one slot by stage; start: of a process.
    """
    chain = sum(seconds.values()) + start * len(seconds)
    work = objects * chain / slots
    tail = 0.5 * chain if objects > slots else 0.0
    tasks = objects * len(seconds)
    return {
        "chain": chain,
        "seconds": max(work + tail, chain * largest(objects)),
        "scheduler": tasks / TASKS_PER_SECOND,
    }


def largest(objects: int) -> float:
    """The largest of so many objects over their mean, as it is to be expected (Blom's approximation)."""
    if objects < 2:
        return 1.0
    place = (objects - 0.375) / (objects + 0.25)
    return math.exp(SPREAD * statistics.NormalDist().inv_cdf(place) - 0.5 * SPREAD**2)


def simulate(objects: int, slots: int, seconds: dict[str, float], speed: float, seed: int = 0) -> dict[str, float]:
    """Run stub stages on a local Ray cluster of ``slots`` workers; the result is in seconds of the real fleet."""
    from stspbr.fleet.home import open_home
    from stspbr.fleet.ray_engine import RayEngine
    from stspbr.fleet.schedule import run_fleet

    dice = random.Random(seed)
    factors = {f"object-{k}": math.exp(dice.gauss(-0.5 * SPREAD**2, SPREAD)) for k in range(objects)}
    durations = {stage: (value + START) / speed for stage, value in seconds.items()}
    with tempfile.TemporaryDirectory() as folder:
        fleet = _fleet(factors, list(seconds), folder)
        engine = RayEngine("local", None, slots, _stub(durations, factors))
        try:
            _warm(engine, slots)
            began = time.monotonic()
            run_fleet(fleet, engine, open_home(folder), lambda one: None)
            took = time.monotonic() - began
        finally:
            engine.close()
    assert fleet.counts()["done"] == objects
    work = sum(durations.values()) * sum(factors.values())
    wanted = model(objects, slots, seconds)
    return {
        "objects": objects,
        "slots": slots,
        "simulated_seconds": took,
        "seconds": took * speed,
        "model_seconds": wanted["seconds"],
        "busy_share": work / (took * slots),
    }


def overheads(tasks: int = 400, slots: int = 4) -> dict[str, float]:
    """Tasks per second that are handed out and taken back, and processor seconds to plan and look up an object."""
    from stspbr.fleet.home import open_home
    from stspbr.fleet.plan import find_finished, plan_jobs
    from stspbr.fleet.ray_engine import RayEngine
    from stspbr.fleet.schedule import run_fleet
    from stspbr.settings import FleetObject, FleetSettings

    factors = {f"object-{k}": 1.0 for k in range(tasks)}
    with tempfile.TemporaryDirectory() as folder:
        engine = RayEngine("local", None, slots, _stub({"stage": 0.0}, factors))
        try:
            _warm(engine, slots)
            began = time.monotonic()
            run_fleet(_fleet(factors, ["stage"], folder), engine, open_home(folder), lambda one: None)
            rate = tasks / (time.monotonic() - began)
        finally:
            engine.close()
        count = 200
        items = [FleetObject(name=f"o{k}", photos=f"photos/{k}") for k in range(count)]
        began = time.process_time()
        for job in plan_jobs(FleetSettings(objects=items), "trial", folder):
            find_finished(job, Path(folder) / job.name)
        return {"tasks_per_second": rate, "plan_cpu_seconds_per_object": (time.process_time() - began) / count}


def growth() -> list[dict[str, Any]]:
    """The table for 10, 1 000 and 100 000 objects on nodes of 64 cores, two per task."""
    rows = []
    for quality in qualities():
        two = {stage: 0.5 * value for stage, value in quality.seconds.items()}  # a task has two cores
        for objects, nodes in ((10, 1), (1_000, 10), (100_000, 10), (100_000, 100)):
            found = model(objects, 32 * nodes, two)
            rows.append(
                {
                    "quality": quality.name,
                    "objects": objects,
                    "nodes": nodes,
                    "hours": found["seconds"] / 3600,
                    "scheduler_hours": found["scheduler"] / 3600,
                    "kept_terabytes": objects * quality.kept / 1e12,
                    "megabytes_per_second": objects * quality.moved / 1e6 / found["seconds"],
                    "core_hours": objects * quality.total / 3600,
                }
            )
    return rows


def _stub(durations: dict[str, float], factors: dict[str, float]) -> Any:
    """Carries a task out by sleeping."""

    def stub(task: Any) -> Any:
        from stspbr.fleet.work import Outcome

        if task.stage == "warm":  # wait for all others, so that each has a worker of its own
            Path(task.home, task.object).touch()
            ends = time.monotonic() + 240.0
            while len(list(Path(task.home).iterdir())) < int(task.folder) and time.monotonic() < ends:
                time.sleep(0.2)
            return Outcome("done")
        time.sleep(durations.get(task.stage, 0.0) * factors.get(task.object, 1.0))
        return Outcome("done", hashes={task.stage: "0"})

    return stub


def _fleet(factors: dict[str, float], stages: list[str], folder: str) -> Any:
    from stspbr.fleet.plan import Job, Needs, Task
    from stspbr.fleet.schedule import Fleet, Progress
    from stspbr.settings import PlannedStage, UnpackSettings, load_recipe

    recipe, needs = load_recipe("demo"), Needs(1, 0, 0.0)
    jobs = []
    for name in factors:
        tasks = [Task(name, stage, (), needs, folder, folder) for stage in stages]
        planned = [PlannedStage(stage, UnpackSettings(), None) for stage in stages]
        jobs.append(Job(name, recipe, 0, planned, tasks))
    return Fleet([Progress.of(job) for job in jobs], 0)


def _warm(engine: Any, slots: int) -> None:
    """Start all workers of the cluster, which takes a second or more each."""
    from stspbr.fleet.plan import Needs, Task

    with tempfile.TemporaryDirectory() as folder:
        for number in range(slots):
            engine.submit(Task(f"warm-{number}", "warm", (), Needs(1, 0, 0.0), folder, str(slots)))
        left = slots
        while left:
            left -= len(engine.wait(1.0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=96)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--speed", type=float, default=200.0, help="durations are divided by it")
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--overheads", action="store_true")
    parser.add_argument("--model", action="store_true")
    options = parser.parse_args()
    if options.model:
        found: Any = growth()
    elif options.overheads:
        found = overheads()
    else:
        quality = next(one for one in qualities() if one.name == options.quality)
        found = simulate(options.objects, options.slots, quality.seconds, options.speed)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
