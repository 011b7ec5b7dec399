"""Tasks: every stage of every object, its command, what it needs, and whether it is finished already."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from stspbr.artifacts import RUN_FACTS, Artifact, ArtifactStore
from stspbr.errors import StspbrError
from stspbr.settings import (
    FleetObject,
    FleetSettings,
    PlannedStage,
    Recipe,
    TaskNeeds,
    find_recipe,
    load_recipe,
    merged,
    stages_until,
)
from stspbr.threads import available_cores

RECIPE, CORES, MEMORY, RETRIES = "photos-standard", 2, 3.0, 2
"""What a fleet has if nobody says otherwise: recipe, cores and gigabytes of a task, further tries of a lost one."""
REPORT = "report"
"""The last task of an object: its page and its picture."""


@dataclass(frozen=True)
class Needs:
    """What a task needs of a machine: cores, bytes of memory, GPUs."""

    cores: int
    memory: int
    gpus: float

    def text(self) -> str:
        """For people."""
        return f"{self.cores} core(s), {self.memory / 1e9:g} GB" + (f", {self.gpus:g} GPU(s)" if self.gpus else "")


@dataclass(frozen=True)
class Task:
    """One stage of one object; plain data, so that any engine can send it to another machine.

    Attributes:
        object, stage: names; last: whether nothing of the object follows.
        command: arguments of `stspbr`, with ``{run}`` in the place of the run's folder.
        home: address of the runs; scratch: the node's folder if that is an object store.
        folder: working directory, to which the paths in recipes are relative.
        of: content hash of what the report is written for; token: of this try, for its notes.
    """

    object: str
    stage: str
    command: tuple[str, ...]
    needs: Needs
    home: str
    folder: str
    scratch: str | None = None
    last: bool = False
    of: str | None = None
    token: str = ""


@dataclass
class Job:
    """One object: its tasks in their order, and what is known of those that are done.

    Attributes:
        recipe, stages: as planned, None and empty once forgotten; the tasks are the stages and the report.
        recipe_name, last_stage: names that are not forgotten.
        done: number of finished tasks at the start; artifacts: of these stages.
    """

    name: str
    recipe: Recipe | None
    seed: int
    stages: list[PlannedStage]
    tasks: list[Task]
    done: int = 0
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    recipe_name: str = field(init=False)
    last_stage: str = field(init=False)

    def __post_init__(self) -> None:
        assert self.recipe is not None
        self.recipe_name, self.last_stage = self.recipe.name, self.stages[-1].name

    def forget(self) -> None:
        """Give back the memory of settings and manifests, which is most of what a large fleet would hold."""
        self.recipe, self.stages, self.artifacts = None, [], {}


def plan_jobs(fleet: FleetSettings, where: str, home: str, only: Iterable[str] = ()) -> Iterator[Job]:
    """The jobs of all objects, every recipe and setting checked; one at a time, so that they may be forgotten.

    Args:
        where: the file or folder of the objects, for errors; home: address of the runs.
        only: patterns of names; none: all objects.

    Raises:
        StspbrError: one line that names the file, the object and what is wrong.
    """
    patterns = list(only)
    chosen = [item for item in fleet.objects if not patterns or any(fnmatchcase(item.name, p) for p in patterns)]
    if not chosen:
        raise StspbrError(f"--only {' '.join(patterns)}: no object matches; --list prints them")
    known: set[str] = set()
    for item in chosen:
        try:
            job = _job(item, fleet, home)
        except StspbrError as error:
            raise StspbrError(f"{where}: object {item.name}: {error}") from None
        known.update(stage.name for stage in job.stages)
        yield job
    unknown = set(fleet.needs) - known - {REPORT}
    if unknown and not patterns:
        names = ", ".join(sorted(known | {REPORT}))
        raise StspbrError(f"{where}: needs.{min(unknown)}: no object has such a stage: choose {names}")


def changes_of(item: FleetObject, fleet: FleetSettings) -> list[str]:
    """The ``--set`` of an object: its source in the place of the recipe's capture, then the changes of both."""
    own: dict[str, Any] | None = item.capture
    if item.photos is not None:
        own = {"kind": "photos", "folder": item.photos}
    if item.mesh is not None:
        own = {"kind": "mesh", "asset": item.mesh}
    if own is None:
        return [*fleet.set, *item.set]
    base = _capture_table(item.recipe or fleet.recipe or RECIPE)
    same = base.get("kind") == own.get("kind", base.get("kind"))
    return [f"capture={toml_value(merged(base, own) if same else own)}", *fleet.set, *item.set]


def find_finished(job: Job, run: Path, *, payload: bool = False) -> None:
    """Set ``job.done`` and ``job.artifacts``: versions with the job's settings, seed and parents, found by their hash.

    Args:
        run: the object's folder, or the copy of its manifests; payload: compare the files with their hashes, too.
    """
    store = ArtifactStore(run)
    job.artifacts = {}
    for stage in job.stages:
        parents = [job.artifacts[stage.parent]] if stage.parent else []
        values = stage.settings.model_dump(mode="json")
        found = store.find(stage.name, values, parents, job.seed, payload=payload)
        if found is None:
            break
        job.artifacts[stage.name] = found
    job.done = len(job.artifacts)
    if job.done == len(job.stages) and report_is_of(run) == job.artifacts[job.stages[-1].name].content_hash:
        job.done += 1


def stage_seconds(artifact: Artifact) -> float | None:
    """Seconds that a stage took, from the facts of its run; None if they are lost.

    ``wall_seconds`` is that of writing the version, ``seconds`` that of an optimising stage from its start.
    """
    try:
        facts = json.loads((artifact.path / RUN_FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = [facts.get(key) for key in ("wall_seconds", "seconds")] if isinstance(facts, dict) else []
    return max((float(value) for value in found if isinstance(value, (int, float))), default=None)


def report_is_of(run: Path) -> str | None:
    """Content hash of the artifact that the run's page was written for."""
    try:
        return json.loads((run / "report.json").read_text(encoding="utf-8"))["of"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def toml_value(value: Any) -> str:
    """Plain data as a TOML value on one line; keys without a value (None) are left out."""
    if isinstance(value, dict):
        parts = (f"{json.dumps(str(k))} = {toml_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)


def _job(item: FleetObject, fleet: FleetSettings, home: str) -> Job:
    name = item.recipe or fleet.recipe or RECIPE
    changes = changes_of(item, fleet)
    recipe = load_recipe(name, changes)
    stages = stages_until(recipe, item.until or fleet.until)
    seeds = [seed for seed in (item.seed, fleet.seed, recipe.seed) if seed is not None]
    kinds = [*(stage.name for stage in stages), REPORT]
    tasks = []
    for stage in kinds:
        needs = _needs(fleet, stage)
        command = _report_command() if stage == REPORT else _command(name, changes, stage, seeds[0], needs, fleet)
        place = (home, os.getcwd(), fleet.scratch)
        tasks.append(Task(item.name, stage, command, needs, *place, last=stage == REPORT))
    return Job(item.name, recipe, seeds[0], stages, tasks)


def _needs(fleet: FleetSettings, stage: str) -> Needs:
    own = fleet.needs.get(stage, TaskNeeds())

    def first(*values: float | None) -> float:
        return next(value for value in values if value is not None)

    cores = first(own.cores, fleet.cores, min(CORES, available_cores()))
    memory = first(own.memory, fleet.memory, MEMORY)
    return Needs(int(cores), round(1e9 * memory), first(own.gpus, fleet.gpus, 0.0))


def _command(
    recipe: str, changes: list[str], stage: str, seed: int, needs: Needs, fleet: FleetSettings
) -> tuple[str, ...]:
    device = fleet.device or ("cuda" if needs.gpus else "cpu")
    machine = ["--seed", str(seed), "--threads", str(needs.cores), "--device", device]
    if fleet.backend is not None:
        machine += ["--backend", fleet.backend]
    settings = [word for change in changes for word in ("--set", change)]
    return ("run", recipe, "--out", "{run}", "--until", stage, "--resume", "--json", *machine, *settings)


def _report_command() -> tuple[str, ...]:
    return ("report", "{run}", "--result", "--quiet")


@lru_cache(maxsize=64)
def _capture_table(recipe: str) -> dict[str, Any]:
    """The table ``capture`` of a recipe's file."""
    import tomllib

    path = find_recipe(recipe)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("capture", {})
    except (OSError, ValueError):
        return {}  # the one who loads it says what is wrong
    return found if isinstance(found, dict) else {}
