"""Polygons as triangles: the area is the polygon's whatever its shape, and nothing lies outside of it."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.scene.polygons import triangulated

U = [(0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)]
KEYHOLE = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]
TWO_HOLES = [(0, 0), (6, 0), (6, 4), (0, 4), (0, 0), (1, 1), (1, 3), (2, 3), (2, 1), (1, 1), (0, 0),
             (3.5, 0.5), (3.5, 3), (5, 3), (5, 0.5), (3.5, 0.5)]  # fmt: skip


def cut(points):
    points = np.asarray(points, np.float64)
    points = np.c_[points, np.zeros(len(points))] if points.shape[1] == 2 else points
    triangles, polygon, crossing = triangulated(points, np.arange(len(points)), np.array([len(points)]))
    assert len(triangles) == len(points) - 2 and not polygon.any()
    p = points[triangles]
    return 0.5 * np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), triangles, crossing


@pytest.mark.parametrize(
    ("points", "area"),
    [
        (U, 7.0),
        ([(0, 0), (4, 0), (1, 1), (0, 4)], 4.0),
        ([(4, 0), (1, 1), (0, 4), (0, 0)], 4.0),
        (KEYHOLE, 12.0),
        (TWO_HOLES, 18.25),
        ([(0, 0), (2, 2), (4, 0), (4, 4), (2, 2), (0, 4)], 8.0),
        ([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)], 4.0),
        ([(0, 0), (1, 0), (2, 0), (3, 0), (1.5, 2)], 3.0),
    ],
    ids=["u", "dart", "dart turned", "hole", "two holes at one corner", "pinched", "midpoints", "straight"],
)
def test_areas(points, area):
    for shift in range(len(points)):  # whichever corner comes first
        vectors, _, crossing = cut(np.roll(points, shift, axis=0))
        assert crossing == 0
        assert np.linalg.norm(vectors, axis=1).sum() == pytest.approx(area) == vectors[:, 2].sum()


def test_no_triangle_of_a_polygon_with_straight_corners_is_flat():
    vectors, _, _ = cut([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)])
    assert np.linalg.norm(vectors, axis=1).min() > 0.1


@pytest.mark.parametrize("offset", [0.0, 5e6])
def test_any_plane_and_far_from_the_origin(offset):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    vectors, _, crossing = cut(np.c_[U, np.zeros(8)] @ turn.T + offset)
    assert crossing == 0 and np.linalg.norm(vectors, axis=1).sum() == pytest.approx(7.0, rel=1e-6)


def test_random_stars():
    random = np.random.default_rng(1)
    for _ in range(40):
        angle = np.sort(random.random(24)) * 2 * np.pi
        if np.diff(angle, append=angle[0] + 2 * np.pi).max() > 3:
            continue
        points = (0.2 + random.random(24))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x, y = points.T
        area = 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
        vectors, _, crossing = cut(points)
        assert crossing == 0 and np.linalg.norm(vectors, axis=1).sum() == pytest.approx(area)


def test_convex_polygons_stay_fans_and_the_order_of_polygons_stays():
    points = np.array([*[(np.cos(a), np.sin(a), 0) for a in np.arange(5) * 0.4 * np.pi], *np.c_[U, np.zeros(8)]])
    vertices, count = np.r_[0:3, 5:13, 0:5, 0:2], np.array([3, 8, 5, 2])
    triangles, polygon, _ = triangulated(points, vertices, count)
    assert polygon.tolist() == [0] + [1] * 6 + [2] * 3
    assert triangles[0].tolist() == [0, 1, 2] and triangles[-3:].tolist() == [[11, 12, 13], [11, 13, 14], [11, 14, 15]]


@pytest.mark.parametrize(
    "points", [[(0, 0), (2, 2), (2, 0), (0, 2)], [(1, 0), (-0.8, 0.6), (0.3, -0.95), (0.3, 0.95), (-0.8, -0.6)]]
)
def test_polygons_that_cross_themselves_are_counted(points):
    assert cut(points)[2] == 1
