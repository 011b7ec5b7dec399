"""The table under a drum that is seen from above: found within a cell, from hull points that go on below it."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.geometry.resting_floor import resting_level
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.scene import Camera, Frame, look_at

_LOW, _HIGH, _RADIUS = -0.45, 0.35, 0.4


def _drum(grid: np.ndarray) -> np.ndarray:
    return (np.hypot(grid[:, 0], grid[:, 2]) < _RADIUS) & (grid[:, 1] > _LOW) & (grid[:, 1] < _HIGH)


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
    axis = np.linspace(-1, 1, 61)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
    cell, frames, up = 2 / 60, _frames(elevation), np.array([0.0, 1.0, 0.0])
    inside = points[visual_hull_sdf(points, frames) < 0]
    assert inside[:, 1].min() < _LOW - 2 * cell  # the hull's cone below the drum
    level = resting_level(inside, frames, up, cell)
    assert _LOW - 1.5 * cell < level < _LOW + 0.5 * cell
    assert resting_level(inside[:0], frames, up, cell) == -np.inf
