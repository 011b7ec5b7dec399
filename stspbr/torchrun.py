"""Whether this process is one of several that torchrun started: its place among them, from the environment alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from stspbr.errors import StspbrError

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class JoinError(StspbrError):
    """This process, perhaps this one alone, could not become one of the job."""


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
    """This process's place; that of the only one where torchrun's variables are not all there.

    Raises:
        StspbrError: they are there and make no sense.
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
        raise StspbrError(f"{variables}: this is no place in a torchrun job; unset them or start with torchrun")
    return found


def is_first() -> bool:
    """Whether this process speaks and writes for the job. A place that makes no sense is complained of aloud."""
    try:
        return place().rank == 0
    except StspbrError:
        return True


def leave(code: int | str | None) -> NoReturn:
    """End this process with ``code``, as ``sys.exit`` does; one of a job at once, when its output is flushed.

    An orderly exit tears down the transport's threads while the other ends of their connections go, too, and is
    aborted by them now and then, after all is done.
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
