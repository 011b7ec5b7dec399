"""Report: one self-contained HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from stspbr.files import atomic_path
from stspbr.report.records import read_record
from stspbr.report.run_page import run_page


def write_report(run: Path, out: Path | None = None, bake: str | None = None) -> Path:
    """Write the page of a run's newest bake (or version ``bake``), and say where it is.

    Args:
        run: the run's folder; it need not have come as far as a bake or an evaluation.
        out: the file; ``RUN/report.html`` where None.

    Raises:
        StspbrError: the folder is no run, the version is not there, or ``out`` cannot be written.
    """
    out = Path(run) / "report.html" if out is None else Path(out)
    html = run_page(read_record(run, bake))
    with atomic_path(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out
