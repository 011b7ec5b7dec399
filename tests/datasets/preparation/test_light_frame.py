"""A lamp on the camera: the mirror ball says where the light is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stspbr.datasets.preparation.prepare import prepare
from stspbr.optimize.views import ViewSet
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.scene import (
    Asset,
    Camera,
    Capture,
    Corners,
    EnvironmentLight,
    Frame,
    Material,
    Mesh,
    direction_to_latlong,
    look_at,
)
from stspbr.scene.light import latlong_to_direction
from stspbr.settings import PreparationSettings

LAMP = np.array([0.5, 0.6, 0.7]) / np.linalg.norm([0.5, 0.6, 0.7])  # above, to the right of and behind the camera


def lamp_light(turn: np.ndarray) -> np.ndarray:
    """``[64, 128, 3]``: a soft lamp in the direction ``turn @ LAMP`` over a dim sky."""
    v, u = (np.mgrid[0:64, 0:128] + 0.5) / np.array([64.0, 128.0])[:, None, None]
    across = latlong_to_direction(np.stack([u, v], axis=-1)) @ (turn @ LAMP)
    return np.repeat((0.05 + 3.0 * np.exp(12.0 * (across - 1.0)))[..., None], 3, axis=-1).astype(np.float32)


def mirror_ball() -> Asset:
    rows, columns = 24, 48
    v, u = np.mgrid[0 : rows + 1, 0 : columns + 1]
    points = latlong_to_direction(np.stack([u / columns, v / rows], axis=-1)).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).reshape(-1)
    right, below = corner + 1, corner + columns + 1
    faces = np.concatenate([np.stack([corner, right, below], 1), np.stack([right, below + 1, below], 1)])
    outward = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    faces = np.where((outward * points[faces].sum(axis=1)).sum(axis=1, keepdims=True) < 0, faces[:, ::-1], faces)
    faces = faces.astype(np.int32)
    constant = [np.full((1, 1, n), value, np.float32) for n, value in ((3, 1.0), (1, 0.25), (1, 1.0))]
    return Asset(Mesh(points, faces, normals=Corners(points, faces)), [Material(*constant)], "ball")


def rendered(frames: list[Frame], lights: list[np.ndarray]) -> list[np.ndarray]:
    """Each frame's view of the ball under its own light, in the frame's world."""
    device = torch.device("cpu")
    renderer = AssetRenderer(mirror_ball(), get_backend("cpu", device), device)
    views = ViewSet(frames, 1, device)
    out = []
    for number, light in enumerate(lights):
        prefiltered = EnvironmentCube.from_latlong(EnvironmentLight(light), 32).prefilter()
        out.append(renderer.render(views.batch([number])[0], prefiltered)["rgb"][0].numpy())
    return out


def photographed() -> tuple[Capture, list[np.ndarray]]:
    """A ball before a moving camera with a lamp on it; what each frame's light is in the ball's own space."""
    size, frames, lights = 48, [], []
    for k in range(4):
        angle = 1.4 * k
        position = 4.0 * np.array([math.sin(angle), 0.5 * (k % 2), math.cos(angle)])
        camera = Camera(look_at(position, (0, 0, 0)), 75.0, 75.0, size / 2, size / 2, size, size)
        blank = np.zeros((size, size, 3), np.float32)
        frames.append(Frame(f"{k}", camera, blank, np.ones((size, size, 1), np.float32)))
        lights.append(lamp_light(camera.camera_to_world[:3, :3]))
    return Capture(frames), lights


def test_a_lamp_on_the_camera_is_one_light_for_all_frames():
    capture, turning = photographed()
    photos = rendered(capture.frames, turning)
    fixed = [lamp_light(np.eye(3))] * len(photos)
    in_camera = prepare(capture, PreparationSettings(light_frame="camera"))
    for photo, again in zip(photos, rendered(in_camera.frames, fixed), strict=True):
        assert np.abs(again - photo).max() < 0.04 * photo.max()
    # in the world of the poses it is not one light: what the option is for
    wrong = [np.abs(a - b).max() / b.max() for a, b in zip(rendered(capture.frames, fixed), photos, strict=True)]
    assert max(wrong) > 0.5
    # and the lamp's direction in the object's frame turns with the camera
    for before, after in zip(capture.frames, in_camera.frames, strict=True):
        there = np.linalg.inv(after.object_to_world)[:3, :3] @ LAMP
        assert there == pytest.approx(before.camera.camera_to_world[:3, :3] @ LAMP, abs=1e-9)


def test_a_light_that_turns_with_the_object():
    """The photographs of a still ball, told as if camera and ball had been carried about together with the lamp."""
    capture, _ = photographed()
    still = lamp_light(np.eye(3))
    photos = rendered(capture.frames, [still] * len(capture.frames))
    frames = []
    for k, frame in enumerate(capture.frames):
        pose = look_at((0.3 * k, 0.1, -0.2), (1.0, 0.4 * k, 0.5 - k))
        camera = Camera(pose @ frame.camera.camera_to_world, 75.0, 75.0, 24.0, 24.0, 48, 48)
        frames.append(Frame(frame.name, camera, frame.image, frame.alpha, pose))
    carried = prepare(Capture(frames), PreparationSettings(light_frame="object"))
    for photo, again in zip(photos, rendered(carried.frames, [still] * len(photos)), strict=True):
        assert np.abs(again - photo).max() < 1e-3 * photo.max()
    wrong = rendered(frames, [still] * len(photos))
    assert max(np.abs(a - b).max() / b.max() for a, b in zip(wrong, photos, strict=True)) > 0.3


def test_directions_are_those_of_our_lat_long_maps():
    row, column = np.unravel_index(lamp_light(np.eye(3))[..., 0].argmax(), (64, 128))
    assert direction_to_latlong(LAMP) == pytest.approx([(column + 0.5) / 128, (row + 0.5) / 64], abs=0.01)
