"""What fits onto one machine at a time, and that a task's process ends with whoever started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stspbr.errors import StspbrError
from stspbr.fleet.engine_choice import open_engine
from stspbr.fleet.local_engine import LocalEngine, _Running
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import _judged
from stspbr.settings import FleetSettings


def occupied(engine, *needs):
    """The engine with tasks of these needs on it."""
    for one in needs:
        running = _Running(Task("a", "coarse", (), one, "", ""), engine._free_gpus(one.gpus))
        engine._running[id(running)] = running
    return engine


@pytest.mark.parametrize(
    ("there", "wanted", "room"),
    [
        ([], Needs(8, 9 * 10**9, 0), True),  # alone it may have all, and more cores than there are
        ([Needs(2, 10**9, 0)], Needs(2, 10**9, 0), True),
        ([Needs(2, 10**9, 0)], Needs(3, 10**9, 0), False),
        ([Needs(1, 7 * 10**9, 0)], Needs(1, 2 * 10**9, 0), False),
        ([Needs(1, 1, 1)], Needs(1, 1, 1), True),
        ([Needs(1, 1, 1)], Needs(1, 1, 2), False),
        ([Needs(1, 1, 0.5)], Needs(1, 1, 0.5), True),
        ([Needs(1, 1, 1), Needs(1, 1, 0.5)], Needs(1, 1, 0.6), False),
    ],
)
def test_cores_memory_and_gpus_are_shared_out(there, wanted, room):
    engine = occupied(LocalEngine(None, 4, 8 * 10**9, ("2", "5")), *there)
    assert engine.room(wanted) is room


def test_fractions_share_a_gpu_and_whole_ones_do_not():
    engine = occupied(LocalEngine(None, 8, 10**12, ("2", "5")), *[Needs(1, 1, 0.5)] * 2, Needs(1, 1, 1))
    assert [one.gpus for one in engine._running.values()] == [[0], [0], [1]]


def test_workers_are_a_limit_of_their_own():
    engine = occupied(LocalEngine(2, 1, 10**12, ()), Needs(1, 1, 0))
    assert engine.room(Needs(1, 1, 0)), "the user says so, whatever the cores"
    assert not occupied(engine, Needs(1, 1, 0)).room(Needs(1, 1, 0))


def test_what_can_never_run():
    engine = LocalEngine(None, 4, 8 * 10**9, ())
    assert engine.refuse(Needs(1, 1, 1)) == "this machine has 0 GPU(s)"
    assert engine.refuse(Needs(1, 9 * 10**9, 0)) == "this machine has 8.0 GB"
    assert engine.refuse(Needs(99, 10**9, 0)) is None
    with pytest.raises(StspbrError, match="--address auto: the local engine has none"):
        open_engine(FleetSettings(address="auto"), "runs", 1)


def test_a_missing_package_names_the_extra(monkeypatch):
    for engine, package in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(StspbrError, match=rf"need the package {package}: pip install 'stspbr\[fleet\]'"):
            open_engine(FleetSettings(engine=engine), "runs", 1)


def test_a_task_s_process_ends_when_its_pipe_does():
    program = "import threading, time\nfrom stspbr.fleet import child\n"
    program += (
        "threading.Thread(target=child._end_with_parent, daemon=True).start()\nprint(1, flush=True)\ntime.sleep(300)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n" and process.poll() is None
    process.stdin.close()
    assert process.wait(60) == 143
    process.stdout.close()


@pytest.mark.parametrize(
    ("code", "log", "state", "line"),
    [
        (0, "warning: x", "done", ""),
        (2, "warning: x\nstspbr: photos is empty: check the path\n", "failed", "photos is empty: check the path"),
        (1, "Traceback (most recent call last):\n  …\nKeyError: 'a'\n", "failed", "KeyError: 'a'"),
        (3, "", "failed", "exit code 3"),
        (-9, "half a li", "lost", "killed by signal 9"),
        (143, "", "lost", "killed by signal 15"),
    ],
)
def test_what_an_exit_code_means(tmp_path, code, log, state, line):
    (tmp_path / "log").write_text(log)
    assert _judged(code, tmp_path / "log") == (state, line)
