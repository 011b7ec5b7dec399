"""Quadratic functions minimised above a bound: non-negative least squares without a matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_POWER_STEPS = 8
_MARGIN = 1.3  # on the largest eigenvalue, which power iteration approaches from below


@torch.no_grad()
def minimize_above(
    product: Callable[[Tensor], Tensor],
    linear: Tensor,
    start: Tensor,
    bound: Tensor,
    steps: int,
    tolerance: float = 1e-5,
) -> Tensor:
    """The x ≥ ``bound`` that minimises ½ xᵀHx − ``linear``ᵀx: conjugate gradients among the values above the bound.

    MPRGP (Dostál 2009, Optimal Quadratic Programming Algorithms, algorithm 5.8): a step that would cross the bound
    stops there and is followed by a projected one; values are freed when the gradient of those on the bound outweighs
    that of the free ones. Sums are made in a fixed order, so that the number of threads does not change the result.

    Args:
        product: H times a tensor of the shape of ``start``; H is symmetric and positive semi-definite.
        linear, start, bound: of one shape; a start below the bound is raised to it.
        steps: most products with H, besides those that measure its largest eigenvalue.
        tolerance: of the projected gradient, as a share of the norm of ``linear``.
    """
    x = torch.maximum(start, bound)
    short = 1.0 / (_MARGIN * _largest_eigenvalue(product, x))
    gradient = product(x) - linear
    direction, _ = _parts(gradient, x, bound)
    left, goal = steps, tolerance**2 * _dot(linear, linear)
    while left > 0:
        free, caught = _parts(gradient, x, bound)
        if _dot(free, free) + _dot(caught, caught) <= goal:
            break
        left -= 1
        if _dot(caught, caught) > _dot(torch.minimum((x - bound) / short, free), free):
            image = product(caught)
            step = _dot(gradient, caught) / max(_dot(caught, image), 1e-300)
            x, gradient = x - step * caught, gradient - step * image
            direction, _ = _parts(gradient, x, bound)
            continue
        image = product(direction)
        curvature = max(_dot(direction, image), 1e-300)
        step = _dot(gradient, direction) / curvature
        room = float(torch.where(direction > 0, (x - bound) / direction, torch.inf).min())
        if step <= room:
            x, gradient = torch.maximum(x - step * direction, bound), gradient - step * image
            free, _ = _parts(gradient, x, bound)
            direction = free - _dot(free, image) / curvature * direction
        else:
            x, gradient = torch.maximum(x - room * direction, bound), gradient - room * image
            free, _ = _parts(gradient, x, bound)
            x = torch.maximum(x - short * free, bound)
            left -= 1
            gradient = product(x) - linear
            direction, _ = _parts(gradient, x, bound)
    return x


def optimality_gap(gradient: Tensor, x: Tensor, bound: Tensor) -> Tensor:
    """The projected gradient; 0 where the conditions of Karush, Kuhn and Tucker hold.

    These are: the gradient vanishes above the bound, and is not negative on it.
    """
    free, caught = _parts(gradient, x, bound)
    return free + caught


def fixed_sum(values: Tensor) -> float:
    """The sum of all values in double precision, on the CPU in an order that no number of threads changes."""
    return float(values.detach().double().cpu().numpy().sum())


def fixed_column_sums(values: Tensor) -> Tensor:
    """``[C]``: the sums of the columns of ``values [N, C]``, likewise, in the type of ``values``."""
    return torch.from_numpy(values.detach().double().cpu().numpy().sum(axis=0)).to(values)


def _parts(gradient: Tensor, x: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient above the bound, and on the bound where it leads away from it."""
    above, none = x > bound, torch.zeros_like(gradient)
    return torch.where(above, gradient, none), torch.where(above, none, gradient.clamp(max=0.0))


def _dot(one: Tensor, other: Tensor) -> float:
    return fixed_sum(one.double() * other.double())


def _largest_eigenvalue(product: Callable[[Tensor], Tensor], like: Tensor) -> float:
    vector, value = torch.ones_like(like), 1.0
    for _ in range(_POWER_STEPS):
        vector = product(vector / max(value, 1e-30))
        value = _dot(vector, vector) ** 0.5
        if value == 0.0:
            return 1.0
        vector, value = vector / value, 1.0
    image = product(vector)
    return max(_dot(image, image) ** 0.5, 1e-30)
