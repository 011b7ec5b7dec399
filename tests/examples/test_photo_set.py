"""Path-traced photo sets: each fault that they are given has the size that was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from photo_set import PhotoSetOptions, displaced_mask, make_photo_set, photographed, ring_cameras, write_jpeg
from stspbr.errors import StspbrError
from stspbr.formats.exif import read_exif
from stspbr.formats.images import read_image, read_pixels
from stspbr.procedural.jar import demo_asset, demo_light


def test_noise_and_blur():
    options = PhotoSetOptions(photons=1000.0, read_noise=0.01, blur=0.0)
    grey = np.full((200, 200, 3), 0.4)
    noisy = photographed(grey, options, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.4, abs=1e-3)
    assert noisy.std() == pytest.approx(np.sqrt(0.4 / 1000 + 1e-4), rel=0.03)
    edge = np.repeat((np.arange(40) >= 20)[None, :, None] * np.ones((1, 1, 3)), 9, axis=0)
    soft = photographed(edge, PhotoSetOptions(photons=1e12, read_noise=0, blur=1.0), np.random.default_rng(0))
    assert soft[4, 20, 0] == pytest.approx(0.69, abs=0.01)
    assert photographed(9 * grey, options, np.random.default_rng(0)).max() == 1


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
    write_jpeg(tmp_path / "a.jpg", image, camera, 0.013, options)
    exif = read_exif(tmp_path / "a.jpg")
    assert exif.exposure == pytest.approx(0.013 * 100 / 64) and exif.focal == pytest.approx(camera.fx, rel=0.02)
    assert np.abs(read_image(tmp_path / "a.jpg")[0] - image).mean() < 0.05


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
