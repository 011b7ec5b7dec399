"""The clock that takes a step apart: which part a node of the backward pass belongs to."""

from __future__ import annotations

import pytest
import torch

from stspbr.bench.profile import PartClock
from stspbr.optimize.routing import STRICT_A, Term


class Cube(torch.autograd.Function):
    """A custom function, as the kernels are wrapped."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by 1 s of wall and 2 s of CPU time whenever it is read."""
    clock, reads = PartClock(torch.device("cpu")), []

    def read(device):
        reads.append(None)
        return float(len(reads)), 2.0 * len(reads)

    monkeypatch.setattr("stspbr.bench.profile.read_clocks", read)
    return clock


def graph(clock, x):
    with clock.part("first"):
        y = Cube.apply(x) * 2
    between = y + 1
    with clock.part("second"):
        z = between.exp().sin()
    return z.sum()


def test_every_node_belongs_to_the_part_that_made_it(ticking):
    x = torch.tensor([0.1, 0.2], requires_grad=True)
    loss = graph(ticking, x)
    ticking.watch_backward([Term("loss", loss, STRICT_A)])
    loss.backward()
    ticking.step()
    (step,) = ticking.steps
    assert step["first", "forward"] == step["second", "forward"] == (1.0, 2.0)
    assert step["first", "backward"] == (2.0, 4.0)  # Cube and the product
    assert step["second", "backward"] == (2.0, 4.0)  # exp and sin
    assert step["rest", "backward"] == (1.0, 2.0)  # the sum between the parts; the one behind the last is not watched


def test_gradients_are_the_same_under_the_clock(ticking):
    x = torch.tensor([0.1, 0.2], requires_grad=True)
    (expected,) = torch.autograd.grad(graph(PartClock(torch.device("cpu")), x), x)
    loss = graph(ticking, x)
    ticking.watch_backward([Term("loss", loss, STRICT_A), Term("constant", torch.zeros(()), STRICT_A)])
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.equal(gradient, expected)


def test_a_step_starts_from_nothing(ticking):
    with ticking.part("first"):
        pass
    ticking.step()
    with ticking.part("second"):
        pass
    ticking.step()
    assert [set(step) for step in ticking.steps] == [{("first", "forward")}, {("second", "forward")}]
