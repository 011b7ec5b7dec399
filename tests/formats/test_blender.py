"""The script for Blender, run against a stand-in that records what it is asked; and the light's turn, by formula."""

from __future__ import annotations

import runpy
import sys
from unittest import mock

import numpy as np

from stspbr.formats.blender import SCRIPT, write_blender
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.scene import latlong_to_direction
from stspbr.scene.light import direction_to_latlong


def recorded(folder) -> tuple[mock.MagicMock, dict[str, list]]:
    """Run the script with a ``bpy`` that imports one material; nodes by the type that they were made with."""
    bpy, nodes = mock.MagicMock(), {}

    def made(kind):
        node = mock.MagicMock(name=kind)
        sockets = ("IOR", "Surface", "Base Color", "Roughness", "Metallic", "Normal", "Color", "Vector", "Rotation")
        node.inputs = {name: mock.MagicMock(name=name) for name in sockets}
        node.outputs = {name: (node, name) for name in ("BSDF", "Color", "Normal", "Generated", "Vector", "Background")}
        nodes.setdefault(kind, []).append(node)
        return node

    material = mock.MagicMock()
    material.name = "glazed_jar.001"
    material.node_tree.nodes.new.side_effect = made
    bpy.data.worlds.new.return_value.node_tree.nodes.new.side_effect = made
    held: list = []
    bpy.data.materials.__iter__.side_effect = lambda: iter(held)
    bpy.ops.import_scene.gltf.side_effect = lambda filepath: held.append(material)
    bpy.data.texts = []
    bpy.data.images.load.side_effect = lambda path, check_existing: mock.MagicMock(path=path)
    with mock.patch.dict(sys.modules, {"bpy": bpy}):
        runpy.run_path(str(folder / SCRIPT))
    return bpy, nodes


def test_the_script_finds_the_files_and_their_colour_spaces(tmp_path):
    asset = demo_asset(8, around=12, along=8)
    asset.materials[0].normal = np.broadcast_to(np.array([0, 0, 1], np.float32), (8, 8, 3))
    asset.materials[0].metallic = np.full((1, 1, 1), 0.25, np.float32)
    write_blender(tmp_path, asset, demo_light(16))
    bpy, nodes = recorded(tmp_path)
    assert bpy.ops.import_scene.gltf.call_args.kwargs == {"filepath": str(tmp_path / "asset.glb")}
    images = {node.label: node.image for node in nodes["ShaderNodeTexImage"]}
    assert set(images) == {"albedo", "roughness", "normal"}
    for channel, image in images.items():
        assert image.path == str(tmp_path / "maps" / f"glazed_jar_{channel}.png") and (tmp_path / "maps").is_dir()
        assert (image.colorspace_settings.name == "Non-Color") == (channel != "albedo")
    (shader,) = nodes["ShaderNodeBsdfPrincipled"]
    assert shader.inputs["Metallic"].default_value == 0.25 and shader.inputs["IOR"].default_value == 1.5
    (sky,) = nodes["ShaderNodeTexEnvironment"]
    assert sky.image.path == str(tmp_path / "light.exr")


def test_the_light_points_where_ours_does(tmp_path):
    write_blender(tmp_path, demo_asset(8, around=12, along=8), demo_light(16))
    _, nodes = recorded(tmp_path)
    (turn,) = nodes["ShaderNodeMapping"]
    assert turn.vector_type == "POINT"
    x, y, z = turn.inputs["Rotation"].default_value
    assert x == y == 0.0
    rng = np.random.default_rng(0)
    ours = latlong_to_direction(rng.uniform(0.01, 0.99, (64, 2)))
    blender = np.stack([ours[:, 0], -ours[:, 2], ours[:, 1]], axis=1)  # the importer's turn to Z-up
    looked = blender @ np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
    # Blender's equirectangular lookup: u = ½ − atan2(y, x)/2π, v = acos(z)/π from the top
    u = (0.5 - np.arctan2(looked[:, 1], looked[:, 0]) / (2 * np.pi)) % 1.0
    v = np.arccos(looked[:, 2]) / np.pi
    np.testing.assert_allclose(np.stack([u, v], axis=1), direction_to_latlong(ours) % 1.0, atol=1e-9)


def test_without_a_light_the_world_is_left_alone(tmp_path):
    write_blender(tmp_path, demo_asset(8, around=12, along=8))
    bpy, nodes = recorded(tmp_path)
    assert not bpy.data.worlds.new.called and "ShaderNodeTexEnvironment" not in nodes
