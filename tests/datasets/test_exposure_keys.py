"""Exposure and white balance, there and back through transforms.json."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.datasets.exposure_keys import exposure_keys, read_exposure
from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.scene import Camera, Capture, Frame, look_at


def test_the_keys_of_a_camera_are_one_number():
    """One stop more of any of the three doubles the exposure; the aperture counts squared."""
    base = read_exposure("a", {"exposure_time": 0.01, "iso": 100, "f_number": 4})["exposure"]
    for change in ({"exposure_time": 0.02}, {"iso": 200}, {"f_number": 4 / 2**0.5}):
        keys = {"exposure_time": 0.01, "iso": 100, "f_number": 4, **change}
        assert read_exposure("a", keys)["exposure"] == pytest.approx(2 * base)
    none = {"white_balance": None, "divided_by": None}
    assert read_exposure("a", {"exposure": 3, "iso": 100}) == {"exposure": 3.0, **none}
    assert read_exposure("a", {}) == {"exposure": None, **none}


def test_what_is_not_divided_out_is_written_and_read_again(tmp_path):
    frames = []
    for k in range(12):
        angle = np.pi * k / 6
        camera = Camera(look_at((3 * np.sin(angle), 0.5, 3 * np.cos(angle)), (0, 0, 0)), 20.0, 20.0, 8.0, 6.0, 16, 12)
        alpha = np.zeros((12, 16, 1), np.float32)
        alpha[3:9, 5:11] = 1
        frames.append(Frame(f"images/{k:02d}.exr", camera, alpha * np.float32([0.1, 0.2, 0.01 * k]), alpha))
    frames = [replace(f, exposure=0.5 + k, white_balance=(2.0, 1.0, 1.5)) for k, f in enumerate(frames)]
    write_transforms(tmp_path, Capture(frames), "exr32")
    for before, after in zip(frames, read_transforms(tmp_path).frames, strict=True):
        assert (after.exposure, after.white_balance) == (before.exposure, before.white_balance)
    assert exposure_keys(replace(frames[0], exposure=None, white_balance=None)) == {}
