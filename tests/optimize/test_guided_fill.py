"""Weak texels take their value from confident neighbours; confident ones stay, bit for bit."""

from __future__ import annotations

import numpy as np

from stspbr.optimize.guided_fill import _Texels, filled
from stspbr.optimize.posterior import PRIOR_STD

SIDE = 60


def plane(material: np.ndarray, precision: np.ndarray) -> _Texels:
    """A square of texels in a plane."""
    row, column = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    position = np.stack([column / SIDE, row / SIDE, np.zeros(SIDE * SIDE)], axis=1)
    normal = np.tile([0.0, 0.0, 1.0], (SIDE * SIDE, 1))
    return _Texels(position, normal, material.reshape(-1, 5), precision.reshape(-1, 5), np.zeros(SIDE * SIDE))


def ramp() -> np.ndarray:
    """``[S, S, 5]``: every parameter grows from left to right."""
    across = np.linspace(0.2, 0.8, SIDE)
    return np.repeat(np.broadcast_to(across[None, :, None], (SIDE, SIDE, 1)), 5, axis=2).copy()


def test_unseen_texels_are_filled_from_around_them():
    truth, known = ramp(), np.full((SIDE, SIDE, 5), 1e8)
    hole = np.zeros((SIDE, SIDE), bool)
    hole[20:40, 20:40] = True
    known[hole] = 0.0
    guessed = truth.copy()
    guessed[hole] = 0.0  # what networks guess where nobody looked
    found, changed = filled(plane(guessed, known))
    found = found.reshape(SIDE, SIDE, 5)
    assert np.abs(found - truth)[hole].mean() < 0.07 < np.abs(guessed - truth)[hole].mean()
    assert np.array_equal(found[~hole], guessed[~hole])
    assert np.array_equal(changed.reshape(SIDE, SIDE), hole)


def test_texels_move_in_proportion_to_what_they_lack():
    truth, rng = np.full((SIDE, SIDE, 5), 0.5), np.random.default_rng(0)
    noisy = truth + 0.02 * rng.normal(size=truth.shape)
    known = np.full((SIDE, SIDE, 5), 1e5)
    for k, std in enumerate((0.02, 0.05, 0.15, 0.5)):
        rows = slice(10 + 12 * k, 14 + 12 * k)
        known[rows] = std**-2.0
        noisy[rows] += 0.2
    found = filled(plane(noisy, known))[0].reshape(SIDE, SIDE, 5)
    moved = [np.abs(found - noisy)[10 + 12 * k : 14 + 12 * k].mean() for k in range(4)]
    assert moved == sorted(moved) and moved[0] < 0.12 and moved[3] > 0.17


def test_a_border_of_colour_holds_the_rest_apart():
    """Where the colour changes, so may the roughness: the unseen side takes that of its own colour."""
    truth, rng = np.full((SIDE, SIDE, 5), 0.3), np.random.default_rng(1)
    truth[:, SIDE // 2 :, :3], truth[:, SIDE // 2 :, 3] = 0.8, 0.9
    truth += 0.005 * rng.normal(size=truth.shape)
    known = np.full((SIDE, SIDE, 5), 1e5)
    strip = np.zeros((SIDE, SIDE), bool)
    strip[:, SIDE // 2 : SIDE // 2 + 6] = True  # right at the border; its colour is known, its roughness is not
    known[strip, 3] = 0.0
    guessed = truth.copy()
    guessed[strip, 3] = 0.5
    found = filled(plane(guessed, known))[0].reshape(SIDE, SIDE, 5)
    assert np.abs(found - truth)[strip, 3].mean() < 0.12 < np.abs(guessed - truth)[strip, 3].mean()


def test_nothing_known_at_all_stays_within_the_range_of_what_was_guessed():
    guessed = np.random.default_rng(2).uniform(0.2, 0.6, (SIDE, SIDE, 5))
    found, changed = filled(plane(guessed, np.zeros((SIDE, SIDE, 5))))
    assert np.isfinite(found).all() and changed.all()
    assert found.min() >= 0.2 - 1e-6 and found.max() <= 0.6 + 1e-6
    assert len(PRIOR_STD) == found.shape[1]
