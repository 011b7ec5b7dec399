"""Kernels of remeshing against slow, obvious twins: closest points, cutting triangles, half edges."""

from __future__ import annotations

import numpy as np
import trimesh

from stspbr.geometry.closest_kernels import closest_points, closest_tree
from stspbr.geometry.face_grid_kernels import cuts, face_grid, fill, renew
from stspbr.geometry.half_edge_kernels import collapse, flip, half_edge_mesh, origin, ring, split
from stspbr.geometry.intersections import intersecting_pairs


def test_closest_points_are_those_of_all_triangles():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 3))
    faces = rng.integers(0, 60, size=(200, 3))
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    faces[0] = (0, 1, 1)  # a line
    values = rng.normal(size=(60, 1))
    tree = closest_tree(points, faces, values)
    asked = rng.normal(size=(100, 3)) * 1.5
    found, face, weights = closest_points(tree, asked)
    np.testing.assert_allclose((weights[..., None] * points[tree.faces[face]]).sum(axis=1), found, atol=1e-12)
    assert (weights >= -1e-12).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    for point, own in zip(asked, found, strict=True):
        every = trimesh.triangles.closest_point(points[faces[1:]], np.repeat(point[None], len(faces) - 1, axis=0))
        assert np.linalg.norm(own - point) <= np.linalg.norm(every - point, axis=1).min() + 1e-9


def test_cuts_agree_with_exact_predicates():
    rng = np.random.default_rng(1)
    points = rng.uniform(size=(300, 1, 3)) + rng.uniform(-0.12, 0.12, size=(300, 3, 3))
    points = points.reshape(-1, 3)
    faces = np.arange(900).reshape(-1, 3)
    grid = face_grid(np.full(3, -0.2), np.full(3, 1.2), 0.1, len(faces))
    fill(grid, points, faces, len(faces))
    expected = np.zeros(len(faces), bool)
    expected[intersecting_pairs(points, faces).reshape(-1)] = True
    assert 50 < expected.sum() < 250
    found = [cuts(grid, points, faces, *face, *points[face], np.array([f]), 1) for f, face in enumerate(faces)]
    np.testing.assert_array_equal(found, expected)
    # a face that is gone or ignored cuts nothing
    first, second = intersecting_pairs(points, faces)[0]
    alone = face_grid(np.full(3, -0.2), np.full(3, 1.2), 0.1, len(faces))
    two = np.ascontiguousarray(faces[[first, second]])
    fill(alone, points, two, 2)
    asked = (*two[0], *points[two[0]])
    assert cuts(alone, points, two, *asked, np.array([0]), 1)
    assert not cuts(alone, points, two, *asked, np.array([0, 1]), 2)
    two[1] = -1
    renew(alone, points, two, 2, 1)
    assert not cuts(alone, points, two, *asked, np.array([0]), 1)


def test_a_shared_vertex_is_no_cut_but_what_crosses_beyond_it_is():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 1], [-1, 0, -1], [1, 0.5, 1], [1, 0.5, -1.0]])
    faces = np.array([[0, 1, 2]])
    grid = face_grid(np.full(3, -2.0), np.full(3, 2.0), 0.5, 4)
    fill(grid, points, faces, 1)
    none = np.zeros(1, np.int64)
    assert not cuts(grid, points, faces, 0, 3, 4, points[0], points[3], points[4], none, 0)
    points[1] = (1.5, 0, 0)
    fill(grid, points, faces, 1)
    near = np.array([[0.4, 0.2, 1], [0.4, 0.2, -1.0]])
    assert cuts(grid, points, faces, 0, 5, 6, points[0], near[0], near[1], none, 0)


def _checked(mesh, vertices: int) -> np.ndarray:
    """The faces that are left; raises unless opposite half edges are opposite and rings are whole."""
    count = mesh.used[1]
    faces = mesh.faces[:count]
    for h in range(3 * count):
        if faces[h // 3, 0] < 0:
            continue
        g = mesh.across[h]
        assert mesh.across[g] == h
        assert origin(mesh, h) == faces[g // 3, (g % 3 + 1) % 3]
        assert mesh.sharp[h] == mesh.sharp[g]
    scratch = np.empty(64, np.int64)
    for v in range(vertices):
        if mesh.half[v] >= 0:
            assert ring(mesh, v, scratch) == (faces == v).sum()
    return faces[faces[:, 0] >= 0]


def test_split_flip_and_collapse_keep_a_ball_closed():
    ball = trimesh.creation.icosphere(2, 1.0)
    sharp = np.zeros(ball.faces.shape, bool)
    mesh = half_edge_mesh(ball.vertices, ball.faces, sharp, 2000)
    rng = np.random.default_rng(2)
    for _ in range(50):
        h = int(rng.integers(3 * mesh.used[1]))
        middle = mesh.points[[origin(mesh, h), origin(mesh, mesh.across[h])]].mean(axis=0)
        split(mesh, h, middle, 1.0)
    faces = _checked(mesh, mesh.used[0])
    assert len(faces) == len(ball.faces) + 100
    flipped = int(np.flatnonzero(mesh.across[: 3 * mesh.used[1]] >= 0)[5])
    flip(mesh, flipped)
    assert len(_checked(mesh, mesh.used[0])) == len(faces)
    rim = np.empty(64, np.int64)
    number = ring(mesh, 150, rim)
    collapse(mesh, rim[0], rim, number)
    left = _checked(mesh, mesh.used[0])
    assert len(left) == len(faces) - 2
    assert 150 not in left
    assert len(np.unique(left)) - len(left) // 2 == 2
