"""The page of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stspbr.report.charts import run_charts
from stspbr.report.circumstances import circumstances
from stspbr.report.curves import latest_previews, read_curves
from stspbr.report.gallery import (
    Shot,
    confidence_shots,
    contact_sheet,
    copies_rows,
    copies_sheet,
    map_rows,
    preview_shots,
    read_run_light,
    relit_rows,
    view_rows,
)
from stspbr.report.metrics import GROUPS, Metric, headline, metric_of, metrics, with_unit
from stspbr.report.models import embed_model
from stspbr.report.next_steps import next_steps
from stspbr.report.page import render
from stspbr.report.records import MAIN_STAGES, RunRecord
from stspbr.report.remarks import confidence_remark, remark
from stspbr.report.settings import brief, flat_settings


@dataclass
class Table:
    """Metrics of one group: one row per label, one column per part of the object, light or stage."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Metric | None]]] = field(default_factory=list)
    remark: str = ""


def run_page(record: RunRecord) -> str:
    """The HTML of a run's report; missing parts are listed as notices."""
    logged = tuple(stage for stage in MAIN_STAGES if stage != "capture")
    curves = read_curves(record.path, logged)
    embedded: dict[str, str] = {}
    light = read_run_light(record)
    model = embed_model(record, light, embedded)
    views, maps, relit, sheet = view_rows(record), map_rows(record), relit_rows(record), contact_sheet(record)
    confidence, copies = confidence_shots(record), copies_sheet(record)
    previews = preview_shots(latest_previews(record.path, logged))
    found = metrics(record)
    shots = [shot for row in (*views, *maps, *relit) for shot in row.shots.values()]
    return render(
        "report.html",
        title=record.name,
        brief=brief(record),
        notices=record.notices,
        headlines=headline(found),
        tables=[table for group in GROUPS if (table := _table(group, found, record)).rows],
        views=views,
        per_view=_per_view(record.errors or {}),
        maps=maps,
        confidence=confidence,
        confidence_remark=confidence_remark(record.json(record.asset_stage, "confidence.json")),
        next_steps=next_steps(record),
        circumstances=circumstances(record),
        maps_beside_truth=any("reference" in row.shots for row in maps),
        relit=relit,
        sheet=sheet,
        copies=copies_rows(record),
        copies_sheet=copies,
        light=light,
        models=[model] if model.glb else [],
        embedded=embedded,
        charts=run_charts(curves),
        previews=previews,
        reduced=_reduced([*shots, *confidence, *previews, *([sheet] if sheet else []), *([copies] if copies else [])]),
        settings={stage: flat_settings(artifact.settings) for stage, artifact in record.artifacts.items()},
        provenance=provenance(record),
        with_unit=with_unit,
    )


def provenance(record: RunRecord) -> list[dict[str, Any]]:
    """Version, hash, parents, machine, time and files of each stage's artifact."""
    out = []
    for stage, artifact in record.artifacts.items():
        manifest, facts = artifact.manifest, record.facts.get(stage, {})
        wall = facts.get("seconds", facts.get("wall_seconds"))
        out.append(
            {
                "stage": stage,
                "version": artifact.version,
                "hash": artifact.content_hash,
                "parents": [(k, v["version"], v["content_hash"]) for k, v in artifact.parents.items()],
                "package": (manifest.get("package") or {}).get("version", ""),
                "schema": manifest.get("schema", ""),
                "seed": manifest.get("seed"),
                "device": manifest.get("device", ""),
                "threads": manifest.get("threads", ""),
                "host": facts.get("host", ""),
                "finished": str(facts.get("finished", "")).replace("T", " ").replace("+00:00", " UTC"),
                "time": with_unit(float(wall), "s") if isinstance(wall, (int, float)) else "",
                "warnings": [str(line) for line in facts.get("warnings") or []],
                "files": [(name, entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()],
            }
        )
    return out


def _table(group: str, found: list[Metric], record: RunRecord) -> Table:
    """The group's metrics as a matrix."""
    own = [metric for metric in found if metric.group == group]
    table = Table(group, list(dict.fromkeys(metric.column for metric in own)))
    for label in dict.fromkeys(metric.label for metric in own):
        cells = {metric.column: metric for metric in own if metric.label == label}
        table.rows.append((label, [cells.get(column) for column in table.columns]))
    table.remark = remark(group, record.errors or {})
    return table


def _per_view(errors: dict[str, Any]) -> Table | None:
    """The held-out views one by one."""
    views = errors.get("views")
    entries = views.get("per_view") if isinstance(views, dict) else None
    entries = [entry for entry in entries or [] if isinstance(entry, dict)]
    keys = list(dict.fromkeys(k for entry in entries for k, v in entry.items() if isinstance(v, float)))
    if not entries or not keys:
        return None
    table = Table("Views one by one", [metric_of(key, 0.0).label for key in keys])
    for number, entry in enumerate(entries):
        cells = [metric_of(key, entry[key]) if isinstance(entry.get(key), float) else None for key in keys]
        table.rows.append((str(entry.get("name", number)), cells))
    return table


def _reduced(shots: list[Shot]) -> str:
    count = sum(shot.picture.reduced for shot in shots)
    if not count:
        return ""
    what = "picture is a reduced copy" if count == 1 else "pictures are reduced copies"
    return f"{count} {what} (JPEG) of the run's files, to keep this page small."
