"""Several processes at one optimisation: who takes which views, how gradients are summed, how all stop together.

Every process (rank) holds all parameters and renders its share of a step's views. The terms are weighted so that
their sum over the ranks is the whole batch's, so the sum of the gradients is the one-process gradient within
rounding, and equal optimisers keep the parameters equal. ``DistributedDataParallel`` itself does not fit: strict
routing differentiates several times by selected parameters, which its hooks do not see.

No rank enters an exchange before all have agreed, by a message on the CPU (gloo), to enter the same one. A rank that
fails says so in place of that message, wherever the others are: nobody waits for it, on NCCL neither.
"""

from __future__ import annotations

import atexit
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from stspbr.errors import StspbrError, one_line
from stspbr.torchrun import JoinError, Place

Result = TypeVar("Result")

PATIENCE = timedelta(hours=6)
"""How long the others wait for the first rank to write, unwrap or evaluate. A process that died is noticed at once."""

_CONTINUES, _INTERRUPTED, _FAILED = 0, 1, 2


class LostError(StspbrError):
    """Another process of the job is gone."""


@dataclass(frozen=True)
class Span:
    """Which of a step's covered pixels are this rank's: ``count`` from ``start`` on, of ``total`` over all ranks."""

    start: int
    count: int
    total: int

    @property
    def fraction(self) -> float:
        """By how much a mean over this rank's pixels counts in the mean over all."""
        return 1.0 if self.count == self.total else self.count / self.total

    def own(self, drawn: Tensor) -> Tensor | None:
        """Places ``[M]`` in ``drawn`` (``[K]`` pixels of all) that fall to this rank; None where all do."""
        if self.count == self.total:
            return None
        return torch.nonzero((drawn >= self.start) & (drawn < self.start + self.count)).squeeze(1)


class Ranks:
    """The only process there is: nothing to share and nobody to ask. All methods are the job's interface."""

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank prints, logs and writes."""
        return self.rank == 0

    @property
    def is_last(self) -> bool:
        """Whether this rank counts the terms that depend on no view: the one with the fewest views."""
        return self.rank == self.size - 1

    def use(self, device: torch.device) -> None:
        """Say where this rank's gradients are."""

    def part(self, batch: Sequence[int]) -> list[int]:
        """This rank's views of ``batch``: consecutive ones, the earlier ranks have one more where it does not divide.

        With more ranks than views the later ranks have none.
        """
        each, more = divmod(len(batch), self.size)
        start = self.rank * each + min(self.rank, more)
        return list(batch[start : start + each + (self.rank < more)])

    def gather(self, *numbers: float) -> list[tuple[float, ...]]:
        """These numbers of every rank, by rank."""
        return [numbers]

    def sum_gradients(self, parameters: list[Tensor]) -> None:
        """Make every ``.grad`` the sum over the ranks; None where it is None on all of them."""

    def sum_values(self, values: dict[str, Tensor]) -> dict[str, Any]:
        """The sum over the ranks by name; a rank may lack a name."""
        return values

    def copy_from_first(self, state: Any) -> None:
        """Overwrite every tensor in ``state`` (nested dictionaries) with the first rank's."""

    def first(self, make: Callable[[], Result]) -> Result:
        """What ``make`` returns on the first rank, on all of them; the others wait meanwhile."""
        return make()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Nobody goes on where one fails: an error or Ctrl-C in the block ends it on every rank.

        The error is the first failing rank's, on the others as a StspbrError that names it. The processes are to end
        then, each by itself: they ignore SIGTERM, which torchrun sends to all as soon as one has gone.
        """
        yield


class TorchrunRanks(Ranks):
    """One of several processes that torchrun started. Exchanges block; each is entered by all ranks or by none.

    Raises (all methods):
        StspbrError: another rank failed or is gone.
        KeyboardInterrupt: any rank was told to stop by Ctrl-C.
    """

    def __init__(self, place: Place, patience: timedelta = PATIENCE) -> None:
        self.rank, self.size = place.rank, place.size
        self._interrupts = 0
        self._depth = 0  # of `first`: the first rank acts alone there
        self._over = False  # all ranks know that it has ended
        self._gradients: Any = None  # the group for CUDA tensors
        if dist.is_initialized():  # by an earlier session of this process
            return
        try:
            dist.init_process_group("gloo", rank=place.rank, world_size=place.size, timeout=patience)
        except (RuntimeError, ValueError) as error:
            raise JoinError(f"cannot join the torchrun job as rank {place.rank}: {_brief(error)}") from None
        atexit.register(_leave)

    def use(self, device: torch.device) -> None:
        """NCCL carries the gradients of CUDA devices."""
        kinds = self.gather(float(device.type == "cuda"))
        if len(set(kinds)) > 1:
            raise StspbrError("some processes found CUDA and some did not: choose with --device cuda or --device cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
            self._gradients = dist.new_group(backend="nccl")

    def gather(self, *numbers: float) -> list[tuple[float, ...]]:
        self._agree(f"gather {len(numbers)}")
        own = torch.tensor(numbers, dtype=torch.float64)
        every = [torch.empty_like(own) for _ in range(self.size)]
        self._exchange(dist.all_gather, every, own)
        return [tuple(row.tolist()) for row in every]

    def sum_gradients(self, parameters: list[Tensor]) -> None:
        if not parameters:
            return
        reached = self.gather(*(float(p.grad is not None) for p in parameters))
        moved = [p for p, flags in zip(parameters, zip(*reached, strict=True), strict=True) if any(flags)]
        buckets: dict[torch.dtype, list[Tensor]] = {}
        for parameter in moved:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            buckets.setdefault(parameter.dtype, []).append(parameter)
        for bucket in buckets.values():
            flat = torch.cat([parameter.grad.reshape(-1) for parameter in bucket if parameter.grad is not None])
            self._exchange(dist.all_reduce, flat, group=self._gradients)
            for parameter, total in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = total.view_as(parameter)

    def sum_values(self, values: dict[str, Tensor]) -> dict[str, float]:
        total: dict[str, float] = {}
        for rank in self._gather_objects({name: float(value) for name, value in values.items()}):
            for name, value in rank.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def copy_from_first(self, state: Any) -> None:
        tensors = list(_tensors(state))
        self._agree(f"copy {[tuple(tensor.shape) for tensor in tensors]}")
        for tensor in tensors:
            here = tensor.detach().cpu().contiguous()
            if here.numel():
                self._exchange(dist.broadcast, here.reshape(-1).view(torch.uint8), 0)
            if not self.is_first:
                tensor.detach().copy_(here)

    def first(self, make: Callable[[], Result]) -> Result:
        if self._depth:
            return make()
        made: list[Any] = [None]
        if self.is_first:
            self._depth += 1
            try:
                made = [make()]
            finally:
                self._depth -= 1
        self._agree("first")
        self._exchange(dist.broadcast_object_list, made, 0)
        return made[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._interrupt) if main else None
        try:
            yield
            self._agree("end")
        except BaseException as error:
            if not self._over and self._interrupts < 2:
                self._report(error)
            raise
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
                if self._over:
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C is kept until the next message, which takes it to all; at once where no other rank is mid-way."""
        self._interrupts += 1
        if self._depth or self._interrupts > 1:
            raise KeyboardInterrupt

    def _agree(self, what: str) -> None:
        """Wait until every rank is about to do ``what``; raises on all of them where one is not."""
        worst = self._worst(_INTERRUPTED if self._interrupts else _CONTINUES, what)
        if worst != _CONTINUES:
            self._stop(worst, None)

    def _report(self, error: BaseException) -> None:
        """Say that this rank has failed in place of its next message. Returns on the rank whose error it is."""
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            self._stop(self._worst(_INTERRUPTED if interrupted else _FAILED, ""), error)
        except (StspbrError, KeyboardInterrupt) as agreed:
            same = interrupted and isinstance(agreed, KeyboardInterrupt)
            if not same and not isinstance(agreed, LostError):  # with nobody left to tell, its own error is what counts
                raise agreed from None

    def _worst(self, state: int, what: str) -> int:
        """Exchange states; the worst. Ranks that continue must be about to do the same."""
        tag = zlib.crc32(what.encode())
        message = torch.tensor([state, tag, -tag] if state == _CONTINUES else [state, 0, -(2**40)])
        self._exchange(dist.all_reduce, message, dist.ReduceOp.MAX)
        worst, highest, lowest = message.tolist()
        if worst == _CONTINUES and highest != -lowest:
            self._over = True
            raise RuntimeError(f"rank {self.rank} is at {what!r} and another is not")
        return worst

    def _stop(self, worst: int, error: BaseException | None) -> None:
        """End it on all ranks, by the error of the first that has one. The rank whose error that is returns."""
        self._over = True
        if worst == _INTERRUPTED:
            raise KeyboardInterrupt
        status = None if error is None or isinstance(error, KeyboardInterrupt) else _error_line(error)
        every: list[Any] = [None] * self.size
        self._exchange(dist.all_gather_object, every, status)
        rank, text = next((rank, text) for rank, text in enumerate(every) if text is not None)
        if rank != self.rank:
            raise StspbrError(f"process {rank} of {self.size}: {text}")

    def _gather_objects(self, own: Any) -> list[Any]:
        self._agree("objects")
        every: list[Any] = [None] * self.size
        self._exchange(dist.all_gather_object, every, own)
        return every

    def _exchange(self, operation: Callable[..., Any], *values: Any, **options: Any) -> None:
        try:
            operation(*values, **options)
        except RuntimeError as error:
            self._over = True
            raise LostError(
                f"process {self.rank} of {self.size} has lost another one, killed perhaps for want of memory: "
                f"run the same command with --resume ({_brief(error)})"
            ) from None


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)


def _error_line(error: BaseException) -> str:
    return one_line(error) or f"{type(error).__name__}: {_brief(error)}"


def _brief(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
