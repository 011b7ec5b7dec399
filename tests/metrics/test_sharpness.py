"""Sharpness of photographs: blur lowers it, exposure does not; and how much views count by it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stspbr.metrics.sharpness import sharpness, sharpness_weights


def test_blur_lowers_it_and_exposure_does_not():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.1, 0.4, (60, 60, 3)).astype(np.float32)
    alpha = np.ones((60, 60, 1), np.float32)
    sharp = sharpness(image, alpha)
    assert sharp == pytest.approx(sharpness(1.7 * image, alpha), rel=0.05)
    assert sharpness(gaussian_filter(image, (1.5, 1.5, 0)), alpha) < 0.2 * sharp
    assert sharpness(image, np.zeros_like(alpha)) is None


def test_blurred_views_count_less():
    weights = sharpness_weights([1.0, 1.1, 0.7, 0.3, 0.001, None])
    assert weights[:3].tolist() == [1.0, 1.0, 1.0] and weights[5] == 1.0
    assert 0.1 < weights[3] < 1.0 and weights[4] == pytest.approx(0.1)
    assert sharpness_weights([None, None]).tolist() == [1.0, 1.0]
