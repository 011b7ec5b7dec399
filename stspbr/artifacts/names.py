"""How stages, versions and drafts are named: ``v0001``, and hidden names while a version is written."""

from __future__ import annotations

import itertools
import os
import re
import socket
from pathlib import Path

from stspbr.errors import StspbrError

STAGE = re.compile(r"[a-z0-9][a-z0-9-]*")
"""Names of stages."""
PARTIAL = re.compile(r"\.v\d+\.partial-(\d+)-\d+-(.+)")
"""Names of drafts: the version hoped for, then process, number and host of the writer."""

_VERSION = re.compile(r"v(\d{4,})")
_DRAFT_NUMBER = itertools.count()  # two threads of one process may write the same stage


def check_stage(stage: str) -> None:
    """ValueError unless ``stage`` can be a folder's name everywhere."""
    if not STAGE.fullmatch(stage):
        raise ValueError(f"stage name {stage!r}: only a-z, 0-9 and '-' are allowed")


def version_name(version: str | int) -> str:
    """``v0003`` of ``"v0003"``, ``"3"`` or 3; StspbrError if it is none."""
    digits = re.fullmatch(r"v?(\d+)", str(version))
    if not digits:
        raise StspbrError(f"{version!r} is not a version: write it as v0003")
    return f"v{int(digits[1]):04d}"


def versions_in(folder: Path) -> list[str]:
    """Names of the versions in ``folder``, oldest first. A stray file with such a name counts as one."""
    names = [p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(names, key=lambda name: int(name[1:]))


def next_version(folder: Path) -> str:
    """The name after the newest version's."""
    return f"v{int((versions_in(folder) or ['v0'])[-1][1:]) + 1:04d}"


def draft_name(folder: Path) -> str:
    """A name that no other draft in ``folder`` has, of this process or another."""
    return f".{next_version(folder)}.partial-{os.getpid()}-{next(_DRAFT_NUMBER)}-{host()}"


def host() -> str:
    """This machine's name, fit for a file's."""
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname()) or "host"
