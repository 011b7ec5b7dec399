"""Remeshing: shape, topology and budget are kept, triangles become even, nothing folds or cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from stspbr.errors import StspbrError
from stspbr.geometry.curvature import largest_curvature, target_lengths
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.intersections import intersecting_pairs, untangled
from stspbr.geometry.remesh import remesh
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.geometry import geometry_error
from stspbr.scene import Mesh


def _extracted(distance, resolution: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a signed distance, with cells as uneven as an optimiser leaves them."""
    dmtet = DMTet(resolution, np.full(3, -1.0), np.full(3, 1.0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        dmtet.deform.copy_(0.5 * torch.randn(dmtet.deform.shape, generator=torch.Generator().manual_seed(1)))
        dmtet.sdf.copy_(distance(dmtet.vertices()))
        positions, faces = dmtet.extract()
    return positions.numpy(), faces.numpy()


def _torus(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, [0, 2]].norm(dim=1) - 0.6, x[:, 1]], 1).norm(dim=1) - 0.25


def _quality(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = np.asarray(positions, np.float64)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return 2 * np.sqrt(3) * area / ((corners - np.roll(corners, 1, axis=1)) ** 2).sum((1, 2))


def test_a_marched_torus_gets_even_triangles_and_stays_the_torus():
    positions, faces = _extracted(_torus)
    made = remesh(positions, faces, len(faces))
    report = mesh_report(made.positions, made.faces)
    assert (report["watertight"], report["genus"], report["non_manifold_vertices"]) == (True, 1, 0)
    assert 0.85 * len(faces) < len(made.faces) <= len(faces)
    assert (_quality(positions, faces) < 0.2).mean() > 0.02
    assert _quality(made.positions, made.faces).min() > 0.3
    assert len(intersecting_pairs(made.positions, made.faces)) == 0
    source = mesh_report(positions, faces)
    assert report["volume"] == pytest.approx(source["volume"], rel=0.003)
    before, after = (
        geometry_error(Mesh(positions, faces), Mesh(p, f), 20_000)
        for p, f in ((positions, faces), (made.positions, made.faces))
    )
    assert before["chamfer_l1"] < 1e-6 < after["chamfer_l1"] < 0.15 * 2.0 / 20  # cells are a tenth wide
    again = remesh(positions, faces, len(faces))
    np.testing.assert_array_equal(made.positions, again.positions)
    np.testing.assert_array_equal(made.faces, again.faces)


def test_the_budget_is_spent_where_the_surface_bends():
    ball = trimesh.creation.icosphere(4, 1.0)
    positions = (ball.vertices * [1.0, 0.25, 1.0]).astype(np.float32)  # flat at ±y, sharply bent at the rim
    made = remesh(positions, ball.faces.astype(np.int32), 1500)
    assert 1200 < len(made.faces) <= 1500
    centres = made.positions[made.faces].mean(axis=1)
    corners = made.positions[made.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    radius = np.hypot(centres[:, 0], centres[:, 2])
    assert np.median(area[radius < 0.5]) > 4 * np.median(area[radius > 0.95])
    # equal budget, evenly spent: a larger distance to the ellipsoid
    even = trimesh.creation.icosphere(3, 1.0)
    points = (even.vertices * [1.0, 0.25, 1.0]).astype(np.float32)
    fine = Mesh(positions, ball.faces.astype(np.int32))
    errors = [
        geometry_error(fine, Mesh(p, f.astype(np.int32)), 20_000)["chamfer_l1"]
        for p, f in ((made.positions, made.faces), (points, even.faces))
    ]
    assert errors[0] < errors[1]


def test_a_surface_that_cuts_itself_is_untangled():
    ball = trimesh.creation.icosphere(3, 1.0)
    positions = ball.vertices.copy()
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(positions), 30, replace=False)
    positions[chosen] += rng.normal(size=(30, 3)) * 0.6
    assert len(intersecting_pairs(positions, ball.faces)) > 20
    moved, before, left = untangled(positions, ball.faces)
    assert before > 20 and left == 0 == len(intersecting_pairs(moved, ball.faces))
    made = remesh(positions, ball.faces, len(ball.faces))
    assert made.report["intersections_before"] == before
    assert len(intersecting_pairs(made.positions, made.faces)) == 0
    assert mesh_report(made.positions, made.faces)["genus"] == 0


def test_two_sheets_stay_apart():
    plate = trimesh.creation.box((1.0, 0.02, 1.0)).subdivide().subdivide().subdivide().subdivide()
    made = remesh(plate.vertices, plate.faces, 1500)
    report = mesh_report(made.positions, made.faces)
    assert (report["watertight"], report["genus"], report["components"]) == (True, 0, 1)
    assert report["volume"] == pytest.approx(0.02, rel=0.1)
    assert len(intersecting_pairs(made.positions, made.faces)) == 0


def test_borders_and_what_is_not_manifold_stay():
    ball = trimesh.creation.icosphere(3, 1.0)
    faces = ball.faces[ball.vertices[ball.faces].mean(axis=1)[:, 1] < 0.5]
    before = mesh_report(ball.vertices, faces)
    made = remesh(ball.vertices, faces, 600)
    report = mesh_report(made.positions, made.faces)
    assert (report["boundary_edges"], report["euler"]) == (before["boundary_edges"], before["euler"])
    # two balls that touch in one vertex and two that share an edge
    double = np.concatenate([ball.faces, ball.faces + len(ball.vertices)])
    points = np.concatenate([ball.vertices, ball.vertices * [-1, 1, 1] + [2, 0, 0]])
    double[len(ball.faces) :] = double[len(ball.faces) :, ::-1]
    right, left = int(np.argmax(ball.vertices[:, 0])), int(np.argmin(points[len(ball.vertices) :, 0]))
    double[double == left + len(ball.vertices)] = right
    made = remesh(points, double, 1200)
    assert mesh_report(made.positions, made.faces)["non_manifold_vertices"] == 1


def test_curvature_of_known_surfaces():
    ball = trimesh.creation.icosphere(4, 2.0)
    np.testing.assert_allclose(largest_curvature(ball.vertices, ball.faces), 0.5, rtol=0.05)
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 48, endpoint=False), np.linspace(-2, 2, 61))
    tube = np.stack([0.5 * np.cos(angle), 0.5 * np.sin(angle), height], axis=-1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(60), np.arange(48), indexing="ij")
    a, b = 48 * row + column, 48 * row + (column + 1) % 48
    faces = np.concatenate([np.stack([a, b, b + 48], -1), np.stack([a, b + 48, a + 48], -1)]).reshape(-1, 3)
    middle = np.abs(tube[:, 2]) < 1.0
    np.testing.assert_allclose(largest_curvature(tube, faces)[middle], 2.0, rtol=0.1)
    lengths, error = target_lengths(ball.vertices, ball.faces, 1000, 0.0)
    area = mesh_report(ball.vertices, ball.faces)["area"]
    assert area / (np.sqrt(3) / 4 * lengths.mean() ** 2) == pytest.approx(1000, rel=0.05)
    assert error == pytest.approx(lengths.mean() ** 2 * 0.5 / 6, rel=0.1)


def test_bad_input_is_refused():
    ball = trimesh.creation.icosphere(1, 1.0)
    with pytest.raises(StspbrError, match="without faces"):
        remesh(ball.vertices, ball.faces[:0], 100)
    with pytest.raises(StspbrError, match="at least 64"):
        remesh(ball.vertices, ball.faces, 10)
