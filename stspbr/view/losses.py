"""The losses of a run, read as they are written."""

from __future__ import annotations

from pathlib import Path

from stspbr.report.curves import Curve, CurveReader, thinned
from stspbr.view.run_state import SHOWN


class Losses:
    """The scalars in ``RUN/logs``; a log is read again only if it has grown."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._readers: dict[str, CurveReader] = {}
        self._seen: dict[str, tuple[tuple[str, int], ...]] = {}
        self._curves: dict[str, dict[str, Curve]] = {}

    def poll(self) -> bool:
        """Read what is new; whether there was anything."""
        changed = False
        for stage in SHOWN:
            folder = self._run / "logs" / stage
            now = _sizes(folder)
            if not now or self._seen.get(stage) == now:
                continue
            sizes = dict(now)
            lost = any(sizes.get(name, -1) < size for name, size in self._seen.get(stage, ()))
            if stage not in self._readers or lost:  # somebody has removed a log: begin anew
                self._readers[stage] = CurveReader(folder)
            self._seen[stage] = now
            self._curves[stage] = self._readers[stage].read()
            changed = True
        return changed

    def stages(self) -> list[str]:
        """The stages with losses, in their order."""
        return [stage for stage in SHOWN if any(tag.startswith("loss/") for tag in self._curves.get(stage, {}))]

    def of(self, stage: str) -> dict[str, Curve]:
        """Loss terms by name, thinned to what a chart can show."""
        found = self._curves.get(stage, {})
        return {tag.removeprefix("loss/"): thinned(curve) for tag, curve in found.items() if tag.startswith("loss/")}

    def step(self, stage: str) -> int | None:
        """The last step that is logged; None if there is none."""
        ends = [curve.steps[-1] for curve in self._curves.get(stage, {}).values() if curve.steps]
        return max(ends, default=None)


def _sizes(folder: Path) -> tuple[tuple[str, int], ...]:
    """Names and sizes of the logs in a stage's folder."""
    try:
        return tuple(sorted((path.name, path.stat().st_size) for path in folder.glob("events.out.tfevents.*")))
    except OSError:
        return ()
