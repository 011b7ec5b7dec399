"""A box with split normals looks like a box in every format: each corner has its side's normal, and none is shared."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from stspbr.formats.asset_writer import write_asset
from stspbr.formats.assets import read_asset
from stspbr.geometry.creases import split_normals
from stspbr.geometry.tangents import with_frames
from stspbr.scene import Asset, Corners, Material, Mesh


def _box() -> Asset:
    box = trimesh.creation.box((1.0, 1.5, 0.7)).subdivide()
    positions, faces = box.vertices.astype(np.float32), box.faces.astype(np.int32)
    half = np.array([0.5, 0.75, 0.35])
    start, end = positions[faces], positions[np.roll(faces, -1, axis=1)]
    outer = (np.abs(np.abs(start) - half) < 1e-6) & (np.abs(np.abs(end) - half) < 1e-6)
    sharp = ((outer & (np.abs(start - end) < 1e-6)).sum(axis=2)) == 2
    assert sharp.sum() == 2 * 24
    # each triangle has its own piece of the map
    uvs = Corners(np.tile(np.array([[0, 0], [1, 0], [0, 1]], np.float32), (len(faces), 1)), None)
    uvs = Corners(uvs.values, np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3))
    mesh = with_frames(Mesh(positions, faces, uvs, split_normals(positions, faces, sharp)))
    flat = np.zeros((8, 8, 3))
    flat[..., 2] = 1.0
    grey = np.full((8, 8, 1), 0.5)
    return Asset(mesh, [Material.of(np.full((8, 8, 3), 0.5), grey, grey, None, flat, name="box")], name="box")


@pytest.mark.parametrize("name", ["box.glb", "box.gltf", "box.obj", "box.ply", "box.usda", "box.usdz"])
def test_a_box_stays_a_box(tmp_path, name):
    if "usd" in name:
        pytest.importorskip("pxr")
    asset = _box()
    write_asset(tmp_path / name, asset)
    if name.endswith(".ply"):
        read = trimesh.load(tmp_path / name, process=False)
        corners, normals = np.asarray(read.vertices)[read.faces], np.asarray(read.vertex_normals)[read.faces]
    else:
        mesh = read_asset(tmp_path / name).mesh
        assert mesh.normals is not None
        corners, normals = mesh.positions[mesh.faces], mesh.normals.values[mesh.normals.index]
    side = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    assert len(corners) == 48
    np.testing.assert_allclose(normals, np.repeat(side[:, None], 3, axis=1), atol=2e-3)
