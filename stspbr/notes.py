"""What readers leave out, convert or doubt: one line for people per kind, with the count of the files it is about."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

Log = Callable[[str], None] | None
"""A function that receives one line for people at a time, or None."""


class Notes:
    """Collects notes of one reading; several threads may add to it.

    Args:
        what: the places are, as a plural.
    """

    def __init__(self, what: str = "files") -> None:
        self._what = what
        self._places: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, text: str, where: str = "") -> None:
        """Add a note.

        Args:
            text: what was done and what it changes, the same for all files of its kind.
            where: the file or part it is about; empty: the whole.
        """
        with self._lock:
            self._places.setdefault(text, set()).update([where] if where else [])

    def lines(self) -> list[str]:
        """``"text"``, ``"a.png: text"`` or ``"12 files (a.png, b.png, c.png, …): text"`` for each kind."""
        places = {text: sorted(found) for text, found in self._places.items()}
        # the order of threads must not show
        return [
            f"{found[0] if len(found) == 1 else first_few(found, self._what)}: {text}" if found else text
            for text, found in sorted(places.items(), key=lambda item: item[1][:1])
        ]

    @classmethod
    @contextlib.contextmanager
    def into(cls, log: Log) -> Iterator[Notes]:
        """Notes whose lines ``log`` receives when the body ends, also if it raises."""
        notes = cls()
        try:
            yield notes
        finally:
            if log is not None:
                for line in notes.lines():
                    log(line)


def first_few(names: Sequence[str], what: str = "", count: int = 3) -> str:
    """``"3 (a, b, c)"``, or ``"20 files (a, b, c, …)"`` with ``what="files"``: for lines that must stay short."""
    listed = f"({', '.join(names[:count])}{', …' if len(names) > count else ''})"
    return " ".join(filter(None, (str(len(names)), what.removesuffix("s") if len(names) == 1 else what, listed)))
