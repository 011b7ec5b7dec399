"""Where points of the world fall in a picture."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.scene import Camera, look_at


def test_projection():
    camera = Camera(look_at(np.array([0, 0, 5.0]), np.zeros(3)), 100, 110, 40, 30, 80, 60)
    xy, depth = camera.project(np.array([[0, 0, 0], [0.5, 0.25, 1.0], [0, 0, 9.0]]))
    assert depth == pytest.approx([5, 4, -4])
    assert xy[:2] == pytest.approx(np.array([[40, 30], [40 + 12.5, 30 - 110 / 16]]))
