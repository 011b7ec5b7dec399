"""glTF: what is written is read again exactly, and every rule of the format has a case that can fail."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import encode_png
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

BLACK = encode_png(np.zeros((1, 1, 3)), bits=8, srgb=False)
MESHES = Path(__file__).parents[3] / "../shared/assets/meshes"


def level(array):
    """Values that 8 bits hold exactly."""
    return np.rint(np.asarray(array, np.float64) * 255).astype(np.float32) / np.float32(255)


def checker(height, width, channels, seed):
    return level(np.random.default_rng(seed).random((height, width, channels)))


def material(seed, size=(4, 8), name="paint"):
    return Material(
        albedo=srgb_to_linear(checker(*size, 3, seed)),
        roughness=checker(*size, 1, seed + 1),
        metallic=checker(*size, 1, seed + 2),
        occlusion=checker(*size, 1, seed + 3),
        normal=checker(*size, 3, seed + 4) * 2 - 1,
        name=name,
    )


def two_quads(materials):
    """Two squares that share an edge, each with its own material, UVs and tangents."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]], np.int32)
    uvs = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [0.25, 0.75], [0.5, 0.125]], np.float32)
    normals = np.array([[0, 0, 1], [0, 0.6, 0.8]], np.float32)
    tangents = np.array([[1, 0, 0, 1], [1, 0, 0, -1]], np.float32)
    own = np.array([[0] * 3, [0] * 3, [1] * 3, [1] * 3], np.int32)
    uv_faces = np.array([[0, 1, 2], [0, 2, 3], [3, 4, 5], [3, 5, 0]], np.int32)
    mesh = Mesh(
        positions,
        faces,
        Corners(uvs, uv_faces),
        Corners(normals, own),
        Corners(tangents, own),
        np.array([0, 0, 1, 1], np.int32),
    )
    return Asset(mesh, materials, name="quads")


def corners(mesh):
    out = {"positions": mesh.positions[mesh.faces]}
    return out | {name: own.values[own.index] for name, own in mesh.attributes()}


def assert_equal(first, second, tolerance=1e-6):
    a, b = corners(first.mesh), corners(second.mesh)
    if not any(m.normal is not None for m in first.materials):
        a.pop("tangents", None)  # nothing uses them: they are not written
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    assert np.array_equal(first.mesh.face_material, second.mesh.face_material)
    for p, q in zip(first.materials, second.materials, strict=True):
        assert p.name == q.name
        for name in ("albedo", "roughness", "metallic", "occlusion", "normal"):
            x, y = getattr(p, name), getattr(q, name)
            assert (x is None) == (y is None), name
            assert x is None or (x.shape == y.shape and np.abs(x - y).max() <= tolerance), name


def split(glb: bytes):
    size = struct.unpack_from("<I", glb, 12)[0]
    return json.loads(glb[20 : 20 + size]), glb[28 + size :]


def gltf(path, changes=None, positions=((0, 0, 0), (1, 0, 0), (0, 1, 0)), extra=None, images=()):
    """A small ``.gltf``: one triangle, more accessors by name, images as data URIs."""
    arrays = {"POSITION": np.asarray(positions, np.float32)} | {k: np.asarray(v) for k, v in (extra or {}).items()}
    kinds = {np.dtype(np.float32): 5126, np.dtype(np.uint16): 5123, np.dtype(np.uint8): 5121, np.dtype(np.int8): 5120}
    blob, views, accessors = b"", [], []
    for array in arrays.values():
        array = np.ascontiguousarray(array)
        blob += b"\0" * (-len(blob) % 4)
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        kind = {1: "SCALAR"}.get(array.ndim) or f"VEC{array.shape[1]}"
        entry = {"bufferView": len(views) - 1, "componentType": kinds[array.dtype], "count": len(array), "type": kind}
        accessors.append(entry | ({"normalized": True} if array.dtype == np.int8 else {}))
        blob += array.tobytes()
    attributes = {name: k for k, name in enumerate(arrays) if name != "indices"}
    primitive = {"attributes": attributes}
    if "indices" in arrays:
        primitive["indices"] = list(arrays).index("indices")
    uri = "data:application/octet-stream;base64,"
    content = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob), "uri": uri + base64.b64encode(blob).decode()}],
        "images": [{"uri": "data:image/png;base64," + base64.b64encode(image).decode()} for image in images],
        "textures": [{"source": k} for k in range(len(images))],
    }
    (changes or (lambda _: None))(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("bits", [8, 16])
def test_round_trip_with_two_materials(tmp_path, bits):
    asset = two_quads([material(1, name="red"), material(20, (8, 2), name="blue")])
    assert write_glb(tmp_path / "a.glb", asset, texture_bits=bits) == []
    assert_equal(asset, read_gltf(tmp_path / "a.glb"))
    assert len(read_gltf(tmp_path / "a.glb").mesh.positions) == 6  # welded over the materials' border


def test_16_bits_keep_what_8_do_not(tmp_path):
    asset = two_quads([material(1), material(2, name="other")])
    asset.materials[0].roughness = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8, 1) ** 2
    errors = []
    for bits in (8, 16):
        write_glb(tmp_path / "a.glb", asset, texture_bits=bits)
        errors.append(np.abs(read_gltf(tmp_path / "a.glb").materials[0].roughness - asset.materials[0].roughness).max())
    assert errors[0] > 1e-3 and errors[1] < 1e-5


def test_written_json_is_as_gltf_wants_it(tmp_path):
    write_glb(tmp_path / "a.glb", two_quads([material(1), material(2, name="other")]))
    data = (tmp_path / "a.glb").read_bytes()
    content, _ = split(data)
    assert len(data) % 4 == 0 and struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
    first = content["meshes"][0]["primitives"][0]
    assert set(first["attributes"]) == {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0"}
    position = content["accessors"][first["attributes"]["POSITION"]]
    assert position["min"] == [0, 0, 0] and position["max"] == [1, 1, 0] and position["count"] == 4
    pbr = content["materials"][0]["pbrMetallicRoughness"]
    assert pbr["roughnessFactor"] == pbr["metallicFactor"] == 1.0
    assert content["materials"][0]["occlusionTexture"] == pbr["metallicRoughnessTexture"]
    assert content["images"][0]["name"] == "paint_albedo"
    assert all(view["byteOffset"] % 4 == 0 for view in content["bufferViews"])


def test_the_same_asset_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_glb(tmp_path / f"{name}.glb", two_quads([material(1), material(2, name="other")]))
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_constants_become_factors_and_missing_maps_stay_missing(tmp_path):
    constant = [np.full((1, 1, c), v, np.float32) for c, v in ((3, 0.3), (1, 0.15), (1, 0.0))]
    asset = two_quads([Material(*constant, name="a"), material(3, name="b")])
    asset.materials[1].occlusion = asset.materials[1].normal = None
    write_glb(tmp_path / "a.glb", asset)
    assert_equal(asset, read_gltf(tmp_path / "a.glb"), tolerance=1e-7)


def test_maps_of_different_sizes_are_packed_together(tmp_path):
    asset = two_quads([material(1), material(5, name="other")])
    asset.materials[0].metallic = level(np.array([[[0.2], [0.8]]]))
    write_glb(tmp_path / "a.glb", asset)
    metallic = read_gltf(tmp_path / "a.glb").materials[0].metallic
    assert metallic.shape == (4, 8, 1)
    assert np.allclose(metallic[:, :4], 0.2, atol=1e-3) and np.allclose(metallic[:, 4:], 0.8, atol=1e-3)


def test_odd_sizes_are_kept_and_noted(tmp_path):
    asset = two_quads([material(1, (4, 6)), material(2, name="other")])
    notes = write_glb(tmp_path / "a.glb", asset)
    assert len(notes) == 3 and "paint: the albedo map is 6×4" in notes[0]
    assert read_gltf(tmp_path / "a.glb").materials[0].albedo.shape == (4, 6, 3)


def test_missing_normals_are_written_smooth(tmp_path):
    asset = two_quads([material(1), material(2, name="other")])
    asset.mesh.normals = asset.mesh.tangents = None
    write_glb(tmp_path / "a.glb", asset)
    mesh = read_gltf(tmp_path / "a.glb").mesh
    assert np.array_equal(np.unique(mesh.normals.values, axis=0), [[0, 0, 1]]) and mesh.tangents is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: setattr(a.mesh, "uvs", None), "no UVs"),
        (lambda a: a.mesh.positions.__setitem__((0, 0), np.nan), "positions are not all finite"),
        (lambda a: a.materials[0].albedo.__setitem__((0, 0, 0), np.nan), "maps of paint"),
        (lambda a: a.mesh.face_material.__setitem__(0, 5), "material 5"),
        (lambda a: setattr(a.mesh, "faces", a.mesh.faces[:0]), "no triangles"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, spoil, message):
    asset = two_quads([material(1), material(2, name="other")])
    spoil(asset)
    with pytest.raises(StspbrError, match=message):
        write_glb(tmp_path / "a.glb", asset)
    assert list(tmp_path.iterdir()) == []


def test_factors_colour_spaces_and_channels(tmp_path):
    base = np.array([[[188, 0, 0], [0, 188, 0]]], np.float32) / 255
    orm = np.array([[[51, 102, 204], [255, 0, 255]]], np.float32) / 255
    normal = np.array([[[255, 128, 128], [128, 128, 255]]], np.float32) / 255

    def change(content):
        primitive = content["meshes"][0]["primitives"][0]
        primitive["material"] = 0
        content["materials"] = [
            {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "baseColorFactor": [0.5, 1.0, 1.0, 0.2],
                    "metallicRoughnessTexture": {"index": 1},
                    "roughnessFactor": 0.5,
                    "metallicFactor": 0.25,
                },
                "occlusionTexture": {"index": 1, "strength": 0.5},
                "normalTexture": {"index": 2, "scale": 2.0},
                "emissiveFactor": [1, 0, 0],
            }
        ]

    images = [encode_png(image, bits=8, srgb=False) for image in (base, orm, normal)]
    asset = read_gltf(
        gltf(tmp_path / "a.gltf", change, extra={"TEXCOORD_0": np.zeros((3, 2), np.float32)}, images=images)
    )
    (m,) = asset.materials
    assert m.albedo[0] == pytest.approx(np.array([[0.5 * 0.5028865, 0, 0], [0, 0.5028865, 0]]), abs=1e-6)
    assert m.roughness[0, :, 0] == pytest.approx([0.2, 0.0]) and m.metallic[0, :, 0] == pytest.approx([0.2, 0.25])
    assert m.occlusion[0, :, 0] == pytest.approx([0.6, 1.0])
    raw = normal[0, 0] * 2 - 1
    expected = np.array([raw[0] * 2, raw[1] * 2, raw[2]])
    assert m.normal[0, 0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert any("emission" in note for note in asset.extras["notes"])


def test_node_transforms_turn_positions_normals_and_tangents(tmp_path):
    half = np.sqrt(0.5)

    def change(content):
        content["nodes"] = [
            {"children": [1], "translation": [10, 0, 0]},
            {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, -1]},  # +90° about Z, mirrored
        ]

    extra = {
        "NORMAL": np.array([[half, half, 0]] * 3, np.float32),
        "TANGENT": np.array([[half, -half, 0, 1]] * 3, np.float32),
    }
    mesh = read_gltf(gltf(tmp_path / "a.gltf", change, positions=[[0, 0, 0], [1, 0, 0], [0, 1, 3]], extra=extra)).mesh
    # (x, y, z) → scale (2x, y, −z) → turn (−y, 2x, −z) → move
    assert mesh.positions[mesh.faces[0]] == pytest.approx(
        np.array([[10, 0, 0], [9, 0, -3], [10, 2, 0]])  # corners 0, 2, 1: mirroring turns the winding
    )
    n = np.array([-1, 0.5, 0]) / np.hypot(1, 0.5)  # inverse transpose of scale, then the turn
    t = np.array([1, 2, 0]) / np.hypot(1, 2)
    assert mesh.normals.values[mesh.normals.index[0, 0]] == pytest.approx(n, abs=1e-6)
    assert mesh.tangents.values[mesh.tangents.index[0, 0]] == pytest.approx([*t, -1], abs=1e-6)


def test_the_scene_s_nodes_come_along(tmp_path):
    """A tree with an empty, one mesh in two places, and a node outside of the scene."""

    def change(content):
        content["nodes"] = [
            {"mesh": 0, "translation": [0, 0, 5], "name": "right"},
            {"name": "rig", "children": [3, 0, 4], "scale": [2, 2, 2]},
            {"mesh": 0, "name": "not shown"},
            {"mesh": 0},
            {"name": "socket", "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]},
        ]
        content["scenes"] = [{"nodes": [1]}]
        content["meshes"][0]["name"] = "leaf"

    asset = read_gltf(gltf(tmp_path / "a.gltf", change))
    found = [(n.name, n.parent, n.mesh) for n in asset.nodes]
    assert found == [("rig", None, None), ("leaf", 0, "leaf"), ("right", 0, "leaf"), ("socket", 0, None)]
    assert asset.nodes[0].local_to_parent.tolist() == np.diag([2.0, 2, 2, 1]).tolist()
    assert asset.nodes[3].local_to_parent[:3, 3].tolist() == [7, 8, 9]
    assert asset.mesh.face_node.tolist() == [1, 2]
    for face, node in zip(asset.mesh.faces, asset.mesh.face_node, strict=True):
        world = asset.nodes[0].local_to_parent @ asset.nodes[node].local_to_parent
        local = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]])
        assert asset.mesh.positions[face] == pytest.approx((local @ world.T)[:, :3])
    cycle = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    with pytest.raises(StspbrError, match="cycle"):
        read_gltf(gltf(tmp_path / "b.gltf", lambda content: content.update(nodes=cycle)))


@pytest.mark.parametrize("needed", [False, True])
def test_tangents_of_some_primitives_are_kept_unless_a_normal_map_lacks_its_own(tmp_path, needed):
    def change(content):
        first = content["meshes"][0]["primitives"][0]
        bare = {"attributes": {k: v for k, v in first["attributes"].items() if k != "TANGENT"}, "material": 0}
        content["meshes"][0]["primitives"] = [first, bare]
        content["materials"] = [{"normalTexture": {"index": 0}} if needed else {}]

    extra = {
        "NORMAL": np.array([[0, 0, 1]] * 3, np.float32),
        "TANGENT": np.array([[1, 0, 0, -1]] * 3, np.float32),
        "TEXCOORD_0": np.array([[0, 0], [1, 0], [0, 1]], np.float32),
    }
    mesh = read_gltf(gltf(tmp_path / "a.gltf", change, extra=extra, images=[BLACK])).mesh
    found = None if mesh.tangents is None else mesh.tangents.values[mesh.tangents.index].tolist()
    assert found == (None if needed else [[[1, 0, 0, -1]] * 3, [[0, 0, 0, 0]] * 3])


@pytest.mark.parametrize(("wrap", "reach", "noted"), [(33648, 2.0, True), (33648, 1.0, False), (10497, 2.0, False)])
def test_textures_that_mirror_outside_of_the_square_are_noted(tmp_path, wrap, reach, noted):
    def change(content):
        content["meshes"][0]["primitives"][0]["material"] = 0
        content["materials"] = [{"name": "tiles", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
        content["samplers"] = [{"wrapS": wrap}]
        content["textures"][0]["sampler"] = 0

    extra = {"TEXCOORD_0": np.array([[0, 0], [reach, 0], [0, 1]], np.float32)}
    notes = read_gltf(gltf(tmp_path / "a.gltf", change, extra=extra, images=[BLACK])).extras.get("notes", [])
    assert any("tiles: textures that clamp or mirror" in note for note in notes) == noted


def test_missing_normals_are_flat_on_reading(tmp_path):
    mesh = read_gltf(gltf(tmp_path / "a.gltf")).mesh
    assert mesh.normals.values.tolist() == [[0, 0, 1]] and mesh.uvs is None
    material = read_gltf(tmp_path / "a.gltf").materials[0]  # glTF's default material
    assert (material.roughness[0, 0, 0], material.metallic[0, 0, 0]) == (1.0, 1.0)


def test_strips_fans_normalised_integers_and_sparse_rows(tmp_path):
    square = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]

    def mode(value):
        return lambda content: content["meshes"][0]["primitives"][0].update(mode=value)

    strip = read_gltf(gltf(tmp_path / "a.gltf", mode(5), positions=square)).mesh
    assert strip.normals.values.tolist() == [[0, 0, 1]] and len(strip.faces) == 2
    indices = np.array([0, 1, 3, 2], np.uint16)
    fan = read_gltf(gltf(tmp_path / "b.gltf", mode(6), positions=square, extra={"indices": indices})).mesh
    assert fan.normals.values.tolist() == [[0, 0, 1]] and len(fan.faces) == 2
    packed = {"NORMAL": np.array([[0, 127, 0]] * 3, np.int8)}
    assert read_gltf(gltf(tmp_path / "c.gltf", extra=packed)).mesh.normals.values.tolist() == [[0, 1, 0]]

    def sparse(content):
        for data in (np.array([1], np.uint8).tobytes() + b"\0\0\0", np.array([5, 0, 0], np.float32).tobytes()):
            uri = "data:;base64," + base64.b64encode(data).decode()
            content["buffers"].append({"byteLength": len(data), "uri": uri})
            content["bufferViews"].append({"buffer": len(content["buffers"]) - 1, "byteLength": len(data)})
        content["accessors"][0]["sparse"] = {
            "count": 1,
            "indices": {"bufferView": 1, "componentType": 5121},
            "values": {"bufferView": 2},
        }

    assert read_gltf(gltf(tmp_path / "d.gltf", sparse)).mesh.positions[:, 0].max() == 5


def test_second_texture_coordinates_and_their_transform(tmp_path):
    uvs = {
        "TEXCOORD_0": np.zeros((3, 2), np.float32),
        "TEXCOORD_1": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
    }

    half_moved = {"texCoord": 1, "extensions": {"KHR_texture_transform": {"offset": [0.25, 0]}}}

    def change(transform, normalTexture=None, **others):  # noqa: N803  # glTF's own name
        def apply(content):
            content["meshes"][0]["primitives"][0]["material"] = 0
            info = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": transform}}
            pbr = {"baseColorTexture": info} | {key: {"index": 0, **other} for key, other in others.items()}
            content["materials"] = [{"pbrMetallicRoughness": pbr}]
            if normalTexture:
                content["materials"][0]["normalTexture"] = {"index": 0, **normalTexture}
            content["extensionsRequired"] = ["KHR_texture_transform"]

        return apply

    moved = change({"scale": [2, 3], "rotation": np.pi / 2, "offset": [0.25, 0]})
    mesh = read_gltf(gltf(tmp_path / "a.gltf", moved, extra=uvs, images=[BLACK])).mesh
    # (u, v) → (2u, 3v) → a quarter turn, seen counter-clockwise with v down: (3v, −2u) → moved
    assert mesh.uvs.values[mesh.uvs.index[0]] == pytest.approx(np.array([[0.25, -2], [3.25, 0], [3.25, -2]]), abs=1e-6)
    for other, note in (
        ({"texCoord": 0}, "the normal map has its own set of texture coordinates and is left out"),
        (half_moved, "the normal map has its own texture transform and is left out"),
    ):
        path = gltf(tmp_path / "b.gltf", change({"scale": [2, 2]}, normalTexture=other), extra=uvs, images=[BLACK])
        asset = read_gltf(path)
        assert asset.materials[0].normal is None and any(note in line for line in asset.extras["notes"])
        path = gltf(tmp_path / "c.gltf", change({}, metallicRoughnessTexture=other), extra=uvs, images=[BLACK])
        with pytest.raises(StspbrError, match="metallic-roughness map of material_0 has its own"):
            read_gltf(path)


def test_a_map_that_repeats_whole_times_within_the_others_is_repeated(tmp_path):
    """A detail normal map, four times in u and twice in v, under an untiled base colour; and the other way round."""
    normal = checker(2, 2, 3, 5)

    def asset(base, detail):
        def apply(content):
            content["meshes"][0]["primitives"][0]["material"] = 0
            infos = [
                {"index": k, "extensions": {"KHR_texture_transform": {"scale": s}}}
                for k, s in enumerate([base, detail])
            ]
            content["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": infos[0]}, "normalTexture": infos[1]}]

        uvs = {"TEXCOORD_0": np.array([[0, 0], [1, 0], [0, 1]], np.float32)}
        images = [encode_png(checker(2, 2, 3, 4), bits=8, srgb=False), encode_png(normal, bits=8, srgb=False)]
        return read_gltf(gltf(tmp_path / "a.gltf", apply, extra=uvs, images=images))

    tiled = asset([1, 1], [4, 2])
    assert tiled.materials[0].normal == pytest.approx(np.tile(normal, (2, 4, 1)) * 2 - 1)
    assert tiled.mesh.uvs.values.max() == 1
    turned = asset([4, 2], [1, 1])
    assert turned.materials[0].albedo.shape == (4, 8, 3) and turned.materials[0].normal.shape == (2, 2, 3)
    assert turned.mesh.uvs.values.max() == 1


@pytest.mark.parametrize("keep", [0, 3, 16, 100, 0.5, 0.999])
def test_truncated_glb_is_named(tmp_path, keep):
    path = tmp_path / "a.glb"
    write_glb(path, two_quads([material(1), material(2, name="other")]))
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep >= 3 or keep == 0 else int(len(data) * keep)])
    with pytest.raises(StspbrError, match=r"a\.glb is truncated"):
        read_gltf(path)


def test_bad_files_are_named(tmp_path):
    cases = {
        "requires KHR_draco.*without Draco": lambda c: c.update(extensionsRequired=["KHR_draco_mesh_compression"]),
        "requires EXT_unheard": lambda c: c.update(extensionsRequired=["EXT_unheard"]),
        "is glTF 1.0": lambda c: c["asset"].update(version="1.0"),
        "gone.bin, which does not exist": lambda c: c["buffers"][0].update(uri="gone.bin"),
        "not valid glTF": lambda c: c["nodes"][0].update(mesh=7),
        "leaves its buffer": lambda c: c["accessors"][0].update(count=400),
        "holds no triangles": lambda c: c["meshes"][0]["primitives"][0].update(mode=1),
        "buffer 0 is too short": lambda c: c["buffers"][0].update(byteLength=1000),
    }
    for message, change in cases.items():
        with pytest.raises(StspbrError, match=message):
            read_gltf(gltf(tmp_path / "a.gltf", change))
    with pytest.raises(StspbrError, match="does not exist"):
        read_gltf(tmp_path / "gone.glb")
    (tmp_path / "a.gltf").write_text("{")
    with pytest.raises(StspbrError, match="truncated or not glTF"):
        read_gltf(tmp_path / "a.gltf")
    for path, message in (("a.fbx", "use .glb"), ("a", "without suffix")):
        with pytest.raises(StspbrError, match=message):
            read_asset(tmp_path / path)


def test_broken_texture_is_named(tmp_path):
    image = encode_png(np.random.default_rng(0).random((8, 8, 3)), bits=8, srgb=False)[:-40]

    def change(content):
        content["meshes"][0]["primitives"][0]["material"] = 0
        content["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]

    path = gltf(tmp_path / "a.gltf", change, extra={"TEXCOORD_0": np.zeros((3, 2), np.float32)}, images=[image])
    with pytest.raises(StspbrError, match=r"a\.gltf: image 0 is truncated"):
        read_gltf(path)


@pytest.mark.parametrize("name", ["BoomBox", "Suzanne"])
def test_real_files_come_back_equal(tmp_path, name):
    if not (MESHES / f"{name}.glb").exists():
        pytest.skip("needs ../shared/assets/meshes")
    asset = read_gltf(MESHES / f"{name}.glb")
    write_glb(tmp_path / "a.glb", asset)
    assert_equal(asset, read_gltf(tmp_path / "a.glb"))
    content, _ = split((MESHES / f"{name}.glb").read_bytes())
    index = content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    bounds = content["accessors"][index]
    assert asset.mesh.positions.min(axis=0) == pytest.approx(bounds["min"])
    assert len(asset.mesh.positions) < bounds["count"] or name == "Suzanne"


BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-1.0, 1.0) for z in (-0.25, 0.25)], np.float32)
BOX_FACES = np.array([0, 1, 3, 0, 3, 2, 4, 6, 7, 4, 7, 5, 0, 4, 5, 0, 5, 1, 2, 3, 7, 2, 7, 6], np.uint16)


def box(path, changes, **extra):
    extra = {"indices": BOX_FACES} | extra
    return read_gltf(gltf(path / "a.gltf", changes, BOX, extra))


def extent(asset):
    return np.ptp(asset.mesh.positions, axis=0)


def spare(*names):
    """Change that takes attributes out of the primitive: accessors for other uses, by their numbers."""

    def apply(content):
        attributes = content["meshes"][0]["primitives"][0]["attributes"]
        return [attributes.pop(name) for name in names]

    return apply


@pytest.mark.parametrize("turn", [False, True])
def test_instances_of_the_gpu(tmp_path, turn):
    places = np.array([[i, 0, 0] for i in range(5)], np.float32)
    turns = np.tile(np.float32([0, 0, np.sqrt(0.5), np.sqrt(0.5)]), (5, 1))

    def change(content):
        move, rotate, size = spare("MOVE", "TURN", "SIZE")(content)
        attributes = {"TRANSLATION": move} | ({"ROTATION": rotate, "SCALE": size} if turn else {})
        content["nodes"][0] |= {
            "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}},
            "scale": [2, 2, 2],
        }
        content["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]

    asset = box(tmp_path, change, MOVE=places, TURN=turns, SIZE=np.full((5, 3), 0.5, np.float32))
    assert len(asset.mesh.faces) == 5 * 8
    assert extent(asset) == pytest.approx([8 + 2, 1, 0.5] if turn else [8 + 2, 4, 1])


def test_hidden_nodes_are_left_out_with_what_is_below_them(tmp_path):
    def change(content):
        hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}}
        content["nodes"] = [{"mesh": 0}, {"children": [2], **hidden}, {"mesh": 0, "translation": [9, 0, 0]}]
        content["scenes"][0]["nodes"] = [0, 1]

    asset = box(tmp_path, change)
    assert extent(asset) == pytest.approx([1, 2, 0.5]) and len(asset.nodes) == 1
    assert any("KHR_node_visibility" in note for note in asset.extras["notes"])


def skinned(path, joints, weights, bend=(1.0, 1.0, 1.0)):
    """The box under an armature scaled by 1/100, with two joints whose inverse bind matrices undo that."""
    bind = np.stack([np.diag(np.float32([100, 100, 100, 1]))] * 2).transpose(0, 2, 1).reshape(2, 16)

    def change(content):
        (matrices,) = spare("BIND")(content)
        content["accessors"][matrices]["type"] = "MAT4"
        attributes = content["meshes"][0]["primitives"][0]["attributes"]
        attributes |= {"JOINTS_0": attributes.pop("J"), "WEIGHTS_0": attributes.pop("W")}
        content["skins"] = [{"joints": [2, 3], "inverseBindMatrices": matrices}]
        content["nodes"] = [
            {"scale": [0.01] * 3, "children": [1, 2, 3]},
            {"mesh": 0, "skin": 0, "translation": [500, 0, 0]},
            {},
            {"scale": list(bend)},
        ]

    return box(path, change, J=joints, W=weights, BIND=bind)


def test_skins_stand_as_their_joints_do_whatever_the_node_of_the_mesh_is(tmp_path):
    joints, weights = np.zeros((8, 4), np.uint8), np.tile(np.float32([1, 0, 0, 0]), (8, 1))
    asset = skinned(tmp_path, joints, weights)
    assert extent(asset) == pytest.approx([1, 2, 0.5]) and np.abs(asset.mesh.positions).max() == pytest.approx(1)
    joints[BOX[:, 1] > 0, 0] = 1  # the upper half follows a joint that is twice as wide
    asset = skinned(tmp_path, joints, weights, bend=(2, 1, 1))
    upper = asset.mesh.positions[:, 1] > 0
    assert np.ptp(asset.mesh.positions[upper, 0]) == pytest.approx(2) and np.ptp(asset.mesh.positions[~upper, 0]) == 1
    weights[:] = 0.25, 0.25, 0, 0  # not normalised; both joints
    joints[:, 1] = 1 - joints[:, 0]
    assert extent(skinned(tmp_path, joints, weights, bend=(2, 1, 1))) == pytest.approx([1.5, 2, 0.5])


@pytest.mark.parametrize(
    ("mesh", "node", "height"), [([1.0], None, 4.0), ([0.5], None, 3.0), ([1.0], [0.0], 2.0), (None, None, 2.0)]
)
def test_morph_targets_at_their_default_weights(tmp_path, mesh, node, height):
    def change(content):
        (target,) = spare("DELTA")(content)
        content["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": target}]
        content["meshes"][0] |= {} if mesh is None else {"weights": mesh}
        content["nodes"][0] |= {} if node is None else {"weights": node}

    asset = box(tmp_path, change, DELTA=BOX * np.float32([0, 1, 0]))
    assert extent(asset) == pytest.approx([1, height, 0.5])
    assert any("morph targets stay at their default weights" in note for note in asset.extras["notes"])


@pytest.mark.parametrize("pad", [b"\0", b" ", b"\n", b"\t"])
def test_padding_of_the_json_chunk(tmp_path, pad):
    write_glb(tmp_path / "a.glb", two_quads([material(1), material(2, name="other")]))
    content, binary = split((tmp_path / "a.glb").read_bytes())
    text = json.dumps(content).encode()
    text += pad * (-len(text) % 4 + 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    (tmp_path / "a.glb").write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks + b"\0" * 7)
    assert len(read_gltf(tmp_path / "a.glb").mesh.faces) == 4


@pytest.mark.parametrize(
    ("uri", "file"),
    [("a b.bin", "a b.bin"), ("a%20b.bin", "a b.bin"), ("sub\\a.bin", "sub/a.bin"), (".\\sub\\a.bin", "sub/a.bin"),
     ("100%25.bin", "100%.bin"), ("100%.bin", "100%.bin"), ("a%20b.bin", "a%20b.bin"), ("b%C3%A4r.bin", "bär.bin")],
)  # fmt: skip
def test_names_of_files_with_escapes_and_backslashes(tmp_path, uri, file):
    def change(content):
        data = base64.b64decode(content["buffers"][0]["uri"].partition(",")[2])
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(data)
        content["buffers"][0]["uri"] = uri

    assert len(read_gltf(gltf(tmp_path / "a.gltf", change)).mesh.faces) == 1


@pytest.mark.parametrize(
    ("mode", "alpha", "factor", "opacity"),
    [("MASK", 0, 1, 0.0), ("MASK", 255, 1, None), ("MASK", 255, 0.2, 0.2), ("MASK", 200, 1, None),
     ("BLEND", 200, 1, 200 / 255), ("BLEND", 255, 1, None), ("OPAQUE", 0, 1, None)],
)  # fmt: skip
def test_opacity_is_read_where_something_is_not_opaque(tmp_path, mode, alpha, factor, opacity):
    def change(content):
        content["meshes"][0]["primitives"][0]["material"] = 0
        pbr = {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 1, 1, factor]}
        content["materials"] = [{"name": "leaf", "alphaMode": mode, "pbrMetallicRoughness": pbr}]

    image = encode_png(np.ones((2, 2, 3)), bits=8, srgb=False, alpha=np.full((2, 2, 1), alpha / 255))
    uvs = {"TEXCOORD_0": np.zeros((3, 2), np.float32)}
    asset = read_gltf(gltf(tmp_path / "a.gltf", change, extra=uvs, images=[image]))
    leaf = asset.materials[0]
    assert not any("leaf" in note for note in asset.extras.get("notes", []))
    assert leaf.alpha_mode == ("opaque" if opacity is None else mode.lower())
    if opacity is not None:
        assert leaf.opacity == pytest.approx(np.full((2, 2, 1), opacity), abs=1e-6)
        assert leaf.cutoff == (0.5 if mode == "MASK" else None)


@pytest.mark.parametrize("stub", [{}, {"pbrMetallicRoughness": {"metallicFactor": 0.0}}])
@pytest.mark.parametrize(
    ("diffuse", "specular", "gloss", "albedo", "roughness", "metallic"),
    [
        ((0.6, 0.05, 0.05), (0.04, 0.04, 0.04), 0.9, (0.6, 0.05, 0.05), 0.1, 0.0),
        ((0.0, 0.0, 0.0), (0.9, 0.6, 0.2), 0.25, (0.9, 0.6, 0.2), 0.75, 1.0),
        ((0.2, 0.2, 0.2), (0.0, 0.0, 0.0), 0.5, (0.2 / 0.96,) * 3, 0.5, 0.0),
    ],
    ids=["paint", "metal", "dull"],
)
def test_specular_glossiness_is_converted_also_with_a_stub_beside_it(
    tmp_path, stub, diffuse, specular, gloss, albedo, roughness, metallic
):
    def change(content):
        content["meshes"][0]["primitives"][0]["material"] = 0
        old = {"diffuseFactor": [*diffuse, 1], "specularFactor": list(specular), "glossinessFactor": gloss}
        content["materials"] = [{"name": "m", "extensions": {"KHR_materials_pbrSpecularGlossiness": old}, **stub}]

    asset = box(tmp_path, change)
    (m,) = asset.materials
    assert m.albedo[0, 0] == pytest.approx(albedo, abs=2e-3)
    assert m.roughness[0, 0, 0] == pytest.approx(roughness) and m.metallic[0, 0, 0] == pytest.approx(metallic, abs=2e-3)
    assert any("m: it is specular-glossiness, converted" in note for note in asset.extras["notes"])


def test_textures_of_specular_glossiness_of_different_sizes(tmp_path):
    def change(content):
        content["meshes"][0]["primitives"][0]["material"] = 0
        old = {"diffuseTexture": {"index": 0}, "specularGlossinessTexture": {"index": 1}}
        content["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": old}}]

    spec = encode_png(np.full((4, 4, 3), 0.22), bits=8, srgb=False, alpha=np.full((4, 4, 1), 0.75))
    images = [encode_png(np.full((2, 2, 3), 0.5), bits=8, srgb=False), spec]
    (m,) = read_gltf(
        gltf(tmp_path / "a.gltf", change, extra={"TEXCOORD_0": np.zeros((3, 2), np.float32)}, images=images)
    ).materials
    assert m.albedo.shape == (4, 4, 3) and m.roughness == pytest.approx(np.full((4, 4, 1), 0.25), abs=0.01)
    assert m.albedo[0, 0] == pytest.approx(srgb_to_linear(np.full(3, 0.5)), abs=0.01) and m.metallic.max() < 0.02


def test_colours_of_vertices_multiply_the_base_colour(tmp_path):
    def change(content):
        primitives = content["meshes"][0]["primitives"]
        attributes = primitives[0]["attributes"]
        red, mixed = attributes.pop("RED"), attributes.pop("MIXED")
        content["materials"] = [{"name": "m", "pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}]
        primitives[0] |= {"material": 0}
        primitives += [{**primitives[0], "attributes": {**attributes, "COLOR_0": k}} for k in (red, mixed)]
        content["nodes"] = [{"mesh": 0}]

    red = np.tile(np.float32([0.8, 0, 0, 1]), (3, 1))
    mixed = np.array([[0, 0, 0.9, 1], [0, 0, 0, 1], [0, 0, 0, 1]], np.float32)
    asset = read_gltf(gltf(tmp_path / "a.gltf", change, extra={"RED": red, "MIXED": mixed}))
    found = sorted(m.albedo[0, 0].round(4).tolist() for m in asset.materials)
    assert found == [pytest.approx([0, 0, 0.15]), pytest.approx([0.4, 0, 0]), pytest.approx([0.5, 0.5, 0.5])]
    notes = [note for note in asset.extras["notes"] if "colours" in note]
    assert notes == ["m: the colours of its vertices or faces differ: their mean is the albedo"]


def test_what_lies_outside_of_the_default_scene_is_noted(tmp_path):
    def add(content):
        content["nodes"].append({"mesh": 0, "translation": [5, 0, 0]})
        content["scenes"].append({"nodes": [1]})
        content["extensions"] = {"KHR_lights_punctual": {"lights": []}, "KHR_materials_variants": {"variants": []}}
        content["extensionsUsed"] = ["MSFT_lod", "KHR_lights_punctual", "KHR_mesh_quantization"]

    asset = box(tmp_path, add)
    assert extent(asset) == pytest.approx([1, 2, 0.5])
    assert [note for note in asset.extras["notes"] if "flat-shaded" not in note] == [
        "meshes outside of the default scene are left out", "lights (KHR_lights_punctual) are left out",
        "material variants are left out: the materials that are read are those without a choice",
        "the extension MSFT_lod is left out",
    ]  # fmt: skip


def test_rotations_of_any_length_turn(tmp_path):
    asset = box(tmp_path, lambda content: content["nodes"][0].update(rotation=[0, 0, 3, 3]))
    assert extent(asset) == pytest.approx([2, 1, 0.5])


@pytest.mark.parametrize("faces", [BOX_FACES, BOX_FACES[:-6]])
def test_open_faces_that_show_both_sides_are_noted(tmp_path, faces):
    def change(content):
        content["materials"] = [{"name": "leaf", "doubleSided": True}]
        content["meshes"][0]["primitives"][0]["material"] = 0

    notes = box(tmp_path, change, indices=faces).extras["notes"]
    assert any(note.startswith("leaf: its open faces show both sides") for note in notes) == (len(faces) < 36), notes


@pytest.mark.parametrize(
    ("extension", "held", "noted"),
    [
        ("KHR_materials_clearcoat", {}, False), ("KHR_materials_clearcoat", {"clearcoatFactor": 0.5}, True),
        ("KHR_materials_ior", {"ior": 1.5}, False), ("KHR_materials_ior", {"ior": 1.3}, True),
        ("KHR_materials_sheen", {"sheenColorFactor": [0, 0, 0]}, False),
        ("KHR_materials_specular", {"specularColorFactor": [1, 1, 1]}, False),
        ("KHR_materials_specular", {"specularTexture": {"index": 0}}, True),
        ("KHR_materials_unlit", {}, True), ("EXT_other", {}, True),
    ],
)  # fmt: skip
def test_extensions_of_materials_are_noted_unless_they_are_off(tmp_path, extension, held, noted):
    def change(content):
        content["materials"] = [{"name": "m", "extensions": {extension: held}, "emissiveTexture": {"index": 0}}]
        content["meshes"][0]["primitives"][0]["material"] = 0

    notes = read_gltf(gltf(tmp_path / "a.gltf", change, images=[BLACK])).extras["notes"]
    assert [note for note in notes if note.startswith("m: ")] == [f"m: {extension} is left out"] * noted


def test_compression_that_is_used_without_being_required_is_named(tmp_path):
    def draco(content):
        del content["accessors"][0]["bufferView"]
        content["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0}}

    def meshopt(content):
        content["buffers"][0] = {"byteLength": 999, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}

    for change, name in ((draco, "Draco"), (meshopt, "meshopt")):
        with pytest.raises(StspbrError, match=f"is compressed by {name}: export it without"):
            read_gltf(gltf(tmp_path / "a.gltf", change))


def test_alpha_of_vertices_and_absent_texture_coordinates_are_noted(tmp_path):
    def change(content):
        content["materials"] = [
            {
                "name": "m",
                "alphaMode": "BLEND",
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 1}},
            }
        ]
        content["meshes"][0]["primitives"][0]["material"] = 0

    colours = np.ones((3, 4), np.float32) * np.float32([1, 1, 1, 0.3])
    path = gltf(tmp_path / "a.gltf", change, extra={"COLOR_0": colours}, images=[BLACK])
    notes = read_gltf(path).extras["notes"]
    assert "m: transparency (alphaMode BLEND) of vertices is left out" in notes
    assert "m: meshes without the TEXCOORD_1 that its maps need show one texel of them" in notes


def test_normals_without_a_direction_are_computed(tmp_path):
    normals = np.array([[0, 0, 0], [np.nan, 0, 0], [0, 0.6, 0.8]], np.float32)
    asset = read_gltf(gltf(tmp_path / "a.gltf", extra={"NORMAL": normals}))
    found = asset.mesh.normals.values[asset.mesh.normals.index[0]]
    assert found == pytest.approx(np.array([[0, 0, 1], [0, 0, 1], [0, 0.6, 0.8]]))
    assert asset.extras["notes"] == ["normals without a direction are computed from the faces"]
