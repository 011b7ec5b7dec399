"""Whether torchrun started this process as one of several, and its place among them, from the environment alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from stspbr.errors import StspbrError

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class JoinError(StspbrError):
    """This process could not join the job; the others perhaps did."""


@dataclass(frozen=True)
class Place:
    """One process of a job.

    Attributes:
        rank: 0 for the first of all ``size`` processes.
        local_rank: 0 for the first of the ``local_size`` processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place; that of a single process unless all of torchrun's variables are set.

    Raises:
        StspbrError: the variables contradict each other.
    """
    if not all(environment.get(name) for name in _NEEDED):
        return Place()
    try:
        found = Place(
            int(environment["RANK"]),
            int(environment["WORLD_SIZE"]),
            int(environment["LOCAL_RANK"]),
            int(environment.get("LOCAL_WORLD_SIZE") or environment["WORLD_SIZE"]),
        )
    except ValueError:
        found = Place(-1)
    if not (0 <= found.rank < found.size and 0 <= found.local_rank < found.local_size <= found.size):
        variables = " ".join(f"{name}={environment[name]}" for name in _NEEDED[:3])
        raise StspbrError(f"{variables}: not a valid place in a torchrun job; unset them or start with torchrun")
    return found


def is_first() -> bool:
    """Whether this process prints and writes for the job; also true if its variables are invalid, to report that."""
    try:
        return place().rank == 0
    except StspbrError:
        return True


def leave(code: int | str | None) -> NoReturn:
    """End this process with ``code``, as ``sys.exit`` does; a process of a job flushes its output and ends at once.

    In an orderly exit the transport's threads now and then abort the process, because the other ends of their
    connections close at the same time.
    """
    try:
        several = place().size > 1
    except StspbrError:
        several = False
    if several and not isinstance(code, str):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)
