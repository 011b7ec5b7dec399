"""How far a pipeline of several stages is: one view over all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

_LEAST = 20.0  # seconds of work after which its pace says more than the estimate


class WholeProgress:
    """The progress of stages that run one after the other, weighed by the seconds that each is expected to take.

    Args:
        seconds: expected of each stage, in their order.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, seconds: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = {name: max(float(value), 0.1) for name, value in seconds.items()}
        self._clock = clock
        self._left = dict(self._expected)
        self._stage = next(iter(self._expected), "")
        self._since, self._fraction = clock(), 0.0
        self._worked, self._planned = 0.0, 0.0  # seconds of work so far, and what was expected of it

    def start(self, stage: str) -> None:
        """``stage`` begins; those before it are done."""
        self._stage, self._since, self._fraction = stage, self._clock(), 0.0

    def at(self, fraction: float) -> None:
        """The present stage has come to ``fraction`` in [0, 1]."""
        self._fraction = min(1.0, max(0.0, fraction))
        if self._stage in self._left:
            self._left[self._stage] = (1.0 - self._fraction) * self._expected[self._stage]

    def done(self, *, worked: bool) -> None:
        """The present stage is over; ``worked`` False: it was up to date, which says nothing about the pace."""
        self.at(1.0)
        if worked and self._stage in self._expected:
            self._worked += self._clock() - self._since
            self._planned += self._expected[self._stage]

    @property
    def share(self) -> float:
        """Of all work that is done, in [0, 1]."""
        return 1.0 - sum(self._left.values()) / max(sum(self._expected.values()), 1e-9)

    @property
    def seconds_left(self) -> float:
        """Of all that is left, at the pace of the work so far."""
        worked, planned = self._worked, self._planned
        if self._stage in self._expected and self._fraction < 1.0:
            worked += self._clock() - self._since
            planned += self._fraction * self._expected[self._stage]
        pace = worked / planned if worked >= _LEAST and planned > 0 else 1.0
        return pace * sum(self._left.values())

    def text(self) -> str:
        """For people: the number of the stage, the share done, and the time left."""
        names = list(self._expected)
        number = names.index(self._stage) + 1 if self._stage in names else len(names)
        return f"stage {number} of {len(names)}, {100 * self.share:.0f} % of all, {rest(self.seconds_left)}"


def rest(seconds: float) -> str:
    """``seconds`` as people say how much time is left."""
    return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """``seconds`` in units that suit it."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
