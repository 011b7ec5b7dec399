"""Every fault of a capture is found and said with the frame's name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stspbr.datasets.validation import check_capture, estimate_object_sphere
from stspbr.errors import StspbrError
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight

SIZE = 32
CENTRE, RADIUS = np.array([0.2, -0.1, 0.3]), 0.6


def sphere_frame(name, camera, object_to_world=None, split="train", value=0.5, centre=CENTRE):
    """A frame of a ball about ``centre`` in object space, seen as its outline in this camera."""
    pose = np.eye(4) if object_to_world is None else object_to_world
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    ray = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], axis=-1)
    ray = (ray / np.linalg.norm(ray, axis=-1, keepdims=True)) @ camera.camera_to_world[:3, :3].T
    to_centre = (pose @ np.append(centre, 1.0))[:3] - camera.position
    along = ray @ to_centre
    inside = (to_centre @ to_centre - along**2 < RADIUS**2) & (along > 0)
    alpha = inside[..., None].astype(np.float32)
    image = (value + 0.001 * np.arange(SIZE * SIZE * 3).reshape(SIZE, SIZE, 3) / SIZE) * alpha
    return Frame(name, camera, image.astype(np.float32), alpha, pose, split)


def cameras(count):
    for k in range(count):
        angle, height = 2.4 * k, math.sin(1.7 * k)
        position = CENTRE + 4 * np.array([math.sin(angle), height, math.cos(angle)]) / math.hypot(1, height)
        yield Camera(look_at(position, CENTRE * 0.3), 40.0, 40.0, 16.0, 16.0, SIZE, SIZE)


def good(count=16):
    frames = [sphere_frame(f"f{k:02d}", camera, value=0.3 + 0.01 * k) for k, camera in enumerate(cameras(count))]
    for frame in frames[::5]:
        frame.split = "test"
    return frames


def with_camera(frame, **changes):
    values = {name: getattr(frame.camera, name) for name in Camera.__dataclass_fields__} | changes
    frame.camera = Camera(**values)


def matrix(frame, edit):
    m = frame.camera.camera_to_world.copy()
    edit(m)
    with_camera(frame, camera_to_world=m)


def test_a_good_capture_passes():
    assert check_capture(Capture(good(), EnvironmentLight(np.ones((2, 4, 3), np.float32)))) == []


def test_the_sphere_is_found_where_it_is():
    centre, radius = estimate_object_sphere(good())
    assert np.linalg.norm(centre - CENTRE) < 0.05 and radius == pytest.approx(RADIUS, abs=0.08)


def test_the_sphere_of_a_turntable_is_found_in_object_space():
    camera = next(cameras(1))
    frames = []
    for k in range(8):
        c, s = math.cos(0.7 * k), math.sin(0.7 * k)
        pose = np.array([[c, 0, s, 0.1], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
        frames.append(sphere_frame(f"f{k}", camera, pose, value=0.3 + 0.02 * k))
    centre, _ = estimate_object_sphere(frames)
    assert np.linalg.norm(centre - CENTRE) < 0.1


def test_one_wrong_frame_in_eight_does_not_move_the_sphere():
    frames = good(16)
    for frame in frames[:2]:
        frame.alpha = np.roll(frame.alpha, 9, axis=1)
    centre, _ = estimate_object_sphere(frames)
    assert np.linalg.norm(centre - CENTRE) < 0.1


FAULTS = [
    (lambda f: with_camera(f, width=SIZE * 2), "image is 32x32 but its camera 64x32"),
    (lambda f: with_camera(f, fx=0.0), "focal length"),
    (lambda f: with_camera(f, fy=float("nan")), "focal length"),
    (lambda f: with_camera(f, cx=1e4), "principal point"),
    (lambda f: setattr(f, "alpha", f.alpha[:-1]), "mask has shape"),
    (lambda f: setattr(f, "image", f.image[..., :1]), "image has shape"),
    (lambda f: f.image.__setitem__((3, 4, 1), np.nan), "1 pixels are NaN or infinite"),
    (lambda f: f.image.__setitem__((3, slice(0, 4), 1), np.inf), "4 pixels are NaN or infinite"),
    (lambda f: f.image.__setitem__((3, 4, 1), -0.1), "1 pixels are negative"),
    (lambda f: f.alpha.__setitem__((3, 4), np.nan), "mask has values outside"),
    (lambda f: f.alpha.__setitem__((3, 4), 2.0), "mask has values outside"),
    (lambda f: f.alpha.fill(0.0), "mask is empty"),
    (lambda f: f.alpha.fill(1.0), "has no mask"),
    (lambda f: matrix(f, lambda m: m.__setitem__((slice(0, 3), slice(0, 3)), 2 * m[:3, :3])), r"not rigid \(scale 2\)"),
    (lambda f: matrix(f, lambda m: m.__setitem__((0, 0), m[0, 0] + 0.1)), "camera matrix is not rigid"),
    (lambda f: matrix(f, lambda m: m.__setitem__((slice(0, 3), 0), -m[:3, 0])), "mirrors the world"),
    (lambda f: matrix(f, lambda m: m.__setitem__((3, 0), 1.0)), "must be a 4x4 pose"),
    (lambda f: matrix(f, lambda m: m.__setitem__((0, 3), np.nan)), "must be a 4x4 pose"),
    (lambda f: setattr(f, "object_to_world", np.diag([2.0, 2, 2, 1])), "object_to_world is not rigid"),
    (lambda f: setattr(f, "split", "val"), "its split is 'val'"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_faults_of_one_frame_name_it(spoil, message):
    frames = good()
    spoil(frames[7])
    with pytest.raises(StspbrError, match=f"^frame f07: .*{message}") as caught:
        check_capture(Capture(frames))
    assert "\n" not in str(caught.value)


def test_cameras_that_do_not_see_the_object():
    for edit in (
        lambda m: m.__setitem__((slice(0, 3), slice(0, 3)), m[:3, :3] @ np.diag([-1.0, 1, -1])),  # looks away
        lambda m: m.__setitem__((slice(0, 3), 3), m[:3, 3] + 6 * m[:3, 0]),  # stands aside
    ):
        frames = good()
        matrix(frames[7], edit)
        with pytest.raises(StspbrError, match="^frame f07: its camera does not see the object"):
            check_capture(Capture(frames))


def test_opencv_axes_are_recognised():
    frames = good()
    for frame in frames:
        matrix(frame, lambda m: m.__setitem__((slice(0, 3), slice(1, 3)), -m[:3, 1:3]))
    with pytest.raises(StspbrError, match="15 more look away.*OpenCV"):
        check_capture(Capture(frames))


def test_duplicates():
    frames = good()
    frames[7].name = "f03"
    with pytest.raises(StspbrError, match="^frame f03: the capture has two frames"):
        check_capture(Capture(frames))
    frames = good()
    frames[7].image, frames[7].alpha = frames[3].image.copy(), frames[3].alpha.copy()
    with pytest.raises(StspbrError, match="^frame f07: the same image as f03"):
        check_capture(Capture(frames))
    frames = good()
    frames[7].camera = frames[3].camera
    with pytest.raises(StspbrError, match="^frame f07: the same camera and object pose as f03"):
        check_capture(Capture(frames))
    turn = np.diag([-1.0, 1, -1, 1])  # the same camera, but the object has turned: two different views
    frames[7] = sphere_frame("f07", frames[3].camera, turn, centre=CENTRE * 0)
    frames[3] = sphere_frame("f03", frames[3].camera, centre=CENTRE * 0)
    frames[7].image *= 0.5
    assert check_capture(Capture(frames)) == []


def test_captures_with_nothing_to_learn_from():
    with pytest.raises(StspbrError, match="no frames"):
        check_capture(Capture([]))
    frames = good()
    for frame in frames:
        frame.split = "test"
    with pytest.raises(StspbrError, match="no training frames"):
        check_capture(Capture(frames))
    for bad in (np.nan, -1.0):
        with pytest.raises(StspbrError, match="known light"):
            check_capture(Capture(good(), EnvironmentLight(np.full((2, 4, 3), bad, np.float32))))


def test_warnings():
    frames = good(5)
    for frame in frames:
        frame.split = "train"
    assert [w.split(":")[0] for w in check_capture(Capture(frames))] == ["only 5 training frames", "no held-out frames"]
    assert len(check_capture(Capture(frames), min_train=5)) == 1
    frames = good()
    frames[4].image[0, 0] = 0.5
    (warning,) = check_capture(Capture(frames))
    assert warning.startswith("frame f04: there is colour where the mask is 0")
    frames = good()
    frames[4].saturation = 0.3
    (warning,) = check_capture(Capture(frames))
    assert warning.startswith("frame f04: more than 10% of the object is clipped")
    frames = good()
    frames[4].alpha = np.roll(frames[4].alpha, 11, axis=0)
    frames[4].image = np.roll(frames[4].image, 11, axis=0)
    (warning,) = check_capture(Capture(frames))
    assert warning.startswith("frame f04: its mask is not where its pose puts the object")


def test_a_single_frame_or_parallel_rays_say_nothing_about_the_object():
    assert estimate_object_sphere(good(1)) is None
    frames = [
        sphere_frame(
            str(k),
            Camera(look_at(np.array([0, 0, 3.0 + k]), np.zeros(3)), 40, 40, 16, 16, SIZE, SIZE),
            centre=np.zeros(3),
        )  # fmt: skip
        for k in range(3)
    ]
    assert estimate_object_sphere(frames) is None
