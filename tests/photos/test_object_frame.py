"""The object's own frame: middle, radius, up, and the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.photos.object_frame import moved_camera, object_frame, up_axis
from stspbr.scene import Camera, look_at

pytest.importorskip("cv2")


def similarity(seed=4, scale=0.37) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = scale * turn, rng.normal(size=3) * 5
    return out


def test_the_ball_comes_to_the_origin_from_any_world(ball):
    moved = similarity()
    cameras = [replace(camera, camera_to_world=moved_camera(camera, moved)) for camera in ball.cameras]
    points = ball.points @ moved[:3, :3].T + moved[:3, 3]
    found = object_frame(cameras, ball.masks, points, ball.on_ball)
    assert found.up_from == "table"
    assert found.up @ (moved[:3, 1] / 0.37) > np.cos(np.radians(0.5))
    assert np.linalg.norm(found.centre - moved[:3, 3]) < 0.25 * 0.37
    assert 1.0 <= found.radius / 0.37 < 1.35  # the hull of few views is larger than the ball, never smaller
    to_frame = found.world_from_original
    assert to_frame @ np.append(found.centre, 1) == pytest.approx([0, 0, 0, 1], abs=1e-9)
    assert to_frame[:3, :3] @ found.up * found.radius == pytest.approx([0, 1, 0], abs=1e-9)
    first = moved_camera(cameras[0], to_frame)
    assert first[0, 3] == pytest.approx(0, abs=1e-9) and first[2, 3] > 0
    assert first[:3, :3] @ first[:3, :3].T == pytest.approx(np.eye(3), abs=1e-9)
    # every ray goes where it went: a point and its camera move alike
    local = np.linalg.inv(first) @ to_frame @ np.append(points[0], 1)
    before = np.linalg.inv(cameras[0].camera_to_world) @ np.append(points[0], 1)
    assert local[:3] * found.radius == pytest.approx(before[:3], abs=1e-9)


def ring(count=12, lift=30.0, roll=0.0) -> list[Camera]:
    cameras = []
    for k in range(count):
        turn, height = 2 * np.pi * k / count, np.radians(lift)
        pose = look_at(4 * np.array([np.cos(height) * np.sin(turn), np.sin(height), np.cos(height) * np.cos(turn)]),
                       np.zeros(3))  # fmt: skip
        c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
        spin = np.eye(4)
        spin[:2, :2] = [[c, -s], [s, c]]
        cameras.append(Camera(pose @ spin, 100, 100, 50, 50, 100, 100))
    return cameras


def test_up_without_a_table():
    nothing = np.zeros((0, 3))
    for cameras, source in ((ring(), "camera ring"), (ring(roll=15), "camera ring"), (ring(4), "cameras")):
        up, found = up_axis(cameras, nothing, np.zeros(3), 1.0)
        assert found == source and up == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_wall_is_no_table():
    rng = np.random.default_rng(0)
    wall = np.stack([*rng.uniform(-2, 2, (2, 200)), np.full(200, -2.0)], axis=1)
    up, source = up_axis(ring(), wall, np.zeros(3), 1.0)
    assert source == "camera ring" and up == pytest.approx([0, 1, 0], abs=1e-6)
    line = np.stack([rng.uniform(-2, 2, 200), np.full(200, -1.0), np.zeros(200)], axis=1)
    assert up_axis(ring(), line, np.zeros(3), 1.0)[1] == "camera ring"


def test_cameras_turned_on_their_side_still_have_a_table():
    rng = np.random.default_rng(0)
    table = np.stack([rng.uniform(-3, 3, 200), np.full(200, -1.0), rng.uniform(-3, 3, 200)], axis=1)
    up, source = up_axis(ring(roll=90)[:6] + ring(roll=-90)[:6], table, np.zeros(3), 1.0)
    assert source == "table" and up == pytest.approx([0, 1, 0], abs=1e-6)


def test_masks_that_contradict_each_other(ball):
    wrong = [np.roll(mask, (45 * (-1) ** k, 60 * (-1) ** (k // 2)), axis=(0, 1)) for k, mask in enumerate(ball.masks)]
    with pytest.raises(StspbrError, match="the masks contradict each other"):
        object_frame(ball.cameras, wrong, ball.points, ball.on_ball)
