"""The one exception that users see: a single line, exit code 2, no traceback."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable


class StspbrError(Exception):
    """Bad input or a bad environment, in one line: what is wrong, where, and what to do."""


def one_line(error: BaseException) -> str | None:
    """The line that users see of an error that is not a bug of ours; None for a bug, which needs its traceback."""
    if isinstance(error, StspbrError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory: use smaller images (image_scale), batch or texture_resolution"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return None


def why_not_importable(package: str, module: str) -> str | None:
    """Why ``module`` of ``package`` cannot be imported, in one line; None if it can."""
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    try:
        importlib.import_module(module)
    except Exception as error:  # built for another torch or GPU, it raises whatever its loader does
        return f"{package} cannot be imported: {first_line(error)}"
    return None


def did_you_mean(word: str, names: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean PREFIXname?"`` for the nearest of ``names``; nothing if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(names), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def missing_extra(package: str, extra: str, purpose: str) -> StspbrError:
    """The error for an optional dependency that is not installed.

    Args:
        package: the distribution that could not be imported, e.g. ``"mitsuba"``.
        extra: the extra of stspbr that installs it, e.g. ``"reference"``.
        purpose: what needs it, e.g. ``"path-traced captures"``.
    """
    return StspbrError(f"{purpose} need the package {package}: pip install 'stspbr[{extra}]'")


def first_line(error: object) -> str:
    """The first line of a message, at most 200 characters; the exception's kind where it has none."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= 200 else f"{text[:199]}…"
