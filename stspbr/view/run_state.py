"""What a run's folder holds at the moment: finished versions, and the stage that is going on. Nothing is written."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from stspbr.artifacts import FINISHED, MANIFEST
from stspbr.errors import StspbrError
from stspbr.optimize.live_model import LIVE_MODEL

SHOWN = ("capture", "coarse", "specialize", *FINISHED)
"""The stages that a viewer can show, in their order."""

_VERSION = re.compile(r"v\d{4,}")
_LOG = re.compile(r"events\.out\.tfevents\.(\d+)\.(.+)\.(\d+)\.\d+")
_SILENT = 120.0  # seconds without a record after which a stage on another machine counts as stopped
_LOST = 3600.0  # seconds after which a process with the right number is another one
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Version:
    """A finished artifact: ``name`` is ``bake/v0001``; ``written`` in seconds since the epoch."""

    stage: str
    version: str
    path: Path
    written: float

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.version}"


@dataclass(frozen=True)
class Activity:
    """The stage that wrote the newest log.

    Attributes:
        state: ``"running"``, ``"stopped"`` (its process is gone and left no artifact) or ``"finished"``.
        last: when it last gave a sign of life, in seconds since the epoch.
        preview: its newest whole preview picture; model: its newest surface; None where there is none.
        changed: when ``model`` was written.
    """

    stage: str
    state: str
    last: float
    preview: Path | None = None
    model: Path | None = None
    changed: float = 0.0


@dataclass(frozen=True)
class RunState:
    """One look at a run: finished versions from the first stage to the last, oldest first, and what goes on."""

    versions: tuple[Version, ...]
    activity: Activity | None

    def newest(self) -> Version | None:
        """The newest version of the latest stage; a refinement only if it is newer than the newest bake."""
        if not self.versions:
            return None
        last = {version.stage: version for version in self.versions}
        if "refine" in last and "bake" in last and last["refine"].written < last["bake"].written:
            del last["refine"]
        return next(last[stage] for stage in reversed(SHOWN) if stage in last)

    def headline(self, step: int | None = None, now: float | None = None) -> str:
        """What goes on, in one line; ``step`` of the stage that is logged."""
        now = time.time() if now is None else now
        at = "" if step is None else f" at step {step}"
        found, newest = self.activity, self.newest()
        if found is not None and found.state == "running":
            return f"{found.stage} is running" + (f", step {step}" if step is not None else "")
        if found is not None and found.state == "stopped":
            return f"{found.stage} stopped{at}, {age(now - found.last)} ago; its command with --resume continues it"
        if newest is None:
            return "nothing is finished yet"
        return f"finished: {newest.name}, {age(now - newest.written)} ago"


def look(run: Path, now: float | None = None) -> RunState:
    """Look at a run's folder. Only names, times and the end of one picture are read; this takes milliseconds.

    Raises:
        StspbrError: there is no such folder.
    """
    if not run.is_dir():
        raise StspbrError(f"{run}: no such folder; give the folder of a run")
    now = time.time() if now is None else now
    versions = []
    for stage in SHOWN:
        names = [path for path in _entries(run / stage) if _VERSION.fullmatch(path.name)]
        for path in sorted(names, key=lambda path: int(path.name[1:])):
            if (written := _modified(path / MANIFEST)) is not None:
                versions.append(Version(stage, path.name, path, written))
    return RunState(tuple(versions), _activity(run, now))


def age(seconds: float) -> str:
    """A time span in one unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def newest_preview(folder: Path) -> Path | None:
    """The picture of the latest step in ``folder`` that is written to its end."""
    pictures = [path for path in _entries(folder) if path.suffix == ".png" and not path.name.startswith(".")]
    for path in sorted(pictures, key=lambda path: (step_of(path), path.name), reverse=True):
        if _is_whole(path):
            return path
    return None


def step_of(path: Path) -> int:
    """The step in a preview's file name; −1 if there is none."""
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def _activity(run: Path, now: float) -> Activity | None:
    logs = []
    for folder in _entries(run / "logs"):
        for path in _entries(folder):
            named, written = _LOG.fullmatch(path.name), _modified(path)
            if named and written is not None:
                logs.append((written, folder, float(named[1]), named[2], int(named[3])))
    if not logs:
        return None
    last, folder, began, host, process = max(logs)
    stage, previews = folder.name, folder / "previews"
    preview, model = newest_preview(previews), previews / LIVE_MODEL
    written_versions = (_modified(path / MANIFEST) for path in _entries(run / stage) if _VERSION.fullmatch(path.name))
    if any(written is not None and written >= began for written in written_versions):
        return Activity(stage, "finished", last, preview)
    state = "running" if _is_alive(host, process, now - last) else "stopped"
    changed = _modified(model)
    return Activity(stage, state, last, preview, None if changed is None else model, changed or 0.0)


def _is_alive(host: str, process: int, silence: float) -> bool:
    """Whether the process that wrote a log goes on; on another machine its silence must tell."""
    if host != socket.gethostname() or os.name == "nt":
        return silence < _SILENT
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return silence < _LOST


def _is_whole(path: Path) -> bool:
    """Whether a PNG has its end: a stage may be writing it."""
    try:
        with path.open("rb") as stream:
            stream.seek(-len(_PNG_END), os.SEEK_END)
            return stream.read() == _PNG_END
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # not there, not a folder, or just removed
        return []


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
