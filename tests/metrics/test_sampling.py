"""Points on surfaces: spread by area, seen by cameras, closest to others."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.sampling import pixel_footprint, sample_surface, visible_points
from stspbr.scene import Camera, Mesh, look_at


def test_samples_are_uniform_by_area_and_reproducible():
    p = np.float32([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]])
    mesh = Mesh(p, np.int32([[0, 1, 2], [3, 4, 5]]))
    points, face, weights = sample_surface(mesh, 40_000, seed=1)
    assert np.mean(face == 0) == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    np.testing.assert_allclose(points[face == 0].mean(0), [1, 2 / 3, 0], atol=0.02)
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, p[mesh.faces[face]]), points)
    assert np.array_equal(points, sample_surface(mesh, 40_000, seed=1)[0])
    assert not np.array_equal(points, sample_surface(mesh, 40_000, seed=(1, 1))[0])
    with pytest.raises(StspbrError, match="no face with an area"):
        sample_surface(Mesh(p, np.int32([[0, 0, 1]])), 10)


def test_closest_points_against_brute_force():
    from stspbr.metrics.triangle_tree import build_tree

    rng = np.random.default_rng(5)
    p = rng.normal(size=(60, 3))
    faces = np.concatenate([rng.integers(0, 60, (120, 3)), [[3, 3, 7], [5, 5, 5]]]).astype(np.int32)
    points = rng.normal(size=(300, 3)) * 1.5
    face, weights, distance = build_tree(p, faces).closest(points)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1.0)
    found = np.einsum("nk,nkd->nd", weights, p[faces[face]])
    np.testing.assert_allclose(np.linalg.norm(found - points, axis=1), distance, atol=1e-12)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41)), -1).reshape(-1, 2)
    grid = grid[grid.sum(1) <= 1]
    dense = np.concatenate([1 - grid.sum(1, keepdims=True), grid], axis=1) @ p[faces]  # [F, G, 3]
    brute = np.sqrt(((dense.reshape(-1, 3)[None] - points[:, None]) ** 2).sum(-1)).min(1)
    assert (distance <= brute + 1e-12).all()  # nothing on any triangle is closer
    assert np.abs(distance - brute).max() < 0.1


def test_visibility_of_a_sphere_behind_a_wall():
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=3)
    sphere = Mesh(np.float32(ball.vertices), np.int32(ball.faces))
    camera = Camera(look_at((0, 0, 4), (0, 0, 0)), 40.0, 40.0, 32, 32, 64, 64)
    points, _, _ = sample_surface(sphere, 4000)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    seen = visible_points(sphere, points, normals, [camera])
    front = points[:, 2] - 0.25  # the horizon of a unit sphere from a distance of 4; facets blur it
    assert seen[front > 0.08].all() and not seen[front < -0.08].any()
    assert not visible_points(sphere, points, normals, [camera], minimum=2).any()
    # a wall before the left half, and a pose that turns the sphere round
    wall = Mesh(
        np.concatenate([sphere.positions, np.float32([[-3, -3, 1.5], [0, -3, 1.5], [0, 3, 1.5], [-3, 3, 1.5]])]),
        np.concatenate([sphere.faces, len(sphere.positions) + np.int32([[0, 1, 2], [0, 2, 3]])]),
    )
    hidden = visible_points(wall, points, normals, [camera])
    assert not hidden[points[:, 0] < -0.01].any() and hidden[(points[:, 0] > 0.01) & (points[:, 2] > 0.3)].all()
    turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    back = visible_points(sphere, points, normals, [camera], [turn])
    assert back[points[:, 2] < -0.3].all() and not back[points[:, 2] > -0.2].any()
    narrow = camera.resampled((0, 0, 32, 64), (32, 64))
    assert not visible_points(sphere, points, normals, [narrow])[points[:, 0] > 0.01].any()


def test_the_footprint_is_a_pixel_at_the_object():
    mesh = Mesh(np.float32([[0, 0, 0], [2, 0, 0], [0, 2, 0], [9, 9, 9]]), np.int32([[0, 1, 2]]))
    cameras = [Camera(look_at((1, 1, d), (1, 1, 0)), 50.0, 50.0, 32, 32, 64, 64) for d in (4.0, 5.0, 40.0)]
    assert pixel_footprint(mesh, cameras) == pytest.approx(5.0 / 50.0)
    twice = np.diag([2.0, 2.0, 1.0, 1.0]) @ np.diag([1.0, 1.0, 2.0, 1.0])
    twice[:3, 3] = -1, -1, 0  # the object is twice as large in the world, its middle where it was
    assert pixel_footprint(mesh, cameras, [twice] * 3) == pytest.approx(2.5 / 50.0)
