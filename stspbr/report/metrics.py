"""The metrics of a run as flat rows with a name, a unit and the better direction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from stspbr.report.records import MAIN_STAGES, RunRecord

Better = Literal["high", "low", "zero"]
GROUPS = ("Views", "Material", "Material at one footprint", "Geometry", "Relighting", "Light", "Training", "Time")
HEADLINES = (
    "views.psnr",
    "bake.held_out.psnr_mean",  # if the evaluation has no metrics of views
    "material.lit.albedo_mae_scaled",
    "material.lit.roughness_mae",
    "material.lit.metallic_mae",
    "material.lit.false_metal_rate",
    "material.lit.normal_angle_mean",
    "geometry.chamfer_l1",
)

_REGIONS = {
    "lit": "lit surface",
    "all": "all seen",
    "dark": "dark part",
    "unseen_surface": "never seen",
    "back": "points of the result",
}
_BOOKKEEPING = ("samples", "used", "unseen", "too_far", "opposed", "unmatched")  # of points; in the remarks
_WORDS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mse": "MSE",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "l1": "L1",
    "psnr_mean": "PSNR, mean",
    "psnr_min": "PSNR, worst view",
    "chamfer_l1": "Chamfer-L1",
    "f_score": "F-score",
    "uv": "UV",
}
_LABELS = {
    "false_metal_rate": "false metal",
    "missed_metal_rate": "missed metal",
    "normal_angle_mean": "shading-normal angle, mean",
    "accuracy": "accuracy (result to reference)",
    "completeness": "completeness (reference to result)",
    "diagonal": "diagonal of the reference",
    "count": "points",
    "direction_error": "main directions, mean angle",
    "relative_error": "relative error, scale per channel",
    "relative_error_common": "relative error, one scale",
    "relative_error_raw": "relative error as it is",
    "log_error": "log error in stops, scale per channel",
    "log_error_common": "log error in stops, one scale",
}
_HIGH = ("psnr", "ssim", "f_score", "consistency", "cosine", "correlation", "iou", "both_within")
_LOW = ("mae", "rmse", "mse", "lpips", "angle", "chamfer", "accuracy", "completeness", "rate", "error", "distance",
        "boundary_edges", "self_intersections", "slivers", "non_manifold", "degenerate", "seconds")  # fmt: skip
_ORDER = ("psnr", "ssim", "ms_ssim", "lpips", "chamfer", "f_score", "albedo", "roughness", "metallic", "false_metal",
          "missed_metal", "normal", "direction")  # fmt: skip
_COUNTS = ("count", "edges", "faces", "vertices", "components", "genus", "euler", "intersections", "views", "points")


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    Attributes:
        key: its place, e.g. ``material.lit.albedo_mae``: the same in every run.
        group: one of ``GROUPS``; column: the part of the object, the light, …; label: what is measured.
        value: the number; standard_error: its standard error, if the evaluation has one.
        better: ``high``, ``low`` or nearest to ``zero``; None if no direction is better.
        unit: ``%`` (the value is a share), ``dB``, ``°``, ``s``, ``ms``, ``n`` for a count, or empty.
    """

    key: str
    group: str
    column: str
    label: str
    value: float
    standard_error: float | None = None
    better: Better | None = None
    unit: str = ""

    @property
    def spread_text(self) -> str:
        """The standard error in the unit of ``text``; empty if there is none."""
        factor = 100.0 if self.unit == "%" else 1.0
        return "" if self.standard_error is None else f"{factor * self.standard_error:.2g}"

    @property
    def text(self) -> str:
        """The value with its unit."""
        return with_unit(self.value, self.unit)


def with_unit(value: float, unit: str, signed: bool = False) -> str:
    """A number as a table shows it; ``signed`` writes the plus, too."""
    sign = "+" if signed else ""
    if unit == "%":
        return f"{100.0 * value:{sign}.2f} %"
    if unit == "n":
        return f"{value:{sign}.0f}"
    if unit in ("dB", "°"):
        return f"{value:{sign}.2f} {unit}"
    if unit == "ms":
        return f"{value:{sign}.1f} ms"
    if unit == "s":
        return f"{value:{sign}.1f} s" if abs(value) < 600 else f"{value / 60:{sign}.1f} min"
    if value == 0.0 or 1e-2 <= abs(value) < 1e3:
        return f"{value:{sign}.4f}"
    return f"{value:{sign}.3g}"


def metric_of(name: str, value: float, group: str = "", column: str = "") -> Metric:
    """A single metric, e.g. one view's PSNR; label, unit and better direction follow from ``name``."""
    return Metric(name, group, column, _label(name), value, None, _better(name), _unit(name, value))


def metrics(record: RunRecord) -> list[Metric]:
    """Every number of a run's evaluation, held-out checks and times, group by group."""
    errors = record.errors or {}
    out = _evaluated(errors)
    if other := _table(errors, "other"):
        name = str(other.get("name") or "other")
        found = _evaluated(other)
        out += [
            replace(m, key=f"other.{m.key}", column=f"{name}: {m.column}") for m in found if ".reference." not in m.key
        ]
    out += _flat("light", "Light", "recovered light", _table(errors, "light"))
    out += _training(record)
    out += _times(record)
    return out


def _evaluated(errors: dict[str, Any]) -> list[Metric]:
    """What an evaluation says of one asset."""
    out: list[Metric] = []
    views = _table(errors, "views")
    seen = "training views" if views.get("split") == "train" else "held-out views"
    out += _flat("views", "Views", seen, {k: v for k, v in views.items() if k != "count"})
    out += _material("material", "Material", _table(errors, "material"))
    out += _material("material_at_footprint", "Material at one footprint", _table(errors, "material_at_footprint"))
    geometry = _table(errors, "geometry")
    out += _flat("geometry", "Geometry", "result", {k: v for k, v in geometry.items() if k != "reference"})
    out += _directionless(_flat("geometry.reference", "Geometry", "reference", _table(geometry, "reference")))
    for light, values in _table(errors, "relighting").items():
        if isinstance(values, dict):
            out += _flat(f"relighting.{light}", "Relighting", light, values)
    return out


def _material(prefix: str, group: str, material: dict[str, Any]) -> list[Metric]:
    """One column per region of the surface."""
    out = []
    regions = [k for k, v in material.items() if isinstance(v, dict) and v.get("count") != 0]
    for region in sorted(regions, key=_region_order):
        values = {k: v for k, v in material[region].items() if k not in _BOOKKEEPING}
        out += _flat(f"{prefix}.{region}", group, _REGIONS.get(region, _plain(region)), values)
    return out


def headline(found: list[Metric]) -> list[Metric]:
    """The few metrics for the top of the page, if the run has them."""
    by_key = {metric.key: metric for metric in found}
    wanted = [key for key in HEADLINES if not (key.startswith("bake.") and "views.psnr" in by_key)]
    return [by_key[key] for key in wanted if key in by_key]


def best(values: list[float | None], better: Better | None) -> list[int]:
    """Indices of the best of several runs' values: several if they tie, none if all are equal or only one is known."""
    held = {k: value for k, value in enumerate(values) if value is not None}
    if better is None or len(held) < 2 or len(set(held.values())) == 1:
        return []
    score = {k: {"high": value, "low": -value, "zero": -abs(value)}[better] for k, value in held.items()}
    top = max(score.values())
    return [k for k, value in score.items() if value == top]


def _training(record: RunRecord) -> list[Metric]:
    """Metrics from the stages themselves."""
    out = []
    for stage in MAIN_STAGES[1:]:
        summary = record.json(stage, "metrics.json")
        held_out = {k: v for k, v in _table(summary, "held_out").items() if k != "views"}
        found = _flat(f"{stage}.held_out", "Training", stage, held_out)
        out += [replace(metric, label=f"held-out {metric.label}") for metric in found]
        mesh = {k: v for k, v in _table(summary, "mesh").items() if k in ("vertices", "faces")}
        out += _directionless(_flat(f"{stage}.mesh", "Training", stage, mesh))
        if _is_number(summary.get("export_psnr")):
            export = metric_of("export_psnr", summary["export_psnr"], "Training", stage)
            out.append(replace(export, key=f"{stage}.export_psnr", label="exported file against what was optimised"))
    return out


def _times(record: RunRecord) -> list[Metric]:
    out = []
    for stage, facts in record.facts.items():
        seconds = facts.get("seconds", facts.get("wall_seconds"))
        if not _is_number(seconds):
            continue
        out.append(Metric(f"time.{stage}", "Time", stage, "time", float(seconds), None, "low", "s"))
        pace = _table(facts, "seconds_per_step").get("step")
        if _is_number(pace):
            pace = 1e3 * float(pace)
            out.append(Metric(f"time.{stage}.step", "Time", stage, "time per step", pace, None, "low", "ms"))
    if len(out) > 1:
        total = math.fsum(f.value for f in out if f.label == "time")
        out.append(Metric("time.total", "Time", "all stages", "time", total, None, "low", "s"))
    return out


def _flat(prefix: str, group: str, column: str, values: dict[str, Any], path: tuple[str, ...] = ()) -> list[Metric]:
    """Every finite number under ``values``; lists (per view, matrices, …) are not metrics of a run."""
    out = []
    for name, value in sorted(values.items(), key=lambda item: _name_order(item[0])):
        place = (*path, name)
        if isinstance(value, dict):
            out += _flat(prefix, group, column, value, place)
        elif _is_number(value) and not name.endswith("_se"):
            spread = values.get(f"{name}_se")
            label = ": ".join([*(_plain(part) for part in path), _label(name)])
            spread = float(spread) if _is_number(spread) else None
            key = ".".join((prefix, *place))
            out.append(Metric(key, group, column, label, float(value), spread, _better(name), _unit(name, value)))
    return out


def _directionless(found: list[Metric]) -> list[Metric]:
    return [replace(metric, better=None) for metric in found]


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    entry = values.get(key)
    return entry if isinstance(entry, dict) else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _better(name: str) -> Better | None:
    if "bias" in name:
        return "zero"
    if any(part in name for part in _HIGH):
        return "high"
    words = name.split("_")
    return "low" if any(part in words or ("_" in part and part in name) for part in _LOW) else None


def _unit(name: str, value: float) -> str:
    shares = ("f_score", "relative_error", "both_within", "slivers")
    if name.endswith(("_rate", "_share")) or name.startswith(shares):
        return "%"
    if "psnr" in name:
        return "dB"
    if "angle" in name or name == "direction_error":
        return "°"
    if "seconds" in name:
        return "s"
    counted = name.split("_")[-1] in _COUNTS
    return "n" if counted and float(value).is_integer() else ""


def _label(name: str) -> str:
    if name in _LABELS:
        return _LABELS[name]
    stem, scaled = (name.removesuffix("_scaled"), ", after the scale") if name.endswith("_scaled") else (name, "")
    if stem.startswith("f_score_"):
        return f"F-score at {stem.removeprefix('f_score_').replace('%', ' %')}{scaled}"
    if stem in _WORDS:
        return _WORDS[stem] + scaled
    return " ".join(_WORDS.get(word, word) for word in stem.split("_")) + scaled


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _name_order(name: str) -> tuple[int, str]:
    """Channel by channel, then other names in alphabetical order, counts last."""
    place = next((k for k, part in enumerate(_ORDER) if name.startswith(part)), len(_ORDER))
    return (place + 1 if name in ("count", "diagonal") else place, name)


def _region_order(region: str) -> tuple[int, str]:
    order = list(_REGIONS)
    return (order.index(region) if region in order else len(order), region)
