"""Tasks as jobs of SLURM, through submitit."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.fleet.engine import IN_FLIGHT, Engine, one_line_of
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import Outcome, perform


class SlurmEngine(Engine):
    """SLURM through submitit.

    Args:
        address: ``slurm``, or ``local``: submitit's own processes on this machine, for a trial.
        folder: shared, for submitit's files; more: parameters of submitit's executor.
    """

    name = "slurm"

    def __init__(self, address: str, workers: int | None, folder: Path, more: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            raise missing_extra("submitit", "fleet", "fleets on SLURM") from None
        try:
            self._executor = submitit.AutoExecutor(folder=str(folder), cluster=address)
        except (RuntimeError, ValueError) as error:
            raise StspbrError(f"--engine slurm --address {address}: {first_line(error)}") from None
        self._limit = workers or IN_FLIGHT
        self._more = {"timeout_min": 24 * 60, **more}
        self._running: list[tuple[Any, Task]] = []

    def room(self, needs: Needs) -> bool:
        return len(self._running) < self._limit

    def submit(self, task: Task) -> None:
        needs, gpus = task.needs, math.ceil(task.needs.gpus)
        own: dict[str, Any] = {"cpus_per_task": needs.cores, "mem_gb": max(1, math.ceil(needs.memory / 1e9))}
        own |= {"name": f"stspbr-{task.object}-{task.stage}"} | ({"gpus_per_node": gpus} if gpus else {})
        try:
            self._executor.update_parameters(**(own | self._more))
        except (NameError, TypeError, ValueError) as error:
            raise StspbrError(f"slurm: {first_line(error)}") from None
        self._running.append((self._executor.submit(perform, task), task))

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        ends = time.monotonic() + seconds
        while True:
            ended = [(job, task) for job, task in self._running if job.done()]
            if ended or not self._running or time.monotonic() >= ends:
                break
            time.sleep(min(0.25, seconds))
        self._running = [one for one in self._running if one not in ended]
        return [(task, self._outcome(job)) for job, task in ended]

    def close(self) -> None:
        for job, _ in self._running:
            job.cancel(check=False)

    def _outcome(self, job: Any) -> Outcome:
        try:
            return job.result()
        except Exception as error:  # a job without a result was killed, or its node is gone
            return Outcome("lost", f"job {job.job_id}: {type(error).__name__}: {one_line_of(error)}")
