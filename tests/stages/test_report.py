"""``stspbr report``: where the page goes, and one line for every user error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from stspbr import cli
from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.stages.report import write_report


@pytest.fixture
def run(tmp_path):
    store = ArtifactStore(tmp_path / "run")
    with store.create("bake", settings={"padding": 4}) as draft:
        (draft.path / "metrics.json").write_text(json.dumps({"held_out": {"psnr_mean": 27.5}}))
    return tmp_path / "run"


def test_the_page_lies_in_the_run_or_where_it_is_wanted(run, tmp_path):
    assert write_report(run) == run / "report.html"
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>") and "27.50 dB" in html
    wanted = tmp_path / "pages" / "a.html"
    assert write_report(run, wanted) == wanted and wanted.read_text(encoding="utf-8") == html
    assert {p.name for p in (run / "bake").iterdir()} == {"v0001"}  # no artifact is touched


def test_user_errors_name_the_place(run, tmp_path):
    with pytest.raises(StspbrError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(StspbrError, match="has no version v0009"):
        write_report(run, bake="v0009")
    (tmp_path / "file").write_text("")
    with pytest.raises(StspbrError, match="cannot write"):
        write_report(run, tmp_path / "file" / "page.html")


def test_the_command(run, tmp_path, monkeypatch, capsys):
    def command(*argv):
        monkeypatch.setattr(sys, "argv", ["stspbr", *map(str, argv)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    code, out, err = command("report", run)
    assert (code, err) == (0, "") and out.startswith(str(run / "report.html"))
    shutil.rmtree(run / "bake")
    code, out, err = command("report", run)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "is not a run" in err


def test_it_needs_no_torch(run):
    code = (
        "import sys; from pathlib import Path; from stspbr.stages.report import write_report;"
        f"write_report(Path({str(run)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
