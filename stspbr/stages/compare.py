"""Compare: several runs side by side, as one self-contained HTML page, as rows for the terminal, as data."""

from __future__ import annotations

from pathlib import Path

from stspbr.files import atomic_path
from stspbr.report.compare_page import compare_page
from stspbr.report.comparison import Comparison, compare_records


def compare_runs(runs: list[Path], out: Path | None = None) -> Comparison:
    """Set runs beside each other; the first is what the others are measured against.

    Args:
        runs: two folders of runs or more.
        out: the page to write; None writes none.

    Raises:
        StspbrError: fewer than two runs, one of them twice, a folder that is no run, or ``out`` cannot be written.
    """
    comparison = compare_records([Path(run) for run in runs])
    if out is not None:
        html = compare_page(comparison)
        with atomic_path(out) as temporary:
            temporary.write_text(html, encoding="utf-8")
    return comparison


def comparison_table(comparison: Comparison) -> list[tuple[str, str, list[tuple[str, str, bool]]]]:
    """Rows for the terminal: heading, label, and for each run (value, difference to the first, whether it is the best).

    Only metrics that can be better or worse; the page and the data hold the others too.
    """
    rows = []
    for row in comparison.rows:
        if row.better is None:
            continue
        cells = []
        for number, metric in enumerate(row.metrics):
            text = "none" if metric is None else metric.text
            cells.append((text, row.difference_texts[number], number in row.best))
        rows.append((row.heading, row.row_label, cells))
    return rows
