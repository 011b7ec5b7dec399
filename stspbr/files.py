"""Safe file names, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import unicodedata
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


def find_file(*paths: Path) -> Path | None:
    """The first of ``paths`` that is a file, else the first with a file of a name :func:`alike` beside it, or None."""
    exact = next((path for path in paths if path.is_file()), None)
    if exact is not None:
        return exact
    for folder in dict.fromkeys(path.parent for path in paths):
        held = {alike(name): name for name in sorted(os.listdir(folder), reverse=True)} if folder.is_dir() else {}
        for path in paths:
            if path.parent == folder and alike(path.name) in held:
                return folder / held[alike(path.name)]
    return None


def alike(name: str) -> str:
    """What names have in common that differ in case, or in how letters with accents are put together."""
    return unicodedata.normalize("NFC", name).lower()


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
