"""Directions spread over the sphere."""

from __future__ import annotations

import math

import numpy as np

_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def sphere_directions(count: int) -> np.ndarray:
    """``[count, 3]`` directions spread evenly over the sphere (a Fibonacci spiral), each for an equal area."""
    k = np.arange(count) + 0.5
    y = 1.0 - 2.0 * k / count
    around = np.sqrt(1.0 - y * y)
    return np.stack([around * np.sin(_GOLDEN_ANGLE * k), y, around * np.cos(_GOLDEN_ANGLE * k)], axis=-1)
