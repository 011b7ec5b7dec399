"""What a fleet shows while it runs: a live table on a terminal, else a line per finished task, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stspbr.fleet.schedule import Fleet, Progress
from stspbr.optimize.whole_progress import duration, rest

if TYPE_CHECKING:
    from rich.table import Table

_ROWS = 40  # of the live table
_ORDER = ("failed", "running", "queued", "waiting", "done")


class FleetView:
    """Shows the progress of a fleet; use it as a context manager, and hand ``tell`` to ``run_fleet``.

    Args:
        quiet: print nothing; json_lines: print a JSON line per change, and nothing else.
    """

    def __init__(self, fleet: Fleet, *, quiet: bool = False, json_lines: bool = False) -> None:
        self._fleet, self._quiet, self._json = fleet, quiet, json_lines
        self._live: Any = None
        self._draw_at = 0.0

    def __enter__(self) -> FleetView:
        if not self._quiet and not self._json and sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self._table(), auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, at)
            self._live = None

    def tell(self, one: Progress | None) -> None:
        """An object has changed; None: time has passed."""
        if self._live is not None:
            now = time.monotonic()
            if now >= self._draw_at:
                self._live.update(self._table(), refresh=True)
                self._draw_at = max(now + 0.5, now + 20.0 * (time.monotonic() - now))
        elif one is not None and self._json:
            names = ("state", "stage", "line", "lost")
            record = {"object": one.job.name, **{name: getattr(one, name) for name in names}, "done": one.at}
            self._write(json.dumps({**record, "tasks": len(one.job.tasks), "counts": self._fleet.summary()[0]}))
        elif one is not None and not self._quiet and one.state != "queued":
            self._write(self._line(one))

    def _line(self, one: Progress) -> str:
        counts, left = self._fleet.summary()
        ended = counts["done"] + counts["failed"]
        head = f"[{ended}/{len(self._fleet.objects)}] {one.job.name}"
        tail = "" if left is None or ended == len(self._fleet.objects) else f"; {rest(left)}"
        if one.state == "failed":
            return f"{head} FAILED in {one.line}{tail}"
        if one.line:
            return f"{head}: {one.line}{tail}"
        before = one.job.tasks[one.at - 1].stage
        return f"{head}: {before} done in {duration(one.seconds.get(before, 0.0))}{tail}"

    def _table(self) -> Table:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        counts, left = self._fleet.summary()
        whole = sum(one.share() for one in self._fleet.objects) / max(len(self._fleet.objects), 1)
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        title = f"{said}; {100 * whole:.0f} %" + ("" if left is None else f", {rest(left)}")
        table = Table("object", "state", "stage", "progress", "left", "lost", "", title=title, box=box.SIMPLE_HEAD)
        shown = sorted(self._fleet.objects, key=lambda one: _ORDER.index(one.state))[:_ROWS]
        for one in shown:
            seconds = one.note.get("seconds_left")
            cells = [one.job.name, one.state, "" if one.state == "done" else one.stage, f"{100 * one.share():.0f} %"]
            cells += ["" if seconds is None else duration(seconds), str(one.lost or ""), one.line]
            table.add_row(*map(escape, cells))
        if len(self._fleet.objects) > len(shown):
            table.caption = f"and {len(self._fleet.objects) - len(shown)} more"
        return table

    @staticmethod
    def _write(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
