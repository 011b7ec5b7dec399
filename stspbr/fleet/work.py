"""Carry out one task on the machine where it landed: bring in what it needs, run the command, hand out the result."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from stspbr.errors import StspbrError, first_line
from stspbr.files import write_file
from stspbr.fleet.home import Home, open_home
from stspbr.fleet.plan import Task

State = Literal["done", "failed", "lost"]
_SIGNALS = (130, 137, 143)  # exit codes of a shell for SIGINT, SIGKILL and SIGTERM


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        state: failed: the object cannot be done; lost: the process or its node is gone, and it can be tried again.
        line: why, in one line.
        seconds: wall time; cpu_seconds: of all cores; peak_bytes: most memory of its process (0: not known).
        host: where it ran; hashes: content hash of each stage's version.
    """

    state: State
    line: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    host: str = ""
    hashes: dict[str, str] = field(default_factory=dict)


def perform(
    task: Task,
    variables: dict[str, str] | None = None,
    started: Callable[[subprocess.Popen[str]], None] | None = None,
) -> Outcome:
    """Run ``task`` here. A failure is an outcome, never an exception.

    Args:
        variables: of the environment, beside those that are set; started: called with the process.
    """
    began = time.monotonic()
    host = socket.gethostname()
    try:
        home = open_home(task.home, task.scratch)
        home.fetch(task.object)
        with _checkpoints_go_home(home, task):
            outcome = _run(task, home, variables or {}, started)
        if outcome.state == "done":
            if task.of is not None:
                mark = json.dumps({"of": task.of}) + "\n"
                write_file(home.run(task.object) / "report.json", mark)
            home.deliver(task.object, last=task.last)
    except Exception as error:  # a full disk, a store that does not answer
        text = first_line(error)
        line = text if isinstance(error, StspbrError) else f"{type(error).__name__}: {text}"
        outcome = Outcome("lost" if isinstance(error, OSError) else "failed", line)
    return Outcome(**{**vars(outcome), "seconds": time.monotonic() - began, "host": host})


def log_file(run: Path, stage: str) -> Path:
    """What the task printed on standard error."""
    return run / "logs" / f"fleet-{stage}.log"


def _run(
    task: Task, home: Home, variables: dict[str, str], started: Callable[[subprocess.Popen[str]], None] | None
) -> Outcome:
    run = home.run(task.object)
    log = log_file(run, task.stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [word.replace("{run}", str(run)) for word in task.command]
    folder = task.folder if os.path.isdir(task.folder) else None
    threads = {"OMP_NUM_THREADS": str(task.needs.cores), "NUMBA_NUM_THREADS": str(task.needs.cores)}
    hashes: dict[str, str] = {}
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "stspbr.fleet.child", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            cwd=folder,
            env={**os.environ, **threads, **variables},
            start_new_session=True,  # Ctrl-C is for the fleet, which ends its tasks itself
        )
        with contextlib.ExitStack() as stack:
            assert process.stdin is not None and process.stdout is not None
            stack.callback(_quietly, process.kill)
            stack.callback(_quietly, process.stdin.close)
            if started is not None:
                started(process)
            _follow(process.stdout, task, home, process.pid, hashes)
            code, cpu_seconds, peak = _waited(process)
    return Outcome(*_judged(code, log), cpu_seconds=cpu_seconds, peak_bytes=peak, hashes=hashes)


def _follow(stream: IO[str], task: Task, home: Home, child: int, hashes: dict[str, str]) -> None:
    """Read the JSON lines of the command until it ends, and note how far it is."""
    said: dict[str, Any] = {
        "token": task.token,
        "stage": task.stage,
        "host": socket.gethostname(),
        "worker": os.getpid(),
    }
    said |= {"child": child}
    noted = -home.note_every
    home.note(task.object, {**said, "time": time.time()})
    for line in stream:
        try:
            record: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        if "content_hash" in record:
            hashes[str(record["stage"])] = str(record["content_hash"])
        elif "step" in record and time.monotonic() - noted >= home.note_every:
            noted = time.monotonic()
            progress = {name: record.get(name) for name in ("step", "total_steps", "seconds_left")}
            home.note(task.object, {**said, "time": time.time(), **progress})


def _waited(process: subprocess.Popen[str]) -> tuple[int, float, int]:
    """Exit code, CPU seconds and most bytes of memory of a process that ends."""
    if not hasattr(os, "wait4"):
        return process.wait(), 0.0, 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return process.returncode, usage.ru_utime + usage.ru_stime, peak


def _judged(code: int, log: Path) -> tuple[State, str]:
    """What an exit code means, and the last line that the command printed."""
    if code == 0:
        return "done", ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = first_line(lines[-1].removeprefix("stspbr: ")) if lines else f"exit code {code}"
    if code < 0 or code in _SIGNALS:
        return "lost", f"killed by signal {-code if code < 0 else code - 128}"
    return "failed", said


@contextlib.contextmanager
def _checkpoints_go_home(home: Home, task: Task) -> Iterator[None]:
    """Copy new checkpoints to an object store while the task runs."""
    if home.shared:
        yield
        return
    ended = threading.Event()

    def copy() -> None:
        while not ended.wait(home.note_every):
            with contextlib.suppress(Exception):  # the next one may get through
                home.keep_checkpoints(task.object)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _quietly(action: Callable[[], Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        action()
