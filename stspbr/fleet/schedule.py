"""Hand the tasks of all objects to an engine, follow them, and try lost ones again."""

from __future__ import annotations

import heapq
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stspbr.fleet.engine import Engine
from stspbr.fleet.home import Home
from stspbr.fleet.plan import Job, Task, stage_seconds
from stspbr.fleet.work import Outcome

State = Literal["waiting", "queued", "running", "done", "failed"]
_LOOK_AHEAD = 64  # tasks that may overtake one for which there is no room
_LOOKS = 32  # notes of running tasks that are read per poll
_POLL = 1.0  # seconds between two looks at the engine


@dataclass
class Progress:
    """What is known of one object.

    Attributes:
        at: number of its present task, of those that are finished, and of the next one.
        found: number of tasks that were finished before; state: of the object; line: why it failed, or was lost.
        lost: how often a task of its was lost; tries: of the present task.
        seconds, cpu_seconds, peaks: of each stage that was run, or (seconds) found; peaks in bytes.
        hosts: where each stage was run; hashes: content hash of each stage.
        psnr: mean of the held-out views in dB, once it was looked up; None: not yet, or there is none.
        note: what the running task said last; since: when it was submitted; token: of this try, which its notes bear.
    """

    job: Job
    at: int
    found: int
    state: State = "waiting"
    line: str = ""
    lost: int = 0
    tries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    psnr: float | None = None
    note: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0
    token: str = ""

    @classmethod
    def of(cls, job: Job) -> Progress:
        """At the start; ``find_finished(job, …)`` has been called."""
        out = cls(job, job.done, job.done)
        for stage, artifact in job.artifacts.items():
            out.hashes[stage] = artifact.content_hash
            seconds = stage_seconds(artifact)
            if seconds is not None:
                out.seconds[stage] = seconds
        if out.at == len(job.tasks):
            out.state = "done"
        return out

    @property
    def stage(self) -> str:
        """The present or next stage; the last one if all are done."""
        return self.job.tasks[min(self.at, len(self.job.tasks) - 1)].stage

    def task(self) -> Task:
        """The next task, for another try."""
        self.token, self.since, self.note = uuid.uuid4().hex, time.monotonic(), {}
        self.state, self.tries = "queued", self.tries + 1
        task = replace(self.job.tasks[self.at], token=self.token)
        return replace(task, of=self.hashes.get(self.job.last_stage)) if task.last else task

    def share(self) -> float:
        """Of its tasks that is done, in [0, 1]."""
        step, steps = self.note.get("step"), self.note.get("total_steps")
        within = step / steps if self.state == "running" and step and steps else 0.0
        return (self.at + within) / len(self.job.tasks)


@dataclass
class Fleet:
    """All objects, and what became of them.

    Attributes:
        retries: how often a lost task is tried again.
    """

    objects: list[Progress]
    retries: int
    _summary: tuple[dict[str, int], float | None] | None = None
    _fresh_until: float = 0.0

    def counts(self) -> dict[str, int]:
        """Objects by state."""
        out = dict.fromkeys(("done", "running", "queued", "waiting", "failed"), 0)
        for one in self.objects:
            out[one.state] += 1
        return out

    def summary(self) -> tuple[dict[str, int], float | None]:
        """``counts()`` and ``seconds_left()``, at most so old that working them out takes a twentieth of the time."""
        now = time.monotonic()
        if self._summary is None or now >= self._fresh_until:
            self._summary = self.counts(), self.seconds_left()
            ended = time.monotonic()
            self._fresh_until = ended + 20.0 * (ended - now)
        return self._summary

    def seconds_left(self) -> float | None:
        """At the pace of the stages so far, with as many tasks at once as run now; None: nothing is known yet."""
        known: dict[str, list[float]] = {}
        for one in self.objects:
            for stage, seconds in one.seconds.items():
                known.setdefault(stage, []).append(seconds)
        means = {stage: sum(values) / len(values) for stage, values in known.items()}
        left, longest, guess = 0.0, 0.0, max(means.values(), default=0.0)
        for one in self.objects:
            if one.state in ("done", "failed"):
                continue
            own = 0.0
            for number, task in enumerate(one.job.tasks[one.at :]):
                mean = means.get(task.stage, guess)
                if number == 0 and one.state == "running":
                    said = one.note.get("seconds_left")
                    mean = float(said) if said is not None else max(0.0, mean - (time.monotonic() - one.since))
                own += mean
            left, longest = left + own, max(longest, own)
        if not means:
            return None
        at_once = sum(one.state == "running" for one in self.objects) or 1
        return max(left / at_once, longest)


def run_fleet(fleet: Fleet, engine: Engine, home: Home, tell: Callable[[Progress | None], None]) -> None:
    """Run every task that is not done. A failing object does not stop the others.

    Args:
        tell: called with an object whose state has changed, and about once per second with None.
    """
    ready = [(-one.at, number) for number, one in enumerate(fleet.objects) if one.state == "waiting"]
    heapq.heapify(ready)  # whoever has come furthest is first, so that objects are finished and not only begun
    flying: dict[str, int] = {}  # number of the object by its name
    looked = 0
    while ready or flying:
        for number in _admitted(ready, fleet, engine):
            one = fleet.objects[number]
            task = one.task()
            engine.submit(task)
            flying[task.object] = number
            tell(one)
        for task, outcome in engine.wait(_POLL):
            number = flying.pop(task.object)
            one = fleet.objects[number]
            _take(one, task, outcome, fleet.retries)
            if one.state == "waiting":
                heapq.heappush(ready, (-one.at, number))
            tell(one)
        numbers = list(flying.values())
        for number in itertools.islice(itertools.cycle(numbers), looked, looked + min(_LOOKS, len(numbers))):
            _look(fleet.objects[number], home)
        looked = (looked + _LOOKS) % max(len(numbers), 1)
        tell(None)


def _admitted(ready: list[tuple[int, int]], fleet: Fleet, engine: Engine) -> Iterator[int]:
    """Numbers of the objects whose next task the engine has room for; each is submitted before the next is asked."""
    passed: list[tuple[int, int]] = []
    while ready and len(passed) < _LOOK_AHEAD:
        entry = heapq.heappop(ready)
        one = fleet.objects[entry[1]]
        if engine.room(one.job.tasks[one.at].needs):
            yield entry[1]
        else:
            passed.append(entry)
    for entry in passed:
        heapq.heappush(ready, entry)


def _take(one: Progress, task: Task, outcome: Outcome, retries: int) -> None:
    """Enter how a task ended."""
    one.note = {}
    if outcome.state == "lost" and one.tries <= retries:
        one.lost += 1
        one.state, one.line = "waiting", f"{task.stage} was lost ({outcome.line}) and is tried again"
        return
    if outcome.state != "done":
        one.lost += outcome.state == "lost"
        tries = f" {one.tries} times" if one.tries > 1 else ""
        lost = f"lost{tries}: " if outcome.state == "lost" else ""
        one.state, one.line = "failed", f"{task.stage}: {lost}{outcome.line}"
        return
    one.seconds[task.stage] = outcome.seconds
    one.cpu_seconds[task.stage] = outcome.cpu_seconds
    one.peaks[task.stage] = outcome.peak_bytes
    one.hosts[task.stage] = outcome.host
    one.hashes |= outcome.hashes
    one.at, one.tries, one.line = one.at + 1, 0, ""
    one.state = "done" if one.at == len(one.job.tasks) else "waiting"


def _look(one: Progress, home: Home) -> None:
    """Whether a submitted task has begun, and how far it is."""
    note = home.read_note(one.job.name)
    if note.get("token") == one.token:
        one.state, one.note = "running", note
