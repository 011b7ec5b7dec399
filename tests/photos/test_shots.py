"""Undistorted photos that are made anew: boxes, masks and validity move with the lens and the scale."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from stspbr.datasets.lens import lens, pinhole_image, undistorted, undistortion_map
from stspbr.errors import StspbrError
from stspbr.photos.shots import PackedMask, Resampling

pytest.importorskip("pycolmap")
pytest.importorskip("cv2")

BARREL = ("SIMPLE_RADIAL", (200.0, 100.0, 75.0, -0.2), 200, 150, "x")


def resampling(scale: int) -> Resampling:
    barrel = lens(*BARREL)
    return Resampling(barrel, pinhole_image(barrel), scale, functools.lru_cache(1)(undistortion_map))


def test_a_box_moves_with_the_lens_and_the_scale():
    x, y, width, height = resampling(1).moved_box((60, 40, 80, 70))
    # barrel distortion drew the corners in: undone, the box is larger, and about the same centre
    assert 80 < width < 90 and 70 < height < 80 and abs(x + width / 2 - 100) < 1.5 and abs(y + height / 2 - 75) < 1.5
    assert np.allclose(resampling(2).moved_box((60, 40, 80, 70)), np.array([x, y, width, height]) / 2)


def test_images_are_undistorted_and_averaged_over_squares():
    image = np.random.default_rng(0).random((150, 200, 3), dtype=np.float32)
    barrel = lens(*BARREL)
    full = undistorted(image, undistortion_map(barrel, pinhole_image(barrel)))
    assert np.array_equal(resampling(1).resampled(image), full)
    third = resampling(3)
    squares = full[: third.height * 3, : third.width * 3].reshape(third.height, 3, third.width, 3, 3)
    assert np.allclose(third.resampled(image), squares.mean(axis=(1, 3)), atol=1e-6)
    camera = third.camera(SimpleNamespace(camera_to_world=np.eye(4)))
    assert (camera.width, camera.height) == (third.width, third.height) and np.isclose(camera.fx, 200.0 / 3)
    assert third.valid()[third.height // 2, third.width // 2] and third.valid().shape == (third.height, third.width)
    with pytest.raises(StspbrError, match="image_scale=20 leaves"):
        resampling(20)


def test_a_packed_mask_comes_back():
    mask = np.random.default_rng(1).random((37, 53)) > 0.7
    found = PackedMask(mask).unpacked()
    assert found.dtype == bool and np.array_equal(found, mask)
