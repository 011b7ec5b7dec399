"""Carry out one job: share its capture, run its stages, record its values; or find its earlier record."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from stspbr.artifacts import Artifact, ArtifactStore
from stspbr.errors import StspbrError, first_line
from stspbr.files import atomic_path
from stspbr.quality.configurations import encoding_parameters
from stspbr.quality.ladder import TRACKS, Job, Size, capture_settings, recipe_of, settings_hash
from stspbr.settings import Recipe
from stspbr.version import __version__

RESULT = "result.json"
_STARTED = "started.json"
SCHEMA = 1
_LOOKERS = ("quality/", "report/", "cli/", "bench/", "doctor/")  # what only looks at results


@dataclass(frozen=True)
class Machine:
    """Where the jobs run; the values are those of ``Session.open``."""

    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None


def source_hash() -> str:
    """SHA-256 (hex, 16 digits) of the package's sources, to distinguish results of different versions of the method.

    The report, this ladder and the command line are left out: they only read results.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_LOOKERS):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def finished(job: Job, size: Size, home: Path) -> dict[str, Any] | None:
    """The record of ``job`` if it was carried out with the same settings; None if it has to run."""
    record = read_json(_folder(job, home) / RESULT)
    wanted = settings_hash(recipe_of(job, size), size.capture_seed)
    if record is None or record.get("status") != "done" or record.get("settings_hash") != wanted:
        return None
    return record


def carry_out(job: Job, size: Size, home: Path, machine: Machine, source: str) -> dict[str, Any]:
    """Run ``job`` and write its record. A failure becomes the record's ``error``, one line.

    Args:
        home: the ladder's folder; all jobs share its captures and prefiltered lights.
        source: ``source_hash()`` of the running package.
    """
    folder = _folder(job, home)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "package": __version__,
        "source": source,
        "job": job.name,
        "object": job.scene.object,
        "light": job.scene.light,
        "track": job.track,
        "light_mode": job.light_mode,
        "configuration": job.configuration,
        "seed": job.seed,
        "settings_hash": None,
        "status": "failed",
        "error": None,
        "values": {},
    }
    try:
        recipe = recipe_of(job, size)
        record["settings_hash"] = settings_hash(recipe, size.capture_seed)
        record["encoding_parameters"] = encoding_parameters(recipe.coarse.fields)
        prepare(folder, {"settings_hash": record["settings_hash"], "source": source})
        record["values"] = _run(job, recipe, size, home, folder, machine)
        record["status"] = "done"
    except Exception as error:  # the other jobs go on, and the table lists the failure
        text = first_line(error)
        record["error"] = text if isinstance(error, StspbrError) else f"{type(error).__name__}: {text}"
    write_json(folder / RESULT, record)
    return record


def _run(job: Job, recipe: Recipe, size: Size, home: Path, folder: Path, machine: Machine) -> dict[str, float | None]:
    from stspbr.quality.metrics import read_values
    from stspbr.quality.opaque import write_opaque_parts
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    options: dict[str, Any] = {"device": machine.device, "backend": machine.backend, "threads": machine.threads}
    (home / ".cache").mkdir(parents=True, exist_ok=True)
    if job.scene.opaque_parts_of is not None:
        write_opaque_parts(job.scene.opaque_parts_of, str(job.scene.capture["asset"]))
    seed = size.capture_seed
    capture = shared_capture(job, size, home, lambda run: Session.open(run, seed=seed, quiet=True, **options))
    share(capture.path.parent, folder / "capture")
    share(home / ".cache", folder / ".cache")

    session = Session.open(folder, seed=job.seed, quiet=True, resume=True, **options)
    return read_values(run_recipe(session, recipe, lambda line: None, capture, without=["unpack-orm"]))


def shared_capture(job: Job, size: Size, home: Path, open_session: Callable[[Path], Any]) -> Artifact:
    """The capture of the job's scene and track: found, or made once for all configurations and seeds."""
    from stspbr.stages.capture import run_capture

    run = home / "captures" / job.capture_name
    with FileLock(home / ".cache" / f"{job.capture_name}.lock"):  # another worker may make the same capture
        prepare(run, {"source": source_hash()})
        share(home / ".cache", run / ".cache")
        session, settings = open_session(run), capture_settings(job, size)
        found = session.store.find("capture", settings.model_dump(mode="json"), [], size.capture_seed)
        if found is None and TRACKS[job.track].noisy:
            from stspbr.quality.noise import run_noisy_capture

            return run_noisy_capture(session, settings)
        return found or run_capture(session, settings)


def take_captures(jobs: Sequence[Job], size: Size, home: Path, folder: Path) -> list[str]:
    """Copy the captures of ``jobs`` that ``home`` lacks from runs in ``folder``; a line for each that was found.

    A run's capture is taken if its settings and its seed are those of the ladder's, and its files are whole.
    """
    if not folder.is_dir():
        raise StspbrError(f"{folder}: no such folder of runs")
    (home / ".cache").mkdir(parents=True, exist_ok=True)
    taken, seed = [], size.capture_seed
    for job in {job.capture_name: job for job in jobs if not TRACKS[job.track].noisy}.values():
        settings = capture_settings(job, size).model_dump(mode="json")
        run, identity = home / "captures" / job.capture_name, {"source": source_hash()}
        with FileLock(home / ".cache" / f"{job.capture_name}.lock"):
            if read_json(run / _STARTED) == identity and ArtifactStore(run).find("capture", settings, [], seed):
                continue
            runs = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
            matching = (ArtifactStore(path).find("capture", settings, [], seed) for path in runs)
            found = next((capture for capture in matching if capture is not None), None)
            if found is not None:
                prepare(run, identity)
                shutil.copytree(found.path, run / "capture" / found.path.name, dirs_exist_ok=True)
                taken.append(f"capture {job.capture_name}: taken from {found.path}")
    return taken


def prepare(folder: Path, identity: dict[str, str]) -> None:
    """Keep the folder of an interrupted run of the same work; clear it if other settings or sources made it."""
    if read_json(folder / _STARTED) != identity and folder.is_dir():
        shutil.rmtree(folder)  # links in it are removed, not followed
    write_json(folder / _STARTED, identity)


def share(source: Path, place: Path) -> None:
    """Link ``place`` to ``source``; copy if the system has no links."""
    if place.is_symlink() or place.exists():
        return
    try:
        place.symlink_to(os.path.relpath(source, place.parent), target_is_directory=True)
    except OSError:
        shutil.copytree(source, place)


def _folder(job: Job, home: Path) -> Path:
    return home / "runs" / job.name


def read_json(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None if it is absent or holds no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
