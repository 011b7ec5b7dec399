"""Path-traced photo sets: each fault that they are given has the size that was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from phone_camera import IDEAL
from scipy.ndimage import distance_transform_edt

from photo_set import PhotoSetOptions, displaced_mask, make_photo_set, moved_pose, ring_cameras, write_jpeg
from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError
from stspbr.formats.exif import read_exif
from stspbr.formats.images import read_image, read_pixels
from stspbr.procedural.jar import demo_asset, demo_light


def test_masks_are_off_by_two_pixels():
    rows, columns = np.mgrid[:300, :300]
    mask = np.hypot(rows - 150, columns - 150) < 90
    wrong = displaced_mask(mask.astype(float), 2.0, np.random.default_rng(0))
    inside = np.where(mask, distance_transform_edt(mask), -distance_transform_edt(~mask))
    outline = wrong & ~(np.roll(wrong, 1, 0) & np.roll(wrong, -1, 0) & np.roll(wrong, 1, 1) & np.roll(wrong, -1, 1))
    assert 1.2 < inside[outline].std() < 3.0 and abs(inside[outline].mean()) < 1.5
    assert np.array_equal(displaced_mask(mask.astype(float), 0.0, np.random.default_rng(0)), mask)


def test_exif_says_what_was_done(tmp_path):
    options = PhotoSetOptions(views=3, size=(300, 200))
    camera = ring_cameras(options, np.zeros(3), 1.0, np.random.default_rng(0))[0]
    image = np.random.default_rng(0).random((25, 38, 3)).repeat(8, 0).repeat(8, 1)[:200, :300]
    write_jpeg(tmp_path / "a.jpg", linear_to_srgb(image), camera, 0.013, options)
    exif = read_exif(tmp_path / "a.jpg")
    assert exif.exposure == pytest.approx(0.013 * 100 / 64) and exif.focal == pytest.approx(camera.fx, rel=0.02)
    assert np.abs(read_image(tmp_path / "a.jpg")[0] - image).mean() < 0.05
    write_jpeg(tmp_path / "b.jpg", linear_to_srgb(image), camera, None, options)
    silent = read_exif(tmp_path / "b.jpg")
    assert silent.exposure is None and silent.focal == exif.focal


def test_poses_are_off_by_what_was_asked_for():
    camera = ring_cameras(PhotoSetOptions(views=3), np.zeros(3), 1.0, np.random.default_rng(0))[0]
    moved = moved_pose(camera.camera_to_world, np.zeros(3), (0.5, 0.01), np.random.default_rng(0))
    turn = moved[:3, :3] @ camera.camera_to_world[:3, :3].T
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(0.5, rel=1e-3)
    distance = np.linalg.norm(camera.position)
    assert np.linalg.norm(moved[:3, 3] - camera.position) == pytest.approx(0.01 * distance)


def test_a_quick_set_and_its_truth(tmp_path):
    """With an ideal camera the photos hold the linear views; poses are moved in one file alone; seeded."""
    options = PhotoSetOptions(views=3, size=(48, 36), renderer="raster", phone=IDEAL, quality=100,
                              pose_noise=(1.0, 0.02))  # fmt: skip
    sets = [make_photo_set(tmp_path / name, demo_asset(32, 16, 12), demo_light(32), options) for name in "ab"]
    assert sets[0].read_bytes() == sets[1].read_bytes()
    truth = json.loads(sets[0].read_text())
    given, linear = (json.loads((tmp_path / "a" / name / "transforms.json").read_text()) for name in (".", "linear"))
    for kept, moved, exact in zip(truth["frames"], given["frames"], linear["frames"], strict=True):
        assert kept["transform_matrix"] == exact["transform_matrix"] != moved["transform_matrix"]
        radiance, alpha, _ = read_image(tmp_path / "a" / "linear" / exact["file_path"])
        photo = read_image(tmp_path / "a" / kept["file_path"])[0]
        inside = alpha[..., 0] > 0.5
        wanted = np.clip(radiance[inside] * kept["exposure"] / truth["white"], 0, 1)
        assert np.abs(linear_to_srgb(photo[inside]) - linear_to_srgb(wanted)).mean() < 0.01
    assert truth["response"]["linear"] == pytest.approx(truth["response"]["exposure"], abs=1e-6)
    assert (tmp_path / "a" / "truth" / "asset.glb").is_file() and (tmp_path / "a" / "truth" / "light.exr").is_file()


def test_cameras_walk_about_the_object():
    options = PhotoSetOptions(views=30)
    cameras = ring_cameras(options, np.zeros(3), 2.0, np.random.default_rng(0))
    positions = np.stack([camera.position for camera in cameras])
    assert (positions[:, 1] > 0).all()
    assert len({np.degrees(np.arctan2(*position[[0, 2]])) // 36 for position in positions}) == 10
    with pytest.raises(StspbrError, match="too small"):
        ring_cameras(PhotoSetOptions(views=2), np.zeros(3), 1.0, np.random.default_rng(0))


@pytest.mark.slow
def test_a_small_set(tmp_path):
    pytest.importorskip("mitsuba")
    options = PhotoSetOptions(views=3, size=(64, 48), samples=4)
    truth = make_photo_set(tmp_path, demo_asset(64, 24, 24), demo_light(32), options)
    content = json.loads(truth.read_text())
    assert len(content["frames"]) == 3
    for frame in content["frames"]:
        exif = read_exif(tmp_path / frame["file_path"])
        assert exif.exposure * 64 / 100 * 50 == pytest.approx(frame["exposure"], rel=1e-3)
        mask = read_pixels(tmp_path / frame["mask_path"])[..., 0] > 0.5
        wrong = read_pixels(tmp_path / "masks" / f"{(tmp_path / frame['file_path']).stem}.png")[..., 0] > 0.5
        assert 0.05 < mask.mean() < 0.6 and 0.5 < (mask & wrong).sum() / (mask | wrong).sum() < 1.0
