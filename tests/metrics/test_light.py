"""Errors of environment maps: scales, rotations, other resolutions, main lights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.light import light_error, main_lights, resample
from stspbr.procedural.jar import demo_light
from stspbr.scene import EnvironmentLight, latlong_to_direction

LOOKS = ("full", "blurred", "irradiance")


@pytest.fixture(scope="module")
def studio():
    return demo_light(72)


def test_the_same_light_has_no_error(studio):
    error = light_error(studio, studio)
    for look in LOOKS:
        np.testing.assert_allclose(error[look]["scale"], 1.0)
        for name, value in error[look].items():
            assert "error" not in name or value < 1e-9, (look, name)
    assert 1 <= len(error["directions"]) <= 5
    for light in error["directions"]:
        assert light["angle"] < 1e-6 and light["energy_ratio"] == pytest.approx(1.0)
    assert error["direction_error"] < 1e-6
    json.dumps(error)


def test_scales_are_reported_and_taken_out(studio):
    tinted = EnvironmentLight(studio.radiance * np.float32([0.5, 0.25, 2.0]))
    error = light_error(studio, tinted)
    for look in LOOKS:
        np.testing.assert_allclose(error[look]["scale"], [2.0, 4.0, 0.5], rtol=1e-5)
        assert error[look]["relative_error"] < 1e-5
        assert error[look]["relative_error_common"] > 0.1 and error[look]["relative_error_raw"] > 0.1
    grey = light_error(studio, EnvironmentLight(3 * studio.radiance))
    for look in LOOKS:
        assert grey[look]["common_scale"] == pytest.approx(1 / 3, rel=1e-5)
        assert max(grey[look][f"{kind}_error_common"] for kind in ("relative", "log")) < 1e-5
        assert grey[look]["relative_error_raw"] == pytest.approx(2.0, rel=1e-5)
        assert grey[look]["log_error"] < 1e-5
    assert grey["directions"][0]["energy_ratio"] == pytest.approx(1.0, rel=1e-5)


def test_known_differences_score_what_they_are():
    truth = EnvironmentLight(np.ones((16, 32, 3), np.float32))
    radiance = truth.radiance.copy()
    radiance[:8] = 4.0  # the upper half of the sphere, two stops up
    error = light_error(truth, EnvironmentLight(radiance))["full"]
    # after the least-squares scale 5/17 the halves are 20/17 and 5/17; after the best offset ±1 stop
    assert error["common_scale"] == pytest.approx(5 / 17)
    assert error["relative_error"] == pytest.approx(np.sqrt((3**2 + 12**2) / 2) / 17)
    assert error["relative_error_raw"] == pytest.approx(np.sqrt(9 / 2))
    assert error["log_error"] == pytest.approx(1.0, abs=2e-3)
    # the caps near the poles are small: one row there is worth less than one at the equator
    radiance = truth.radiance.copy()
    radiance[0] = 2.0
    small = light_error(truth, EnvironmentLight(radiance))["full"]["relative_error_raw"]
    assert small == pytest.approx(np.sqrt(0.5 * (1 - np.cos(np.pi / 16))))


def test_irradiance_forgives_what_a_diffuse_surface_cannot_see():
    rng = np.random.default_rng(0)
    truth = EnvironmentLight(np.ones((64, 128, 3), np.float32))
    noisy = EnvironmentLight(np.float32(truth.radiance * rng.exponential(size=(64, 128, 1))))
    error = light_error(truth, noisy)
    assert error["irradiance"]["relative_error"] < 0.1 * error["full"]["relative_error"]
    assert error["irradiance"]["relative_error"] < error["blurred"]["relative_error"] < error["full"]["relative_error"]


@pytest.mark.parametrize("degrees", [10, 40])
def test_a_turned_map_turns_its_lights(degrees):
    light = _lamps([(0.0, 0.0, 50.0), (120.0, 0.0, 20.0)])
    turned = EnvironmentLight(np.roll(light.radiance, degrees * 144 // 360, axis=1))
    error = light_error(light, turned)
    assert len(error["directions"]) == 2
    for found, azimuth in zip(error["directions"], (0.0, 120.0), strict=True):
        assert found["azimuth"] == pytest.approx(azimuth, abs=0.05)
        assert found["elevation"] == pytest.approx(0.0, abs=0.05)
        assert found["angle"] == pytest.approx(degrees, abs=0.05)
        assert found["energy_ratio"] == pytest.approx(1.0, abs=0.02)
    assert error["direction_error"] == pytest.approx(degrees, abs=0.05)
    assert error["full"]["relative_error"] > 0.3


def test_an_order_that_changes_is_no_turn():
    lamps = [(0.0, 0.0, 40.0), (60.0, 20.0, 30.0), (120.0, -20.0, 20.0), (180.0, 0.0, 12.0), (-120.0, 20.0, 10.0)]
    sixth = (-60.0, -20.0, 9.0)
    estimate = [*lamps, (-60.0, -20.0, 11.0)]  # now stronger than the truth's fifth
    found = light_error(_lamps([*lamps, sixth]), _lamps(estimate))
    assert found["direction_error"] < 0.1
    assert [light["energy_ratio"] for light in found["directions"]] == pytest.approx([1.0] * 5, abs=0.05)


def test_a_half_turned_map():
    light = _lamps([(30.0, 25.0, 50.0)])
    turned = EnvironmentLight(np.roll(light.radiance, 72, axis=1))
    (found,) = light_error(light, turned)["directions"]
    assert found["elevation"] == pytest.approx(25.0, abs=0.1)
    assert found["angle"] == pytest.approx(180.0 - 2 * 25.0, abs=0.2)


def test_maps_of_different_sizes(studio):
    coarse = EnvironmentLight(np.float32(resample(studio.radiance, 36, 72)))
    error = light_error(studio, coarse)
    assert error["resolution"] == {"truth": [72, 144], "estimate": [36, 72]}
    np.testing.assert_allclose(error["mean_radiance"]["truth"], error["mean_radiance"]["estimate"], rtol=1e-6)
    assert error["irradiance"]["relative_error"] < 0.01 < error["full"]["relative_error"]
    assert error["directions"][0]["angle"] < 1.0
    fine = EnvironmentLight(np.float32(resample(studio.radiance, 144, 288)))
    assert light_error(studio, fine)["full"]["relative_error"] < 1e-6
    odd = light_error(studio, EnvironmentLight(np.float32(resample(studio.radiance, 50, 93))))
    assert odd["irradiance"]["relative_error"] < 0.01


def test_resampling_keeps_the_energy():
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(7, 12, 2))
    edges = np.cos(np.pi * np.arange(8) / 7)
    weight = (edges[:-1] - edges[1:]) / 2
    for size in ((7, 12), (3, 5), (20, 31)):
        edges = np.cos(np.pi * np.arange(size[0] + 1) / size[0])
        own = (edges[:-1] - edges[1:]) / 2
        np.testing.assert_allclose(own @ resample(image, *size).mean(1), weight @ image.mean(1), rtol=1e-12)
    np.testing.assert_array_equal(resample(image, 7, 12), image)


def test_main_lights_of_a_sky():
    assert main_lights(EnvironmentLight(np.ones((16, 32, 3), np.float32))) == []
    even = light_error(*[EnvironmentLight(np.ones((16, 32, 3), np.float32))] * 2)
    assert even["directions"] == [] and even["direction_error"] is None
    lamps = [(-170.0, 10.0, 40.0), (60.0, 80.0, 30.0), (0.0, -50.0, 20.0), (90.0, 0.0, 10.0), (-90.0, 0.0, 8.0),
             (180.0, -30.0, 6.0), (-45.0, 0.0, 0.5)]  # fmt: skip
    found = main_lights(_lamps(lamps))
    assert len(found) == 5
    for (direction, energy), (azimuth, elevation, strength) in zip(found, lamps, strict=False):
        assert np.degrees(np.arccos(direction @ _direction(azimuth, elevation))) < 0.3
        assert energy == pytest.approx(found[0][1] * strength / 40.0, rel=0.05)
    missing = light_error(_lamps(lamps[:2]), _lamps(lamps[1:2]))["directions"]
    assert [light["angle"] is None for light in missing] in ([False, True], [True, False])


def test_bad_maps_are_refused(studio):
    with pytest.raises(StspbrError, match=r"\[H, W, 3\]"):
        light_error(studio, EnvironmentLight(np.ones((4, 8))))
    with pytest.raises(StspbrError, match="estimated light has pixels"):
        light_error(studio, EnvironmentLight(-studio.radiance))
    with pytest.raises(StspbrError, match="black"):
        light_error(EnvironmentLight(0 * studio.radiance), studio)
    dark = light_error(studio, EnvironmentLight(0 * studio.radiance))
    assert dark["full"]["relative_error"] == pytest.approx(1.0) and dark["directions"][0]["angle"] is None
    json.dumps(dark)


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    return latlong_to_direction(np.array([azimuth / 360.0 + 0.5, 0.5 - elevation / 180.0]))


def _lamps(lamps) -> EnvironmentLight:
    """Round lamps of 6° radius on a dim sky, 72 × 144; each ``(azimuth, elevation, radiance)`` in degrees."""
    sub = 4
    v, u = (np.arange(72 * sub) + 0.5) / (72 * sub), (np.arange(144 * sub) + 0.5) / (144 * sub)
    d = latlong_to_direction(np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1))
    sky = np.full((72 * sub, 144 * sub, 3), 0.1)
    for azimuth, elevation, radiance in lamps:
        sky[d @ _direction(azimuth, elevation) > np.cos(np.radians(6.0))] = radiance
    return EnvironmentLight(np.float32(resample(sky, 72, 144)))
