"""One line of what `stspbr doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: ``missing`` is not there; ``broken`` is there and does not work, or not well.
        detail: what was found.
        remedy: the command or the step that mends it; empty where there is nothing to do.
        optional: stspbr runs without it.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    optional: bool = False
