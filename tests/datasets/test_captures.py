"""Every data set out and in again: each pixel's ray stays, and so does what it shows."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stspbr.datasets.captures import EXPORT_KINDS, read_capture, write_dataset
from stspbr.datasets.mask_files import find_masks
from stspbr.errors import StspbrError
from stspbr.scene import Normalization
from stspbr.scene.capture import Capture
from stspbr.scene.light import EnvironmentLight, direction_to_latlong, latlong_to_direction, turned_light

UP = {"llff": "+y", "colmap": "+y", "nerf": "auto", "nerfstudio": "auto"}
MOVED = 1e-4 * 3.0  # relative to the cameras' distance, the size of this scene


def again(capture, kind, folder, **options):
    if kind == "colmap":
        pytest.importorskip("pycolmap")
    write_dataset(folder, capture, kind, "exr32", **options)
    return read_capture(folder, kind=kind, up=UP[kind])


def check_rays(ball, first: Capture, second: Capture) -> None:
    """Corners and random pixels of each frame: the same line in the object's space, the same colour."""
    random = np.random.default_rng(0)
    by_number = {re.search(r"\d{3}", frame.name)[0]: frame for frame in second.frames}
    assert len(by_number) == len(first.frames)
    for frame in first.frames:
        other = by_number[re.search(r"\d{3}", frame.name)[0]]
        a, b = frame.camera, other.camera
        assert frame.split == other.split
        corners = np.array(list(itertools.product((0.0, a.width), (0.0, a.height))))
        places = np.concatenate([corners, random.uniform(0, 1, (20, 2)) * (a.width, a.height)])
        # The same place of the photograph, by the shape that it has now: padding is known from the principal points.
        scale = np.array([b.fx / a.fx, b.fy / a.fy])
        moved = (places - (a.cx, a.cy)) * scale + (b.cx, b.cy)
        to_object = [np.linalg.inv(f.object_to_world) for f in (frame, other)]
        origins = [(m @ np.append(c.position, 1))[:3] for m, c in zip(to_object, (a, b), strict=True)]
        assert np.abs(origins[0] - origins[1]).max() < MOVED
        rays = [ball.rays(c, p) @ m[:3, :3].T for c, p, m in zip((a, b), (places, moved), to_object, strict=True)]
        assert np.abs(rays[0] - rays[1]).max() < 1e-4
        # What the new camera says that it sees is what the new image shows, whatever its principal point.
        image, alpha = ball.photograph(b, other.object_to_world)
        assert np.abs(other.alpha - alpha).mean() < 0.01
        both = ((alpha == 1) & (other.alpha > 0.999))[..., 0]
        assert both.sum() > 200 and np.abs(other.image - image)[both].mean() < 0.002  # half a pixel is 0.01


@pytest.mark.parametrize(("first", "second"), list(itertools.product(EXPORT_KINDS, EXPORT_KINDS)))
def test_every_pair_keeps_the_rays(tmp_path, ball, first, second):
    capture = ball.capture(cx=23.0, cy=21.0)
    once = again(capture, first, tmp_path / "a")
    check_rays(ball, capture, once)
    check_rays(ball, capture, again(once, second, tmp_path / "b"))


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_moving_objects_are_folded_into_the_cameras(tmp_path, ball, kind):
    warnings = []
    capture = ball.capture(moving=True)
    capture.light = EnvironmentLight(np.ones((4, 8, 3), np.float32))
    read = again(capture, kind, tmp_path, on_warning=warnings.append)
    check_rays(ball, capture, read)
    assert any("the object moves in 12 frames" in w and "known light is left out" in w for w in warnings)
    assert read.light is None and all(np.array_equal(f.object_to_world, np.eye(4)) for f in read.frames)


def test_an_object_that_stands_somewhere_else_is_no_moving_object(tmp_path, ball):
    capture, pose = ball.capture(), np.eye(4)
    pose[:3] = [[0, 0, 1, 0.2], [0, 1, 0, 0.1], [-1, 0, 0, 0.0]]  # a quarter turn about Y, and aside
    for frame in capture.frames:
        frame.object_to_world = pose
        frame.camera = replace(frame.camera, camera_to_world=pose @ frame.camera.camera_to_world)
    capture.light = EnvironmentLight(np.random.default_rng(0).random((8, 16, 3)).astype(np.float32))
    warnings = []
    read = again(capture, "llff", tmp_path, on_warning=warnings.append)
    assert not warnings
    check_rays(ball, capture, read)
    # The light turns back with the world: by a quarter of the map.
    assert read.light.radiance == pytest.approx(np.roll(capture.light.radiance, 4, axis=1), abs=1e-6)
    direction = pose[:3, :3].T @ latlong_to_direction(np.array([0.5 / 16, 0.5 / 8]))
    column, row = np.floor(direction_to_latlong(direction) * (16, 8)).astype(int)
    assert read.light.radiance[row, column] == pytest.approx(capture.light.radiance[0, 0], abs=1e-6)


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_the_known_light_goes_along(tmp_path, ball, kind):
    capture = ball.capture()
    capture.light = EnvironmentLight(np.random.default_rng(0).random((16, 32, 3)).astype(np.float32))
    assert np.array_equal(again(capture, kind, tmp_path).light.radiance, capture.light.radiance)
    # Another up turns the cameras and the light alike: what camera 0 sees behind the object stays.
    up = {"+y": "-z", "auto": "+y"}[UP[kind]]
    first, turned = (read_capture(tmp_path, kind=kind, up=u) for u in (UP[kind], up))
    poses = [c.frames[0].camera.camera_to_world[:3, :3] for c in (first, turned)]
    rotation = poses[1] @ poses[0].T
    assert np.abs(rotation - np.eye(3)).max() > 0.9
    expected = turned_light(first.light, rotation)
    assert turned.light.radiance == pytest.approx(expected.radiance, abs=1e-5)


@pytest.mark.parametrize("kind", ["colmap", "nerfstudio"])
def test_intrinsics_of_each_frame_and_mixed_sizes(tmp_path, ball, kind):
    capture = ball.capture(fx=lambda k: 55.0 + k, fy=lambda k: 50.0 + 2 * k, cx=lambda k: 22.3 + 0.1 * k, cy=19.21,
                           width=lambda k: 44 + k % 3)  # fmt: skip
    read = again(capture, kind, tmp_path)
    check_rays(ball, capture, read)
    assert {frame.camera.width for frame in read.frames} == {44, 45, 46}


@pytest.mark.parametrize("kind", ["llff", "nerf"])
def test_a_principal_point_is_recentred_by_padding(tmp_path, ball, kind):
    warnings = []
    capture = ball.capture(cx=lambda k: 20.5 + k % 2, cy=23.0, width=lambda k: 44 + k % 3)
    read = again(capture, kind, tmp_path, on_warning=warnings.append)
    check_rays(ball, capture, read)
    assert not any("resampled" in warning for warning in warnings)
    for new in read.frames:
        assert (new.camera.cx, new.camera.cy) == (new.camera.width / 2, new.camera.height / 2)
    sums = {frame.name[-7:-4]: frame.image.sum(dtype=np.float64) for frame in read.frames}
    for old in capture.frames:
        assert sums[old.name[-7:-4]] == pytest.approx(old.image.sum(dtype=np.float64))  # no pixel was touched


@pytest.mark.parametrize("kind", ["llff", "nerf"])
def test_what_padding_cannot_do_is_resampled_and_said(tmp_path, ball, kind):
    warnings = []
    capture = ball.capture(cx=22.3, cy=21.4, fx=60.0, fy=60.9)
    read = again(capture, kind, tmp_path, on_warning=warnings.append)
    check_rays(ball, capture, read)
    assert any(w.startswith("12 (images/000.exr, ") and "resampled" in w for w in warnings)


def test_what_a_format_cannot_hold_is_refused_by_name(tmp_path, ball):
    for kind in ("llff", "nerf"):
        with pytest.raises(StspbrError, match=rf"frame images/000\.exr: fx is 60 and fy 70, but {kind} holds square"):
            write_dataset(tmp_path, ball.capture(fy=70.0), kind)
    zoomed = ball.capture(fx=lambda k: 55.0 + k, fy=lambda k: 55.0 + k)
    with pytest.raises(StspbrError, match=r"reach from 55 \(frame images/000\.exr\) to 66 .*but nerf holds one"):
        write_dataset(tmp_path, zoomed, "nerf")
    warnings = []
    write_dataset(tmp_path / "llff", zoomed, "llff", "exr32", warnings.append)
    check_rays(ball, zoomed, read_capture(tmp_path / "llff", up="+y"))
    assert any("focal lengths reach from 55 to 66" in warning for warning in warnings)
    with pytest.raises(StspbrError, match="kind 'orb' are not written"):
        write_dataset(tmp_path, zoomed, "orb")
    with pytest.raises(StspbrError, match="image format 'jpg'"):
        write_dataset(tmp_path, zoomed, "colmap", "jpg")


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_png_is_what_others_read(tmp_path, ball, kind):
    from PIL import Image

    if kind == "colmap":
        pytest.importorskip("pycolmap")
    capture = ball.capture()
    capture.frames[2].image[20, 24] = 3.0
    warnings = []
    write_dataset(tmp_path, capture, kind, on_warning=warnings.append)
    assert any(warning.startswith("1 frames have radiance above 1") for warning in warnings)
    files = [path for path in tmp_path.rglob("*.png")]
    assert len(files) == 12 and all(Image.open(path).mode == "RGBA" for path in files)
    read = read_capture(tmp_path, up=UP[kind])  # found without its kind
    assert all(frame.saturation == 1.0 for frame in read.frames)


def test_the_cameras_say_which_way_is_up(tmp_path, ball):
    """COLMAP and LLFF worlds, turned anyhow, are turned back until the cameras stand upright on average."""
    capture = ball.capture()
    turn = np.eye(4)
    c, s = math.cos(2.4), math.sin(2.4)
    turn[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    tilted = [
        replace(f, camera=replace(f.camera, camera_to_world=turn @ f.camera.camera_to_world)) for f in capture.frames
    ]
    write_dataset(tmp_path, Capture(tilted), "llff", "exr32")
    cameras = [frame.camera for frame in read_capture(tmp_path, kind="llff").frames]
    mean = np.mean([camera.camera_to_world[:3, 1] for camera in cameras], axis=0)
    assert mean / np.linalg.norm(mean) == pytest.approx([0, 1, 0], abs=1e-9)
    assert min(camera.position[1] for camera in cameras) > -0.5  # above, as they were
    for up, row in (("-y", 1), ("+z", 2), ("-z", 2)):
        heights = [frame.camera.position[1] for frame in read_capture(tmp_path, kind="llff", up=up).frames]
        sign = -1 if up[0] == "-" else 1
        assert heights == pytest.approx([sign * f.camera.position[row] for f in tilted])
    with pytest.raises(StspbrError, match="up is 'sideways'"):
        read_capture(tmp_path, kind="llff", up="sideways")
    with pytest.raises(StspbrError, match="known_light is for orb only"):
        read_capture(tmp_path, kind="llff", known_light=True)
    with pytest.raises(StspbrError, match="masks is not for orb"):
        read_capture(tmp_path, kind="orb", masks="masks")
    with pytest.raises(StspbrError, match="kind 'film' are not supported"):
        read_capture(tmp_path, kind="film")


def test_clip_planes_follow_the_scene(tmp_path, ball):
    scaled = Normalization(np.zeros(3), 1 / 400.0).capture(ball.capture())
    write_dataset(tmp_path, scaled, "llff", "exr32")
    for frame in read_capture(tmp_path).frames:
        assert frame.camera.near == pytest.approx(12, rel=0.1) and frame.camera.far == pytest.approx(120000, rel=0.1)


def test_masks_may_lack_the_folders_of_their_images(tmp_path):
    names = ["images/a.jpg", "images/b.jpg"]
    for place in ("a.png", "images/b.jpg.png", "b.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    found = find_masks(tmp_path, names)  # the full name comes first
    assert found == {"images/a.jpg": tmp_path / "a.png", "images/b.jpg": tmp_path / "images/b.jpg.png"}
    assert find_masks(tmp_path, ["left/a.jpg", "right/a.jpg"]) == {}  # whose would it be?


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("IMG_1.JPG", "IMG_1.PNG"), ("IMG_1.JPG", "IMG_1.JPG.png"), ("IMG_1.JPG", "img_1.jpg.PNG"),
        ("IMG_1.jpg", "IMG_1_mask.png"), ("IMG_1.jpg", "IMG_1_mask.gif"), ("IMG_1.jpg", "IMG_1.jpg_Mask.PNG"),
        ("a/IMG_1.jpg", "mask_IMG_1.png"), ("a/IMG_1.jpg", "A/img_1-mask.tif"), ("frame.0001.exr", "frame.0001.png"),
        ("caf\u00e9.jpg", "cafe\u0301.png"),
    ],
)  # fmt: skip
def test_masks_are_found_however_they_are_named(tmp_path, image, mask):
    for name in (mask, f"{Path(mask).parent}/._{Path(mask).name}", "Thumbs.db", "IMG_12.png", "IMG_1_mask.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_masks(tmp_path, [image, "IMG_2.jpg"]) == {image: tmp_path / mask}


def test_a_mask_of_the_very_name_comes_before_one_in_another_case(tmp_path):
    for name in ("a.png", "A.png"):
        (tmp_path / name).touch()
    assert find_masks(tmp_path, ["a.jpg", "A.jpg"]) == {"a.jpg": tmp_path / "a.png", "A.jpg": tmp_path / "A.png"}


@pytest.mark.parametrize("kind", ["colmap", "nerfstudio"])
def test_images_are_found_whatever_the_case_of_their_names(tmp_path, ball, kind):
    write_dataset(tmp_path, ball.capture(), kind, "png")
    expected = read_capture(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_name(path.name.upper()))
    for a, b in zip(expected.frames, read_capture(tmp_path).frames, strict=True):
        assert np.array_equal(a.image, b.image) and b.name.lower() == a.name.lower()
