"""Run a fleet: read, plan, find what is finished, run the rest, and write the table and the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.fleet.engine import Engine
from stspbr.fleet.engine_choice import open_engine
from stspbr.fleet.home import Home, open_home
from stspbr.fleet.objects import read_fleet
from stspbr.fleet.page import facts_of, fleet_page
from stspbr.fleet.plan import RETRIES, find_finished, plan_jobs
from stspbr.fleet.schedule import Fleet, Progress, run_fleet
from stspbr.fleet.table import remember, write_tables
from stspbr.fleet.view import FleetView
from stspbr.settings import FleetSettings

_TABLE_EVERY = 30.0  # seconds between two writings of the table while the fleet runs


@dataclass(frozen=True)
class Prepared:
    """A fleet with all that it needs, checked."""

    name: str
    settings: FleetSettings
    home: Home
    fleet: Fleet


def prepare(
    sources: Sequence[str | Path], given: FleetSettings, only: Sequence[str] = (), *, verify: bool = False
) -> Prepared:
    """Read and check the objects, and find what is finished.

    Args:
        sources: a TOML file or folders; given: from the command line; only: patterns of names.
        verify: read every file of the finished versions and compare it with its hash.

    Raises:
        StspbrError: one line that names file and object.
    """
    settings = read_fleet(sources, given)
    name = settings.name or "fleet"
    address = settings.out or str(Path("runs") / name)
    home = open_home(address, settings.scratch)
    if verify and not home.shared:
        raise StspbrError(f"--verify reads the runs' folders, and {address} is an object store: leave it out")
    objects = []
    for job in plan_jobs(settings, str(sources[0]), address, only):
        find_finished(job, home.manifests(job.name), payload=verify)
        objects.append(Progress.of(job))
        job.forget()
    remember(objects, home)
    retries = RETRIES if settings.retries is None else settings.retries
    return Prepared(name, settings, home, Fleet(objects, retries))


def run(
    prepared: Prepared,
    *,
    quiet: bool = False,
    json_lines: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Run what is left of a fleet. Ctrl-C ends its tasks; the same call continues.

    Args:
        say: called with lines for people.

    Returns:
        The addresses of page and tables.

    Raises:
        StspbrError: the engine is not there, or can never run a task.
    """
    fleet, home, settings = prepared.fleet, prepared.home, prepared.settings
    began = time.monotonic()
    due = began + _TABLE_EVERY
    engine_name = settings.engine or "local"
    waiting = [one for one in fleet.objects if one.state == "waiting"]
    say(f"{prepared.name}: {len(fleet.objects)} objects, {fleet.counts()['done']} finished, in {home.address}")

    def tables() -> list[str]:
        seconds = round(time.monotonic() - began, 3)
        return write_tables(fleet, home, {"fleet": prepared.name, "engine": engine_name, "seconds": seconds})

    def tell(one: Progress | None) -> None:
        nonlocal due
        view.tell(one)
        now = time.monotonic()
        if now >= due:
            tables()
            due = max(now + _TABLE_EVERY, now + 20.0 * (time.monotonic() - now))

    def page() -> str:
        shown = facts_of(fleet, engine_name, time.monotonic() - began)
        return home.write("fleet.html", fleet_page(fleet, home, prepared.name, shown))

    if not waiting:
        return [page(), *tables()]
    cores = max(task.needs.cores for one in waiting for task in one.job.tasks)
    engine = open_engine(settings, home.address, cores)
    try:
        _check(engine, waiting)
        with FleetView(fleet, quiet=quiet, json_lines=json_lines) as view:
            run_fleet(fleet, engine, home, tell)
    except KeyboardInterrupt:
        tables()
        raise
    finally:
        engine.close()
    return [page(), *tables()]


def _check(engine: Engine, waiting: list[Progress]) -> None:
    for one in waiting:
        for task in one.job.tasks[one.at :]:
            why = engine.refuse(task.needs)
            if why is not None:
                raise StspbrError(f"object {one.job.name}: {task.stage} needs {task.needs.text()}, but {why}")
