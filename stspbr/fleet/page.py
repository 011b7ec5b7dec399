"""The page of a fleet: what became of every object, with a picture of each, in one self-contained file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stspbr.fleet.home import Home
from stspbr.fleet.schedule import Fleet, Progress
from stspbr.fleet.table import held_out
from stspbr.optimize.whole_progress import duration
from stspbr.report.gallery import Shot
from stspbr.report.page import render
from stspbr.report.pictures import picture

_PICTURES = 400  # on a page: 60 kB each at most
_ROWS = 2000  # of the table: the rest is in fleet.csv


def fleet_page(fleet: Fleet, home: Home, title: str, facts: list[tuple[str, str]]) -> str:
    """The HTML.

    Args:
        facts: label and value, shown above the table.
    """
    shots: list[Shot] = []
    failures: list[str] = []
    stages = list(dict.fromkeys(task.stage for one in fleet.objects for task in one.job.tasks))
    for one in fleet.objects:
        if one.state == "failed":
            failures.append(f"{one.job.name}: {one.line}")
        if one.at == 0 or len(shots) >= _PICTURES:
            continue
        folder = home.pictures(one.job.name)
        one.psnr = one.psnr or held_out(folder)
        if len(shots) < _PICTURES and (shot := _shot(one, folder)) is not None:
            shots.append(shot)
    rows = [(one.job.name, _cells(one, stages)) for one in fleet.objects[:_ROWS]]
    counts = fleet.counts()
    state = [(name, str(count)) for name, count in counts.items() if count]
    return render(
        "fleet.html",
        title=title,
        facts=[("objects", str(len(fleet.objects))), *state, *facts],
        failures=failures[:_ROWS],
        shots=shots,
        columns=["state", *stages, "lost", "held-out PSNR"],
        rows=rows,
        left_out=max(0, len(fleet.objects) - len(rows)),
        pictures_left_out=max(0, sum(one.at > 0 for one in fleet.objects) - len(shots)),
    )


def _cells(one: Progress, stages: list[str]) -> list[str]:
    own = {task.stage for task in one.job.tasks[: one.at]}
    times = [duration(one.seconds[s]) if s in one.seconds else ("done" if s in own else "–") for s in stages]
    return [one.state, *times, str(one.lost) if one.lost else "", "–" if one.psnr is None else f"{one.psnr:.1f} dB"]


def _shot(one: Progress, folder: Path) -> Shot | None:
    """The most telling picture of a run: its result, the comparison with the truth, or the last preview."""
    found = [folder / "result.png", *sorted(folder.glob("evaluate/v*/contact_sheet.png"), reverse=True)[:1]]
    previews = folder.glob("logs/*/previews/*.png")
    found += sorted(previews, key=lambda path: path.stat().st_mtime, reverse=True)[:1]
    for path in found:
        made = picture(path, 640, 60_000) if path.is_file() else None
        if made is not None:
            quality = "" if one.psnr is None else f", {one.psnr:.1f} dB"
            return Shot(f"{one.job.name}: {one.state}{quality}", made)
    return None


def facts_of(fleet: Fleet, engine: str, seconds: float) -> list[tuple[str, str]]:
    """What is worth knowing of a start: engine, time, memory, lost tasks."""
    peak = max((peak for one in fleet.objects for peak in one.peaks.values()), default=0)
    cpu: Any = sum(sum(one.cpu_seconds.values()) for one in fleet.objects)
    out = [("engine", engine), ("this start", duration(seconds)), ("processor time", duration(cpu))]
    out += [("most memory of a task", f"{peak / 1e9:.2f} GB")] if peak else []
    lost = sum(one.lost for one in fleet.objects)
    return [*out, ("lost tasks", str(lost))] if lost else out
