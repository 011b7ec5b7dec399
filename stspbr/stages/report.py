"""Report: one self-contained HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from stspbr.files import atomic_path
from stspbr.report.records import read_record
from stspbr.report.run_page import run_page


def write_report(run: Path, out: Path | None = None, bake: str | None = None) -> Path:
    """Write the page of a run's newest bake (or version ``bake``) and return its path.

    Args:
        run: the run's folder; a run without a bake or an evaluation has a page, too.
        out: the file; None is ``RUN/report.html``.

    Raises:
        StspbrError: the folder is not a run, the version does not exist, or ``out`` cannot be written.
    """
    out = Path(run) / "report.html" if out is None else Path(out)
    html = run_page(read_record(run, bake))
    with atomic_path(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out
