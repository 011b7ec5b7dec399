"""What the tests of the data sets share: a capture of a patterned ball, the rays of a camera, photographs by a lens."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from stspbr.scene.camera import Camera, look_at
from stspbr.scene.capture import Capture, Frame

HEIGHT, WIDTH = 40, 48


def ball_rays(position, directions, object_to_world=None, radius=0.5):
    """Colour ``[N, 3]`` and coverage ``[N, 1]`` along world rays of a ball whose pattern depends on the place."""
    pose = np.linalg.inv(np.eye(4) if object_to_world is None else object_to_world)
    origin, d = pose[:3, :3] @ position + pose[:3, 3], directions @ pose[:3, :3].T
    d = d / np.linalg.norm(d, axis=-1, keepdims=True)
    b = d @ origin
    disc = b * b - origin @ origin + radius * radius
    hit = (disc > 0) & (b < 0)
    point = origin + d * (-b - np.sqrt(np.maximum(disc, 0)))[:, None]
    colour = 0.4 + 0.3 * point / radius
    return (colour * hit[:, None]).astype(np.float32), hit[:, None].astype(np.float32)


def rays_of(camera: Camera, points: np.ndarray) -> np.ndarray:
    """World directions ``[N, 3]`` of pixel places ``[N, 2]``, written out once more from the conventions."""
    x, y = (points[:, 0] - camera.cx) / camera.fx, (points[:, 1] - camera.cy) / camera.fy
    d = np.stack([x, -y, -np.ones_like(x)], axis=1) @ np.asarray(camera.camera_to_world)[:3, :3].T
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def through(lens, camera_to_world) -> tuple[np.ndarray, np.ndarray]:
    """Image and alpha of the ball by a lens with distortion: each pixel's own ray, by the lens's inverse."""
    rows, columns = np.mgrid[: lens.height, : lens.width] + 0.5
    xy = lens.unproject(np.stack([columns, rows], axis=-1).reshape(-1, 2))
    seen = np.isfinite(xy).all(axis=1)
    xy = np.where(seen[:, None], xy, 0.0)
    pose = np.asarray(camera_to_world)
    d = np.stack([xy[:, 0], -xy[:, 1], -np.ones(len(xy))], axis=1) @ pose[:3, :3].T
    colour, alpha = ball_rays(pose[:3, 3], d)
    colour, alpha = colour * seen[:, None], alpha * seen[:, None]
    return colour.reshape(lens.height, lens.width, 3), alpha.reshape(lens.height, lens.width, 1)


def photograph(camera: Camera, object_to_world=None) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    places = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    colour, alpha = ball_rays(camera.position, rays_of(camera, places), object_to_world)
    return colour.reshape(camera.height, camera.width, 3), alpha.reshape(camera.height, camera.width, 1)


def ring_poses(count=12, distance=3.0):
    """Camera-to-world matrices about the origin, mostly from above, each rolled a little."""
    out = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        direction = np.array([math.sin(angle), 0.2 + 0.15 * (k % 4), math.cos(angle)])
        pose = look_at(distance * direction / np.linalg.norm(direction), np.array([0.02, -0.01, 0.03]))
        roll = 0.05 * (k % 3 - 1)
        turn = np.eye(4)
        turn[:2, :2] = [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
        out.append(pose @ turn)
    return out


def ball_capture(count=12, *, moving=False, **intrinsics) -> Capture:
    """Frames of the ball; ``intrinsics`` (fx, fy, cx, cy, width, height) are numbers, or functions of the index."""
    frames = []
    for k, pose in enumerate(ring_poses(count)):
        numbers = {"fx": 60.0, "fy": 60.0, "cx": 24.0, "cy": 20.0, "width": WIDTH, "height": HEIGHT}
        numbers |= {key: value(k) if callable(value) else value for key, value in intrinsics.items()}
        camera = Camera(pose, **numbers, near=0.5, far=9.0)
        object_to_world = np.eye(4)
        if moving:
            c, s = math.cos(0.3 * k), math.sin(0.3 * k)
            object_to_world[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
            object_to_world[:3, 3] = 0.05 * np.array([s, c, 1])
        image, alpha = photograph(camera, object_to_world)
        split = "test" if k % 4 == 1 else "train"
        frames.append(Frame(f"images/{k:03d}.exr", camera, image, alpha, object_to_world, split))
    return Capture(frames)


@pytest.fixture(scope="session")
def ball() -> SimpleNamespace:
    """The ball: ``capture``, ``poses``, ``photograph`` by a pinhole, ``through`` a lens, and the ``rays`` of pixels."""
    functions = {"capture": ball_capture, "poses": ring_poses, "photograph": photograph, "through": through}
    return SimpleNamespace(**functions, rays=rays_of, size=(WIDTH, HEIGHT))
