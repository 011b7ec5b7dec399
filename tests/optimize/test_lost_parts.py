"""Which points the views show and the surface lacks: a small ball beside a large one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stspbr.geometry.dmtet import DMTet
from stspbr.optimize.geometry import ImplicitGeometry
from stspbr.optimize.lost_parts import LostParts
from stspbr.optimize.views import ViewSet
from stspbr.render.backend import get_backend
from stspbr.scene import Camera, Frame, look_at
from stspbr.settings import GeometrySettings

LARGE, SMALL = (np.array([-0.2, 0.0, 0.0]), 0.5), (np.array([0.7, 0.1, 0.0]), 0.1)
CPU = torch.device("cpu")


def frames(count: int = 16, size: int = 64) -> list[Frame]:
    """Exact masks of both balls."""
    out = []
    for k in range(count):
        y = 1 - 2 * (k + 0.5) / count
        angle, s = k * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - y * y)
        eye = 3.0 * np.array([s * np.cos(angle), y, s * np.sin(angle)])
        camera = Camera(look_at(eye, (0, 0, 0)), 90.0, 90.0, size / 2, size / 2, size, size)
        rows, columns = np.mgrid[:size, :size] + 0.5
        local = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], -1)
        ray = local @ camera.camera_to_world[:3, :3].T
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        alpha = np.zeros((size, size, 1), np.float32)
        for centre, radius in (LARGE, SMALL):
            off = np.linalg.norm(np.cross(centre - eye, ray), axis=-1)
            alpha[off < radius] = 1.0
        out.append(Frame(f"view_{k}", camera, np.repeat(alpha, 3, axis=2), alpha, np.eye(4)))
    return out


def lost_parts(has_small: bool) -> LostParts:
    dmtet = DMTet(40, np.full(3, -1.0), np.full(3, 1.0))
    points = dmtet.grid.numpy()
    distances = [np.linalg.norm(points - centre, axis=1) - radius for centre, radius in (LARGE, SMALL)]
    dmtet.init_sdf(np.minimum(*distances) if has_small else distances[0])
    own = frames()
    problem = SimpleNamespace(
        views=ViewSet(own, 1, CPU),
        geometry=ImplicitGeometry(dmtet, GeometrySettings()),
        backend=get_backend("cpu", CPU),
        seen=lambda views, ids: views,
    )
    return LostParts(problem, own)  # type: ignore[arg-type]


def cloud(centre: np.ndarray, radius: float) -> np.ndarray:
    directions = np.random.default_rng(0).standard_normal((200, 3))
    return (centre + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("has_small", [False, True])
def test_only_what_the_surface_lacks_is_missed(has_small):
    parts = lost_parts(has_small)
    assert parts.missed(cloud(SMALL[0], 0.05)).all() == (not has_small)
    assert parts.missed(cloud(SMALL[0], 0.05)).any() == (not has_small)
    assert not parts.missed(cloud(LARGE[0], 0.4)).any()
    assert not parts.missed(cloud(np.array([0.3, -0.6, 0.5]), 0.05)).any()  # nothing is there
    assert not parts.missed(np.zeros((0, 3), np.float32)).any()


def test_the_hull_holds_both_balls():
    parts = lost_parts(False)
    assert (parts.hull(cloud(SMALL[0], 0.05)) < 0).all() and (parts.hull(cloud(LARGE[0], 0.4)) < 0).all()
    assert (parts.hull(cloud(SMALL[0], 0.25))[cloud(SMALL[0], 0.25)[:, 0] > 0.85] > 0).all()


def test_the_small_ball_comes_back():
    parts = lost_parts(False)
    geometry = parts.problem.geometry
    message = geometry._resize(1, parts).message
    assert message is not None and "half the side" in message
    positions = geometry.surface().positions.detach().numpy()
    small = positions[:, 0] > 0.45
    assert small.sum() > 50
    assert np.abs(np.linalg.norm(positions[small] - SMALL[0], axis=1) - SMALL[1]).max() < 0.05
