"""The hull that nearly all masks agree on."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.photos.consensus_hull import consensus_hull, silhouette

pytest.importorskip("cv2")


def test_a_wrong_mask_does_not_spoil_the_hull(ball):
    right = consensus_hull(ball.masks, ball.cameras, np.zeros(3), 2.0)
    distance = np.linalg.norm(right.points, axis=1)
    volume = len(right.points) * right.cell**3
    assert 0.95 * 4.19 < volume < 2.0 * 4.19 and (distance < 1.6).all()
    wrong = [np.zeros_like(ball.masks[0]), *ball.masks[1:]]
    forgiving = consensus_hull(wrong, ball.cameras, np.zeros(3), 2.0, agree=0.85)  # one of seven
    assert 0.95 * 4.19 < len(forgiving.points) * forgiving.cell**3 < 3.0 * 4.19
    assert np.linalg.norm(forgiving.points.mean(axis=0)) < 0.3
    assert len(consensus_hull(wrong, ball.cameras, np.zeros(3), 2.0).points) == 0


def test_the_silhouette_is_the_mask(ball):
    hull = consensus_hull(ball.masks, ball.cameras, np.zeros(3), 1.3)
    for mask, camera in zip(ball.masks, ball.cameras, strict=True):
        shape = silhouette(hull, camera)
        assert (shape & mask).sum() / (shape | mask).sum() > 0.9
