"""What runs tasks: the protocol of all engines, and the one that the settings name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from stspbr.errors import StspbrError, first_line
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import Outcome
from stspbr.settings import FleetSettings
from stspbr.threads import available_cores

IN_FLIGHT = 1000
"""Tasks that a cluster's queue holds at once unless ``workers`` says otherwise."""


class Engine(ABC):
    """Runs tasks somewhere else."""

    name = ""

    @abstractmethod
    def room(self, needs: Needs) -> bool:
        """Whether a task with these needs may be submitted now."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""

    @abstractmethod
    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """The tasks that have ended, after at most ``seconds``; perhaps none."""

    @abstractmethod
    def close(self) -> None:
        """End what still runs, and leave the cluster."""

    def refuse(self, needs: Needs) -> str | None:
        """Why a task with these needs can never run here; None: it can."""
        return None


def open_engine(fleet: FleetSettings, home: str, cores: int) -> Engine:
    """The engine that the settings name.

    Args:
        home: address of the runs; cores: of a task.

    Raises:
        StspbrError: its package is missing (the line names the extra), or the cluster does not answer.
    """
    name = fleet.engine or "local"
    if name == "local":
        from stspbr.fleet.local_engine import LocalEngine

        if fleet.address is not None:
            raise StspbrError(f"--address {fleet.address}: the local engine has none; add --engine ray")
        return LocalEngine.of_this_machine(fleet.workers)
    if name == "ray":
        from stspbr.fleet.ray_engine import RayEngine

        whole = cores * fleet.workers if fleet.workers else available_cores()
        return RayEngine(fleet.address or "local", fleet.workers, max(whole, cores))
    from stspbr.fleet.slurm_engine import SlurmEngine

    folder = Path.cwd() / ".stspbr-fleet" if "://" in home else Path(home).resolve() / ".fleet"
    return SlurmEngine(fleet.address or "slurm", fleet.workers, folder / "submitit", fleet.slurm)


def one_line_of(error: BaseException) -> str:
    """The message of a library's error on one line."""
    return first_line(str(error).replace("\n", " "))
