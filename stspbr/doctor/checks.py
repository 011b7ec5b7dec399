"""One line of the report of `stspbr doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        state: ``missing``: not installed; ``broken``: it does not work, or not well.
        detail: what was found.
        remedy: the command or the step that fixes it; empty if there is nothing to do.
        optional: stspbr runs without it.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    optional: bool = False
