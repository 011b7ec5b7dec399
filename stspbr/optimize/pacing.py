"""How fast a stage goes through its plan: at a steady pace, or by what the loss on the training views says.

All that a stage schedules (rates, surveys, transport, smoothness) follows its progress through the planned steps. So a
stage is made longer or shorter by letting that progress wait or leap: while the loss still falls, it waits at a point
where nothing has begun to cool down; where the loss is flat, it leaps to the next change that the plan has.

The slope of the logarithm of each view's loss over the steps is the within estimate of a panel (every view has a level
of its own, so that it does not matter which views a step shows), with a standard error by Newey and West (1987): what
one step does to all of its views is one error, and errors of steps that Adam's momentum joins go together. For few
steps it is widened as Kiefer and Vogelsang (2005) found to be needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.distributed import Ranks
from stspbr.settings import ConvergenceSettings

_MEMORY = 10  # steps that Adam's first moment joins: 1 / (1 − 0.9)
_SURE = 2.0  # standard errors
_EPOCHS, _SHARE = 3, 0.2  # the slope is that of the last epochs, but at least of this share of the planned steps
_TENTH = 0.1  # of the planned steps: the stretch over which a fall is judged


@dataclass
class Shown:
    """The losses of a step's views.

    Attributes:
        owners: ``[B]`` the whole batch; views shown in part have numbers of their own.
        losses: a scalar each, by place in the batch as text; of several processes, this one's.
    """

    owners: list[int]
    losses: dict[str, Tensor]


class Steady:
    """Every step is the planned one.

    Attributes:
        planned: the planned step that the next step carries out; all that is scheduled follows it.
        waits: whether the next step repeats it, before what happens at it.
    """

    def __init__(self, iterations: int) -> None:
        self.iterations, self.planned, self.waits = iterations, 0, False

    @property
    def over(self) -> bool:
        """Whether the plan has been carried out."""
        return self.planned >= self.iterations

    @property
    def ends(self) -> bool:
        """Whether the next step is the last one."""
        return self.planned == self.iterations - 1 and not self.waits

    def total(self, done: int) -> int:
        """Steps of the stage, as far as it is known after ``done`` of them."""
        return done + self.iterations - self.planned

    def stepped(self, step: int, ranks: Ranks) -> str | None:
        """Step ``step`` (of all, from 0) is done; a line if the pace changes. All ranks call this."""
        self.planned += 1
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint contains; empty if the step says it all."""
        return {}

    def load_state(self, state: dict[str, Any] | None, done: int) -> None:
        """The inverse of ``state``, after ``done`` steps."""
        self.planned = done


class Converging(Steady):
    """The pace by the loss on the training views.

    Args:
        iterations: the planned steps; epoch: steps in which every view is shown about once.
        shown: the losses of the last step.
        changes: planned steps from which on the problem is another by its progress.
        interludes: planned steps before which something is done to the problem.
    """

    def __init__(
        self,
        settings: ConvergenceSettings,
        iterations: int,
        epoch: int,
        shown: Callable[[], Shown],
        changes: Sequence[int] = (),
        interludes: Sequence[int] = (),
    ) -> None:
        super().__init__(iterations)
        self.settings, self.epoch, self._shown = settings, epoch, shown
        self.holds = sorted({min(int(share * iterations), iterations - 1) for share in settings.wait_at})
        self.changes, self.interludes = frozenset(changes), frozenset(interludes)
        self.waited = self.leapt = 0
        self._since = 0  # the first step that the present state of the problem has seen
        self._rows: list[tuple[int, list[int], Tensor]] = []  # step, owners, losses

    def stepped(self, step: int, ranks: Ranks) -> str | None:
        shown = self._shown()
        values: dict[str, Any] = shown.losses
        if ranks.size > 1:
            values = ranks.sum_values(values)
        ordered = [torch.as_tensor(values[str(place)]).double() for place in range(len(shown.owners))]
        self._rows.append((step, shown.owners, torch.stack(ordered)))
        del self._rows[: -self._window]
        done = step + 1
        whole = (done - self._since) % self.epoch == 0
        if self.waits:
            self.waited += 1
            return self._go_on(done) if whole or not self._may_wait(done) else None
        if self.planned in self.interludes:
            self._forget(step)
        return self._advance(self.planned + 1, done) or (self._leap(done) if whole else None)

    def trend(self, done: int) -> Trend | None:
        """The slope of the loss in the present state of the problem; None: too few steps have been made in it."""
        if done - self._since < _EPOCHS * self.epoch:
            return None
        rows = [row for row in self._rows if row[0] >= self._since]
        losses = torch.cat([row[2] for row in rows]).cpu().numpy()
        steps: np.ndarray = np.repeat([row[0] for row in rows], [len(row[1]) for row in rows])
        return trend_of(steps, np.concatenate([row[1] for row in rows]), np.log(np.maximum(losses, 1e-30)))

    def facts(self) -> dict[str, int]:
        """How many steps were made in place of the planned ones, for metrics."""
        names = ("waited", "leapt")
        steps = self.planned + self.waited - self.leapt
        return {"steps": steps, "planned": self.iterations} | {name: getattr(self, name) for name in names}

    def state(self) -> dict[str, Any]:
        rows = [{"step": step, "owners": torch.tensor(owners), "losses": losses} for step, owners, losses in self._rows]
        numbers = {name: getattr(self, name) for name in ("planned", "waited", "leapt", "waits")}
        return {**numbers, "since": self._since, "rows": rows}

    def load_state(self, state: dict[str, Any] | None, done: int) -> None:
        assert state is not None  # the settings are a part of the checkpoint's name
        self.planned, self.waits, self._since = state["planned"], state["waits"], state["since"]
        self.waited, self.leapt = state["waited"], state["leapt"]
        self._rows = [(row["step"], row["owners"].tolist(), row["losses"]) for row in state["rows"]]

    @property
    def _window(self) -> int:
        return max(_EPOCHS * self.epoch, math.ceil(_SHARE * self.iterations))

    def _forget(self, step: int) -> None:
        self._since = step

    def _may_wait(self, done: int) -> bool:
        return self.total(done) + 1 <= self.settings.most * self.iterations

    def _falls(self, trend: Trend | None) -> bool:
        """Whether the loss clearly falls, by more than the tolerance; it may, as long as nothing is known."""
        return trend is None or (trend.high < 0 and self._over_a_tenth(trend.slope) < -self.settings.tolerance)

    def _over_a_tenth(self, slope: float) -> float:
        return math.expm1(min(slope * _TENTH * self.iterations, 1.0))

    def _advance(self, planned: int, done: int) -> str | None:
        """Come to the planned step ``planned``, and wait there if it is time to and the loss falls."""
        self.planned = planned
        if planned in self.changes:
            self._forget(done)
        if planned not in self.holds or not self._may_wait(done):
            return None
        trend = self.trend(done)
        self.waits = self._falls(trend)
        if not self.waits:
            return None
        return f"{self._said(trend)}: waits at {self._percent} of its plan"

    def _go_on(self, done: int) -> str | None:
        trend = self.trend(done)
        if self._may_wait(done) and self._falls(trend):
            return None
        self.waits = False
        why = f"{self._said(trend)}: " if self._may_wait(done) else f"{done} steps of at most {self._most}: "
        return f"{why}goes on from {self._percent} of its plan after {self.waited} more steps"

    def _leap(self, done: int) -> str | None:
        """Go to the next change of the plan, up to its last hold, if the loss is shown to be flat."""
        if not self.settings.early or not self.holds or self.planned >= self.holds[-1]:
            return None
        trend = self.trend(done)
        if trend is None or self._over_a_tenth(trend.low) < -self.settings.tolerance:
            return None
        ahead = (place for place in {*self.holds, *self.changes, *self.interludes} if place > self.planned)
        where, left = min(ahead), self._percent
        self.leapt += where - self.planned
        line = f"{self._said(trend)}: goes from {left}"
        waits = self._advance(where, done)
        return f"{line} to {self._percent} of its plan" + (", and waits there" if waits else "")

    @property
    def _most(self) -> int:
        return int(self.settings.most * self.iterations)

    @property
    def _percent(self) -> str:
        return f"{100 * self.planned / self.iterations:.0f} %"

    def _said(self, trend: Trend | None) -> str:
        if trend is None:
            return "the loss has not been seen for long enough"
        percent, error = (100 * self._over_a_tenth(value) for value in (trend.slope, trend.error))
        return f"the loss changes by {percent:+.1f} ± {error:.1f} % in {_TENTH * self.iterations:.0f} steps"


@dataclass(frozen=True)
class Trend:
    """The change of the loss's logarithm per step, and its standard error."""

    slope: float
    error: float

    @property
    def low(self) -> float:
        """The lowest slope to be expected."""
        return self.slope - _SURE * self.error

    @property
    def high(self) -> float:
        """The highest slope to be expected."""
        return self.slope + _SURE * self.error


def trend_of(steps: np.ndarray, owners: np.ndarray, values: np.ndarray) -> Trend | None:
    """The within estimate of the slope of ``values`` over ``steps``, every owner with a level of its own.

    Args:
        steps: ``[N]`` int64, ascending; owners: ``[N]`` int64; values: ``[N]`` float64.

    Returns:
        The slope with its Newey-West error by step; None if no owner was seen twice.
    """
    _, owner, seen = np.unique(owners, return_inverse=True, return_counts=True)
    sums = [np.bincount(owner, weights) for weights in (steps.astype(np.float64), values)]
    x, y = steps - (sums[0] / seen)[owner], values - (sums[1] / seen)[owner]
    power = float((x * x).sum())
    free = len(values) - len(seen) - 1
    if power == 0.0 or free < 1:
        return None
    slope = float((x * y).sum() / power)
    score = np.bincount(steps - steps[0], x * (y - slope * x))
    spread = float((score * score).sum())
    for lag in range(1, min(_MEMORY, len(score) - 1) + 1):
        spread += 2.0 * (1.0 - lag / (_MEMORY + 1.0)) * float((score[lag:] * score[:-lag]).sum())
    share = (_MEMORY + 1.0) / len(score)
    few = 1.0 + 1.515 * share + 0.212 * share**2 - 0.272 * share**3  # Kiefer and Vogelsang (2005), table 1, Bartlett
    return Trend(slope, few * math.sqrt(max(spread, 0.0) * len(values) / free) / power)
