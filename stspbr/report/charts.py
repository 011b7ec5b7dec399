"""Chart data for ``charts.js``: one chart per stage and kind, of one run or of several."""

from __future__ import annotations

from typing import Any

from stspbr.report.curves import Curve, thinned

_KINDS = {"loss": ("losses", True), "learning rate": ("learning rates", True)}


def run_charts(curves: dict[str, dict[str, Curve]]) -> list[dict[str, Any]]:
    """Losses, learning rates and all other logged values, except the times, of each stage."""
    charts = []
    for stage, tags in curves.items():
        for kind, names in _by_kind(tags).items():
            title, log = _KINDS.get(kind, (kind, False))
            series = [_series(name, tags[tag]) for name, tag in names.items()]
            charts.append({"title": f"{stage}: {title}", "log": log, "choices": [{"label": title, "series": series}]})
    return charts


def compared_charts(names: list[str], runs: list[dict[str, dict[str, Curve]]]) -> list[dict[str, Any]]:
    """One chart per stage and kind, with a choice of the term and one line per run."""
    charts = []
    for stage in dict.fromkeys(stage for curves in runs for stage in curves):
        tags = dict.fromkeys(tag for curves in runs for tag in curves.get(stage, {}))
        for kind, terms in _by_kind(tags).items():
            title, log = _KINDS.get(kind, (kind, False))
            choices = []
            for term, tag in terms.items():
                lines = [(name, curves.get(stage, {}).get(tag)) for name, curves in zip(names, runs, strict=True)]
                choices.append({"label": term, "series": [_series(name, line) for name, line in lines if line]})
            charts.append({"title": f"{stage}: {title}", "log": log, "choices": choices})
    return charts


def _by_kind(tags: Any) -> dict[str, dict[str, str]]:
    """Kind to name to tag; the loss totals (``A``, ``B``) come before their terms (``A/logl1``)."""
    out: dict[str, dict[str, str]] = {}
    for tag in sorted(tags, key=lambda tag: (tag.partition("/")[0] != "loss", tag.partition("/")[0], tag.count("/"))):
        kind, _, name = tag.partition("/")
        if kind != "seconds per step":
            out.setdefault(kind, {})[name or kind] = tag
    return out


def _series(name: str, curve: Curve) -> dict[str, Any]:
    curve = thinned(curve)
    return {"name": name, "steps": curve.steps, "values": [float(f"{value:.5g}") for value in curve.values]}
