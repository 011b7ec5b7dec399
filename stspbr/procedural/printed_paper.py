"""Printed paper that does not repeat: what feature detectors and a table want."""

from __future__ import annotations

import numpy as np


def printed_paper(
    resolution: int, seed: int = 0, sizes: tuple[float, float] = (12.0, 200.0), density: float = 0.35
) -> np.ndarray:
    """``[R, R, 3]`` float32 linear albedo: blots, strokes and blocks of ink of all sizes on warm paper.

    Args:
        seed: of the print; sizes: how often the largest and the smallest marks fit into a side; density: how often all
            marks together cover the paper.
    """
    rng = np.random.default_rng(seed)
    image = np.ones((resolution, resolution, 3)) * (0.55, 0.50, 0.42)
    coarse = rng.normal(size=(16, 16))
    spots = np.linspace(0, 15, resolution)
    low = np.floor(spots).astype(int).clip(0, 14)
    part = spots - low
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    image *= 1.0 + 0.08 * (rows[:, low] * (1 - part) + rows[:, low + 1] * part)[..., None]
    for side in np.geomspace(resolution / sizes[0], resolution / sizes[1], 14):
        for _ in range(int(density * (resolution / side) ** 2 / 14) + 4):
            _stamp(image, rng, max(side * rng.uniform(0.5, 1.5), 2.0))
    return np.clip(image, 0.02, 0.9).astype(np.float32)


def _stamp(image: np.ndarray, rng: np.random.Generator, side: float) -> None:
    """One turned block, ring or blot of ink."""
    resolution = image.shape[0]
    centre, reach = rng.uniform(0, resolution, 2), int(np.ceil(side)) + 1
    top, left = (max(int(c) - reach, 0) for c in centre)
    area = image[top : int(centre[0]) + reach + 1, left : int(centre[1]) + reach + 1]
    if area.size == 0:
        return
    y, x = np.mgrid[top : top + area.shape[0], left : left + area.shape[1]] + 0.5
    angle, slim = rng.uniform(0, np.pi), rng.uniform(0.2, 1.0)
    u = (x - centre[1]) * np.cos(angle) + (y - centre[0]) * np.sin(angle)
    v = ((y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle)) / slim
    kind = rng.integers(3)
    distance = np.maximum(np.abs(u), np.abs(v)) if kind == 0 else np.hypot(u, v)
    distance = np.abs(distance - 0.4 * side) + 0.35 * side if kind == 2 else distance
    cover = np.clip(0.5 * side - distance + 0.5, 0.0, 1.0)[..., None] * rng.uniform(0.5, 1.0)
    ink = rng.uniform(0.03, 0.6) * rng.dirichlet((2.0, 2.0, 2.0)) * 3.0
    area[:] = area * (1 - cover) + ink * cover
