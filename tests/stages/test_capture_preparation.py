"""Exposures that are estimated before frames are prepared: where that cannot be done it is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.scene import Capture, Frame
from stspbr.scene.camera_rig import sphere_cameras
from stspbr.stages.capture_preparation import with_estimated_exposure

SIZE = 40


def balls(count=16):
    """Evenly grey balls about the origin, filling 60 % of the image."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    alpha = (np.hypot(rows - SIZE / 2, columns - SIZE / 2) < 12)[..., None].astype(np.float32)
    cameras = sphere_cameras(count, 3.0, 30.0, SIZE, elevation_degrees=(-70.0, 70.0))
    return [Frame(f"{k}.png", c, np.repeat(0.3 * alpha, 3, axis=-1), alpha) for k, c in enumerate(cameras)]


def test_exposures_of_an_even_ball_are_exact():
    factors = 2.0 ** np.linspace(-1, 1, 16)
    frames = [replace(f, image=f.image * np.float32(x), exposure=9.0) for f, x in zip(balls(), factors, strict=True)]
    said = []
    found = np.array([f.exposure for f in with_estimated_exposure(Capture(frames), said.append).frames])
    assert found / np.median(found) == pytest.approx(factors / np.median(factors), rel=1e-3) and said == []


def test_glitter_is_told():
    rng = np.random.default_rng(1)
    shape = (SIZE, SIZE, 1)
    frames = [replace(f, image=f.image * np.exp2(rng.normal(0, 1, shape)).astype(np.float32)) for f in balls()]
    said = []
    with_estimated_exposure(Capture(frames), said.append)
    assert len(said) == 1 and "too shiny" in said[0]


def test_what_cannot_be_estimated_is_an_error():
    frames = balls()
    frames[5] = replace(frames[5], image=0 * frames[5].image)
    with pytest.raises(StspbrError, match=r"frame 5\.png: shares too little"):
        with_estimated_exposure(Capture(frames))
    with pytest.raises(StspbrError, match="cannot be estimated"):
        with_estimated_exposure(Capture([replace(balls()[0], name=str(k)) for k in range(3)]))
