"""Tasks on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.fleet.engine import IN_FLIGHT, Engine, one_line_of
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import Outcome, perform

Work = Callable[[Task], Outcome]


class RayEngine(Engine):
    """A Ray cluster: one that runs, or one of this machine's processes.

    Args:
        address: ``local``, ``auto`` or ``ray://HOST:PORT``.
        workers: tasks at once at most; cores: of a local cluster.
        work: what carries a task out; another one than ``perform`` is for measuring the scheduler.
    """

    name = "ray"

    def __init__(self, address: str, workers: int | None, cores: int, work: Work = perform) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # it would print each lost worker on our stdout
        try:
            import ray
        except ImportError:
            raise missing_extra("ray", "fleet", "fleets on a Ray cluster") from None
        self._ray = ray
        self._limit = workers or IN_FLIGHT
        local: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": 128 << 20}
        where = local if address == "local" else {"address": address}
        self._own = not ray.is_initialized()
        if self._own:
            self._start(address, where)
        # lost tasks are tried again by the fleet, which counts and tells of it
        self._perform = ray.remote(max_retries=0)(work)
        self._running: dict[Any, Task] = {}

    def _start(self, address: str, where: dict[str, Any]) -> None:
        """Join or start the cluster; a local one gets a second try, since Ray gives a busy machine 30 seconds only."""
        for left in (1, 0) if address == "local" else (0,):
            try:
                self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
                return
            except Exception as error:  # Ray raises plain exceptions, too
                self._ray.shutdown()
                if left == 0:
                    raise StspbrError(f"--address {address}: {first_line(error)}") from None

    def room(self, needs: Needs) -> bool:
        return len(self._running) < self._limit

    def submit(self, task: Task) -> None:
        needs = task.needs
        options = {"num_cpus": needs.cores, "memory": needs.memory, "num_gpus": needs.gpus}
        reference = self._perform.options(name=f"{task.object}:{task.stage}", **options).remote(task)
        self._running[reference] = task

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in ready]

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()

    def _outcome(self, reference: Any) -> Outcome:
        try:
            return self._ray.get(reference)
        except Exception as error:  # the worker or its node is gone: perform itself raises nothing
            return Outcome("lost", f"{type(error).__name__}: {one_line_of(error)}")
