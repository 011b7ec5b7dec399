"""Assets far from the origin: nothing of their shape is lost, and every writer puts them back where they were."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stspbr.formats.asset_writer import write_asset
from stspbr.formats.assets import read_asset
from stspbr.scene.asset import Asset, Node
from stspbr.scene.material import Material
from stspbr.scene.mesh import Mesh
from stspbr.scene.origin import shift

PLACE = np.array([512345.678, 5403210.123, 431.5])
GREY = Material(*(np.full((1, 1, channels), 0.5, np.float32) for channels in (3, 1, 1)), name="grey")


def grid(side=12, size=0.3):
    """A bent sheet ``[V, 3]`` float64 about the origin, and its triangles."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, side) * size, np.linspace(-0.5, 0.5, side) * size)
    points = np.stack([x.ravel(), y.ravel(), 2 * x.ravel() ** 2], axis=1)
    a = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    return points, np.concatenate(
        [np.stack([a, a + 1, a + side], axis=1), np.stack([a + 1, a + side + 1, a + side], axis=1)]
    )


def obj(path, points, faces):
    rows = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points] + ["f {} {} {}".format(*(face + 1)) for face in faces]
    path.write_text("\n".join(rows) + "\n")
    return read_asset(path)


def world(asset: Asset):
    """Triangles ``[F, 3, 3]`` in the file's coordinates, sorted."""
    corners = (asset.mesh.positions.astype(np.float64) + asset.origin)[asset.mesh.faces]
    return corners[np.lexsort(corners.mean(axis=1).T.round(5))]


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".obj", ".ply", ".usda", ".usdz"])
def test_every_format_keeps_shape_and_place(tmp_path, suffix):
    if suffix.startswith(".usd"):
        pytest.importorskip("pxr")
    points, faces = grid()
    asset = obj(tmp_path / "a.obj", points + PLACE, faces)
    assert len(asset.mesh.positions) == len(points) and len(asset.mesh.faces) == len(faces)
    assert np.linalg.norm(asset.origin - PLACE) < 1 and np.abs(asset.mesh.positions).max() < 1
    for _ in range(2):  # what is read again is written again
        write_asset(tmp_path / f"b{suffix}", asset)
        asset = read_asset(tmp_path / f"b{suffix}")
        assert len(asset.mesh.positions) == len(points)
        sound = (points.round(6) + PLACE)[faces]
        assert (
            np.abs(world(asset).mean(axis=1) - sound.mean(axis=1)[np.lexsort(sound.mean(axis=1).T.round(5))]).max()
            < 2e-6
        )


def test_the_offset_is_a_translation_of_a_node(tmp_path):
    points, faces = grid()
    write_asset(tmp_path / "a.glb", obj(tmp_path / "a.obj", points + PLACE, faces))
    data = (tmp_path / "a.glb").read_bytes()
    content = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    (node,) = content["nodes"]
    assert np.linalg.norm(np.array(node["translation"]) - PLACE) < 1
    position = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert np.abs([position["min"], position["max"]]).max() < 1


def test_nodes_whose_vertices_are_far_and_nodes_that_are_far_themselves(tmp_path):
    points, faces = grid()
    mesh = Mesh(points.astype(np.float32), faces.astype(np.int32), face_node=np.full(len(faces), 2, np.int32))
    nodes = [Node("root", np.eye(4)), Node("place", shift(PLACE), 0), Node("sheet", np.eye(4), 1, "sheet")]
    write_asset(
        tmp_path / "a.glb", Asset(mesh, [GREY], nodes=[Node("root", np.eye(4)), *nodes[1:]]).transformed(shift(PLACE))
    )
    again = read_asset(tmp_path / "a.glb")
    assert np.abs(world(again).mean(axis=(0, 1)) - PLACE - points[faces].mean(axis=(0, 1))).max() < 1e-6
    assert [node.name for node in again.nodes] == ["root", "place", "sheet"]


def test_a_near_asset_keeps_its_bits(tmp_path):
    points, faces = grid()
    asset = obj(tmp_path / "a.obj", points + (3.0, 2.0, 1.0), faces)
    assert not asset.origin.any()
    assert np.array_equal(
        np.unique(asset.mesh.positions, axis=0),
        np.unique((points.round(6) + (3, 2, 1)).round(6).astype(np.float32), axis=0),
    )


def test_a_similarity_moves_mesh_nodes_and_normals_and_its_inverse_moves_them_back(tmp_path):
    points, faces = grid()
    asset = obj(tmp_path / "a.obj", points, faces)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    matrix = shift(PLACE)
    matrix[:3, :3] = 2.5 * turn * np.sign(np.linalg.det(turn))
    moved = asset.transformed(matrix)
    assert moved.origin.any()
    placed = moved.mesh.positions.astype(np.float64) + moved.origin
    assert np.abs(placed - (asset.mesh.positions @ matrix[:3, :3].T + PLACE)).max() < 1e-6
    back = moved.transformed(np.linalg.inv(matrix))
    assert not back.origin.any() and np.abs(back.mesh.positions - asset.mesh.positions).max() < 1e-6
