"""Compare: several runs side by side, as one self-contained HTML page and as rows for the terminal."""

from __future__ import annotations

from pathlib import Path

from stspbr.files import atomic_path
from stspbr.report.compare_page import compare_page
from stspbr.report.comparison import Comparison, compare_records


def compare_runs(runs: list[Path], out: Path | None = None) -> Comparison:
    """Compare runs with the first of them.

    Args:
        runs: two or more folders of runs.
        out: the page to write; None writes none.

    Raises:
        StspbrError: fewer than two runs, a run named twice, a folder that is not a run, or ``out`` cannot be written.
    """
    comparison = compare_records([Path(run) for run in runs])
    if out is not None:
        html = compare_page(comparison)
        with atomic_path(out) as temporary:
            temporary.write_text(html, encoding="utf-8")
    return comparison


def comparison_table(comparison: Comparison) -> list[tuple[str, str, list[tuple[str, str, bool]]]]:
    """Rows for the terminal: heading, label, and for each run (value, difference to the first, whether it is the best).

    Only metrics that can be better or worse; the page and the data contain the others, too.
    """
    rows = []
    for row in comparison.rows:
        if row.better is not None:
            texts = ["none" if metric is None else metric.text for metric in row.metrics]
            best = [number in row.best for number in range(len(texts))]
            rows.append((row.heading, row.row_label, list(zip(texts, row.difference_texts, best, strict=True))))
    return rows
