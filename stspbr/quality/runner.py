"""Carry out one job: share its capture, run its stages, keep its values; or find that it is done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stspbr
from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.quality.configurations import encoding_parameters
from stspbr.quality.ladder import CAPTURE_SEED, Job, Size, capture_settings, recipe_of, settings_hash
from stspbr.settings import Recipe, Settings

RESULT = "result.json"
_STARTED = "started.json"
SCHEMA = 1
# what a capture depends on besides its settings
_CAPTURE_SOURCES = ("scene/", "procedural/", "datasets/", "render/", "stages/capture")


@dataclass(frozen=True)
class Machine:
    """Where the jobs run; as ``Session.open`` takes it."""

    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None


def source_hash(parts: tuple[str, ...] = ("",)) -> str:
    """SHA-256 (hex, 16 digits) of the package's sources: tells results of one method from those of another.

    What only looks at results (the report, this ladder, the command line) is left out.

    Args:
        parts: only paths inside the package that start so.
    """
    root = Path(stspbr.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(parts) and not name.startswith(("quality/", "report/", "cli")):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def finished(job: Job, size: Size, home: Path) -> dict[str, Any] | None:
    """The record of ``job`` where it was carried out with the same settings; None where it has to run."""
    record = _read(_folder(job, home) / RESULT)
    wanted = settings_hash(recipe_of(job, size))
    if record is None or record.get("status") != "done" or record.get("settings_hash") != wanted:
        return None
    return record


def carry_out(job: Job, size: Size, home: Path, machine: Machine, source: str) -> dict[str, Any]:
    """Run ``job`` and write its record. What goes wrong becomes the record's ``error``, one line.

    Args:
        home: the ladder's folder; captures and prefiltered lights in it are shared by all jobs.
        source: ``source_hash()`` of the running package.
    """
    folder = _folder(job, home)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "package": stspbr.__version__,
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
        record["settings_hash"] = settings_hash(recipe)
        record["encoding_parameters"] = encoding_parameters(recipe.coarse.fields)
        _prepare(folder, {"settings_hash": record["settings_hash"], "source": source})
        record["values"] = _run(job, recipe, size, home, folder, machine)
        record["status"] = "done"
    except Exception as error:  # whatever it is, the other jobs go on and the table says what happened
        text = str(error).splitlines()[0] if str(error) else "no message"
        record["error"] = text if isinstance(error, StspbrError) else f"{type(error).__name__}: {text}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RESULT, record)
    return record


def _run(job: Job, recipe: Recipe, size: Size, home: Path, folder: Path, machine: Machine) -> dict[str, float | None]:
    from stspbr.quality.metrics import read_values
    from stspbr.stages.bake import run_bake
    from stspbr.stages.coarse import run_coarse
    from stspbr.stages.evaluate import run_evaluate
    from stspbr.stages.session import Session
    from stspbr.stages.specialize import run_specialize

    options: dict[str, Any] = {"device": machine.device, "backend": machine.backend, "threads": machine.threads}
    (home / ".cache").mkdir(parents=True, exist_ok=True)
    capture = _capture(job, size, home, lambda run: Session.open(run, seed=CAPTURE_SEED, quiet=True, **options))
    _share(capture.path.parent, folder / "capture")
    _share(home / ".cache", folder / ".cache")

    # the stages of run_recipe, but for a capture of another seed, and without the unpacked maps that nobody reads
    session = Session.open(folder, seed=job.seed, quiet=True, resume=True, versions={"capture": capture.version},
                           **options)  # fmt: skip
    stages: tuple[tuple[str, Settings, Callable[[Session, Any], Artifact], str], ...] = (
        ("coarse", recipe.coarse, run_coarse, "capture"),
        ("specialize", recipe.specialize, run_specialize, "coarse"),
        ("bake", recipe.bake, run_bake, "specialize"),
        ("evaluate", recipe.evaluate, run_evaluate, "bake"),
    )
    done: dict[str, Artifact] = {"capture": capture}
    for stage, settings, run, parent in stages:
        found = session.store.find(stage, settings.model_dump(mode="json"), [done[parent]], session.seed)
        done[stage] = found or run(session, settings)
        session.versions[stage] = done[stage].version
    return read_values(done)


def _capture(job: Job, size: Size, home: Path, open_session: Callable[[Path], Any]) -> Artifact:
    """The capture of the job's scene and track: found, or made once for all configurations and seeds."""
    from filelock import FileLock

    from stspbr.stages.capture import run_capture

    run = home / "captures" / job.capture_name
    with FileLock(home / ".cache" / f"{job.capture_name}.lock"):  # another worker may be at it
        _prepare(run, {"source": source_hash(_CAPTURE_SOURCES)})
        _share(home / ".cache", run / ".cache")
        session, settings = open_session(run), capture_settings(job, size)
        found = session.store.find("capture", settings.model_dump(mode="json"), [], CAPTURE_SEED)
        return found or run_capture(session, settings)


def _prepare(folder: Path, identity: dict[str, str]) -> None:
    """Keep what an interrupted run of the very same work left; clear away what other settings or sources made."""
    if _read(folder / _STARTED) != identity and folder.is_dir():
        shutil.rmtree(folder)  # links in it are removed, not followed
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / _STARTED, identity)


def _share(source: Path, place: Path) -> None:
    """``source`` under another name without a second copy, where the system has links."""
    if place.is_symlink() or place.exists():
        return
    try:
        place.symlink_to(os.path.relpath(source, place.parent), target_is_directory=True)
    except OSError:
        shutil.copytree(source, place)


def _folder(job: Job, home: Path) -> Path:
    return home / "runs" / job.name


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
