"""What a run holds: finished versions, a stage that goes on, one that has stopped."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from stspbr.errors import StspbrError
from stspbr.view.run_state import age, look, newest_preview

PNG = b"\x89PNG\r\n\x1a\n picture \x00\x00\x00\x00IEND\xaeB`\x82"


def version(run, name: str, written: float) -> None:
    path = run / name / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({}))
    os.utime(path, (written, written))


def log(run, stage: str, began: float, last: float, process: int, host: str | None = None):
    path = run / "logs" / stage / f"events.out.tfevents.{int(began)}.{host or socket.gethostname()}.{process}.0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (last, last))
    return path.parent / "previews"


def test_versions_are_listed_by_stage_and_age(tmp_path):
    for name in ("bake/v0010", "bake/v0002", "coarse/v0001", "capture/v0001", "evaluate/v0001"):
        version(tmp_path, name, 1000.0)
    (tmp_path / "bake" / ".v0011.partial-1-0-host").mkdir()  # being written
    (tmp_path / "bake" / "v0012").mkdir()  # no manifest: somebody made a folder
    state = look(tmp_path)
    assert [one.name for one in state.versions] == ["capture/v0001", "coarse/v0001", "bake/v0002", "bake/v0010"]
    assert state.newest().name == "bake/v0010" and state.activity is None
    assert state.headline(now=1000.0 + 7200) == "finished: bake/v0010, 2 h ago"


def test_a_refinement_is_shown_unless_its_bake_is_old(tmp_path):
    version(tmp_path, "bake/v0001", 1000.0)
    version(tmp_path, "refine/v0001", 2000.0)
    assert look(tmp_path).newest().name == "refine/v0001"
    version(tmp_path, "bake/v0002", 3000.0)
    assert look(tmp_path).newest().name == "bake/v0002"


def test_a_stage_goes_on_stops_and_ends(tmp_path, dead_process):
    now = time.time()
    version(tmp_path, "capture/v0001", now - 500)
    log(tmp_path, "coarse", now - 100, now - 1, os.getpid())
    state = look(tmp_path)
    assert (state.activity.stage, state.activity.state) == ("coarse", "running")
    assert state.headline(320) == "coarse is running, step 320" and state.newest().name == "capture/v0001"
    log(tmp_path, "coarse", now - 90, now, dead_process)
    assert look(tmp_path).activity.state == "stopped"
    line = look(tmp_path).headline(320, now=now + 300)
    assert line == "coarse stopped at step 320, 5 min ago; its command with --resume continues it"
    version(tmp_path, "coarse/v0001", now)
    assert look(tmp_path).activity.state == "finished"
    assert look(tmp_path).headline(320, now=now + 60).startswith("finished: coarse/v0001, 60 s ago")


def test_an_older_artifact_does_not_end_a_stage_that_runs_again(tmp_path):
    now = time.time()
    version(tmp_path, "coarse/v0001", now - 1000)
    log(tmp_path, "coarse", now - 100, now, os.getpid())
    assert look(tmp_path).activity.state == "running"


@pytest.mark.parametrize(("silence", "state"), [(20, "running"), (600, "stopped")])
def test_on_another_machine_silence_tells(tmp_path, silence, state):
    now = time.time()
    log(tmp_path, "bake", now - 5000, now - silence, 1, host="elsewhere")
    assert look(tmp_path).activity.state == state


def test_half_a_preview_is_not_taken(tmp_path):
    for step, data in ((100, PNG), (200, PNG), (300, PNG[:-6]), (400, b"")):
        (tmp_path / f"target_result_{step:06d}.png").write_bytes(data)
    (tmp_path / ".hidden_000900.png").write_bytes(PNG)
    assert newest_preview(tmp_path).name == "target_result_000200.png"
    assert newest_preview(tmp_path / "nothing") is None


def test_no_run(tmp_path):
    with pytest.raises(StspbrError, match="no such folder"):
        look(tmp_path / "nothing")
    assert look(tmp_path).headline() == "nothing is finished yet"


def test_ages():
    assert [age(s) for s in (3, 119, 121, 7201, 200_000)] == ["3 s", "119 s", "2 min", "2 h", "2 days"]
