"""A version while it is written: beside its final name, flushed to disk, renamed when it is complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stspbr.artifacts.manifest import MANIFEST, RUN_FACTS, Artifact, sha256
from stspbr.artifacts.names import PARTIAL, host, next_version
from stspbr.errors import StspbrError

_PLACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@dataclass
class Draft:
    """A version being written: payload files go under ``path``, facts of the run into ``run``."""

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    artifact: Artifact = field(init=False)  # set when the version has its final name


def complete(folder: Path, path: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Write the two JSON files of the draft at ``path``, flush all of it, and rename it; return the new path."""
    _write_json(path / RUN_FACTS, facts)
    _write_json(path / MANIFEST, manifest)
    for place in [*path.rglob("*"), path]:
        _flush(place)
    return _claim(folder, path)


def _claim(folder: Path, draft: Path) -> Path:
    """Rename ``draft`` to the next free version. The rename itself decides between two writers."""
    while True:
        final = folder / next_version(folder)
        try:
            os.rename(draft, final)
        except OSError as error:
            taken = error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
            if not (taken or (os.name == "nt" and final.exists())):
                raise
            continue
        _flush(folder)
        return final


def hash_payload(path: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file under ``path`` by its name; ValueError for a link or a name of the store's."""
    files = {}
    for place in sorted(path.rglob("*")):
        name = place.relative_to(path).as_posix()
        if place.is_symlink():
            raise ValueError(f"{name} is a link: an artifact holds files only")
        if name in (MANIFEST, RUN_FACTS):
            raise ValueError(f"{name} is a name that the store uses itself")
        if place.is_file():
            files[name] = {"sha256": sha256(place), "size": place.stat().st_size}
    return files


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _flush(path: Path) -> None:
    """fsync a file or, if the system can, a directory."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts that killed processes of this host left."""
    for place in folder.iterdir():
        match = PARTIAL.fullmatch(place.name)
        if match and match[2] == host() and os.name != "nt" and not _alive(int(match[1])):
            shutil.rmtree(place, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Turn "disk full" and "not allowed" into one line that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in _PLACE_ERRORS:
            place = error.filename or folder
            raise StspbrError(f"cannot write {place} ({error.strerror}): make room or choose another run") from error
        raise
