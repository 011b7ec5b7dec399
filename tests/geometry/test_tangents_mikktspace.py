"""Tangents against the MikkTSpace package that glTF tools run (npm mikktspace), corner by corner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.formats.assets import read_asset
from stspbr.geometry.tangents import compute_tangents, with_frames
from stspbr.procedural.jar import demo_asset
from stspbr.scene import Corners, Mesh
from stspbr.scene.attributes import smooth_normals


def mikktspace(judge, mesh: Mesh) -> np.ndarray:
    """``[3F, 4]``; the sign turned, as its authors say for v that points down."""
    corners = (mesh.positions[mesh.faces], mesh.normals.values[mesh.normals.index], mesh.uvs.values[mesh.uvs.index])
    data = b"".join(np.ascontiguousarray(table, np.float32).tobytes() for table in corners)
    return np.frombuffer(judge("tangents.js", data=data), np.float32).reshape(-1, 4) * [1, 1, 1, -1]


def ours(mesh: Mesh) -> np.ndarray:
    tangents = compute_tangents(mesh.positions, mesh.faces, mesh.uvs, mesh.normals)
    return tangents.values[tangents.index].reshape(-1, 4)


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees, exact for small ones."""
    across = np.linalg.norm(np.cross(first[:, :3], second[:, :3]), axis=1)
    return np.degrees(np.arctan2(across, (first[:, :3] * second[:, :3]).sum(axis=1)))


def smooth(mesh: Mesh) -> Mesh:
    return replace(mesh, normals=Corners(smooth_normals(mesh.positions, mesh.faces), mesh.faces))


def jar() -> Mesh:
    return demo_asset(16, around=40, along=30).mesh


def folded_jar() -> Mesh:
    """Both halves show one image, mirrored at the middle: UVs meet there with equal values."""
    mesh = jar()
    u, v = mesh.uvs.values.T
    return replace(mesh, uvs=Corners(np.stack([np.abs(u - 0.5), v], axis=1).astype(np.float32), mesh.uvs.index))


def collapsed_jar() -> Mesh:
    """A band whose texture coordinates have no area, between parts of both handednesses."""
    mesh = folded_jar()
    uvs = mesh.uvs.values.copy()
    uvs[:, 1] = np.where((uvs[:, 1] > 0.4) & (uvs[:, 1] < 0.6), 0.5, uvs[:, 1])
    return replace(mesh, uvs=Corners(uvs, mesh.uvs.index))


def noisy_jar() -> Mesh:
    """Slivers and bent charts: angles, weights and planes all matter."""
    mesh, rng = jar(), np.random.default_rng(0)
    positions = mesh.positions + rng.normal(0, 0.02, mesh.positions.shape).astype(np.float32)
    uvs = mesh.uvs.values + rng.normal(0, 0.02, mesh.uvs.values.shape).astype(np.float32)
    return smooth(replace(mesh, positions=positions, uvs=Corners(uvs, mesh.uvs.index)))


@pytest.mark.parametrize("make", [jar, folded_jar, noisy_jar])
def test_every_corner_agrees(node_judge, make):
    mesh = make()
    reference, tangents = mikktspace(node_judge, mesh), ours(mesh)
    assert (make is jar) == (len(np.unique(reference[:, 3])) == 1)
    np.testing.assert_array_equal(tangents[:, 3], reference[:, 3])
    # With noise a few bitangents oppose each other to the last bit of float32, where MikkTSpace splits a group.
    allowed = 1e-3 if make is noisy_jar else 0.0
    assert (angles(tangents, reference) > 0.01).mean() <= allowed


def test_faces_without_area_in_the_image_join_the_same_neighbours(node_judge):
    mesh = collapsed_jar()
    reference, tangents = mikktspace(node_judge, mesh), ours(mesh)
    coords = mesh.uvs.values[mesh.uvs.index].astype(np.float64)
    first, second = coords[:, 1] - coords[:, 0], coords[:, 2] - coords[:, 0]
    flat = np.repeat(first[:, 0] * second[:, 1] == first[:, 1] * second[:, 0], 3)
    # Where nothing gives a direction MikkTSpace says (1, 0, 0); glTF wants one that is square to the normal.
    none = flat & (np.abs(reference[:, :3] - [1, 0, 0]).max(axis=1) < 1e-6)
    assert 100 < (flat & ~none).sum() and none.mean() < 0.25
    np.testing.assert_array_equal(tangents[~none, 3], reference[~none, 3])
    assert angles(tangents[~none], reference[~none]).max() < 0.01


def test_indices_do_not_matter_values_do():
    mesh = folded_jar()
    corners = np.arange(mesh.faces.size, dtype=np.int32).reshape(-1, 3)
    uvs, normals = (own.values[own.index].reshape(own.index.size, -1) for own in (mesh.uvs, mesh.normals))
    points = mesh.positions[mesh.faces].reshape(-1, 3)
    loose = Mesh(points, corners, Corners(uvs, corners), Corners(normals, corners))
    np.testing.assert_array_equal(ours(loose), ours(mesh))


@pytest.mark.parametrize("name", ["spot/spot.obj", "BoomBox.glb"])
def test_real_meshes_agree(node_judge, shared_assets, name):
    mesh = read_asset(shared_assets / "meshes" / name).mesh
    mesh = mesh if mesh.normals is not None else smooth(mesh)
    reference, tangents = mikktspace(node_judge, mesh), ours(mesh)
    np.testing.assert_array_equal(tangents[:, 3], reference[:, 3])
    assert angles(tangents, reference).max() < 0.01


def test_rows_of_zeros_are_filled_and_the_others_kept():
    mesh = with_frames(replace(jar(), tangents=None))
    turned, index = mesh.tangents.values * [-1, -1, -1, 1], mesh.tangents.index.copy()
    index[:100] = len(turned)
    kept = replace(mesh, tangents=Corners(np.concatenate([turned, np.zeros((1, 4))]).astype(np.float32), index))
    filled = with_frames(kept)
    corners = filled.tangents.values[filled.tangents.index]
    np.testing.assert_array_equal(corners[:100], mesh.tangents.values[mesh.tangents.index][:100])
    np.testing.assert_array_equal(corners[100:], turned[mesh.tangents.index][100:])
    assert with_frames(mesh) is mesh
