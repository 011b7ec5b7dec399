"""The glTF writer's own promises: nodes, separate files, quantisation within its bounds, occlusion only where it is."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest

import stspbr
from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb, write_gltf
from stspbr.formats.images import read_pixels
from stspbr.geometry.tangents import with_frames
from stspbr.procedural.jar import demo_asset
from stspbr.scene import Asset, Corners, Material, Node


def jar(side=8, normal=True, occlusion=None):
    asset = demo_asset(side, around=16, along=12)
    material = asset.materials[0]
    if normal:
        bumps = np.random.default_rng(0).normal(0, 0.3, (side, side, 3)).astype(np.float32) + [0, 0, 1]
        material.normal = (bumps / np.linalg.norm(bumps, axis=-1, keepdims=True)).astype(np.float32)
    material.occlusion = occlusion
    return replace(asset, mesh=with_frames(replace(asset.mesh, tangents=None)))


def content_of(path):
    data = path.read_bytes()
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])


def corners(mesh, order=slice(None)):
    return [
        mesh.positions[mesh.faces[order]],
        mesh.normals.values[mesh.normals.index[order]],
        mesh.uvs.values[mesh.uvs.index[order]],
        mesh.tangents.values[mesh.tangents.index[order]],
    ]


def degrees(a, b):
    a, b = (x[..., :3].astype(np.float64) for x in (a, b))
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))


def spin(axis, angle):
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    out = np.eye(4)
    out[:3, :3] += np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return out


def place(translation=(0, 0, 0), scale=(1, 1, 1)):
    out = np.diag([*scale, 1.0]).astype(float)
    out[:3, 3] = translation
    return out


def parts():
    """Two materials on three nodes of a tree: a pivot, a stretched and mirrored part, its turned child."""
    asset = jar()
    count = len(asset.mesh.faces)
    asset.mesh.face_material = (np.arange(count) % 2).astype(np.int32)
    asset.mesh.face_node = np.where(np.arange(count) < count // 2, 1, 2).astype(np.int32)
    asset.materials = [asset.materials[0], replace(asset.materials[0], name="second")]
    asset.nodes = [
        Node("pivot", place((5, -2, 1)) @ spin((1, 2, 3), 0.7)),
        Node("lid", spin((0, 1, 1), -1.2) @ place((0, 3, 0), (2.0, 0.5, -1.5)), 0, "Lid mesh"),
        Node("knob", place((0.1, 0, 0)) @ spin((1, 0, 0), 2.0), 1, "Knob mesh"),
    ]
    return asset


def test_nodes_keep_names_tree_and_transforms_and_the_world_stays(tmp_path):
    asset = parts()
    assert write_glb(tmp_path / "a.glb", asset) == []
    content = content_of(tmp_path / "a.glb")
    assert [node["name"] for node in content["nodes"]] == ["pivot", "lid", "knob"]
    assert content["scenes"] == [{"nodes": [0]}]
    assert [node.get("children") for node in content["nodes"]] == [[1], [2], None]
    assert [mesh["name"] for mesh in content["meshes"]] == ["Lid mesh", "Knob mesh"]
    assert [len(mesh["primitives"]) for mesh in content["meshes"]] == [2, 2]
    from stspbr.formats.gltf.scene_graph import node_matrix

    for written, node in zip(content["nodes"], asset.nodes, strict=True):
        np.testing.assert_allclose(node_matrix(written), node.local_to_parent, atol=1e-12)
    order = np.lexsort((asset.mesh.face_material, asset.mesh.face_node))
    back = read_gltf(tmp_path / "a.glb").mesh
    for mine, theirs in zip(corners(asset.mesh, order), corners(back), strict=True):
        np.testing.assert_allclose(theirs[..., 3:], mine[..., 3:], atol=1e-6)
        np.testing.assert_allclose(theirs, mine, atol=3e-6)


def test_a_node_that_gltf_cannot_hold_is_noted_and_the_world_stays(tmp_path):
    asset = parts()
    asset.nodes[1].local_to_parent = asset.nodes[1].local_to_parent @ np.array(
        [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    asset.nodes[2].local_to_parent = place((1, 2, 3), (0.0, 1.0, 1.0))
    notes = write_glb(tmp_path / "a.glb", asset)
    assert [note.split(":")[0] for note in notes] == ["lid", "knob"] and "vertices keep" in notes[0]
    order = np.lexsort((asset.mesh.face_material, asset.mesh.face_node))
    for mine, theirs in zip(corners(asset.mesh, order), corners(read_gltf(tmp_path / "a.glb").mesh), strict=True):
        np.testing.assert_allclose(theirs, mine, atol=3e-6)


@pytest.mark.parametrize("make", [jar, parts], ids=["one node", "parts"])
def test_quantised_vertices_stay_within_the_documented_bounds(tmp_path, make):
    asset = make()
    owner = [np.zeros(len(asset.mesh.faces))] * 2 if make is jar else [asset.mesh.face_material, asset.mesh.face_node]
    mesh = asset.mesh
    for name, quantized in (("full", False), ("small", True)):
        assert write_glb(tmp_path / f"{name}.glb", asset, quantized=quantized) == []
    full, small = (content_of(tmp_path / f"{name}.glb") for name in ("full", "small"))
    assert small["extensionsRequired"] == ["KHR_mesh_quantization"] and "extensionsUsed" not in full
    assert small["buffers"][0]["byteLength"] < full["buffers"][0]["byteLength"]
    p, n, uv, t = corners(mesh, np.lexsort(owner))
    q = corners(read_gltf(tmp_path / "small.glb").mesh)
    if make is jar:
        side = np.ptp(mesh.positions, axis=0).max()
        worst = np.abs(q[0].astype(np.float64) - p).max()
        assert 0.1 * side / 131068 < worst <= side / 131068 + 1e-7
        assert degrees(q[1], n).max() < 0.0016 and degrees(q[3], t).max() < 0.4
    else:
        np.testing.assert_allclose(q[0], p, atol=1e-3)
        assert degrees(q[1], n).max() < 0.02
    assert np.abs(q[2].astype(np.float64) - uv).max() <= 1 / 131070 + 1e-7
    np.testing.assert_array_equal(q[3][..., 3], t[..., 3])


def test_quantised_parts_leave_the_tree_as_it_is(tmp_path):
    write_glb(tmp_path / "a.glb", parts(), quantized=True)
    nodes = content_of(tmp_path / "a.glb")["nodes"]
    assert [node["name"] for node in nodes] == [
        "pivot", "lid", "knob", "Lid mesh (quantised)", "Knob mesh (quantised)",
    ]  # fmt: skip
    assert nodes[1]["children"] == [3, 2] and nodes[2]["children"] == [4] and "mesh" not in nodes[1]


def test_uvs_that_leave_the_square_stay_floats(tmp_path):
    asset = jar()
    asset.mesh.uvs = Corners(asset.mesh.uvs.values * 2, asset.mesh.uvs.index)
    write_glb(tmp_path / "a.glb", asset, quantized=True)
    np.testing.assert_array_equal(corners(read_gltf(tmp_path / "a.glb").mesh)[2], corners(asset.mesh)[2])


def test_separate_files(tmp_path):
    asset = jar(occlusion=np.full((8, 8, 1), 0.5, np.float32))
    asset.materials[0].name = "gloss & ü"
    assert write_gltf(tmp_path / "my jar.gltf", asset) == []
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "my jar.gltf", "my_jar.bin", "my_jar_gloss_ü_albedo.png", "my_jar_gloss_ü_normal.png", "my_jar_gloss_ü_orm.png",
    ]  # fmt: skip
    content = json.loads((tmp_path / "my jar.gltf").read_text("utf-8"))
    for entry in (*content["buffers"], *content["images"]):
        assert (tmp_path / unquote(entry["uri"])).is_file() and " " not in entry["uri"] and entry["uri"].isascii()
    write_glb(tmp_path / "jar.glb", asset)
    for mine, theirs in zip(
        corners(read_gltf(tmp_path / "my jar.gltf").mesh), corners(read_gltf(tmp_path / "jar.glb").mesh), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("write", [write_glb, write_gltf])
def test_the_same_asset_gives_the_same_bytes(tmp_path, write):
    for folder in "ab":
        write(tmp_path / folder / "x.gltf", parts(), quantized=True)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_occlusion_is_there_only_if_something_is_occluded(tmp_path):
    for value in (None, 1.0, 0.5):
        open_sky = None if value is None else np.full((8, 8, 1), value, np.float32)
        write_gltf(tmp_path / "a.gltf", jar(occlusion=open_sky))
        (material,) = json.loads((tmp_path / "a.gltf").read_text())["materials"]
        packed = read_pixels(tmp_path / "a_glazed_jar_orm.png")
        assert ("occlusionTexture" in material) == (value == 0.5)
        np.testing.assert_allclose(packed[..., 0], value or 1.0, atol=1 / 255)
        assert material["doubleSided"] is False


def test_constant_occlusion_needs_no_uvs_but_directions_do(tmp_path):
    asset = jar(normal=False)
    mesh = replace(asset.mesh, uvs=None, tangents=None)
    flat = [np.full((1, 1, n), 0.5, np.float32) for n in (3, 1, 1, 1)]
    up = np.array([[[0, 0, 1]]], np.float32)
    write_glb(tmp_path / "a.glb", Asset(mesh, [Material(*flat, normal=up)]))
    (material,) = read_gltf(tmp_path / "a.glb").materials
    assert material.occlusion[0, 0, 0] == pytest.approx(0.5, abs=1 / 255) and material.normal is None
    with pytest.raises(StspbrError, match="no UVs"):
        write_glb(tmp_path / "b.glb", Asset(mesh, [Material(*flat, normal=up[..., ::-1])]))


def test_equal_maps_are_stored_once_and_tangents_go_where_a_map_uses_them(tmp_path):
    asset = parts()
    asset.materials[1] = replace(asset.materials[1], normal=None)
    write_glb(tmp_path / "a.glb", asset)
    content = content_of(tmp_path / "a.glb")
    assert len(content["images"]) == 3
    for mesh in content["meshes"]:
        assert ["TANGENT" in primitive["attributes"] for primitive in mesh["primitives"]] == [True, False]
    assert content["asset"]["extras"] == {"stspbr": stspbr.__version__}


def test_nodes_that_are_not_there_are_refused(tmp_path):
    asset = parts()
    asset.mesh.face_node[3] = 7
    with pytest.raises(StspbrError, match="node 7"):
        write_glb(tmp_path / "a.glb", asset)
    assert list(tmp_path.iterdir()) == []
