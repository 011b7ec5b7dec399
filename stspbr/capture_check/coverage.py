"""From where an object has been looked at: how many cameras see each direction of it, and the widest gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stspbr.scene.directions import sphere_directions
from stspbr.scene.light import latlong_to_direction

CELLS = 1000  # of equal area: 6.4° across
SEEN = 60.0  # degrees: a surface is seen well by cameras that stand no farther from its normal
MAP_SIZE = (64, 128)
_APART = 60.0  # degrees between two gaps that are told apart


@dataclass(frozen=True)
class Gap:
    """A direction (``[3]``, object space) and the angle in degrees to the nearest camera's."""

    direction: np.ndarray
    angle: float


@dataclass(frozen=True)
class Coverage:
    """What a set of camera directions covers.

    Attributes:
        counts: ``[CELLS]`` cameras within ``SEEN`` degrees of each cell's direction.
        unseen, thin: shares of the sphere that no camera, or fewer than three, see.
        gaps: local maxima of the angle to the nearest camera, the widest first; at most four.
        counts_map: ``[64, 128]`` counts over a lat-long map, in the convention of :mod:`stspbr.scene.light`.
    """

    counts: np.ndarray
    unseen: float
    thin: float
    gaps: list[Gap]
    counts_map: np.ndarray


def measure_coverage(directions: np.ndarray) -> Coverage:
    """Coverage by cameras in the unit ``directions`` ``[N, 3]`` from the object, N of at least 1."""
    directions = np.asarray(directions, np.float64).reshape(-1, 3)
    cells = sphere_directions(CELLS)
    counts = _counts(cells, directions)
    nearest = np.degrees(np.arccos(np.clip((cells @ directions.T).max(axis=1), -1.0, 1.0)))
    gaps: list[Gap] = []
    left = np.ones(len(cells), bool)
    while left.any() and len(gaps) < 4:
        worst = int(np.where(left, nearest, -1.0).argmax())
        gaps.append(Gap(cells[worst], float(nearest[worst])))
        left &= cells @ cells[worst] < math.cos(math.radians(_APART))
    height, width = MAP_SIZE
    v, u = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    counts_map = _counts(latlong_to_direction(np.stack([u, v], axis=-1)).reshape(-1, 3), directions)
    unseen, thin = float((counts == 0).mean()), float((counts < 3).mean())
    return Coverage(counts, unseen, thin, gaps, counts_map.reshape(height, width))


def direction_words(direction: np.ndarray) -> str:
    """A direction for people: "front-left", "top", "back from below"; +Z is the front, +X its right, +Y up."""
    x, y, z = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    elevation = math.degrees(math.asin(np.clip(y, -1.0, 1.0)))
    if abs(elevation) > 60.0:
        return "top" if elevation > 0 else "underside"
    around = ("front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left")
    word = around[round(math.degrees(math.atan2(x, z)) / 45.0) % 8]
    return word + (" from above" if elevation > 25.0 else " from below" if elevation < -25.0 else "")


def _counts(cells: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return (cells @ directions.T > math.cos(math.radians(SEEN))).sum(axis=1)
