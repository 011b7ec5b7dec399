"""Furniture of our own making, from boxes, tubes and turned parts; all stand on y = 0 and look towards +z."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from stspbr.scenes.shapes import SHAPES, Shape, cube, cylinder, joined, shape


def _box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Shape:
    first, last = np.array(low), np.array(high)
    place = np.diag([*(last - first), 1.0])
    place[:3, 3] = (first + last) / 2
    return cube().placed(place)


def _post(x: float, z: float, radius: float, low: float, high: float) -> Shape:
    place = np.diag([2 * radius, high - low, 2 * radius, 1.0])
    place[:3, 3] = (x, (low + high) / 2, z)
    return cylinder(16).placed(place)


def table(width: float, depth: float, height: float, round_legs: bool = False) -> Shape:
    """A plate on four legs."""
    x, z = width / 2 - 0.06, depth / 2 - 0.06
    corners = [(a * x, b * z) for a in (-1, 1) for b in (-1, 1)]
    if round_legs:
        legs = [_post(a, b, 0.03, 0.0, height - 0.04) for a, b in corners]
    else:
        legs = [_box((a - 0.035, 0.0, b - 0.035), (a + 0.035, height - 0.04, b + 0.035)) for a, b in corners]
    return joined([_box((-width / 2, height - 0.04, -depth / 2), (width / 2, height, depth / 2)), *legs])


def round_table(radius: float, height: float) -> Shape:
    """A disk on one foot."""
    return joined([
        _post(0, 0, radius, height - 0.04, height), _post(0, 0, 0.05, 0.03, height - 0.04),
        _post(0, 0, 0.6 * radius, 0.0, 0.03),
    ])  # fmt: skip


def chair() -> Shape:
    """Seat, four legs, and a back of three bars."""
    corners = [(a, b) for a in (-0.19, 0.19) for b in (-0.19, 0.19)]
    legs = [_box((a - 0.02, 0.0, b - 0.02), (a + 0.02, 0.43, b + 0.02)) for a, b in corners]
    posts = [_box((a - 0.02, 0.43, -0.21), (a + 0.02, 0.92, -0.17)) for a in (-0.19, 0.19)]
    bars = [_box((-0.19, y, -0.205), (0.19, y + 0.07, -0.175)) for y in (0.56, 0.70, 0.84)]
    return joined([_box((-0.22, 0.43, -0.22), (0.22, 0.47, 0.22)), *legs, *posts, *bars])


def sofa(width: float, seats: int) -> Shape:
    """A base with cushions, arms and a back."""
    half, inner = width / 2, (width - 0.36) / seats
    cushions = [
        _box((-half + 0.18 + k * inner + 0.01, 0.36, -0.22), (-half + 0.18 + (k + 1) * inner - 0.01, 0.46, 0.42))
        for k in range(seats)
    ]
    return joined([
        _box((-half, 0.0, -0.42), (half, 0.36, 0.42)), _box((-half, 0.36, -0.42), (half, 0.82, -0.22)),
        _box((-half, 0.36, -0.42), (-half + 0.18, 0.60, 0.42)), _box((half - 0.18, 0.36, -0.42), (half, 0.60, 0.42)),
        *cushions,
    ])  # fmt: skip


def rug() -> Shape:
    """A thin slab of 2.4 × 1.7."""
    return _box((-1.2, 0.0, -0.85), (1.2, 0.012, 0.85))


def small_teapot() -> Shape:
    """The teapot at the size of a table's things, its base at 0."""
    place = np.diag([0.32, 0.32, 0.32, 1.0])
    place[1, 3] = 0.155
    return shape("teapot").placed(place)


FURNITURE: Mapping[str, Callable[[], Shape]] = {
    "dining_table_long": lambda: table(1.7, 0.9, 0.74),
    "dining_table_square": lambda: table(1.1, 1.1, 0.74, round_legs=True),
    "dining_table_round": lambda: round_table(0.62, 0.74),
    "chair": chair,
    "sofa_wide": lambda: sofa(2.1, 3),
    "sofa_small": lambda: sofa(1.6, 2),
    "armchair": lambda: sofa(0.95, 1),
    "rug": rug,
    "coffee_table": lambda: table(1.0, 0.55, 0.40),
    "coffee_table_round": lambda: round_table(0.42, 0.40),
    "small_teapot": small_teapot,
}
"""By name."""


@functools.cache
def find_shape(name: str) -> Shape:
    """A piece of furniture, one of ``shapes.SHAPES``, or an OBJ file."""
    return FURNITURE[name]() if name in FURNITURE else shape(name)


__all__ = ["FURNITURE", "SHAPES", "find_shape"]
