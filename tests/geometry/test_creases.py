"""Creases: cut-off edges are restored, round surfaces have none, normals split at them and charts end there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from stspbr.geometry.creases import corner_groups, restored_creases, split_normals, supported_creases
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.normals import vertex_normals
from stspbr.scene import Corners
from stspbr.scene.attributes import smooth_normals
from stspbr.texture.unwrap import unwrap

_HALF = np.array([0.7, 0.45, 0.3])


def _marched(distance, resolution: int = 24) -> tuple[np.ndarray, np.ndarray]:
    dmtet = DMTet(resolution, np.full(3, -1.0), np.full(3, 1.0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        dmtet.deform.copy_(0.2 * torch.randn(dmtet.deform.shape, generator=torch.Generator().manual_seed(1)))
        dmtet.sdf.copy_(distance(dmtet.vertices()))
        positions, faces = dmtet.extract()
    return positions.numpy(), faces.numpy()


def _box(x: torch.Tensor) -> torch.Tensor:
    outside = x.abs() - torch.tensor(_HALF, dtype=torch.float32)
    return outside.clamp(min=0).norm(dim=1) + outside.max(dim=1).values.clamp(max=0)


def test_edges_of_a_marched_box_are_restored():
    positions, faces = _marched(_box)
    moved, sharp = restored_creases(positions, faces)
    ends = np.unique(np.concatenate([faces[sharp], np.roll(faces, -1, axis=1)[sharp]]))
    assert sharp.sum() // 2 > 30

    def to_edges(points: np.ndarray) -> np.ndarray:
        """Distance to the nearest of the box's twelve edges: two coordinates at their ends."""
        gaps = np.sort(np.abs(np.abs(points) - _HALF), axis=1)
        return np.hypot(gaps[:, 0], gaps[:, 1])

    before, after = np.mean(to_edges(positions[ends])), np.mean(to_edges(moved[ends]))
    assert after < 0.6 * before
    # both directions of an edge are marked
    keys = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], -1)[sharp], axis=1)
    assert (np.unique(keys, axis=0, return_counts=True)[1] == 2).all()


def test_round_surfaces_have_no_crease_and_stay_bit_for_bit():
    positions, faces = _marched(lambda x: x.norm(dim=1) - 0.6)
    moved, sharp = restored_creases(positions, faces)
    assert not sharp.any()
    np.testing.assert_array_equal(moved, positions.astype(np.float64))


def _crate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    crate = trimesh.creation.box((1.4, 0.9, 0.6)).subdivide().subdivide()
    start, end = crate.faces, np.roll(crate.faces, -1, axis=1)
    half = np.array([0.7, 0.45, 0.3])
    outer = np.abs(np.abs(crate.vertices) - half) < 1e-9
    return crate.vertices, crate.faces, (outer[start] & outer[end]).sum(axis=2) >= 2


def test_split_normals_of_a_box_are_those_of_its_sides():
    positions, faces, sharp = _crate()
    normals = split_normals(positions, faces, sharp)
    corners = positions[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(normals.values[normals.index], np.repeat(flat[:, None], 3, axis=1), atol=1e-6)
    assert len(normals.values) == 6 * 25
    # the differentiable twin, and no split without a crease
    split = Corners(torch.as_tensor(normals.values), torch.as_tensor(normals.index))
    twin = vertex_normals(torch.as_tensor(positions, dtype=torch.float32), torch.as_tensor(faces), split)
    np.testing.assert_allclose(twin.numpy(), normals.values, atol=1e-6)
    none = np.zeros_like(sharp)
    np.testing.assert_array_equal(corner_groups(faces, none), faces)
    np.testing.assert_allclose(
        split_normals(positions, faces, none).values, smooth_normals(positions, faces), atol=1e-6
    )


def test_charts_end_at_split_normals():
    positions, faces, sharp = _crate()
    uvs = unwrap(positions, faces, 256, normals=split_normals(positions, faces, sharp))
    start = np.stack([faces, np.roll(faces, -1, axis=1)], -1)
    joined: dict[tuple, set] = {}
    for f, k in zip(*np.nonzero(sharp), strict=True):
        key = tuple(np.sort(start[f, k]))
        ends = {int(start[f, k, 0]): int(uvs.index[f, k]), int(start[f, k, 1]): int(uvs.index[f, (k + 1) % 3])}
        joined.setdefault(key, set()).add(tuple(ends[v] for v in key))
    assert joined
    assert all(len(sides) == 2 for sides in joined.values())


def test_only_creases_that_were_seen_are_supported():
    positions, faces, sharp = _crate()
    kept = supported_creases(positions, faces, sharp, positions, faces, None)
    assert kept.sum() > 0.9 * sharp.sum()
    ball = trimesh.creation.icosphere(4, 0.7)  # shaded as a ball: the crease is the mesh's own
    tent = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5], [0, 0.7, -0.5], [0, 0.7, 0.5]])
    roof = np.array([[0, 4, 5], [0, 5, 3], [1, 2, 5], [1, 5, 4]])
    ridge = np.zeros((4, 3), bool)
    ridge[0, 1] = ridge[3, 1] = True
    assert not supported_creases(0.1 * tent + [0, 0.63, 0], roof, ridge, ball.vertices, ball.faces, None).any()

    def bend(points: np.ndarray) -> np.ndarray:  # learned normals that turn where x changes its sign
        return np.stack([3.0 * np.sign(points[:, 0]), np.zeros(len(points)), np.zeros(len(points))], axis=1)

    assert supported_creases(0.1 * tent + [0, 0.63, 0], roof, ridge, ball.vertices, ball.faces, bend).sum() == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_groups_are_the_fans_between_sharp_edges(seed):
    ball = trimesh.creation.icosphere(2, 1.0)
    rng = np.random.default_rng(seed)
    low, high = np.sort(np.stack([ball.faces, np.roll(ball.faces, -1, axis=1)], -1), axis=-1).transpose(2, 0, 1)
    chosen = rng.uniform(size=(len(ball.vertices),) * 2) < 0.3
    sharp = chosen[low, high]
    groups = corner_groups(ball.faces, sharp)
    expected = 0
    for v in range(len(ball.vertices)):
        degree, lines = (ball.faces == v).sum(), 0
        for neighbour in np.unique(np.concatenate([low[high == v], high[low == v]])):
            lines += chosen[min(v, neighbour), max(v, neighbour)]
        assert degree >= 5
        expected += max(int(lines), 1)
    assert len(np.unique(groups)) == groups.max() + 1 == expected
