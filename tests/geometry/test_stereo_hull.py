"""The hull carved by depths, on a ball with a dent that no outline shows."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from stspbr.errors import StspbrError
from stspbr.geometry.stereo_hull import stereo_hull_sdf
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.scene import Camera, Frame
from stspbr.scene.camera import look_at

_RADIUS = 0.6
_DENT, _DENT_RADIUS = np.array([0.0, 0.0, 0.75]), 0.35
_BOX = np.full(3, 0.7)


def _distance(points: np.ndarray) -> np.ndarray:
    ball = np.linalg.norm(points, axis=-1) - _RADIUS
    return np.maximum(ball, _DENT_RADIUS - np.linalg.norm(points - _DENT, axis=-1))


_NOISE = np.random.default_rng(3).uniform(0.1, 0.8, (32, 32, 32))


def _brightness(points: np.ndarray) -> np.ndarray:
    """A solid texture that repeats nowhere."""
    return map_coordinates(_NOISE, ((points + 0.7) * 22.0).T, order=1, mode="nearest")


def _frame(name: str, eye: np.ndarray, plain: bool, gain: float = 1.0) -> Frame:
    size, focal = 96, 150.0
    camera = Camera(look_at(eye, np.zeros(3)), focal, focal, size / 2, size / 2, size, size)
    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    local = np.stack([(column - camera.cx) / focal, -(row - camera.cy) / focal, -np.ones_like(row)], axis=-1)
    rays = local.reshape(-1, 3) @ camera.camera_to_world[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    points = np.repeat(eye[None], len(rays), axis=0)
    for _ in range(80):
        points = points + 0.9 * np.clip(_distance(points), -0.05, 0.5)[:, None] * rays
    hit = np.abs(_distance(points)) < 1e-3
    value = np.where(hit, 0.4 if plain else gain * _brightness(points), 0.0).astype(np.float32)
    image = np.repeat(value.reshape(size, size, 1), 3, axis=2)
    return Frame(name, camera, image, hit.reshape(size, size, 1).astype(np.float32))


def _frames(plain: bool = False) -> list[Frame]:
    near = [(a, b) for a in (-26.0, 0.0, 26.0) for b in (-15.0, 15.0)]
    around = [(a, b) for a in (90.0, 180.0, 270.0) for b in (0.0, 40.0)]
    out = []
    for number, (turn, rise) in enumerate([*near, *around]):
        t, r = np.radians([turn, rise])
        eye = 2.0 * np.array([np.sin(t) * np.cos(r), np.sin(r), np.cos(t) * np.cos(r)])
        out.append(_frame(f"{number}", eye, plain, 1.0 + 0.1 * (number % 3)))
    return out


@pytest.fixture(scope="module")
def textured() -> list[Frame]:
    return _frames()


def _points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.65, 0.65, (20000, 3)).astype(np.float32)


def test_a_dent_is_carved_and_nothing_that_is_there(textured):
    points = _points()
    truth, hull = _distance(points), visual_hull_sdf(points, textured)
    found = stereo_hull_sdf(points, textured, -_BOX, _BOX)
    dent = (truth > 0.03) & (np.linalg.norm(points, axis=1) < _RADIUS - 0.03)
    solid = truth < -0.03
    assert (hull[dent] < 0).all()  # no outline shows it
    assert (found[dent] > 0).mean() > 0.8
    assert (found[solid] < 0).mean() > 0.995
    assert (found >= hull).all()


def test_what_has_no_texture_stays_the_hull():
    points, frames = _points(), _frames(plain=True)
    found = stereo_hull_sdf(points, frames, -_BOX, _BOX)
    np.testing.assert_array_equal(found, visual_hull_sdf(points, frames))


def test_photographs_of_different_things_carve_nothing(textured):
    """Patches that are alike by chance do not count."""
    points, generator = _points(), np.random.default_rng(1)
    others = []
    for frame in textured:
        noise = gaussian_filter(generator.uniform(0.0, 1.0, (96, 96, 1)), (1.5, 1.5, 0))
        noise = 0.4 + (noise - noise.mean()) / noise.std() * 0.1
        others.append(dataclasses.replace(frame, image=(np.repeat(noise, 3, axis=2) * frame.alpha).astype(np.float32)))
    hull = visual_hull_sdf(points, others)
    found = stereo_hull_sdf(points, others, -_BOX, _BOX)
    inside = hull < -0.03
    assert (found[inside] < 0).mean() > 0.99


def test_unknown_pixels_give_no_depth(textured):
    points = _points()
    blind = [dataclasses.replace(frame, known=np.zeros_like(frame.alpha)) for frame in textured[:6]]
    found = stereo_hull_sdf(points, [*blind, *textured[6:]], -_BOX, _BOX)
    hull = visual_hull_sdf(points, [*blind, *textured[6:]])
    truth = _distance(points)
    dent = (truth > 0.03) & (np.linalg.norm(points, axis=1) < _RADIUS - 0.05)
    assert (found[dent] < 0).mean() > 0.9
    assert (found >= hull).all()


def test_one_view_is_its_hull_and_none_an_error(textured):
    points = _points()[:100]
    found = stereo_hull_sdf(points, textured[:1], -_BOX, _BOX)
    np.testing.assert_array_equal(found, visual_hull_sdf(points, textured[:1]))
    with pytest.raises(StspbrError):
        stereo_hull_sdf(points, [], -_BOX, _BOX)
