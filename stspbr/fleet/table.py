"""The table of all objects: rows, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stspbr.fleet.home import Home
from stspbr.fleet.plan import REPORT
from stspbr.fleet.schedule import Fleet, Progress
from stspbr.version import __version__

SCHEMA = 1
COLUMNS = (
    "object",
    "state",
    "stage",
    "tasks",
    "found",
    "lost",
    "seconds",
    "cpu_seconds",
    "peak_gb",
    "psnr",
    "hash",
    "line",
)
"""Of the CSV; the seconds of each stage follow."""


def row(one: Progress) -> dict[str, Any]:
    """What is known of an object as plain data."""
    return {
        "object": one.job.name,
        "recipe": one.job.recipe_name,
        "state": one.state,
        "stage": one.stage,
        "tasks": f"{one.at}/{len(one.job.tasks)}",
        "found": one.found,
        "lost": one.lost,
        "seconds": round(sum(one.seconds.values()), 3),
        "cpu_seconds": round(sum(one.cpu_seconds.values()), 3),
        "peak_gb": round(max(one.peaks.values(), default=0) / 1e9, 3),
        "psnr": one.psnr,
        "hash": one.hashes.get(one.job.last_stage, ""),
        "line": one.line,
        "stages": {stage: round(seconds, 3) for stage, seconds in one.seconds.items()},
        "stages_cpu": {stage: round(seconds, 3) for stage, seconds in one.cpu_seconds.items()},
        "stages_peak_bytes": dict(one.peaks),
        "hashes": dict(one.hashes),
        "hosts": dict(one.hosts),
    }


def remember(objects: list[Progress], home: Home) -> None:
    """Take over what an earlier start wrote of the versions that are still those of the objects."""
    try:
        rows = {row["object"]: row for row in json.loads(home.read("fleet.json"))["objects"]}
    except (ValueError, KeyError, TypeError):
        return  # there was none, or of another schema
    for one in objects:
        old = rows.get(one.job.name)
        if not isinstance(old, dict):
            continue
        same = {stage for stage, found in one.hashes.items() if old.get("hashes", {}).get(stage) == found}
        same |= {REPORT} if one.state == "done" else set()
        places = (("stages", one.seconds), ("stages_cpu", one.cpu_seconds), ("stages_peak_bytes", one.peaks))
        for key, values in (*places, ("hosts", one.hosts)):
            values.update({stage: value for stage, value in old.get(key, {}).items() if stage in same})
        one.lost = int(old.get("lost", 0)) if same else 0


def held_out(folder: Path) -> float | None:
    """Mean PSNR in dB of the held-out views of the furthest stage in a run's folder; None: there are none."""
    for stage in ("refine", "bake", "specialize", "coarse"):
        for path in sorted(folder.glob(f"{stage}/v*/metrics.json"), reverse=True):
            try:
                value = json.loads(path.read_text(encoding="utf-8")).get("held_out", {}).get("psnr_mean")
            except (OSError, ValueError, AttributeError):
                continue
            if isinstance(value, (int, float)):
                return round(float(value), 3)
    return None


def as_json(fleet: Fleet, rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """The table as a JSON document."""
    head = {"schema": SCHEMA, "stspbr": __version__, **facts, "counts": fleet.counts()}
    return json.dumps({**head, "objects": rows}, indent=1, sort_keys=True) + "\n"


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The table as CSV, a row per object."""
    stages = list(dict.fromkeys(stage for one in rows for stage in one["stages"]))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"{stage}_seconds" for stage in stages)])
    for one in rows:
        values = ["" if one[name] is None else one[name] for name in COLUMNS]
        writer.writerow([*values, *(one["stages"].get(stage, "") for stage in stages)])
    return stream.getvalue()


def write_tables(fleet: Fleet, home: Home, facts: Mapping[str, Any]) -> list[str]:
    """Write ``fleet.json`` and ``fleet.csv`` beside the runs; returns their addresses."""
    for one in fleet.objects:
        if home.shared and one.state == "done" and one.psnr is None:
            one.psnr = held_out(home.run(one.job.name))
    rows = [row(one) for one in fleet.objects]
    return [home.write("fleet.json", as_json(fleet, rows, facts)), home.write("fleet.csv", as_csv(rows))]
