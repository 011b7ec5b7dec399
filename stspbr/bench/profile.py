"""Wall and CPU time of a step by part, forward and backward.

*Method.* Forward, a part is the block that the loop names. Every node of autograd's graph bears a running number;
those made within a part's block are its own, and hooks before and after each node take the time of its backward. On
the CPU the nodes of one backward pass run one after the other in the calling thread, so these times add up; what is
left of the pass (autograd's own work, the hooks, sums of gradients) is "rest". On CUDA the clock waits for the device
wherever it reads: the parts' times are then right, and their sum is more than an undisturbed step, which is why the
step itself is timed in a run of its own without any of this.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.routing import Term


class PartClock(Stopwatch):
    """A stopwatch that also sees CPU time and takes the backward pass apart.

    Attributes:
        steps: of each step the seconds ``(wall, cpu)`` by key ``(part, "forward" or "backward")``; parts that are
            both at once (the optimiser) count as forward.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.steps: list[dict[tuple[str, str], tuple[float, float]]] = []
        self._device = device
        self._now: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._starts: list[int] = []  # of the parts' blocks, as running numbers of autograd nodes
        self._parts: list[str] = []
        self._began = (0.0, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        first = _running_number()
        began = self._read()
        yield
        self._add((name, "forward"), began)
        self._starts += [first, _running_number()]
        self._parts += [name, "rest"]

    def watch_backward(self, terms: list[Term]) -> None:
        """Put hooks on all nodes that the terms depend on; to be called between forward and backward."""
        stack = [term.value.grad_fn for term in terms if term.value.grad_fn is not None]
        seen = set(stack)
        while stack:
            node = stack.pop()
            number = node._sequence_nr()
            if number <= self._starts[-1]:  # leaves have the largest number there is
                place = bisect_right(self._starts, number) - 1
                self._hook(node, self._parts[place] if place >= 0 else "rest")
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    stack.append(following)

    def end_step(self) -> None:
        """Close the account of a step."""
        self.steps.append({key: (wall, cpu) for key, (wall, cpu) in self._now.items()})
        self._now.clear()
        self._starts.clear()
        self._parts.clear()

    def _hook(self, node: torch.autograd.graph.Node, part: str) -> None:
        def before(_: object) -> None:
            self._began = self._read()

        def after(_: object, __: object) -> None:
            self._add((part, "backward"), self._began)

        node.register_prehook(before)
        node.register_hook(after)

    def _read(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()

    def _add(self, key: tuple[str, str], began: tuple[float, float]) -> None:
        wall, cpu = self._read()
        self._now[key][0] += wall - began[0]
        self._now[key][1] += cpu - began[1]


def _running_number() -> int:
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).view(()).grad_fn
    return 0 if node is None else node._sequence_nr()
