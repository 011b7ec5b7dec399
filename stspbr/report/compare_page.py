"""The page that compares several runs."""

from __future__ import annotations

from stspbr.report.charts import compared_charts
from stspbr.report.comparison import ComparedMetric, Comparison
from stspbr.report.curves import read_curves
from stspbr.report.gallery import Row, map_rows, read_run_light, relit_rows, view_rows
from stspbr.report.models import MODEL_BYTES, embed_model
from stspbr.report.page import render
from stspbr.report.records import MAIN_STAGES
from stspbr.report.run_page import provenance
from stspbr.report.settings import brief

PAGE_MODELS_BYTES = 12_000_000  # for all runs together
MAX_VIEWS = 6
MAP_SIDE = 512


def compare_page(comparison: Comparison) -> str:
    """The HTML of a comparison; what a run lacks is an empty cell."""
    records, names = comparison.records, comparison.names
    logged = tuple(stage for stage in MAIN_STAGES if stage != "capture")
    lights = [read_run_light(record) for record in records]
    embedded: dict[str, str] = {}
    limit = min(MODEL_BYTES, PAGE_MODELS_BYTES // len(records))
    height = 256 if len(records) <= 4 else 128
    models = [
        embed_model(record, light, embedded, number=number, limit=limit, light_height=height)
        for number, (record, light) in enumerate(zip(records, lights, strict=True))
    ]
    views = _aligned([view_rows(record) for record in records], "target", ("result", "error"))
    maps = _aligned([map_rows(record, MAP_SIDE) for record in records], "reference", ("estimate", "error"))
    relit = _aligned([relit_rows(record) for record in records], "truth", ("result",))
    return render(
        "compare.html",
        title=" / ".join(names) if len(names) < 4 else f"{len(names)} runs",
        names=names,
        briefs=[brief(record) for record in records],
        notices=[(record.name, line) for record in records for line in record.notices],
        groups=_groups(comparison.rows),
        settings=comparison.settings,
        views=views[:MAX_VIEWS],
        views_left_out=max(0, len(views) - MAX_VIEWS),
        maps=maps,
        relit=relit,
        lights=[[] if light is None else light.shots for light in lights],
        models=models if embedded else [],
        embedded=embedded,
        charts=compared_charts(names, [read_curves(record.path, logged) for record in records]),
        provenance=[(record.name, provenance(record)) for record in records],
    )


def _groups(rows: list[ComparedMetric]) -> list[tuple[str, list[ComparedMetric]]]:
    """Rows by heading, in their order."""
    out: dict[str, list[ComparedMetric]] = {}
    for row in rows:
        out.setdefault(row.heading, []).append(row)
    return list(out.items())


def _aligned(found: list[list[Row]], truth: str, parts: tuple[str, ...]) -> list[dict]:
    """Rows of equal titles, merged: the truth once if it is the same picture in all runs, else with each run.

    Each entry: ``title``, ``truth`` (a shot or None), ``runs`` (one list of shots per run).
    """
    out = []
    for title in dict.fromkeys(row.title for rows in found for row in rows):
        own = [next((row.shots for row in rows if row.title == title), {}) for rows in found]
        truths = [shots[truth] for shots in own if truth in shots]
        same = len({shot.picture.uri for shot in truths}) == 1
        shown = parts if same or not truths else (truth, *parts)
        cells = [[shots[part] for part in shown if part in shots] for shots in own]
        out.append({"title": title, "truth": truths[0] if same else None, "runs": cells})
    return out
