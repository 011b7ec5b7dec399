"""The one exception that users see: a single line, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterable


class StspbrError(Exception):
    """Bad input or a bad environment, said in one line: what is wrong, where, and what to do."""


def one_line(error: BaseException) -> str | None:
    """What users are told of an error that is not a fault of ours; None where it is one and wants its traceback."""
    if isinstance(error, StspbrError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory: use smaller images (image_scale), batch or texture_resolution"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
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
        extra: the extra of stspbr that brings it, e.g. ``"reference"``.
        purpose: what needed it, e.g. ``"path-traced captures"``.
    """
    return StspbrError(f"{purpose} need the package {package}: pip install 'stspbr[{extra}]'")
