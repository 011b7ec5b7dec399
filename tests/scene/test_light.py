"""Turning a light: what came from a direction comes from the turned direction."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.scene.light import EnvironmentLight, latlong_to_direction, turned_light


def smooth(direction: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(direction, -1, 0)
    return np.stack([1 + x, 1 + 0.5 * y * y, 1 + z * x], axis=-1)


def test_turned_light():
    v, u = np.mgrid[:64, :128] + 0.5
    directions = latlong_to_direction(np.stack([u / 128, v / 64], axis=-1))
    light = EnvironmentLight(smooth(directions).astype(np.float32))
    c, s = np.cos(0.7), np.sin(0.7)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned = turned_light(light, rotation).radiance
    assert turned == pytest.approx(smooth(directions @ rotation), abs=0.01)  # its own direction is Rᵀ d
    assert np.abs(turned - light.radiance).max() > 0.5
    assert turned_light(light, np.eye(3)) is light
