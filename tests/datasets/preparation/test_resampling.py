"""Area filtering: energy, any ratio, boxes beside the image, and rays that stay."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.datasets.preparation.resampling import area_resampled, resampled
from stspbr.scene import Camera, Frame, look_at


def noise(height, width, channels=3):
    return np.random.default_rng(5).random((height, width, channels), dtype=np.float32)


def brute_force(image, box, size):
    """Every cell's mean from 24×24 points of it would be coarse; this is the exact overlap, pixel by pixel."""
    left, top, width, height = box
    out = np.zeros((size[1], size[0], image.shape[2]))
    for r in range(size[1]):
        for c in range(size[0]):
            x0, x1 = left + width * c / size[0], left + width * (c + 1) / size[0]
            y0, y1 = top + height * r / size[1], top + height * (r + 1) / size[1]
            for y in range(image.shape[0]):
                for x in range(image.shape[1]):
                    overlap = max(0, min(x1, x + 1) - max(x0, x)) * max(0, min(y1, y + 1) - max(y0, y))
                    out[r, c] += overlap / ((x1 - x0) * (y1 - y0)) * image[y, x]
    return out


@pytest.mark.parametrize(
    ("box", "size"),
    [((0, 0, 17, 11), (5, 4)), ((0, 0, 17, 11), (16, 10)), ((-2.5, 3.25, 12.5, 9.5), (6, 3)), ((4, 2, 8, 6), (8, 6))],
)
def test_each_pixel_is_the_mean_over_its_area(box, size):
    image = noise(11, 17)
    assert area_resampled(image, box, size) == pytest.approx(brute_force(image, box, size), abs=2e-6)


@pytest.mark.parametrize("size", [(333, 200), (100, 77), (1, 1), (499, 299)])
def test_energy_is_kept_at_any_ratio(size):
    image = noise(300, 500) ** 8 * 1000  # a few pixels hold most of it
    small = area_resampled(image, (0, 0, 500, 300), size)
    share = 500 * 300 / (size[0] * size[1])
    assert small.sum(axis=(0, 1), dtype=np.float64) * share == pytest.approx(
        image.sum(axis=(0, 1), dtype=np.float64), rel=1e-6
    )


def test_whole_factors_are_block_means_and_black_stays_black():
    image = noise(12, 18)
    image[:, 9:] = 0.0
    image[5, 4] = 60000.0
    small = area_resampled(image, (0, 0, 18, 12), (6, 4))
    assert small == pytest.approx(image.reshape(4, 3, 6, 3, 3).mean(axis=(1, 3)), rel=1e-6)
    assert (small[:, 3:] == 0).all() and (small >= 0).all()


def test_a_window_is_copied_exactly_and_keeps_its_rays():
    camera = Camera(look_at((1.0, 2.0, 3.0), (0, 0, 0)), 40.0, 41.0, 15.3, 9.1, 30, 20)
    frame = Frame("a", camera, noise(20, 30), np.ones((20, 30, 1), np.float32))
    window = resampled(frame, (-4, 3, 40, 30), (40, 30))
    assert (window.image[:17, 4:34] == frame.image[3:]).all() and (window.alpha[17:] == 0).all()
    assert (window.camera.cx, window.camera.cy) == (15.3 + 4, 9.1 - 3)
    assert resampled(frame, (0, 0, 30, 20), (30, 20)) is frame


def test_a_reduced_frame_shows_points_at_reduced_places():
    camera = Camera(look_at((1.0, 2.0, 3.0), (0, 0, 0)), 40.0, 41.0, 15.3, 9.1, 30, 20)
    frame = Frame("a", camera, noise(20, 30), np.ones((20, 30, 1), np.float32))
    small = resampled(frame, (2.5, 1.0, 21.0, 15.5), (7, 5)).camera

    def place(camera, point):
        x, y, z = (camera.world_to_camera @ np.append(point, 1.0))[:3]
        return np.array([camera.cx - camera.fx * x / z, camera.cy + camera.fy * y / z])

    for point in np.random.default_rng(1).uniform(-1, 1, (5, 3)):
        wanted = (place(camera, point) - (2.5, 1.0)) * (7 / 21.0, 5 / 15.5)
        assert place(small, point) == pytest.approx(wanted, abs=1e-9)
