"""The acceptance table of confidence, from the records of all objects; what misses its limit is bold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.optimize.posterior import CHANNELS
from stspbr.quality.confidence_cases import CALIBRATION, OBJECTS, Case
from stspbr.quality.confidence_figures import factors, within

Values = dict[str, dict[str, Any]]
"""A case's values by part."""
_NAMES = {"same": "Same shading", "path": "Path-traced"}


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        label: in the table; read: its value from a case's parts, None without one.
        least, most: the limits by track (``same``, ``path``); None: none.
        form: of the value.
    """

    label: str
    read: Callable[[Values], float | None]
    least: tuple[float, float] | None = None
    most: tuple[float, float] | None = None
    form: str = "{:.2f}"

    def cell(self, values: Values, track: str) -> str:
        """The value as text: bold if it misses a limit, a dash without one."""
        found = self.read(values)
        if found is None:
            return "–"
        text = self.form.format(found)
        return text if self.met(found, track) else f"**{text}**"

    def met(self, value: float, track: str) -> bool:
        """Whether ``value`` keeps the limits of ``track``."""
        column = 0 if track == "same" else 1
        low = self.least is None or value >= self.least[column]
        return low and (self.most is None or value <= self.most[column])

    def wanted(self, track: str) -> str:
        """The limits in words."""
        column = 0 if track == "same" else 1
        parts = [
            f"{sign} {self.form.format(own[column])}" for sign, own in (("≥", self.least), ("≤", self.most)) if own
        ]
        return ", ".join(parts)


def table(records: Sequence[dict[str, Any]], home: Path, size: str) -> str:
    """Markdown: a table per track with a column per object."""
    cases: dict[tuple[str, str], Values] = {}
    calibration = _arrays(Case(CALIBRATION, "same", size).label, home)
    factor = None if calibration is None else factors(*calibration)
    for record in records:
        values = cases.setdefault((record["track"], record["object"]), {})
        values[record["part"]] = record["values"]
        own = _arrays(record["label"], home) if record["part"] == "ranks" else None
        if factor is not None and own is not None and record["label"] != Case(CALIBRATION, "same", size).label:
            values["ranks"]["calibrated"] = within(*own, factor)
    lines = []
    for track, title in _NAMES.items():
        names = [name for own, name in cases if own == track]
        if not names:
            continue
        never = {name for name, own in OBJECTS.items() if not own.tuned}
        heads = [f"{name}{' (never tuned on)' if name in never else ''}" for name in names]
        lines += ["", f"| {title} | {' | '.join(heads)} | wanted |", "|---" * (len(names) + 2) + "|"]
        for row in _ROWS:
            cells = [row.cell(cases[track, name], track) for name in names]
            if set(cells) != {"–"}:
                lines.append(f"| {row.label} | {' | '.join(cells)} | {row.wanted(track)} |")
    if factor is not None:
        told = ", ".join(f"{name} {value:.2f}" for name, value in factor.items())
        lines += ["", f"Factors of the stds, from {CALIBRATION} (same shading): {told}."]
    sources = sorted({record["source"] for record in records})
    return "\n".join(lines).strip() + f"\n\nSources: {', '.join(sources) or 'none'}; size: {size}.\n"


def _arrays(label: str, home: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Std and error ``[T, 5]`` of a case."""
    place = home / "records" / label / "ranks.npz"
    if not place.is_file():
        return None
    with np.load(place) as found:
        return found["std"], found["error"]


def _at(*path: str | int) -> Callable[[Values], float | None]:
    def read(values: Values) -> float | None:
        found: Any = values
        for key in path:
            if isinstance(key, str) and (not isinstance(found, dict) or key not in found):
                return None
            found = found[key]
        return None if found is None else float(found)

    return read


def _removed(channel: str, order: str) -> Callable[[Values], float | None]:
    """The mean correlation over the removed views, the others in the ``same`` order or in a ``new`` one."""

    def read(values: Values) -> float | None:
        rows = values.get("removal", {}).get("views", [])
        found = [row[order]["correlation"][channel] for row in rows if order in row]
        found = [value for value in found if value is not None]
        return float(np.mean(found)) if found else None

    return read


def _fill(channels: str, channel: str, low: float, high: float) -> Callable[[Values], float | None]:
    """Mean error after the fill over that before, of texels with a confidence from ``low`` to ``high``."""

    def read(values: Values) -> float | None:
        rows = values.get("ranks", {}).get("fill", {}).get(channels, {}).get(channel, [])
        for row in rows:
            if (row["from"], row["to"]) == (low, high) and row["before"] > 0:
                return row["after"] / row["before"]
        return None

    return read


def _five(channel: str, which: str) -> Callable[[Values], float | None]:
    """The error with the chosen views over the mean of the random draws; ``which``: errors, or weak_errors."""

    def read(values: Values) -> float | None:
        errors = values.get("five", {}).get(which)
        if errors is None:
            return None
        draws = [own[channel] for name, own in errors.items() if name.startswith("random")]
        return errors["chosen"][channel] / float(np.mean(draws))

    return read


def _farthest(values: Values) -> float | None:
    """The largest deviation of a derivative from finite differences."""
    found = values.get("ranks", {}).get("jacobian_off_by")
    return None if found is None else max(value for name, value in found.items() if name != "roughness_finer")


_ROWS = (
    Row("Spearman of std and error: roughness", _at("ranks", "ranks", "roughness", "spearman"), (0.6, 0.45)),
    Row("– of errors that are drawn from the stds", _at("ranks", "ranks", "roughness", "ceiling")),
    Row("albedo", _at("ranks", "ranks", "albedo", "spearman"), (0.45, 0.3)),
    Row("metallic: AUC of std for errors above 0.2", _at("ranks", "ranks", "metallic", "auc"), (0.85, 0.75)),
    *(
        Row(f"worst ÷ best fifth: {name}", _at("ranks", "ranks", name, "ratio"), (8.0, 4.0), form="{:.1f}")
        for name in CHANNELS
    ),
    *(
        Row(f"monotone over fifths (1: yes): {name}", _at("ranks", "ranks", name, "monotone"), (1, 1), form="{:.0f}")
        for name in CHANNELS
    ),
    *(
        Row(f"within 2 std, other object's factor: {name}", _at("ranks", "calibrated", name), (0.88, 0.8), (0.98, 0.98))
        for name in CHANNELS
    ),
    *(Row(f"within 2 std, no factor: {name}", _at("ranks", "ranks", name, "within")) for name in CHANNELS),
    Row("roughness confidence, no lamp's mirror direction seen", _at("ranks", "lamps", "never"), most=(0.35, 0.45)),
    Row("the rest", _at("ranks", "lamps", "mirrored"), (0.7, 0.6)),
    Row("the same, any part of a lamp", _at("ranks", "lamps", "parts", "never"), most=(0.35, 0.45)),
    Row("the rest, any part of a lamp", _at("ranks", "lamps", "parts", "mirrored"), (0.7, 0.6)),
    *(Row(f"a view removed, correlation: {name}", _removed(name, "same"), (0.6, 0.4)) for name in CHANNELS),
    *(Row(f"the same, other draws: {name}", _removed(name, "new"), (0.6, 0.4)) for name in CHANNELS),
    Row("shares and prior off 1", _at("ranks", "shares_off_by"), most=(1e-5, 1e-5), form="{:.0e}"),
    Row("J off finite differences", _farthest, most=(0.01, 0.01), form="{:.4f}"),
    Row("roughness: off a step of half the size", _at("ranks", "jacobian_off_by", "roughness_finer"), form="{:.4f}"),
    *(
        Row(f"fill, error after ÷ before: roughness, {label}", _fill("roughness", "roughness", *span), most=(1.0, 1.0))
        for label, span in (
            ("confidence < 0.1", (-1.0, 0.1)),
            ("0.1 to 0.3", (0.1, 0.3)),
            ("all texels", (-1.0, 2.0)),
        )  # fmt: skip
    ),
    *(
        Row(f"five views chosen, error ÷ random ones', {label}: {name}", _five(name, which), None, (1, 1), "{:.3f}")
        for which, label in (("weak_errors", "weak surface"), ("errors", "all"))
        for name in CHANNELS
    ),
    Row("confidence's share of the stage's CPU time, default steps", _at("time", "share"), most=(0.1, 0.1)),
    Row("confidence and fill, CPU s", _at("time", "confidence"), most=(40.0, 40.0), form="{:.0f}"),
)
