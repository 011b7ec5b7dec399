"""Coordinates far from the origin: float32 holds 5 403 210.12 m to half a metre, so the offset is taken out first."""

from __future__ import annotations

import numpy as np

_FAR = 100.0  # sizes from the origin; beyond, float32 keeps less than 1e-5 of the size


def far_offset(points: np.ndarray) -> np.ndarray:
    """``[3]`` float64: what to subtract from ``points`` ``[N, 3]`` for float32 to hold them; zeros if they are near.

    Points are far if their box is farther from the origin than 100 times its diagonal. The offset is a multiple of a
    power of two of about the box's size, so that subtracting and adding it are exact as a rule.
    """
    points = np.asarray(points, np.float64)
    if len(points) == 0 or not np.isfinite(points).all():
        return np.zeros(3)
    low, high = points.min(axis=0), points.max(axis=0)
    centre, size = 0.5 * (low + high), float(np.linalg.norm(high - low))
    if not 0.0 < _FAR * size < np.linalg.norm(centre):
        return np.zeros(3)
    step = 2.0 ** np.floor(np.log2(size))
    return np.round(centre / step) * step


def shift(offset: np.ndarray) -> np.ndarray:
    """``[4, 4]`` float64: the translation by ``offset``."""
    out = np.eye(4)
    out[:3, 3] = offset
    return out
