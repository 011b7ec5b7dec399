"""Distances between surfaces and their topology, on shapes with known answers and against trimesh."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.geometry import geometry_error, self_intersections, topology_metrics, welded
from stspbr.metrics.sampling import sample_surface
from stspbr.scene import Camera, Mesh
from stspbr.scene.camera import look_at

TETRAHEDRON = np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


@pytest.fixture(scope="module")
def trimesh():
    return pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def ball(trimesh):
    made = trimesh.creation.icosphere(subdivisions=4)
    return Mesh(np.float32(made.vertices), np.int32(made.faces))


def test_a_surface_is_no_distance_from_itself(ball):
    error = geometry_error(ball, ball, samples=5000)
    assert error["chamfer_l1"] < 1e-9 and error["f_score_0.5%"] == 1.0
    assert error["normal_consistency"] == pytest.approx(1.0)
    inside_out = replace(ball, faces=ball.faces[:, ::-1].copy())
    error = geometry_error(ball, inside_out, samples=5000)
    assert error["chamfer_l1"] < 1e-9 and error["normal_consistency"] == pytest.approx(-1.0)


def test_a_translated_plane_and_a_translated_sphere(ball):
    plane = _grid(2, size=100.0)
    error = geometry_error(plane, _moved(plane, [0, 0, 0.5]), samples=5000)
    assert error["chamfer_l1"] == pytest.approx(0.5, abs=1e-6) and error["chamfer_l1_se"] < 1e-6
    assert error["normal_consistency"] == pytest.approx(1.0)
    assert error["diagonal"] == pytest.approx(200 * np.sqrt(2))
    assert error["f_score_0.5%"] == 1.0
    # spheres of radius 1, t apart: 1 − √(1 + 2tz + t²) at height z, which is uniform in [−1, 1]
    z = np.linspace(-1, 1, 20_001)
    expected = np.abs(np.sqrt(1 + 0.4 * z + 0.04) - 1).mean()
    error = geometry_error(ball, _moved(ball, [0.2, 0, 0]), samples=20_000)
    assert error["accuracy"] == pytest.approx(expected, abs=4 * error["accuracy_se"] + 1e-3)
    assert error["completeness"] == pytest.approx(expected, abs=4 * error["completeness_se"] + 1e-3)
    assert error["chamfer_l1_se"] < 0.01 * error["chamfer_l1"]


def test_walls_that_no_camera_sees_do_not_count_as_seen(ball):
    hollow = _joined(ball, replace(ball, positions=ball.positions * np.float32(0.5)))
    places = [tuple(4.0 * s * np.eye(3)[k] + 0.1) for k in range(3) for s in (-1, 1)]
    cameras = [Camera(look_at(place, (0, 0, 0)), 60.0, 60.0, 32.0, 32.0, 64, 64) for place in places]
    error = geometry_error(hollow, ball, samples=8000, cameras=cameras)
    assert error["completeness"] == pytest.approx(0.5 * 0.2, abs=0.01)  # a fifth of the area is half a radius away
    seen = error["seen"]
    assert seen["chamfer_l1"] < 1e-4 and seen["f_score_0.5%"] == 1.0 and seen["normal_consistency"] > 0.999
    assert seen["reference_share"] == pytest.approx(0.8 * seen["estimate_share"], abs=0.03)
    away = Camera(look_at((4.0, 0.0, 0.0), (8.0, 0.0, 0.0)), 60.0, 60.0, 32.0, 32.0, 64, 64)
    assert geometry_error(hollow, ball, samples=500, cameras=[away])["seen"] is None
    assert "seen" not in geometry_error(hollow, ball, samples=500)


def test_slivers_are_counted():
    points = np.float32([[0, 0, 0], [1, 0, 0], [0.5, 0.9, 0], [0.5, -0.02, 0]])
    found = topology_metrics(Mesh(points, np.int32([[0, 1, 2], [1, 0, 3]])))
    assert found["slivers"] == 0.5


def test_a_scaled_sphere(ball):
    error = geometry_error(ball, replace(ball, positions=ball.positions * np.float32(1.03)), samples=5000)
    assert error["accuracy"] == pytest.approx(0.03, rel=0.02)
    assert error["completeness"] == pytest.approx(0.03, rel=0.02)
    # 0.03 of a diagonal of 3.46 is 0.87 %: beyond half a percent, within one
    assert error["f_score_0.5%"] == 0.0 and error["f_score_1%"] > 0.99
    assert error["normal_consistency"] > 0.995


def test_a_rotated_plane():
    plane, angle = _grid(4), np.radians(10.0)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    error = geometry_error(plane, replace(plane, positions=np.float32(plane.positions @ turn.T)), samples=20_000)
    expected = 0.5 * np.sin(angle)  # |x| sin, with |x| uniform in [0, 1]
    assert error["accuracy"] == pytest.approx(expected, abs=4 * error["accuracy_se"])
    assert error["completeness"] == pytest.approx(expected, abs=4 * error["completeness_se"])
    assert error["normal_consistency"] == pytest.approx(np.cos(angle), abs=1e-6)


def test_a_holed_plane():
    plane = _grid(8)
    centre = plane.positions[plane.faces].mean(axis=1)
    holed = replace(plane, faces=plane.faces[np.abs(centre[:, :2]).max(axis=1) > 0.5])
    error = geometry_error(plane, holed, samples=40_000)
    assert error["accuracy"] < 1e-9
    # in the hole of half width ½ the border is ½ − max(|x|, |y|) away: h³/3 over the whole plane
    assert error["completeness"] == pytest.approx(0.5**3 / 3, abs=4 * error["completeness_se"])
    within = 0.01 * error["diagonal"]
    recall = 1.0 - (2 * (0.5 - within)) ** 2 / 4
    assert error["f_score_1%"] == pytest.approx(2 * recall / (1 + recall), abs=0.01)
    assert (error["reference"]["boundary_edges"], error["boundary_edges"]) == (32, 32 + 16)
    assert error["components"] == 1 and error["genus"] is None and "48 boundary edges" in error["genus_reason"]
    json.dumps(error)


def test_tori_have_a_handle_each(trimesh, ball):
    torus = trimesh.creation.torus(1.0, 0.3, major_sections=24, minor_sections=12)
    one = Mesh(np.float32(torus.vertices), np.int32(torus.faces))
    found = topology_metrics(one)
    assert found["genus"] == 1 and found["genus_reason"] is None and found["euler"] == 0 and found["watertight"]
    three = _joined(one, _moved(one, [0, 0, 5]), _moved(ball, [0, 0, 10]))
    found = topology_metrics(three)
    assert (found["components"], found["genus"], found["euler"]) == (3, 2, 2)
    assert found["self_intersections"] == 0
    linked = topology_metrics(_joined(one, _moved(one, [0.2, 0, 0])))
    assert linked["genus"] == 2 and linked["self_intersections"] > 100


def test_vertices_at_equal_positions_are_one(ball):
    corners = np.arange(3 * len(ball.faces), dtype=np.int32).reshape(-1, 3)
    soup = Mesh(ball.positions[ball.faces].reshape(-1, 3), corners)
    assert topology_metrics(soup) == topology_metrics(ball)
    assert topology_metrics(soup)["vertices"] == len(ball.positions)
    # a face that is a line once its corners are one vertex says nothing about topology
    mesh = Mesh(np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0]]), np.int32([[0, 1, 2], [0, 1, 3]]))
    assert len(welded(mesh)[1]) == 1 and topology_metrics(mesh)["boundary_edges"] == 3


def test_a_spike_through_a_face_crosses_it_with_three_faces():
    large = np.float32([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
    spike = np.float32([[2.0, 2.0, -1], [2.3, 2.0, -1], [2.0, 2.3, -1], [2.1, 2.1, 1]])
    mesh = _joined(Mesh(large, TETRAHEDRON), Mesh(spike, TETRAHEDRON))
    found = topology_metrics(mesh)
    assert found["self_intersections"] == 3
    assert (found["components"], found["genus"], found["watertight"]) == (2, 0, True)
    spike[3, 2] = -0.01
    assert topology_metrics(_joined(Mesh(large, TETRAHEDRON), Mesh(spike, TETRAHEDRON)))["self_intersections"] == 0


def test_touching_counts_and_sharing_a_vertex_does_not():
    base = Mesh(np.float32([[0, 0, 0], [8, 0, 0], [0, 8, 0], [0, 0, 8]]), TETRAHEDRON)
    tip = np.float32([[2, 2, -1], [3, 2, -1], [2, 3, -1], [2, 2, 0]])  # its last vertex lies in a face of the base
    assert topology_metrics(_joined(base, Mesh(tip, TETRAHEDRON)))["self_intersections"] == 3
    tip[3] = 0  # … and now in a vertex of the base: three faces of either meet there, all adjacent
    tip[:3] -= np.float32([4, 4, 0])
    assert topology_metrics(_joined(base, Mesh(tip, TETRAHEDRON)))["self_intersections"] == 0
    # two triangles in one plane: inside each other, and side by side
    inner = np.float32([[1, 1, 0], [2, 1, 0], [1, 2, 0]])
    outer = np.float32([[0, 0, 0], [8, 0, 0], [0, 8, 0]])
    pair = np.arange(6).reshape(2, 3)
    assert _crossings(np.concatenate([outer, inner]), pair) == 1
    assert _crossings(np.concatenate([outer, inner + np.float32([8, 0, 0])]), pair) == 0


def test_self_intersections_against_linear_programming():
    from scipy.optimize import linprog

    rng, answers = np.random.default_rng(0), []
    for trial in range(250):  # few places, so that touching and common planes are frequent
        p = rng.integers(0, (2, 3, 5, 50)[trial % 4] + 1, (6, 3)).astype(np.float64)
        if trial % 3 == 0:
            p[:, 2] = 0
        a, b = p[:3], p[3:]
        areas = [np.linalg.norm(np.cross(t[1] - t[0], t[2] - t[0])) for t in (a, b)]
        if len(np.unique(p, axis=0)) < 6 or min(areas) == 0:
            continue
        weights = np.zeros((5, 6))
        weights[:3, :3], weights[:3, 3:], weights[3, :3], weights[4, 3:] = a.T, -b.T, 1, 1
        meet = linprog(np.zeros(6), A_eq=weights, b_eq=[0, 0, 0, 1, 1], bounds=(0, None)).status == 0
        assert _crossings(p, np.arange(6).reshape(2, 3)) == meet
        answers.append(meet)
    assert 40 < sum(answers) < len(answers) - 40


def test_self_intersections_do_not_depend_on_place_size_or_turn(trimesh):
    made = trimesh.creation.icosphere(subdivisions=3)
    points = made.vertices + 0.08 * np.random.default_rng(1).normal(size=made.vertices.shape)
    count = _crossings(points, made.faces)
    assert count > 50
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    assert _crossings(1e-6 * points @ turn + 3.0, made.faces) == count
    rng = np.random.default_rng(3)
    shuffled = rng.permutation(made.faces)
    assert _crossings(1e5 * points, np.roll(shuffled, 1, axis=1)) == count
    # a fine plane in general position: neighbours touch, nothing else does
    plane = _grid(40)
    assert _crossings(np.float32(plane.positions @ turn), plane.faces) == 0
    with pytest.raises(StspbrError, match="NaN"):
        _crossings(np.full((3, 3), np.nan), np.int32([[0, 1, 2], [0, 1, 2]]))
    assert _crossings(np.zeros((0, 3)), np.zeros((0, 3), int)) == 0


def test_agreement_with_trimesh(trimesh, ball):
    rough = trimesh.creation.icosphere(subdivisions=3)
    rough.vertices += 0.03 * np.random.default_rng(0).normal(size=rough.vertices.shape)
    holed = trimesh.Trimesh(rough.vertices, rough.faces[30:])
    pieces = trimesh.util.concatenate([rough, trimesh.creation.torus(0.3, 0.1), trimesh.creation.box()])
    for theirs in (rough, holed, pieces):
        ours = topology_metrics(Mesh(np.float64(theirs.vertices), np.int32(theirs.faces)))
        assert ours["euler"] == theirs.euler_number
        assert ours["watertight"] == theirs.is_watertight
        assert ours["components"] == theirs.body_count
    pytest.importorskip("rtree")  # trimesh's closest points want it
    mesh = Mesh(np.float64(rough.vertices), np.int32(rough.faces))
    error = geometry_error(ball, mesh, samples=1000, seed=4)
    fine = trimesh.Trimesh(ball.positions, ball.faces, process=False)
    there = trimesh.proximity.closest_point(fine, sample_surface(mesh, 1000, 4)[0])[1]
    back = trimesh.proximity.closest_point(rough, sample_surface(ball, 1000, 5)[0])[1]
    assert error["accuracy"] == pytest.approx(there.mean(), rel=1e-9)
    assert error["completeness"] == pytest.approx(back.mean(), rel=1e-9)
    assert error["chamfer_l1"] == pytest.approx((there.mean() + back.mean()) / 2, rel=1e-9)
    share = [np.mean(d <= 0.005 * fine.scale) for d in (there, back)]
    assert 0.1 < share[0] < 0.9
    assert error["f_score_0.5%"] == pytest.approx(2 * share[0] * share[1] / sum(share))
    assert error["diagonal"] == pytest.approx(fine.scale)


def test_empty_and_broken_meshes_are_refused(ball):
    with pytest.raises(StspbrError, match="no face"):
        geometry_error(ball, Mesh(ball.positions, np.zeros((0, 3), np.int32)), samples=10)
    broken = ball.positions.copy()
    broken[7] = np.nan
    with pytest.raises(StspbrError, match="NaN"):
        geometry_error(ball, replace(ball, positions=broken), samples=10)


def _crossings(points: np.ndarray, faces: np.ndarray) -> int:
    return self_intersections(*welded(Mesh(points, faces)))


def _grid(count: int, size: float = 1.0) -> Mesh:
    """A square in z = 0 of half width ``size``, ``count`` by ``count`` quads."""
    x = np.linspace(-size, size, count + 1)
    points = np.stack([*np.meshgrid(x, x, indexing="ij"), np.zeros((count + 1, count + 1))], axis=-1).reshape(-1, 3)
    i = np.arange((count + 1) ** 2).reshape(count + 1, count + 1)
    lower = np.stack([i[:-1, :-1], i[1:, :-1], i[1:, 1:]], axis=-1).reshape(-1, 3)
    upper = np.stack([i[:-1, :-1], i[1:, 1:], i[:-1, 1:]], axis=-1).reshape(-1, 3)
    return Mesh(np.float32(points), np.int32(np.concatenate([lower, upper])))


def _moved(mesh: Mesh, by: list[float]) -> Mesh:
    return replace(mesh, positions=mesh.positions + np.float32(by))


def _joined(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0] + [len(m.positions) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + k for m, k in zip(meshes, offsets, strict=True)])
    return Mesh(np.concatenate([m.positions for m in meshes]), np.int32(faces))
