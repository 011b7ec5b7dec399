"""Clean-up of meshes with known defects."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from stspbr.errors import StspbrError
from stspbr.geometry.intersections import intersecting_pairs
from stspbr.geometry.topology import mesh_report
from stspbr.texture.cleanup import clean, remove_degenerate, remove_interior_shells, simplify, weld


def _sphere(subdivisions=3, radius=1.0, centre=(0, 0, 0), inward=False):
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    faces = mesh.faces[:, ::-1] if inward else mesh.faces
    return (mesh.vertices + centre).astype(np.float32), faces.astype(np.int32)


def _joined(*meshes):
    offsets = np.cumsum([0] + [len(p) for p, _ in meshes])
    faces = [f + o for (_, f), o in zip(meshes, offsets[:-1], strict=True)]
    return np.concatenate([p for p, _ in meshes]), np.concatenate(faces).astype(np.int32)


def test_weld_closes_a_triangle_soup():
    p, f = _sphere(2)
    soup = p[f.reshape(-1)]
    welded, faces, merged = weld(soup, np.arange(len(soup), dtype=np.int32).reshape(-1, 3))
    assert merged == len(soup) - len(p)
    assert mesh_report(welded, faces)["watertight"]


def test_degenerate_and_cancelling_faces_go():
    p, f = _sphere(1)
    twice = np.concatenate([f, [[0, 0, 1]], f[:1], f[1:2, ::-1], [f[2, [1, 2, 0]]]]).astype(np.int32)
    _, faces, removed = remove_degenerate(p, twice)
    assert removed == 5  # the repeated vertex, a copy, a pair that cancels, a rotated copy
    assert len(faces) == len(f) - 1
    assert mesh_report(p, faces)["flipped_edges"] == 0


def test_hidden_shells_go_and_neighbours_stay():
    outer, cavity, solid = _sphere(3), _sphere(2, 0.5, (0.1, 0, 0), inward=True), _sphere(1, 0.2, (0.1, 0, 0))
    beside = _sphere(2, 0.5, (3, 0, 0))
    p, f, removed = remove_interior_shells(*_joined(outer, cavity, solid, beside))
    assert removed == 2
    report = mesh_report(p, f)
    assert (report["components"], report["faces"]) == (2, len(outer[1]) + len(beside[1]))


def test_simplified_sphere_stays_a_sphere():
    p, f = _sphere(5)
    points, faces = simplify(p, f, 3000)
    report = mesh_report(points, faces)
    assert len(faces) <= 3000
    assert (report["watertight"], report["genus"], report["non_manifold_vertices"]) == (True, 0, 0)
    assert report["volume"] == pytest.approx(4 / 3 * np.pi, rel=0.01)
    again = simplify(p, f, 3000)
    np.testing.assert_array_equal(points, again[0])
    np.testing.assert_array_equal(faces, again[1])
    assert simplify(p, f, len(f))[1] is f


def test_what_is_simplified_does_not_cut_itself():
    p, f = _sphere(3)
    p[f[0]] *= -1.02  # a face is pulled through the other side
    tangled = len(intersecting_pairs(p, f))
    _, _, whole = clean(p, f)
    points, faces, report = clean(p, f, 600)
    assert tangled > 5 and report["intersections"]["before"] == tangled
    assert "intersections" not in whole  # nothing is moved where nothing is simplified
    assert len(faces) <= 600 and len(intersecting_pairs(points, faces)) == 0 == report["intersections"]["untangled"]


def test_clean_reports_what_it_did():
    p, f = _joined(_sphere(4), _sphere(0, 0.02, (2, 0, 0)), _sphere(1, 0.5))
    points, faces, report = clean(p, f, target_faces=1000)
    assert (report["floaters"], report["interior_shells"]) == (1, 1)
    assert report["simplified_faces"] == report["before"]["faces"] - 20 - 80 - report["after"]["faces"]
    assert report["after"]["watertight"]
    assert len(faces) == report["after"]["faces"] <= 1000
    assert points.dtype == np.float32
    assert faces.dtype == np.int32


def test_broken_meshes_are_refused():
    p, f = _sphere(1)
    with pytest.raises(StspbrError, match="empty"):
        clean(p, f[:0])
    p[0] = np.nan
    with pytest.raises(StspbrError, match="NaN"):
        clean(p, f)
