"""Safe file names, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from stspbr.errors import StspbrError

_TEMPORARY = itertools.count()


def safe_name(name: str, taken: set[str]) -> str:
    """``name`` as part of a file name that differs from all in ``taken`` (whatever the case); it is added to them."""
    base = re.sub(r"[^\w.-]+", "_", name).strip("._") or "material"
    out, count = base, 2
    while out.lower() in taken:
        out, count = f"{base}_{count}", count + 1
    taken.add(out.lower())
    return out


def find_file(path: Path) -> Path | None:
    """``path`` if it is a file, else the file beside it whose name differs in case only; None if there is none."""
    if path.is_file():
        return path
    folder, name = path.parent, path.name.lower()
    return next((p for p in sorted(folder.iterdir()) if p.name.lower() == name), None) if folder.is_dir() else None


def read_file(path: str | os.PathLike[str], name: str | None = None) -> bytes:
    """The bytes of a file; StspbrError if it is missing or cannot be read. ``name`` replaces its path in errors."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise StspbrError(f"{name or path} does not exist: check the path") from None
    except OSError as error:
        raise StspbrError(f"{name or path} cannot be read ({error.strerror}): check the path") from error


def write_file(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file through :func:`atomic_path`; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffix) that is renamed to it when the body ends.

    Missing folders are created. If the body raises, ``path`` is unchanged.

    Raises:
        StspbrError: the path cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{next(_TEMPORARY)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise StspbrError(f"cannot write {path} ({error.strerror}): choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
