"""A ball on a printed table, ray-cast exactly: photos with known cameras, masks and points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from photo_table import printed_paper
from stspbr.scene import Camera, look_at

_TABLE = 8.0  # side


@dataclass
class BallScene:
    """A ball of radius 1 about the origin on a table at y = −1."""

    cameras: list[Camera]
    images: list[np.ndarray]  # [H, W, 3] uint8 sRGB
    masks: list[np.ndarray]  # [H, W] bool
    points: np.ndarray
    on_ball: np.ndarray
    seen: list[np.ndarray]


def ball_scene(count: int = 7, size: tuple[int, int] = (200, 150), arc: float = 200.0) -> BallScene:
    cameras = ball_cameras(count, size, arc)
    paper = printed_paper(512, seed=5)
    views = [_ray_cast(camera, paper) for camera in cameras]
    rng = np.random.default_rng(3)
    ball = rng.normal(size=(300, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    table = np.stack([*rng.uniform(-3, 3, (2, 400))], axis=1)
    points = np.concatenate([ball, np.stack([table[:, 0], np.full(400, -1.0), table[:, 1]], axis=1)])
    on_ball = np.arange(len(points)) < len(ball)
    return BallScene(cameras, [v[0] for v in views], [v[1] for v in views], points, on_ball,
                     [_visible(points, camera) for camera in cameras])  # fmt: skip


def ball_cameras(count: int, size: tuple[int, int], arc: float) -> list[Camera]:
    width, height = size
    rng = np.random.default_rng(1)
    cameras = []
    for index in range(count):
        turn, lift = np.radians(arc * index / count), np.radians(35 + rng.uniform(-8, 8))
        direction = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
        pose = look_at(rng.uniform(4.5, 5.2) * direction, 0.1 * rng.normal(size=3))
        cameras.append(Camera(pose, 1.1 * width, 1.1 * width, width / 2, height / 2, width, height))
    return cameras


def _ray_cast(camera: Camera, paper: np.ndarray, side: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, ``side²`` rays a pixel."""
    y, x = np.mgrid[: camera.height * side, : camera.width * side]
    local = np.stack([((x + 0.5) / side - camera.cx) / camera.fx, (camera.cy - (y + 0.5) / side) / camera.fy,
                      -np.ones(x.shape)], axis=-1).reshape(-1, 3)  # fmt: skip
    d = local @ camera.camera_to_world[:3, :3].T
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    o = camera.position
    colour = np.full((len(d), 3), 0.25)
    down = (-1.0 - o[1]) / np.where(np.abs(d[:, 1]) > 1e-9, d[:, 1], 1e-9)
    place = o + down[:, None] * d
    on = (down > 0) & (np.abs(place[:, [0, 2]]) < _TABLE / 2).all(axis=1)
    cells = ((place[on][:, [0, 2]] / _TABLE + 0.5) * len(paper)).astype(int).clip(0, len(paper) - 1)
    colour[on] = paper[cells[:, 1], cells[:, 0]]
    b = d @ o
    disc = b * b - (o @ o - 1.0)
    hit = disc > 0
    colour[hit] = _ball_colour(o + (-b[hit] - np.sqrt(disc[hit]))[:, None] * d[hit])
    shape = (camera.height, side, camera.width, side)
    image = colour.reshape(*shape, 3).mean(axis=(1, 3))
    return np.rint(255 * image**0.45).astype(np.uint8), hit.reshape(shape).mean(axis=(1, 3)) > 0.5


def _ball_colour(points: np.ndarray) -> np.ndarray:
    """Dark blue with light specks: noise on two lattices."""
    noise = np.zeros(len(points))
    for number, cells in enumerate((7, 13)):
        lattice = np.random.default_rng(number).uniform(-1, 1, (cells + 1,) * 3)
        at = (points * 0.499 + 0.5) * cells
        low = np.floor(at).astype(int).clip(0, cells - 1)
        part = at - low
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, part, 1 - part), axis=1)
            noise += weight * lattice[tuple((low + corner).T)]
    return np.array([0.03, 0.06, 0.30]) + np.clip(3 * noise + 0.2, 0, 1)[:, None] * np.array([0.05, 0.15, 0.35])


def _visible(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Indices of the points that the camera sees: in the picture and not behind the ball."""
    away = points - camera.position
    length = np.linalg.norm(away, axis=1)
    d = away / length[:, None]
    b = d @ camera.position
    disc = b * b - (camera.position @ camera.position - 1.0)
    first = np.where(disc > 0, -b - np.sqrt(np.maximum(disc, 0)), np.inf)
    local = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    x, y = camera.cx - camera.fx * local[:, 0] / local[:, 2], camera.cy + camera.fy * local[:, 1] / local[:, 2]
    inside = (x > 1) & (x < camera.width - 1) & (y > 1) & (y < camera.height - 1)
    table = np.abs(points[:, 1] + 1.0) < 1e-9
    facing = table | ((-d * points).sum(axis=1) > 0.25)  # features are not found where the ball turns away
    return np.flatnonzero((first > length - 1e-3) & facing & inside & (local[:, 2] < 0))


@pytest.fixture(scope="session")
def ball() -> BallScene:
    """Seven photos of 200 × 150."""
    return ball_scene()


@pytest.fixture(scope="session")
def ball_photos(tmp_path_factory):
    """A folder with five photos of 400 × 300 that fit together."""
    folder = tmp_path_factory.mktemp("photos")
    for k, image in enumerate(ball_scene(5, (400, 300), arc=100.0).images):
        Image.fromarray(image).save(folder / f"p{k}.png")
    return folder
