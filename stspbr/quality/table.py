"""The ladder's results as Markdown, CSV, JSON and tables in the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stspbr.files import atomic_path
from stspbr.quality.configurations import FLOOR, LENT
from stspbr.quality.ladder import TRACKS
from stspbr.quality.metrics import METRICS, Metric
from stspbr.quality.statistics import BASELINE, LEVEL, Comparison, Statistic, Verdict, compare, count_outcomes, targets

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
_OUTCOMES = {"within": "not significant", "unknown": "single seeds", "absent": "not measured"}


def write_tables(folder: Path, records: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[Comparison]:
    """Write ``table.md``, ``table.csv`` and ``table.json`` into ``folder``; each file is replaced as a whole.

    Args:
        records: of the finished jobs (see ``runner.carry_out``).
        facts: of the ladder, e.g. its name, the number of jobs left, skipped scenes.
    """
    comparisons = compare(records)
    data = json.dumps(as_json(comparisons, records, facts), indent=2, sort_keys=True) + "\n"
    for suffix, text in {"md": markdown(comparisons, facts), "csv": as_csv(comparisons), "json": data}.items():
        with atomic_path(folder / f"table.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return comparisons


def markdown(comparisons: Sequence[Comparison], facts: Mapping[str, Any]) -> str:
    """The summary; per group a table of values, a table of verdicts, targets and failures."""
    lines = [f"# Quality ladder: {facts.get('ladder', '')}", ""]
    lines += [f"- {key.replace('_', ' ')}: {_listed(value)}" for key, value in facts.items() if value not in (None, [])]
    lines += [f"- ours against joint: {summary(comparisons)}", ""]
    lines += [
        "Mean ± sample standard deviation over seeds. `floor`: the same materials fitted on the true mesh under the "
        f"true light. A verdict is better or worse if Welch's t-test over the seeds gives p ≤ {LEVEL:g}.",
        "",
    ]
    for comparison in comparisons:
        lines += [f"## {title(comparison)}", ""]
        lines += _markdown_table(*value_rows(comparison))
        for baseline, verdicts in _against(comparison):
            lines += ["", *_markdown_table(*verdict_rows(baseline, verdicts))]
        promised = targets(comparison)
        if promised:
            lines += ["", *(f"- {target_line(t)}" for t in promised)]
        failures = [f"- failed: {name}, {line}" for name, errors in comparison.failures.items() for line in errors]
        lines += ["", *failures, ""] if failures else [""]
    return "\n".join(lines).rstrip() + "\n"


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """One line per value: group, configuration, metric, mean, spread, n, and the track's floor."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = "object light track light_mode configuration metric mean spread n floor floor_spread failed"
    writer.writerow(head.split())
    for comparison in comparisons:
        floor = comparison.rows.get(FLOOR, {})
        for name, row in comparison.rows.items():
            failed = len(comparison.failures.get(name, []))
            for metric in METRICS:
                value, beside = row.get(metric.name), floor.get(metric.name)
                numbers = [value and value.mean, value and value.spread, value.n if value else 0]
                numbers += [beside and beside.mean, beside and beside.spread]
                cells = ["" if n is None else repr(n) for n in numbers]
                writer.writerow([*comparison.group, name, metric.name, *cells, failed])
    return stream.getvalue()


def as_json(
    comparisons: Sequence[Comparison], records: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything: the facts, every job's record, and the groups with rows, verdicts and targets."""
    groups = []
    for comparison in comparisons:
        groups.append(
            {
                **dict(zip(("object", "light", "track", "light_mode"), comparison.group, strict=True)),
                "rows": {
                    name: {key: value and asdict(value) for key, value in row.items()}
                    for name, row in comparison.rows.items()
                },
                "verdicts": {key: asdict(verdict) for key, verdict in comparison.verdicts.items()},
                "verdicts_against_lent": {key: asdict(verdict) for key, verdict in comparison.lent.items()},
                "targets": [asdict(target) for target in targets(comparison)],
                "failures": comparison.failures,
            }
        )
    counts = count_outcomes(comparisons)
    return {"schema": SCHEMA, "facts": dict(facts), "outcomes": counts, "groups": groups, "jobs": list(records)}


def print_tables(console: Console, comparisons: Sequence[Comparison]) -> None:
    """The same tables in a terminal."""
    from rich.table import Table

    for comparison in comparisons:
        for head, rows in (value_rows(comparison), *(verdict_rows(*pair) for pair in _against(comparison))):
            table = Table(*head, title=title(comparison) if head[0] == "configuration" else None, title_justify="left")
            for row in rows:
                table.add_row(*row)
            console.print(table)
        for target in targets(comparison):
            console.print(target_line(target), markup=False, highlight=False)
        for name, errors in comparison.failures.items():
            for line in errors:
                console.print(f"failed: {name}, {line}", markup=False, highlight=False)
    console.print(f"ours against joint: {summary(comparisons)}", markup=False, highlight=False)


def title(comparison: Comparison) -> str:
    """Object, light map, track and light mode in words."""
    name, light, track, mode = comparison.group
    return f"{name} under {light}, {TRACKS[track].label}, light {mode}"


def summary(comparisons: Sequence[Comparison]) -> str:
    """The counts of the method's outcomes and of the targets met."""
    counts = count_outcomes(comparisons)
    if not any(counts.values()):
        return "nothing to compare yet"
    parts = [f"{n} {_OUTCOMES.get(outcome, outcome)}" for outcome, n in counts.items() if n]
    promised = [t for c in comparisons for t in targets(c) if t.met is not None]
    met = f"; targets met {sum(bool(t.met) for t in promised)} of {len(promised)}" if promised else ""
    return ", ".join(parts) + met


def target_line(target: Any) -> str:
    """One target as text."""
    state = {True: "met", False: "missed", None: "not measured"}[target.met]
    value = "none" if target.value is None else f"{target.value:.4g}"
    return f"target {target.what}: {value}, limit {target.limit:.4g}: {state}"


def value_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a group's values."""
    head = ["configuration", "n", *(metric.label for metric in METRICS)]
    rows = []
    for name, row in comparison.rows.items():
        n = max((value.n for value in row.values() if value), default=0)
        failed = len(comparison.failures.get(name, []))
        count = f"{n} ({failed} failed)" if failed else str(n)
        rows.append([name, count, *(_cell(metric, row.get(metric.name)) for metric in METRICS)])
    return head, rows


def verdict_rows(baseline: str, verdicts: Mapping[str, Verdict]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of ours − ``baseline``: difference with spread, outcome, and ours over the floor."""
    head = [f"ours − {baseline}", "", *(metric.label for metric in METRICS)]
    pairs = [(metric, verdicts.get(metric.name)) for metric in METRICS]
    return head, [
        ["difference", "", *(_difference(metric, verdict) for metric, verdict in pairs)],
        ["p", "", *("" if v is None or v.p_value is None else f"{v.p_value:.2g}" for _, v in pairs)],
        ["verdict", "", *(_outcome(metric, verdict) for metric, verdict in pairs)],
        ["ours / floor", "", *("" if v is None or v.floor_ratio is None else f"{v.floor_ratio:.2f}" for _, v in pairs)],
    ]


def _against(comparison: Comparison) -> list[tuple[str, Mapping[str, Verdict]]]:
    """The baselines that the method is judged against, with its verdicts."""
    both = ((BASELINE, comparison.verdicts), (LENT, comparison.lent))
    return [(name, verdicts) for name, verdicts in both if verdicts]


def _cell(metric: Metric, value: Statistic | None) -> str:
    if value is None:
        return "–"
    mean = f"{value.mean:.{metric.digits}f}"
    return mean if value.spread is None else f"{mean} ± {value.spread:.{metric.digits}f}"


def _difference(metric: Metric, verdict: Verdict | None) -> str:
    if verdict is None or verdict.difference is None:
        return "–"
    text = f"{verdict.difference:+.{metric.digits}f}"
    return text if verdict.spread is None else f"{text} ± {verdict.spread:.{metric.digits}f}"


def _outcome(metric: Metric, verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    text = _OUTCOMES.get(verdict.outcome, verdict.outcome)
    return text if metric.judged else f"({text})"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _listed(value: Any) -> str:
    return "; ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
