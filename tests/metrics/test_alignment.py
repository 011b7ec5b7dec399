"""Alignment: known small motions are found again, and nothing moves unasked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.alignment import align, umeyama
from stspbr.metrics.geometry import geometry_error
from stspbr.scene import Mesh


@pytest.fixture(scope="module")
def pebble():
    """A lumpy closed surface without symmetry, about 2 across."""
    trimesh = pytest.importorskip("trimesh")
    made = trimesh.creation.icosphere(subdivisions=4)
    p = made.vertices
    bumps = 0.15 * np.sin(3 * p[:, 0] + 1) + 0.12 * np.cos(4 * p[:, 1] + p[:, 2]) + 0.1 * np.sin(5 * p[:, 2])
    return Mesh(np.float32(p * (1 + bumps)[:, None] * [1.0, 0.8, 0.6]), np.int32(made.faces))


def test_nothing_moves_unasked(pebble):
    matrix, report = align(pebble, _moved(pebble, _motion(1.0, 10, [0.1, 0, 0])), "none")
    assert np.array_equal(matrix, np.eye(4))
    assert report["mode"] == "none" and report["rms_before"] is None and report["scale"] == 1.0
    assert report["rotation_degrees"] == 0.0 and report["translation"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("mode", "scale"), [("icp", 1.0), ("sim3", 1.0), ("sim3", 1.15), ("sim3", 0.8)])
def test_a_known_motion_is_found_again(pebble, mode, scale):
    motion = _motion(scale, 12.0, [0.1, -0.07, 0.05])
    moved = _moved(pebble, motion)
    matrix, report = align(pebble, moved, mode, samples=3000)
    np.testing.assert_allclose(matrix, np.linalg.inv(motion), atol=1e-5)
    assert report["converged"] and report["rms_after"] < 1e-5 < 0.01 < report["rms_before"]
    assert report["scale"] == pytest.approx(1 / scale, abs=1e-5)
    assert report["rotation_degrees"] == pytest.approx(12.0, abs=1e-3)
    assert geometry_error(pebble, _moved(moved, matrix), samples=1000)["chamfer_l1"] < 1e-5
    json.dumps(report)


def test_a_rigid_fit_keeps_the_size(pebble):
    matrix, report = align(pebble, _moved(pebble, _motion(1.05, 5.0, [0.02, 0, 0])), "icp", samples=3000)
    assert report["scale"] == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert 0.005 < report["rms_after"] < report["rms_before"]


def test_another_tessellation_with_a_part_missing(pebble):
    trimesh = pytest.importorskip("trimesh")
    fine = trimesh.Trimesh(pebble.positions, pebble.faces).subdivide()
    centre = fine.triangles_center
    part = Mesh(np.float32(fine.vertices), np.int32(fine.faces[centre[:, 0] < 0.85]))
    motion = _motion(1.04, 6.0, [0.03, 0.02, -0.04])
    matrix, report = align(pebble, _moved(part, motion), "sim3", samples=3000)
    assert report["converged"]
    np.testing.assert_allclose(matrix, np.linalg.inv(motion), atol=1e-3)


def test_what_a_sphere_cannot_tell_stays(pebble):
    trimesh = pytest.importorskip("trimesh")
    made = trimesh.creation.icosphere(subdivisions=4)
    ball = Mesh(np.float32(made.vertices), np.int32(made.faces))
    matrix, report = align(ball, _moved(ball, _motion(1.0, 0.0, [0.1, 0, 0])), "icp", samples=3000)
    np.testing.assert_allclose(matrix[:3, 3], [-0.1, 0, 0], atol=2e-3)
    assert report["rotation_degrees"] < 1.0


def test_the_same_call_gives_the_same_matrix(pebble):
    moved = _moved(pebble, _motion(1.1, 8.0, [0.1, 0, 0]))
    first = align(pebble, moved, "sim3", samples=1000, seed=3)[0]
    assert np.array_equal(first, align(pebble, moved, "sim3", samples=1000, seed=3)[0])


def test_umeyama_recovers_similarities_of_point_pairs():
    rng = np.random.default_rng(0)
    points, motion = rng.normal(size=(50, 3)), _motion(2.5, 170.0, [1, 2, 3])
    target = points @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(umeyama(points, target, scaled=True), motion, atol=1e-12)
    rigid = umeyama(points, target, scaled=False)
    np.testing.assert_allclose(2.5 * rigid[:3, :3], motion[:3, :3], atol=1e-12)
    flat = points * [1, 1, 0]  # mirror images are as close: the proper rotation is taken
    assert np.linalg.det(umeyama(flat, -flat, scaled=False)[:3, :3]) == pytest.approx(1.0)


def test_unknown_modes_and_empty_meshes_are_refused(pebble):
    with pytest.raises(StspbrError, match="none, icp, sim3"):
        align(pebble, pebble, "rigid")
    with pytest.raises(StspbrError, match="no face"):
        align(pebble, Mesh(pebble.positions, np.zeros((0, 3), np.int32)), "icp")
    matrix, report = align(pebble, pebble, "sim3", samples=500)
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-9)
    assert report["converged"] and report["rms_before"] < 1e-9


def _motion(scale, degrees, translation):
    axis, angle = np.array([0.48, 0.6, 0.64]), np.radians(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    out = np.eye(4)
    out[:3, :3] = scale * (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
    out[:3, 3] = translation
    return out


def _moved(mesh: Mesh, motion: np.ndarray) -> Mesh:
    return replace(mesh, positions=mesh.positions @ motion[:3, :3].T + motion[:3, 3])
