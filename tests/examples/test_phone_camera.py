"""The phone's camera: each thing that it does has the size that was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from phone_camera import (
    IDEAL,
    PhoneCamera,
    balances,
    developed,
    distorted,
    exposures,
    falloff,
    photographed,
    response,
    tone_curve,
)

from stspbr.colour import linear_to_srgb
from stspbr.scene import Camera


def camera(width: int = 60, height: int = 40) -> Camera:
    return Camera(np.eye(4), 50.0, 50.0, width / 2, height / 2, width, height)


def test_noise_and_blur():
    grey = np.full((200, 200, 3), 0.4)
    noisy = photographed(grey, replace(IDEAL, photons=1000.0, read_noise=0.01), np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.4, abs=1e-3)
    assert noisy.std() == pytest.approx(np.sqrt(0.4 / 1000 + 1e-4), rel=0.03)
    edge = np.repeat((np.arange(40) >= 20)[None, :, None] * np.ones((1, 1, 3)), 9, axis=0)
    soft = photographed(edge, replace(IDEAL, blur=1.0), np.random.default_rng(0))
    assert soft[4, 20, 0] == pytest.approx(0.69, abs=0.01)
    assert photographed(9 * grey, PhoneCamera(), np.random.default_rng(0)).max() == 1


def test_the_tone_curve_is_monotone_and_sigmoidal():
    exposure = np.linspace(0, 1.5, 301)
    encoded = tone_curve(exposure, 4.0)
    assert (np.diff(encoded[:201]) > 0).all() and encoded[0] == 0 and (encoded[200:] == 1).all()
    slope = np.gradient(encoded[1:200], linear_to_srgb(exposure[1:200]))
    assert slope.argmax() not in (0, len(slope) - 1) and slope[0] < 1 and slope[-1] < 1 < slope.max()
    assert np.abs(response(exposure, 0.0) - np.clip(exposure, 0, 1)).max() < 1e-6


def test_auto_exposure_makes_up_for_half_of_the_brightness():
    brightness = np.array([0.1, 0.2, 0.4])
    found = exposures(brightness, replace(IDEAL, auto_exposure=0.5), 2.0, np.random.default_rng(0))
    np.testing.assert_allclose(found * brightness / (found[1] * 0.2), np.sqrt(brightness / 0.2))
    assert found[1] == pytest.approx(0.5)


def test_white_balance_drifts_by_what_was_asked_for():
    gains = np.log(balances(50, replace(IDEAL, balance_drift=0.1), np.random.default_rng(0)))
    assert (gains[:, 1] == 0).all()
    np.testing.assert_allclose(gains[:, [0, 2]].std(axis=0), 0.1, rtol=1e-6)
    assert np.abs(np.diff(gains[:, 0])).max() < np.ptp(gains[:, 0]) / 2  # slowly


def test_vignetting_is_darkest_in_the_corner():
    share = falloff(camera(), 0.3)[..., 0]
    assert share.max() > 0.999 and share.min() == share[0, 0] == pytest.approx(0.7, abs=0.02)


def test_distortion_sends_a_ray_where_the_model_says():
    own, k1 = camera(), -0.2
    pattern = np.meshgrid(np.arange(60.0), np.arange(40.0))[0][..., None]  # each pixel holds its column
    bent = distorted(pattern, own, k1)
    column, row = 42, 20
    x, y = (bent[row, column, 0] + 0.5 - own.cx) / own.fx, 0.5 / own.fy
    assert x * (1 + k1 * (x * x + y * y)) == pytest.approx((column + 0.5 - own.cx) / own.fx, abs=1e-3)


def test_sharpening_overshoots_at_edges_only():
    sensor = np.repeat((0.2 + 0.3 * (np.arange(40) >= 20))[None, :, None] * np.ones((1, 1, 3)), 9, axis=0)
    plain, sharp = (developed(sensor, replace(IDEAL, sharpening=amount)) for amount in (0.0, 0.5))
    assert sharp[4, 20, 0] > plain[4, 20, 0] + 0.01 and sharp[4, 19, 0] < plain[4, 19, 0] - 0.01
    np.testing.assert_allclose(sharp[4, :10], plain[4, :10], atol=1e-6)
