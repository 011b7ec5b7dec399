"""Photos that look alike are paired without a vocabulary."""

from __future__ import annotations

import numpy as np

from stspbr.photos.image_pairs import nearest_pairs


def walk(photos: int, points: int = 40, shown: int = 60) -> list[np.ndarray]:
    """A closed walk past a row of landmarks: photo k shows those near k, the last see the first ones again."""
    rng = np.random.default_rng(0)
    landmarks = rng.normal(size=(photos * points // 10, 32)).astype(np.float32)
    return [
        landmarks[(np.arange(shown) + k * points // 10) % len(landmarks)] + 0.05 * rng.normal(size=(shown, 32))
        for k in range(photos)
    ]


def test_neighbours_and_the_closed_loop_are_found():
    pairs = nearest_pairs(walk(60), alike=8, beside=0)
    assert all(a < b for a, b in pairs) and len(set(pairs)) == len(pairs) <= 60 * 8
    apart = np.array([min(b - a, 60 - (b - a)) for a, b in pairs])
    assert (apart <= 10).mean() > 0.95  # photos 15 apart have nothing in common
    assert (0, 59) in pairs and (1, 59) in pairs


def test_the_same_seed_gives_the_same_pairs_and_neighbours_by_name_are_there():
    descriptors = walk(20)
    descriptors[7] = np.zeros((0, 32), np.float32)  # a photo without a feature
    pairs = nearest_pairs(descriptors, alike=2, beside=3)
    assert pairs == nearest_pairs([d.copy() for d in descriptors], alike=2, beside=3)
    assert {(k, k + 3) for k in range(17)} <= set(pairs)
