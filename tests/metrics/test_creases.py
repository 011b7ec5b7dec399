"""Normals beside sharp edges, on boxes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.metrics.creases import crease_error
from stspbr.scene import Asset, Camera, Mesh
from stspbr.scene.attributes import flat_normals
from stspbr.scene.camera import look_at
from stspbr.scene.material import Material

trimesh = pytest.importorskip("trimesh")


def test_a_box_has_no_error_beside_its_edges():
    box = _faceted(trimesh.creation.box())
    found = crease_error(box, box, samples=2000)
    assert found["used"] == found["samples"] == 2000 and found["too_narrow"] == found["unseen"] == 0
    assert found["angle_mean"] < 1e-3 and found["both_within_2_degrees"] == 1.0
    assert found["step"] == pytest.approx(0.01 * np.sqrt(3.0))


def test_smooth_normals_of_a_box_are_wrong_on_both_sides():
    box, smooth = trimesh.creation.box(), trimesh.creation.box()
    found = crease_error(_faceted(box), Asset(Mesh(np.float32(smooth.vertices), np.int32(smooth.faces)), [_grey()]))
    assert found["both_within_5_degrees"] == 0.0 and 20.0 < found["angle_median"] < 60.0


def test_one_turned_side_spoils_the_edges_that_it_has():
    box = trimesh.creation.box()
    tilted = box.copy()
    top = tilted.vertices[:, 1] > 0
    tilted.vertices[top, 1] += 0.5 * np.tan(np.radians(3.0)) * np.sign(tilted.vertices[top, 0])  # the top by 3 degrees
    found = crease_error(_faceted(box), _faceted(tilted), samples=8000, fraction=0.04)
    # four of twelve edges have the top on one side, and on the other the sides stay flat
    assert found["both_within_2_degrees"] == pytest.approx(8 / 12, abs=0.03)
    assert found["both_within_5_degrees"] > 0.98  # the tilted top cuts off the ends of some
    assert found["angle_median"] < 1e-3


def test_bevels_narrower_than_the_step_and_unseen_edges_are_left_out():
    low, high = np.array([-0.5, -0.5, -0.5]), np.array([0.5, 0.5, 0.5])
    slab = _faceted(trimesh.creation.box(bounds=[low, [0.5, -0.49, 0.5]]))  # a centimetre high
    found = crease_error(slab, slab, samples=4000)
    # its walls are lower than one and a half steps: only the short upright edges have two sides that are wide enough
    assert found["too_narrow"] == 4000 - found["used"] and 0 < found["used"] < 60
    box = _faceted(trimesh.creation.box(bounds=[low, high]))
    above = _camera((0.0, 3.0, 0.01))
    found = crease_error(box, box, samples=2000, cameras=[above])
    assert (
        found["unseen"] == 2000 and found["used"] == 0 and found["angle_mean"] is None
    )  # no edge has two sides that are seen from above
    beside = _camera((2.0, 2.0, 2.0))
    found = crease_error(box, box, samples=4000, cameras=[beside])
    assert found["used"] / 4000 == pytest.approx(3 / 12, abs=0.03)


def test_a_round_surface_has_no_creases():
    ball = trimesh.creation.icosphere(subdivisions=4)
    mesh = Mesh(np.float32(ball.vertices), np.int32(ball.faces))
    assert crease_error(Asset(mesh, [_grey()]), Asset(mesh, [_grey()])) is None


def _grey() -> Material:
    return Material.of(np.full((1, 1, 3), 0.5), np.full((1, 1, 1), 0.5), np.zeros((1, 1, 1)))


def _faceted(source: trimesh.Trimesh) -> Asset:
    """With a normal of its own for every face."""
    positions, faces = np.float32(source.vertices), np.int32(source.faces)
    return Asset(Mesh(positions, faces, normals=flat_normals(positions, faces)), [_grey()])


def _camera(place: tuple[float, float, float]) -> Camera:
    return Camera(look_at(place, (0.0, 0.0, 0.0)), 60.0, 60.0, 32.0, 32.0, 64, 64)
