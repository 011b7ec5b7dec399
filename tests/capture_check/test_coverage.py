"""Which directions a set of cameras covers."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.capture_check.coverage import CELLS, direction_words, measure_coverage
from stspbr.scene.directions import sphere_directions


def test_the_cells_are_spread_evenly():
    cells = sphere_directions(CELLS)
    assert np.linalg.norm(cells, axis=1) == pytest.approx(1.0) and np.abs(cells.mean(axis=0)).max() < 2e-3
    # any cap holds its share of them: (1 − cos 30°)/2
    for direction in np.random.default_rng(0).normal(size=(20, 3)):
        share = (cells @ (direction / np.linalg.norm(direction)) > np.cos(np.radians(30))).mean()
        assert share == pytest.approx(0.067, abs=0.01)


def test_one_camera():
    coverage = measure_coverage(np.array([[0.0, 0.0, 1.0]]))
    assert coverage.unseen == pytest.approx(0.75, abs=0.01) and coverage.thin == 1.0  # a cap of 60° is a quarter
    assert coverage.gaps[0].angle > 175 and direction_words(coverage.gaps[0].direction) == "back"
    # on the map the front is at both edges, the back in the middle
    assert coverage.counts_map[32, 0] == coverage.counts_map[32, -1] == 1 and coverage.counts_map[32, 64] == 0
    assert coverage.counts.shape == (CELLS,)


def test_cameras_all_around_leave_no_gap_and_a_missing_cap_is_found():
    around = sphere_directions(60)
    full = measure_coverage(around)
    assert full.unseen == 0 and full.gaps[0].angle < 25
    hole = np.array([-1.0, 0.2, 1.0]) / np.linalg.norm([-1.0, 0.2, 1.0])
    coverage = measure_coverage(around[around @ hole < np.cos(np.radians(50))])
    assert 45 < coverage.gaps[0].angle < 60
    assert np.degrees(np.arccos(coverage.gaps[0].direction @ hole)) < 15
    assert coverage.gaps[1].angle < 30
    angles = [gap.angle for gap in coverage.gaps]
    assert angles == sorted(angles, reverse=True)


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ((0, 0, 1), "front"),
        ((1, 0, 0), "right"),
        ((-1, 0, 0), "left"),
        ((0, 0, -2), "back"),
        ((-1, 0, 1), "front-left"),
        ((1, 0, -1), "back-right"),
        ((1, 0.8, 0), "right from above"),
        ((-1, -0.8, -1), "back-left from below"),
        ((0.1, 1, 0), "top"),
        ((0, -1, 0.2), "underside"),
    ],
)
def test_words(direction, words):
    assert direction_words(np.array(direction)) == words
