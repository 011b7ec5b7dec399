"""Tasks as processes of this machine, as many as its cores, memory and GPUs allow."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from stspbr.fleet.engine import Engine
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import Outcome, perform
from stspbr.threads import available_cores


@dataclass
class _Running:
    task: Task
    gpus: list[int]
    process: subprocess.Popen[str] | None = None
    ended: bool = False


@dataclass
class LocalEngine(Engine):
    """Processes of this machine, as many as its cores, memory and GPUs allow.

    Attributes:
        workers: tasks at once at most; None: no such limit.
        cores, memory, gpus: of the machine; GPUs by the names that CUDA_VISIBLE_DEVICES takes.
    """

    workers: int | None
    cores: int
    memory: int
    gpus: tuple[str, ...]
    name = "local"
    _running: dict[int, _Running] = field(default_factory=dict)
    _ended: queue.Queue[tuple[int, Outcome]] = field(default_factory=queue.Queue)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of_this_machine(cls, workers: int | None) -> LocalEngine:
        """With what this machine has; ``workers`` times the cores of a task may be more than it has."""
        return cls(workers, available_cores(), _memory(), _gpus())

    def refuse(self, needs: Needs) -> str | None:
        if needs.gpus > len(self.gpus):
            return f"this machine has {len(self.gpus)} GPU(s)"
        return f"this machine has {self.memory / 1e9:.1f} GB" if needs.memory > self.memory else None

    def room(self, needs: Needs) -> bool:
        running = list(self._running.values())
        if not running:
            return True
        if self.workers is not None and len(running) >= self.workers:
            return False
        memory = sum(one.task.needs.memory for one in running) + needs.memory
        cores = sum(one.task.needs.cores for one in running) + needs.cores
        enough = self.workers is not None or cores <= self.cores
        return enough and memory <= self.memory and (not needs.gpus or bool(self._free_gpus(needs.gpus)))

    def submit(self, task: Task) -> None:
        running = _Running(task, self._free_gpus(task.needs.gpus))
        visible = (
            {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus[number] for number in running.gpus)} if running.gpus else {}
        )
        self._running[id(running)] = running

        def started(process: subprocess.Popen[str]) -> None:
            with self._lock:
                running.process = process
                if running.ended:
                    process.kill()

        def work() -> None:
            self._ended.put((id(running), perform(task, visible, started)))

        threading.Thread(target=work, daemon=True).start()

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        out = []
        try:
            found = self._ended.get(timeout=seconds)
            while True:
                out.append((self._running.pop(found[0]).task, found[1]))
                found = self._ended.get_nowait()
        except queue.Empty:
            return out

    def close(self) -> None:
        for running in self._running.values():
            with self._lock:
                running.ended = True
                if running.process is not None:
                    running.process.kill()
        ends = time.monotonic() + 10.0
        while self._running and time.monotonic() < ends:
            self.wait(0.2)

    def _free_gpus(self, wanted: float) -> list[int]:
        """Numbers of GPUs for a task; a fraction goes where others have left enough."""
        if not wanted:
            return []
        used = [0.0] * len(self.gpus)
        for one in self._running.values():
            for number in one.gpus:
                used[number] += min(one.task.needs.gpus, 1.0)
        share = min(wanted, 1.0)
        free = [number for number in range(len(self.gpus)) if used[number] + share <= 1.0 + 1e-9]
        count = max(1, round(wanted))
        return free[:count] if len(free) >= count else []


def _memory() -> int:
    """Bytes of memory of this machine, or of its container."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62  # not known: no limit
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return whole if limit == "max" else min(whole, int(limit))
    except (OSError, ValueError):
        return whole


def _gpus() -> tuple[str, ...]:
    """Names of the GPUs that the NVIDIA driver lists, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(number) for number in range(sum(line.startswith("GPU ") for line in answer.stdout.splitlines())))
