"""OBJ and MTL: own indices, groups, polygons, texture folders, and a second reading that equals the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.images import write_png8, write_png16
from stspbr.formats.obj import read_obj
from stspbr.formats.obj_writer import write_obj
from stspbr.scene.asset import Asset, Node
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

ASSETS = Path(__file__).parents[2] / "../shared/assets"

QUAD = """
# a square and a triangle above it
mtllib a.mtl
v 0 0 0
v 1 0 0 1.0
v 1 1 0
v 0 1 0
v 0.5 2 0
v 1 1 -0.0
vt 0 0
vt 1 0 0
vt 1 0.75
vt 0 1
vn 0 0 2
usemtl paint
f 1/1/1 2/2/1 3/3/1 \\
  4/4/1
usemtl metal
f -3/-1/1 -1/3/-1 -2/1/1
"""


def level(array):
    return np.rint(np.asarray(array, np.float64) * 255).astype(np.float32) / np.float32(255)


def png(path, values):
    write_png8(path, np.asarray(values, np.float32), srgb=False)


def constant(*values):
    return np.asarray(values, np.float32).reshape(1, 1, -1)


def nodes_of(tmp_path, text):
    (tmp_path / "a.obj").write_text("\n".join(f"v {k} {k * k} 0" for k in range(9)) + "\n" + text)
    asset = read_obj(tmp_path / "a.obj")
    assert all((node.local_to_parent == np.eye(4)).all() for node in asset.nodes)
    return [(n.name, n.parent, n.mesh) for n in asset.nodes], asset.mesh.face_node


def test_objects_and_groups_become_nodes(tmp_path):
    found, face_node = nodes_of(
        tmp_path, "o lamp\nf 1 2 3\ng shade\nf 3 4 5\no table top\ng leg\nf 5 6 7\no lamp\nf 7 8 9\n"
    )
    assert found == [("lamp", None, "lamp"), ("shade", 0, "shade"), ("table top", None, None), ("leg", 2, "leg")]
    assert face_node.tolist() == [0, 1, 3, 0]


def test_groups_alone_faces_before_them_and_collapsed_parts(tmp_path):
    found, face_node = nodes_of(tmp_path, "f 1 2 3\ng gone\nf 1 1 2\ng\nf 3 4 5\ng left right\nf 5 6 7 8\n")
    assert found == [("default", None, "default"), ("left right", None, "left right")]
    assert face_node.tolist() == [0, 0, 1, 1]
    assert nodes_of(tmp_path, "f 1 2 3\n") == ([], None)


def test_nodes_are_written_as_objects(tmp_path):
    positions = np.arange(27, dtype=np.float32).reshape(9, 3) ** 2
    faces = np.arange(9, dtype=np.int32).reshape(3, 3)
    mesh = Mesh(positions, faces, face_material=np.array([0, 1, 0], np.int32), face_node=np.array([1, 1, 2], np.int32))
    nodes = [Node("rig", np.eye(4)), Node("left leaf", np.eye(4), 0, "leaf"), Node("left leaf", np.eye(4), 0, "leaf")]
    materials = [Material(constant(k, 0, 0), constant(0.5), constant(0), name=f"m{k}") for k in (0, 1)]
    again = read_obj(write_obj(tmp_path / "plant.obj", Asset(mesh, materials, "plant", nodes)))
    assert [n.name for n in again.nodes] == ["left_leaf", "left_leaf_2"]
    assert again.mesh.face_node.tolist() == [0, 0, 1] and again.mesh.face_material.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(again.mesh.positions[again.mesh.faces], positions[faces])


def test_own_indices_polygons_groups_and_the_flip_of_v(tmp_path):
    (tmp_path / "a.obj").write_text(QUAD)
    (tmp_path / "a.mtl").write_text("newmtl metal\nKd 1 1 1\nPm 1\nPr 0.2\nnewmtl paint\nKd 0.5 0.25 0\nPr 0.6\n")
    asset = read_obj(tmp_path / "a.obj")
    mesh = asset.mesh
    assert mesh.positions[mesh.faces].tolist() == [
        [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
        [[0, 0, 0], [1, 1, 0], [0, 1, 0]],
        [[0, 1, 0], [1, 1, 0], [0.5, 2, 0]],
    ]
    assert len(mesh.positions) == 5  # (1, 1, 0) and (1, 1, −0) are one point
    assert mesh.uvs.values[mesh.uvs.index].tolist() == [
        [[0, 1], [1, 1], [1, 0.25]],
        [[0, 1], [1, 0.25], [0, 0]],
        [[0, 0], [1, 0.25], [0, 1]],
    ]
    assert mesh.normals.values.tolist() == [[0, 0, 1]] and mesh.face_material.tolist() == [0, 0, 1]
    assert [m.name for m in asset.materials] == ["paint", "metal"]
    assert asset.materials[0].albedo[0, 0].tolist() == [0.5, 0.25, 0]
    assert [float(m.roughness[0, 0, 0]) for m in asset.materials] == pytest.approx([0.6, 0.2])
    assert [float(m.metallic[0, 0, 0]) for m in asset.materials] == [0, 1]


@pytest.mark.parametrize(
    ("faces", "uvs", "normals"),
    [
        ("f 1 2 3", False, False),
        ("f 1/1 2/1 3/1", True, False),
        ("f 1//1 2//1 3//1", False, True),
        ("f 1/1/1 2/1/1 3/1/1", True, True),
        ("f 1 2 3\nf 1/1/1 2/1/1 4/1/1", True, True),
        ("f 1//1 2//1 3//1\nf 1/1/1 2/1/1 4/1/1", True, True),
        ("f 1/ 2/ 3/", False, False),
    ],
)
def test_every_way_to_write_a_corner(tmp_path, faces, uvs, normals):
    text = "v 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nv 0 0 1\r\nvt 0.5 0.25\r\nvn 0 1 0\r\n" + faces.replace("\n", "\r\n")
    (tmp_path / "a.obj").write_text(text)
    mesh = read_obj(tmp_path / "a.obj").mesh
    assert (mesh.uvs is not None, mesh.normals is not None) == (uvs, normals)
    assert mesh.positions[mesh.faces[0]].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    if uvs:
        assert mesh.uvs.values[mesh.uvs.index[-1]].tolist() == [[0.5, 0.75]] * 3


def test_packed_orm_of_files_that_say_bsdf_pbr(tmp_path):
    (tmp_path / "a.obj").write_text(QUAD)
    png(tmp_path / "k d.png", level([[[0.5, 0.2, 0.1]]]))
    png(tmp_path / "ks.png", [[[0.2, 0.4, 0.8]]])
    (tmp_path / "a.mtl").write_text(
        "newmtl paint\nbsdf pbr\nmap_Kd -s 1 1 1 -clamp on k d.png\nmap_Ks ks.png\nnewmtl metal\nbsdf pbr\nKs 0 0.3 1\n"
    )
    paint, metal = read_obj(tmp_path / "a.obj").materials
    assert paint.albedo[0, 0] == pytest.approx(srgb_to_linear(level([0.5, 0.2, 0.1])))
    values = [float(m[0, 0, 0]) for m in (paint.occlusion, paint.roughness, paint.metallic)]
    assert values == pytest.approx([0.8, 0.4, 0.8])
    assert [float(metal.roughness[0, 0, 0]), float(metal.metallic[0, 0, 0])] == pytest.approx([0.3, 1])
    assert metal.occlusion is None


def test_textures_folder_is_matched_by_name(tmp_path):
    (tmp_path / "a.obj").write_text(QUAD.replace("mtllib", "mtllib gone"))
    folder = tmp_path / "maps"
    folder.mkdir()
    png(folder / "x_BaseColor_sRGB.png", level([[[0.5, 0.2, 0.1]]]))
    png(folder / "x_ROUGHNESS.png", [[[0.4]]])
    png(folder / "x_Metallic_Raw.png", [[[0.6]]])
    png(folder / "x_Normal.png", [[[0.0, 0.2, 1.0]]])
    png(folder / "x_AmbientOcclusion.png", [[[0.8]]])
    (folder / "readme.txt").write_text("not an image")
    for m in read_obj(tmp_path / "a.obj", folder).materials:
        assert m.albedo[0, 0] == pytest.approx(srgb_to_linear(level([0.5, 0.2, 0.1])))
        assert m.normal[0, 0] == pytest.approx([-1, -0.6, 1])
        assert [float(x[0, 0, 0]) for x in (m.roughness, m.metallic, m.occlusion)] == pytest.approx([0.4, 0.6, 0.8])
    for name in ("x_ROUGHNESS.png", "x_Metallic_Raw.png", "x_AmbientOcclusion.png"):
        (folder / name).unlink()
    write_png16(folder / "x_orm.png", np.array([[[0.1, 0.2, 0.3]]]), srgb=False)
    m = read_obj(tmp_path / "a.obj", folder).materials[0]
    assert [float(x[0, 0, 0]) for x in (m.occlusion, m.roughness, m.metallic)] == pytest.approx(
        [0.1, 0.2, 0.3], abs=1e-5
    )
    png(folder / "other_normal.png", [[[0.5]]])
    with pytest.raises(StspbrError, match="two normal maps"):
        read_obj(tmp_path / "a.obj", folder)
    with pytest.raises(StspbrError, match="no image named"):
        read_obj(tmp_path / "a.obj", tmp_path)
    with pytest.raises(StspbrError, match="not a folder of textures"):
        read_obj(tmp_path / "a.obj", tmp_path / "nowhere")


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(6, 3)).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]], np.int32)
    uvs = rng.random((6, 2)).astype(np.float32)
    uvs[0], uvs[1] = (1e-7, 1e-7), (-1.25, 3.1)
    normals = np.array([[0, 0, 1], [0, 0.6, 0.8]], np.float32)
    own = np.repeat(np.array([0, 0, 1, 1], np.int32)[:, None], 3, axis=1)
    mesh = Mesh(
        positions,
        faces,
        Corners(uvs, faces[:, ::-1]),
        Corners(normals, own),
        face_material=np.array([0, 0, 1, 1], np.int32),
    )

    def image(channels):
        return level(rng.random((4, 8, channels)))

    maps = Material(srgb_to_linear(image(3)), image(1), image(1), image(1), image(3) * 2 - 1, name="red paint")
    plain = Material(constant(0.1, 0.2, 0.3), constant(0.15), constant(1.0), name="Red/Paint")
    asset = Asset(mesh, [maps, plain], name="two parts")
    path = write_obj(tmp_path / "out" / "two parts.obj", asset)
    assert sorted(file.name for file in path.parent.glob("two*")) == ["two parts.obj", "two_parts.mtl"]
    again = read_obj(path)
    assert np.array_equal(mesh.positions[mesh.faces], again.mesh.positions[again.mesh.faces])
    for (name, a), (_, b) in zip(mesh.attributes(), again.mesh.attributes(), strict=True):
        assert np.array_equal(a.values[a.index], b.values[b.index]), name
    assert again.mesh.face_material.tolist() == [0, 0, 1, 1]
    assert [m.name for m in again.materials] == ["red_paint", "Red_Paint_2"]
    for first, second in zip(asset.materials, again.materials, strict=True):
        for name in ("albedo", "roughness", "metallic", "occlusion", "normal"):
            x, y = getattr(first, name), getattr(second, name)
            assert (x is None) == (y is None) and (x is None or np.abs(x - y).max() < 1e-6), name
    before = path.read_bytes()
    write_obj(path, asset)
    assert path.read_bytes() == before


def test_bad_files_are_named(tmp_path):
    def fails(text, message, mtl=None):
        (tmp_path / "a.obj").write_text(text)
        (tmp_path / "a.mtl").unlink(missing_ok=True)
        if mtl is not None:
            (tmp_path / "a.mtl").write_text(mtl)
        with pytest.raises(StspbrError, match=message) as caught:
            read_obj(tmp_path / "a.obj")
        assert "\n" not in str(caught.value)

    triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    fails(QUAD, "names a.mtl, which does not exist")
    fails(QUAD, "lacks the texture gone.png", "newmtl paint\nmap_Kd gone.png\n")
    fails(QUAD, "value of material paint is not a number", "newmtl paint\nPr much\n")
    fails(triangle + "f 1 2 4\n", "points past the vertices")
    fails(triangle + "f 1 2 -4\n", "points past the vertices")
    fails(triangle + "f 1 2 0\n", "points past the vertices")
    fails(triangle + "f 1/1 2/1 3/1\n", "points past the vertices")
    fails(triangle + "f 1 2\n", "holds no triangles")
    fails(triangle + "f 1 2 x\n", "not a valid OBJ")
    fails("v 0 0 zero\nf 1 1 1\n", r"not a valid OBJ \(zero cannot be read\)")
    fails("v 0 0,5 0\nf 1 1 1\n", r"\(0,5 cannot be read\)")
    fails(triangle + "f 1.5 2 3\n", "index that is not whole")
    fails(triangle, "holds no triangles")
    fails("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite")
    with pytest.raises(StspbrError, match="gone.obj does not exist"):
        read_obj(tmp_path / "gone.obj")


@pytest.mark.skipif(not (ASSETS / "meshes/spot/spot.obj").exists(), reason="needs ../shared/assets/meshes")
def test_spot():
    asset = read_obj(ASSETS / "meshes/spot/spot.obj")
    mesh = asset.mesh
    assert (len(mesh.positions), len(mesh.faces)) == (2930, 5856)
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # closed
    assert asset.materials[0].albedo.shape == (1024, 1024, 3)


@pytest.mark.skipif(
    not (ASSETS / "restricted/materialsplit/bob_1").exists(), reason="needs ../shared/assets/restricted/materialsplit"
)
def test_bob_with_its_texture_folder():
    folder = ASSETS / "restricted/materialsplit/bob_1"
    (material,) = read_obj(folder / "bob_tri.obj", folder / "textures").materials
    assert material.albedo.shape == (1024, 1024, 3) and material.roughness.shape == (1024, 1024, 1)
    assert material.metallic.shape == (1024, 1024, 1) and np.ptp(material.roughness) > 0.1


def read_text(tmp_path, obj, mtl=None, encoding="utf-8"):
    (tmp_path / "a.obj").write_bytes(obj if isinstance(obj, bytes) else obj.encode(encoding))
    if mtl is not None:
        (tmp_path / "a.mtl").write_bytes(mtl if isinstance(mtl, bytes) else mtl.encode(encoding))
    return read_obj(tmp_path / "a.obj")


CORNERS = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 0 0\nv 2 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
TWO = "usemtl {}\nf 1 2 3 4\nusemtl {}\nf 2 5 6 3\n"
RED_BLUE = "newmtl {}\nKd 0.8 0.05 0.05\nPr 0.5\nnewmtl {}\nKd 0.05 0.05 0.8\nPr 0.5\n"


def colours(asset):
    return [m.albedo[0, 0].tolist() for m in asset.materials]


def is_red_and_blue(asset):
    return colours(asset) == [pytest.approx([0.8, 0.05, 0.05]), pytest.approx([0.05, 0.05, 0.8])]


def test_concave_polygons_have_their_own_area(tmp_path):
    asset = read_text(tmp_path, CORNERS + "v 1 0.5 0\nf 1 5 6 7 4\n")
    p = asset.mesh.positions[asset.mesh.faces].astype(float)
    areas = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(1.5) and asset.mesh.faces.shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "u", "v"),
    [
        ("-s 4 4 1 -o 0.5 0 0", (0.5, 4.5), (0.0, 4.0)),
        ("-o 0.25 0.5", (0.25, 1.25), (0.5, 1.5)),
        ("-s 2", (0.0, 2.0), (0.0, 1.0)),
        ("-blendu on -s 1 3 1 -texres 512", (0.0, 1.0), (0.0, 3.0)),
    ],
)
def test_scale_and_offset_of_maps_move_the_coordinates(tmp_path, options, u, v):
    png(tmp_path / "k d.png", level(np.random.default_rng(0).random((2, 2, 3))))
    mtl = f"newmtl m\nPr 0.5\nmap_Kd {options} k d.png\n"
    mesh = read_text(tmp_path, "mtllib a.mtl\n" + CORNERS + "usemtl m\nf 1/1 2/2 3/3 4/4\n", mtl).mesh
    found = mesh.uvs.values * (1, -1) + (0, 1)
    assert (found.min(axis=0).tolist(), found.max(axis=0).tolist()) == ([u[0], v[0]], [u[1], v[1]])


def test_channels_multipliers_and_ranges_of_maps(tmp_path):
    png(tmp_path / "m.png", np.tile(level([[[0.2, 0.4, 0.8]]]), (2, 2, 1)) * [[[1.0]], [[0.5]]])
    png(tmp_path / "n.png", np.tile([[[0.75, 0.5, 1.0]]], (2, 1, 1)))
    mtl = "newmtl m\nmap_Pr -imfchan b m.png\nmap_Pm -mm 0.1 0.5 -imfchan g m.png\n"
    mtl += "map_ao -imfchan l m.png\nnorm -bm 2 n.png\n"
    (m,) = read_text(tmp_path, "mtllib a.mtl\n" + CORNERS + "usemtl m\nf 1/1 2/2 3/3 4/4\n", mtl).materials
    assert m.roughness[0, 0, 0] == pytest.approx(0.8, abs=0.01)
    assert m.metallic[0, 0, 0] == pytest.approx(0.1 + 0.5 * 0.4, abs=0.01)
    assert m.occlusion[0, 0, 0] == pytest.approx(0.2126 * 0.2 + 0.7152 * 0.4 + 0.0722 * 0.8, abs=0.01)
    assert m.normal[0, 0, 0] / m.normal[0, 0, 2] == pytest.approx(1.0, abs=0.02)  # slope 0.5, doubled


def test_maps_that_clamp_are_noted_only_where_it_shows(tmp_path):
    png(tmp_path / "k.png", level(np.random.default_rng(0).random((2, 2, 3))))
    for options, noted in (("-clamp on", False), ("-clamp on -s 2 2 1", True), ("-s 2 2 1", False)):
        mtl = f"newmtl m\nPr 0.5\nmap_Kd {options} k.png\n"
        asset = read_text(tmp_path, "mtllib a.mtl\n" + CORNERS + "usemtl m\nf 1/1 2/2 3/3 4/4\n", mtl)
        assert any("clamp" in note for note in asset.extras.get("notes", [])) == noted


@pytest.mark.parametrize("line", ["mtllib a.mtl b.mtl", "mtllib a.mtl\nmtllib b.mtl", 'mtllib "a.mtl" "b.mtl"'])
def test_several_material_files(tmp_path, line):
    (tmp_path / "b.mtl").write_text("newmtl b\nKd 0.05 0.05 0.8\nPr 0.5\n")
    asset = read_text(tmp_path, f"{line}\n{CORNERS}{TWO.format('a', 'b')}", "newmtl a\nKd 0.8 0.05 0.05\nPr 0.5\n")
    assert is_red_and_blue(asset) and not asset.extras


@pytest.mark.parametrize("name", ["my materials.mtl", "A.MTL", ".\\sub\\a.mtl", "C:\\work\\scene\\a.mtl"])
def test_material_files_by_the_names_that_windows_gives_them(tmp_path, name):
    place = {"A.MTL": "a.mtl", "C:\\work\\scene\\a.mtl": "a.mtl"}.get(name, name.replace(".\\", "").replace("\\", "/"))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(RED_BLUE.format("red", "blue"))
    asset = read_text(tmp_path, f"mtllib {name}\n{CORNERS}{TWO.format('red', 'blue')}")
    assert is_red_and_blue(asset)
    assert any("not in the folder that is named" in note for note in asset.extras.get("notes", [])) == ("C:" in name)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, mark):
    text = f"mtllib a.mtl\r\n{CORNERS}{TWO.format('red', 'blue')}"
    assert is_red_and_blue(read_text(tmp_path, text, RED_BLUE.format("red", "blue"), mark))


@pytest.mark.parametrize(
    ("encoding", "names"), [("gbk", ("红", "蓝")), ("shift_jis", ("赤", "青")), ("cp1251", ("к", "с"))]
)
def test_names_in_a_code_page_stay_apart(tmp_path, encoding, names):
    text = f"mtllib a.mtl\n{CORNERS}{TWO.format(*names)}"
    asset = read_text(tmp_path, text, RED_BLUE.format(*names), encoding)
    assert is_red_and_blue(asset) and len({material.name for material in asset.materials}) == 2
    assert sum("Latin-1" in note for note in asset.extras["notes"]) == 1
    assert is_red_and_blue(asset := read_text(tmp_path, text, RED_BLUE.format(*names)))
    assert [material.name for material in asset.materials] == list(names) and not asset.extras


def test_textures_whose_names_are_in_a_code_page_are_found(tmp_path):
    png(tmp_path / "红.png", level(np.full((2, 2, 3), 0.5) * [[[1.0]], [[0.2]]]))
    mtl = "newmtl m\nPr 0.5\nmap_Kd 红.png\n"
    asset = read_text(tmp_path, f"mtllib a.mtl\n{CORNERS}usemtl m\nf 1/1 2/2 3/3\n", mtl, "gbk")
    assert asset.materials[0].albedo.shape == (2, 2, 3)


def test_smoothing_groups_separate_faces_without_normals(tmp_path):
    fold = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\n"
    up, side = "f 1 2 3 4\n", "f 1 5 6 2\n"
    normals = {}
    for key, text in {
        "none": up + side,
        "one": f"s 1\n{up}{side}",
        "off": f"s off\n{up}{side}",
        "two": f"s 1\n{up}s 2\n{side}",
    }.items():
        normals[key] = read_text(tmp_path, fold + text).mesh.normals
    assert normals["none"] is None and normals["one"] is None
    for key in ("off", "two"):
        assert normals[key].values[normals[key].index[0]] == pytest.approx(np.tile([0, 0, 1], (3, 1)))
        assert np.abs(normals[key].values[normals[key].index[2]][:, 1]) == pytest.approx(np.ones(3))
    half = read_text(tmp_path, f"{fold}vn 0 0 1\ns off\nf 1//1 2//1 3//1 4//1\n{side}").mesh.normals
    assert half.values[half.index[0]] == pytest.approx(np.tile([0, 0, 1], (3, 1)))
    assert half.values[half.index[2]] == pytest.approx(normals["off"].values[normals["off"].index[2]])


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_colours_of_vertices(tmp_path, scale):
    rows = [f"v {x} {y} 0 {0.7 * scale} {0.1 * scale} {0.1 * scale}" for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    one = read_text(tmp_path, "\n".join(rows) + "\nf 1 2 3 4\n")
    assert colours(one) == [pytest.approx(srgb_to_linear(np.array([0.7, 0.1, 0.1])).tolist())]
    assert not any("differ" in note for note in one.extras["notes"])
    rows[1:3] = [f"v 1 {y} 0 0 0 {scale}" for y in (0, 1)]
    two = read_text(tmp_path, "\n".join(rows) + "\nf 1 2 3 4\n")
    assert any("colours of its vertices or faces differ: their mean is the albedo" in n for n in two.extras["notes"])
    mean = (srgb_to_linear(np.array([0.7, 0.1, 0.1])) + srgb_to_linear(np.array([0.0, 0.0, 1.0]))) / 2
    assert colours(two) == [pytest.approx(mean.tolist(), abs=1e-6)]
    text = "mtllib a.mtl\nusemtl m\n" + "\n".join(rows) + "\nf 1 2 3 4\n"
    own = read_text(tmp_path, text, "newmtl m\nKd 0.5 0.5 0.5\nPr 0.5\n")
    assert colours(own) == [[0.5] * 3] and "those of the vertices are left out" in own.extras["notes"][0]
    bare = read_text(tmp_path, text, "newmtl m\nPr 0.25\n")
    assert colours(bare) == [pytest.approx(mean.tolist(), abs=1e-6)] and bare.materials[0].roughness == 0.25


def test_polypaint_of_zbrush(tmp_path):
    paint = "#MRGB ffcc3333ffcc3333\n#MRGB ffcc3333ffcc3333ffcc3333ffcc3333\n"
    asset = read_text(tmp_path, CORNERS + paint + "f 1 2 3 4\n")
    assert colours(asset) == [pytest.approx(srgb_to_linear(np.array([0.8, 0.2, 0.2])).tolist())]


def test_what_is_no_face_is_noted(tmp_path):
    asset = read_text(tmp_path, CORNERS + "f 1 2 3 4\nf 1 2\nf 3\nl 1 2 3\np 1\n")
    assert len(asset.mesh.faces) == 2
    notes = "\n".join(asset.extras["notes"])
    assert "faces with fewer than three corners are left out: 2" in notes
    assert "points, lines and free-form curves or surfaces are left out: 2" in notes


def test_what_materials_have_beyond_ours_is_noted_once_for_all(tmp_path):
    mtl = "newmtl a\nKd 1 1 1\nd 0.5\nPr 0.1\nKe 1 1 0\nnewmtl b\nKd 1 1 1\nd -halo 0.6\nPr 0.1\nTr 0\nKe 0 0 0\nPc 0\n"
    asset = read_text(tmp_path, f"mtllib a.mtl\n{CORNERS}{TWO.format('a', 'b')}", mtl)
    assert asset.extras["notes"] == ["a: emission is left out"]
    assert [float(material.opacity[0, 0, 0]) for material in asset.materials] == pytest.approx([0.5, 0.6])


def test_udim_tiles_are_named(tmp_path):
    with pytest.raises(StspbrError, match=r"a.<UDIM>.png is made of UDIM tiles: export it as one texture"):
        read_text(tmp_path, f"mtllib a.mtl\n{CORNERS}usemtl m\nf 1/1 2/2 3/3\n", "newmtl m\nmap_Kd a.<UDIM>.png\n")


def test_reflectance_outside_of_the_unit_interval_is_clipped(tmp_path):
    mtl = "newmtl a\nKd 204 0.5 -1\nPr 0.3\n"
    read_text(tmp_path, f"mtllib a.mtl\n{CORNERS}usemtl a\nf 1 2 3\n", mtl)
    (path,) = tmp_path.glob("*.obj")
    asset = read_asset(path)
    assert asset.materials[0].albedo[0, 0].tolist() == [1.0, 0.5, 0.0]
    assert asset.extras["notes"] == ["a: its albedo outside of 0 to 1 is clipped"]


def test_what_an_mtl_does_not_say_or_says_twice_is_noted(tmp_path):
    mtl = "newmtl a\nKa 1 0 0\nPr 0.3\nnewmtl b\nKd 1 0 0\nnewmtl b\nKd 0 0 1\nPr 0.2\n"
    asset = read_text(tmp_path, f"mtllib a.mtl\n{CORNERS}{TWO.format('a', 'b')}", mtl)
    assert [material.albedo[0, 0].tolist() for material in asset.materials] == [[1, 1, 1], [0, 0, 1]]
    assert sorted(asset.extras["notes"]) == [
        "a: the MTL gives it no colour (Kd): it is white", "b: it is described twice: the last is read"
    ]  # fmt: skip


def test_continued_lines_may_end_in_blanks(tmp_path):
    assert len(read_text(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 \\ \n3\n").mesh.faces) == 1


@pytest.mark.parametrize("broken", ["nan nan nan", "0 0 0", "-nan(ind) -nan(ind) -nan(ind)"])
def test_normals_without_a_direction_are_computed(tmp_path, broken):
    text = f"{CORNERS}vn {broken}\nvn 0 0.6 0.8\nf 1//1 2//1 3//1\nf 1//2 3//2 4//2\n"
    asset = read_text(tmp_path, text)
    first, second = asset.mesh.normals.values[asset.mesh.normals.index]
    assert first == pytest.approx(np.tile([0, 0, 1], (3, 1)))
    assert second == pytest.approx(np.tile([0, 0.6, 0.8], (3, 1)))
    assert "normals without a direction are computed from the faces" in asset.extras["notes"]
