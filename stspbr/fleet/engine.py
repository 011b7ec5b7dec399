"""What runs tasks: the protocol of all engines."""

from __future__ import annotations

from abc import ABC, abstractmethod

from stspbr.errors import first_line
from stspbr.fleet.plan import Needs, Task
from stspbr.fleet.work import Outcome

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


def one_line_of(error: BaseException) -> str:
    """The message of a library's error on one line."""
    return first_line(str(error).replace("\n", " "))
