"""The comparison of several runs as data: metrics with the best run and differences to the first, and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError
from stspbr.report.metrics import GROUPS, Better, Metric, best, metrics, with_unit
from stspbr.report.records import RunRecord, read_record
from stspbr.report.settings import differing


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of all runs.

    Attributes:
        key, group, column, label, unit, better: as in :class:`Metric`.
        metrics: one per run; None if a run lacks it.
        best: indices of the best runs; empty if all are equal, only one run has it, or no direction is better.
    """

    key: str
    group: str
    column: str
    label: str
    unit: str
    better: Better | None
    metrics: list[Metric | None]
    best: list[int]

    @property
    def heading(self) -> str:
        """The heading of the row: the group, with the column if each column is a separate table."""
        apart = self.group.startswith("Material") or self.group in ("Geometry", "Relighting")
        return f"{self.group}: {self.column}" if apart else self.group

    @property
    def row_label(self) -> str:
        """The label of the row under that heading."""
        return f"{self.column}: {self.label}" if self.group in ("Training", "Time") else self.label

    @property
    def values(self) -> list[float | None]:
        """The numbers; None if a run has none."""
        return [None if metric is None else metric.value for metric in self.metrics]

    @property
    def differences(self) -> list[float | None]:
        """Each run's value minus the first run's; None for the first itself, and if either is missing."""
        first = self.values[0]
        rest = [None if value is None or first is None else value - first for value in self.values[1:]]
        return [None, *rest]

    @property
    def difference_texts(self) -> list[str]:
        """The differences with their units; empty for None."""
        return ["" if d is None else with_unit(d, self.unit, signed=True) for d in self.differences]


@dataclass(frozen=True)
class Comparison:
    """Compared runs; ``settings`` contains the keys in which they differ, with each run's text or None."""

    records: list[RunRecord]
    rows: list[ComparedMetric]
    settings: list[tuple[str, list[str | None]]]

    @property
    def names(self) -> list[str]:
        """The runs' names, all different."""
        return [record.name for record in self.records]


def compare_records(runs: list[Path]) -> Comparison:
    """Read runs and compare their metrics.

    Raises:
        StspbrError: fewer than two runs, the same folder twice, or a folder that is not a run.
    """
    if len(runs) < 2:
        raise StspbrError("a comparison needs two or more runs: name their folders")
    places = [Path(run).resolve() for run in runs]
    twice = next((run for k, run in enumerate(runs) if places[k] in places[:k]), None)
    if twice is not None:
        raise StspbrError(f"{twice} is named twice: name each run once")
    records = [read_record(run) for run in runs]
    for record, name in zip(records, _distinct_names(places), strict=True):
        record.name = name
    tables = [{metric.key: metric for metric in metrics(record)} for record in records]
    first_with = {key: metric for table in reversed(tables) for key, metric in table.items()}
    order = dict.fromkeys(key for table in tables for key in table)
    keys = sorted(order, key=lambda key: GROUPS.index(first_with[key].group))
    rows = []
    for key in keys:
        known, held = first_with[key], [table.get(key) for table in tables]
        winners = best([None if metric is None else metric.value for metric in held], known.better)
        about = (known.group, known.column, known.label, known.unit, known.better)
        rows.append(ComparedMetric(key, *about, held, winners))
    return Comparison(records, rows, differing(records))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data: runs, metrics and the settings that differ."""
    plain = ("key", "group", "column", "label", "unit", "better", "values", "differences", "best")
    return {
        "schema": 1,
        "runs": [
            {
                "name": record.name,
                "path": str(record.path),
                "artifacts": {stage: artifact.version for stage, artifact in record.artifacts.items()},
                "evaluated": record.errors is not None,
                "notices": record.notices,
            }
            for record in comparison.records
        ],
        "metrics": [
            {name: getattr(row, name) for name in plain}
            | {"standard_errors": [None if metric is None else metric.standard_error for metric in row.metrics]}
            for row in comparison.rows
        ],
        "settings": [{"key": key, "values": texts} for key, texts in comparison.settings],
    }


def _distinct_names(places: list[Path]) -> list[str]:
    """Folder names, with as many parent folders as make them distinct."""
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names
