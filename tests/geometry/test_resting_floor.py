"""The table under a drum that is seen from above: found within a cell, from hull points that go on below it."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.geometry.resting_floor import resting_level
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.scene import Camera, Frame, look_at

_LOW, _HIGH, _RADIUS = -0.45, 0.35, 0.4


def _frames(elevation: float, size: int = 200) -> list[Frame]:
    """Views from one height; masks of densely sampled points of the drum's surface."""
    turn = np.linspace(0, 2 * np.pi, 1200)
    rings = [np.stack([r * np.cos(turn), np.full_like(turn, y), r * np.sin(turn)], axis=1)
             for r, y in [(_RADIUS, y) for y in np.linspace(_LOW, _HIGH, 300)]
             + [(r, y) for y in (_LOW, _HIGH) for r in np.linspace(0, _RADIUS, 200)]]  # fmt: skip
    surface, out = np.concatenate(rings), []
    for k in range(7):
        yaw, slope = np.radians(35 * k), np.radians(elevation)
        eye = 4 * np.array([np.cos(slope) * np.sin(yaw), np.sin(slope), np.cos(slope) * np.cos(yaw)])
        camera = Camera(look_at(eye, (0, 0, 0)), 2.6 * size, 2.6 * size, size / 2, size / 2, size, size)
        local = surface @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        alpha = np.zeros((size, size, 1), np.float32)
        row = camera.cy + camera.fy * local[:, 1] / local[:, 2]
        column = camera.cx - camera.fx * local[:, 0] / local[:, 2]
        alpha[row.astype(int), column.astype(int)] = 1.0
        out.append(Frame(f"view_{k}", camera, np.repeat(alpha, 3, axis=2), alpha, np.eye(4)))
    return out


@pytest.mark.parametrize("elevation", [25.0, 45.0])
def test_the_table_is_where_the_drum_ends(elevation):
    frames, up, cell = _frames(elevation), np.array([0.0, 1.0, 0.0]), 1 / 36
    below = np.array([[0.0, y, 0.0] for y in (_LOW - 0.03, _LOW - 0.06)], np.float32)
    assert (visual_hull_sdf(below, frames) < 0).all()  # the hull's cone goes on below the drum
    level = resting_level(frames, np.ones(3), up)
    assert _LOW - 2.0 * cell < level < _LOW + 0.5 * cell
