"""Bilinear lookup against scipy's, wrapped both ways and ending at the poles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from stspbr.scene.bilinear import bilinear


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 1), (6, 1, 2), (1, 1, 3)])
@pytest.mark.parametrize("wrap_v", [True, False])
def test_against_scipy(shape, wrap_v):
    rng = np.random.default_rng(0)
    image, uv = rng.normal(size=shape), rng.uniform(-0.7, 1.7, (4, 25, 2))
    uv = uv if wrap_v else uv.clip([-2, 0], [2, 1])
    tiled = np.tile(image, (3 if wrap_v else 1, 3, 1))
    row = uv[..., 1] * shape[0] - 0.5 + (shape[0] if wrap_v else 0)
    place = [row, uv[..., 0] * shape[1] - 0.5 + shape[1]]
    wide = np.pad(tiled, ((1, 1), (1, 1), (0, 0)), mode="edge")
    expected = [map_coordinates(wide[..., c], np.add(place, 1), order=1, mode="nearest") for c in range(shape[2])]
    np.testing.assert_allclose(bilinear(image, uv, wrap_v), np.moveaxis(expected, 0, -1), atol=1e-12)
