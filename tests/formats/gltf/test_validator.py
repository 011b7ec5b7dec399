"""What the Khronos validator says of our files: no error, no warning, and only remarks that we want."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.formats.gltf.writer import write_glb, write_gltf
from stspbr.geometry.tangents import with_frames
from stspbr.procedural.jar import demo_asset
from stspbr.scene import Asset, Corners, Material, Mesh, Node


def issues(judge, *paths):
    return [found for report in json.loads(judge("validate.js", *paths)) for found in report]


def painted(name="paint", size=(8, 8), *, seed=0, bumpy=True, occluded=True):
    rng = np.random.default_rng(seed)

    def values(channels):
        return rng.random((*size, channels), dtype=np.float32)

    normal = np.concatenate([values(2) - 0.5, np.ones((*size, 1), np.float32)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    occlusion = values(1) if occluded else None
    return Material(values(3), values(1), values(1), occlusion, normal if bumpy else None, name)


def plain(name="plain"):
    values = ((0.5, 0.2, 0.1), (0.3,), (1.0,))
    return Material(*(np.full((1, 1, len(v)), v, np.float32) for v in values), name=name)


def jar(*materials, bands=1):
    """A jar whose faces are dealt out to the materials in bands."""
    mesh = replace(demo_asset(8, around=12, along=8).mesh, tangents=None)
    mesh = with_frames(mesh)
    count = len(mesh.faces)
    face_material = (np.arange(count) * bands * len(materials) // count % len(materials)).astype(np.int32)
    return Asset(replace(mesh, face_material=face_material), list(materials), name="jar")


def repeated(mesh):
    return replace(mesh, uvs=Corners(mesh.uvs.values * 3 - 1, mesh.uvs.index))


def turned(angle, axis=2):
    c, s = np.cos(angle), np.sin(angle)
    out, (i, j) = np.eye(4), [k for k in range(3) if k != axis]
    out[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return out


def moved(*by, scale=(1.0, 1.0, 1.0)):
    out = np.diag([*scale, 1.0])
    out[:3, 3] = by
    return out


def tree(*, mirrored=False):
    """A jar in three parts on a tree with a turn, unequal scales and, if wanted, a mirror."""
    asset = jar(painted("lid"), plain("belly"), painted("foot", seed=5, occluded=False))
    flip = -1.0 if mirrored else 1.0
    asset.nodes = [
        Node("root", moved(10, 0, -2) @ turned(0.3)),
        Node("lid", turned(1.1, 0) @ moved(0, 1, 0, scale=(2.0, 0.5, 1.0 * flip)), 0, "Lid"),
        Node("belly", moved(0, 0, 3, scale=(0.1, 0.1, 0.1)), 0, "Belly"),
        Node("foot", turned(-2.0, 1), 2, "Foot"),
    ]
    asset.mesh.face_node = asset.mesh.face_material + 1
    return asset


def without_uvs():
    asset = jar(plain(), replace(plain("shaded"), occlusion=np.full((1, 1, 1), 0.5, np.float32)))
    mesh = replace(asset.mesh, uvs=None, tangents=None)
    return replace(asset, mesh=mesh)


CASES = {
    "the demo": lambda: demo_asset(32, around=16, along=12),
    "several materials": lambda: jar(painted(), plain(), painted("other", seed=3, bumpy=False), bands=3),
    "a material without triangles": lambda: replace(jar(painted()), materials=[painted(), painted("spare")]),
    "nodes": tree,
    "mirrored nodes": lambda: tree(mirrored=True),
    "no UVs": without_uvs,
    "no normals": lambda: Asset(Mesh(*(lambda m: (m.positions, m.faces))(jar(plain()).mesh)), [plain()]),
    "one-texel maps": lambda: jar(painted(size=(1, 1)), painted("strip", (1, 16))),
    "UVs that repeat": lambda: Asset(repeated(jar(painted()).mesh), [painted()]),
    "odd names": lambda: replace(
        jar(painted('a "b" \\ / ü 漢\n\t?#%20'), painted("")), name="../x y&z\u0000\ud800"
    ),
}  # fmt: skip


@pytest.mark.parametrize("quantized", [False, True], ids=["full", "quantised"])
def test_nothing_is_found(tmp_path, node_judge, quantized):
    paths, bits = [], [8, 16]
    for number, make in enumerate(CASES.values()):
        asset = make()
        paths += [tmp_path / f"{number}.glb", tmp_path / str(number) / "an asset #1.gltf"]
        for path, write in zip(paths[-2:], (write_glb, write_gltf), strict=True):
            assert write(path, asset, texture_bits=bits[number % 2], quantized=quantized) == []
    found = issues(node_judge, *paths)
    # UVs stay where no map uses them yet: whoever unwrapped the mesh wants to paint it.
    assert [one for one in found if not one["pointer"].endswith("/TEXCOORD_0")] == []
    assert {(one["severity"], one["code"]) for one in found} == {("info", "UNUSED_OBJECT")}


def test_odd_sizes_are_a_remark_only(tmp_path, node_judge):
    write_glb(tmp_path / "a.glb", jar(painted(size=(5, 7))), texture_bits=16)
    found = issues(node_judge, tmp_path / "a.glb")
    assert {(one["severity"], one["code"]) for one in found} == {("info", "IMAGE_NPOT_DIMENSIONS")}


def test_the_judge_sees_what_is_wrong(tmp_path, node_judge):
    """Guards the guard: a tangent of the wrong length and a normal map that nobody gave UVs."""
    write_gltf(tmp_path / "a.gltf", jar(painted()))
    content = json.loads((tmp_path / "a.gltf").read_text("utf-8"))
    primitive = content["meshes"][0]["primitives"][0]
    primitive["attributes"]["NORMAL"] = primitive["attributes"]["POSITION"]
    del primitive["attributes"]["TEXCOORD_0"]
    (tmp_path / "a.gltf").write_text(json.dumps(content), "utf-8")
    codes = {one["code"] for one in issues(node_judge, tmp_path / "a.gltf") if one["severity"] == "error"}
    assert {"ACCESSOR_VECTOR3_NON_UNIT", "MESH_PRIMITIVE_TOO_FEW_TEXCOORDS"} <= codes
