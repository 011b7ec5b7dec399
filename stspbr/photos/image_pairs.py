"""Which photos to match if there are too many for every pair: those that look alike, without a vocabulary.

Each photo is one vector of locally aggregated descriptors (VLAD: Jégou et al., CVPR 2010) about centres that are
learned from the very photos.
"""

from __future__ import annotations

import numpy as np

_CENTRES, _ROUNDS, _SAMPLE = 64, 12, 20_000


Pair = tuple[int, int]


def nearest_pairs(descriptors: list[np.ndarray], alike: int = 30, beside: int = 5, seed: int = 0) -> list[Pair]:
    """Pairs ``(a, b)`` with ``a < b``, sorted.

    Args:
        descriptors: ``[K, D]`` local features of each photo, in the order of their names.
        alike: each photo is paired with so many that look most like it.
        beside: and with so many that follow it.
        seed: of the centres.
    """
    count = len(descriptors)
    likeness = _global_vectors(descriptors, seed)
    likeness = likeness @ likeness.T
    np.fill_diagonal(likeness, -np.inf)
    pairs = set()
    for index in range(count):
        nearest = np.argsort(-likeness[index], kind="stable")[: min(alike, count - 1)]
        following = range(index + 1, min(index + 1 + beside, count))
        pairs |= {(min(index, int(other)), max(index, int(other))) for other in [*nearest, *following]}
    return sorted(pairs)


def _global_vectors(descriptors: list[np.ndarray], seed: int) -> np.ndarray:
    """``[N, centres · D]`` float32 unit vectors."""
    rng = np.random.default_rng(seed)
    every = np.concatenate([np.asarray(d, np.float32) for d in descriptors if len(d)] or [np.zeros((1, 1), np.float32)])
    sample = every[rng.permutation(len(every))[:_SAMPLE]]
    centres = sample[: min(_CENTRES, len(sample))].copy()
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centres)
        counts = np.bincount(nearest, minlength=len(centres))
        total = np.zeros_like(centres)
        np.add.at(total, nearest, sample)
        centres[counts > 0] = total[counts > 0] / counts[counts > 0, None]
    out = np.zeros((len(descriptors), centres.size), np.float32)
    for row, local in zip(out, descriptors, strict=True):
        if len(local):
            local = np.asarray(local, np.float32)
            nearest = _nearest(local, centres)
            cells = row.reshape(centres.shape)
            np.add.at(cells, nearest, local - centres[nearest])
            cells /= np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)  # no centre drowns the others
            row /= max(float(np.linalg.norm(row)), 1e-12)
    return out


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.argmin((centres**2).sum(axis=1) - 2.0 * points @ centres.T, axis=1)
