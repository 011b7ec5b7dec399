"""Assets through trimesh and back, and the kinds of files that only trimesh reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.ply import write_ply
from stspbr.procedural.jar import demo_asset
from stspbr.scene import Asset, Corners, Material, Mesh
from stspbr.scene.attributes import weld


def quad(uvs=True, material=None) -> Asset:
    """Two triangles with a seam in the UVs and a crease in the normals, each of its own material."""
    p = np.float32([[0, 0, 0], [2, 0, 0], [2, 1, 0.5], [0, 1, 0]])
    faces = np.int32([[0, 1, 2], [0, 2, 3]])
    normals = Corners(np.float32([[0, 0, 1], [0, 0.6, 0.8]]), np.int32([[0] * 3, [1] * 3]))
    mesh = Mesh(p, faces, normals=normals, face_material=np.int32([0, 1]))
    if uvs:
        seam = np.int32([[0, 1, 2], [1, 2, 3]])
        mesh.uvs = Corners(np.float32([[0, 0], [1, 0.1], [0.9, 1], [0.2, 0.7]]), seam)
    return Asset(mesh, material or [constant("a", 0.2), constant("b", 0.6)])


def constant(name, value):
    texel = np.full((1, 1, 1), value, np.float32)
    return Material(np.float32([[[value, value / 2, 0.0]]]), texel, 1 - texel, name=name)


def corners(asset, name):
    """``[F, 3, C]`` of the corners, in an order that does not depend on the order of triangles."""
    mesh = asset.mesh
    own = Corners(mesh.positions, mesh.faces) if name == "positions" else mesh.required(name)
    order = np.lexsort(mesh.positions[mesh.faces].mean(axis=1).round(4).T)
    return own.values[own.index][order]


def assert_same_surface(first, second):
    for name in ("positions", "uvs", "normals"):
        if getattr(first.mesh, name) is not None:
            np.testing.assert_allclose(corners(second, name), corners(first, name), atol=1e-6)


def test_the_jar_there_and_back():
    jar = demo_asset(64, around=20, along=12)
    normal = np.zeros((8, 8, 3), np.float32)
    normal[...], normal[2:5, 3:] = (0, 0, 1), (0.6, 0, 0.8)
    occlusion = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    jar = replace(jar, materials=[replace(jar.materials[0], normal=normal, occlusion=occlusion)])
    back = Asset.from_trimesh(jar.to_trimesh(), "jar")
    assert_same_surface(jar, back)
    assert len(back.mesh.positions) == len(jar.mesh.positions)  # welded again
    (first,), (second,) = jar.materials, back.materials
    assert second.name == first.name
    eight = srgb_to_linear(np.rint(255 * np.linspace(0, 1, 256)) / 255)
    nearest = np.abs(second.albedo[..., None] - eight).min()
    assert nearest < 1e-6 and np.abs(second.albedo - first.albedo).max() < 0.005
    for name in ("roughness", "metallic", "normal"):
        assert np.abs(getattr(second, name) - getattr(first, name)).max() < 1.01 / 255
    assert second.occlusion.shape == (64, 64, 1)
    assert np.abs(second.occlusion[::8, ::8] - occlusion).max() < 1.01 / 255


@pytest.mark.parametrize("cutoff", [None, 0.3])
def test_opacity_there_and_back(cutoff):
    jar = demo_asset(16, around=12, along=8)
    opacity = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16, 1)
    jar = replace(jar, materials=[replace(jar.materials[0], opacity=opacity, cutoff=cutoff)])
    (found,) = Asset.from_trimesh(jar.to_trimesh()).materials
    assert found.alpha_mode == ("blend" if cutoff is None else "mask") and found.cutoff == cutoff
    assert np.abs(found.opacity - opacity).max() < 1.01 / 255
    assert np.abs(found.albedo - jar.materials[0].albedo).max() < 0.005
    (solid,) = Asset.from_trimesh(demo_asset(16, around=12, along=8).to_trimesh()).materials
    assert solid.opacity is None


@pytest.mark.parametrize("uvs", [True, False])
def test_seams_creases_and_materials(uvs):
    asset = quad(uvs)
    back = Asset.from_trimesh(asset.to_trimesh())
    assert_same_surface(asset, back)
    assert (back.mesh.uvs is None) == (not uvs)
    names = [back.materials[k].name for k in back.mesh.face_material]
    assert sorted(names) == ["a", "b"] and len(back.mesh.positions) == 4
    for material in back.materials:
        (original,) = (m for m in asset.materials if m.name == material.name)
        for name in ("albedo", "roughness", "metallic"):
            np.testing.assert_allclose(getattr(material, name), getattr(original, name), atol=0.51 / 255)


def test_trimesh_writes_the_glb_that_we_read(tmp_path):
    """trimesh as the judge of what it was given: its own export, read by our reader."""
    jar = demo_asset(32, around=16, along=8)
    jar.to_trimesh().export(tmp_path / "jar.glb")
    read = read_gltf(tmp_path / "jar.glb")
    assert_same_surface(jar, read)
    assert np.abs(read.materials[0].albedo - jar.materials[0].albedo).max() < 0.005
    assert np.abs(read.materials[0].roughness - jar.materials[0].roughness).max() < 1.01 / 255


def test_scenes_with_transforms_mirrors_and_materials_of_obj():
    ball = trimesh.creation.icosphere(subdivisions=1)
    image = Image.fromarray(np.uint8([[[188, 0, 0], [0, 188, 0]]]))
    uv = np.random.default_rng(0).random((len(ball.vertices), 2))
    ball.visual = TextureVisuals(uv=uv, material=SimpleMaterial(image=image, diffuse=[255, 255, 255, 255]))
    scene = trimesh.Scene()
    scene.add_geometry(ball, node_name="left")
    mirror = np.diag([-2.0, 1, 1, 1])
    mirror[0, 3] = 5
    scene.add_geometry(ball, node_name="right", transform=mirror)
    scene.add_geometry(trimesh.PointCloud([[0, 0, 0], [1, 1, 1.0]]), geom_name="points")
    asset = Asset.from_trimesh(scene)
    assert len(asset.mesh.faces) == 160 and len(asset.materials) == 1 and asset.mesh.positions[:, 0].max() == 7
    assert "points: a PointCloud" in asset.extras["notes"][0]
    p = asset.mesh.positions.astype(np.float64)[asset.mesh.faces]
    facing = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    centre = np.where(p.mean(1)[:, :1] > 1.5, [[5.0, 0, 0]], 0.0)
    assert ((facing * (p.mean(axis=1) - centre)).sum(1) > 0).all()  # outward, mirrored or not
    normals = asset.mesh.normals.values[asset.mesh.normals.index].mean(axis=1)
    assert ((facing * normals).sum(1) > 0).all()
    (material,) = asset.materials
    assert material.metallic.item() == 0.0 and material.albedo[0, 0] == pytest.approx([0.5028865, 0, 0], abs=1e-5)


def test_factors_multiply_textures_and_absent_ones_mean_what_gltf_means():
    ball = trimesh.creation.icosphere(subdivisions=0)
    orm = Image.fromarray(np.full((2, 2, 3), (255, 128, 64), np.uint8))
    pbr = PBRMaterial(metallicRoughnessTexture=orm, roughnessFactor=0.5, baseColorFactor=[128, 255, 0, 255])
    ball.visual = TextureVisuals(uv=np.zeros((12, 2)), material=pbr)
    (material,) = Asset.from_trimesh(ball).materials
    assert material.roughness[0, 0, 0] == pytest.approx(0.5 * 128 / 255)
    assert material.metallic[0, 0, 0] == pytest.approx(64 / 255)
    assert material.albedo[0, 0] == pytest.approx([128 / 255, 1, 0])
    ball.visual = TextureVisuals(material=PBRMaterial())
    (material,) = Asset.from_trimesh(ball).materials
    assert (material.albedo.tolist(), material.roughness.item(), material.metallic.item()) == ([[[1] * 3]], 1, 1)


@pytest.mark.parametrize("suffix", [".stl", ".off", ".ply"])
def test_other_files(tmp_path, suffix):
    torus = trimesh.creation.torus(1.0, 0.3, major_sections=16, minor_sections=8)
    torus.export(tmp_path / f"a{suffix}")
    asset = read_asset(tmp_path / f"a{suffix}")
    expected = weld(Mesh(np.float32(torus.vertices), np.int32(torus.faces)))
    assert (asset.name, len(asset.materials)) == ("a", 1)
    assert len(asset.mesh.positions) == len(expected.positions) == 128 and len(asset.mesh.faces) == 256
    p = asset.mesh.positions[asset.mesh.faces]
    facets = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    facets /= np.linalg.norm(facets, axis=1, keepdims=True)
    found = asset.mesh.normals.values[asset.mesh.normals.index]
    agree = (found * facets[:, None]).sum(-1)
    if suffix == ".stl":  # a normal per facet, as the file has it
        assert agree.min() > 0.9999
    else:
        assert agree.max() < 0.9999 and agree.min() > 0.7


def test_what_a_ply_loses_is_named(tmp_path):
    write_ply(tmp_path / "jar.ply", demo_asset(32, around=16, along=8))
    asset = read_asset(tmp_path / "jar.ply")
    assert asset.mesh.uvs is not None and "the vertex attributes color are left out" in asset.extras["notes"][0]
    red = trimesh.creation.box()
    red.visual = ColorVisuals(red, vertex_colors=[188, 0, 0, 255])
    red.export(tmp_path / "red.ply")
    asset = read_asset(tmp_path / "red.ply")
    assert asset.extras == {} and asset.materials[0].albedo[0, 0] == pytest.approx([0.5028865, 0, 0], abs=1e-5)
    red.visual.vertex_colors[:4] = [0, 0, 188, 255]
    red.export(tmp_path / "two.ply")
    asset = read_asset(tmp_path / "two.ply")
    assert "their mean is the albedo" in asset.extras["notes"][0]
    assert asset.materials[0].albedo[0, 0] == pytest.approx([0.5028865 / 2, 0, 0.5028865 / 2], abs=1e-5)


@pytest.mark.parametrize("suffix", [".dae", ".3mf"])
def test_collada_and_3mf(tmp_path, suffix):
    pytest.importorskip({".dae": "collada", ".3mf": "lxml"}[suffix])
    box = trimesh.creation.box(extents=(1, 2, 3))
    box.export(tmp_path / f"a{suffix}")
    asset = read_asset(tmp_path / f"a{suffix}")
    assert len(asset.mesh.faces) == 12 and np.ptp(asset.mesh.positions, axis=0) == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("suffix", [".dae", ".3mf"])
def test_packages_that_are_absent_are_named(tmp_path, monkeypatch, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    monkeypatch.setattr(trimesh, "available_formats", lambda: {"stl"})
    with pytest.raises(StspbrError, match=r"pip install 'stspbr\[meshes\]'"):
        read_asset(tmp_path / f"a{suffix}")


def test_broken_files(tmp_path):
    with pytest.raises(StspbrError, match="gone.stl does not exist"):
        read_asset(tmp_path / "gone.stl")
    torus = trimesh.creation.torus(1.0, 0.3)
    for suffix in (".stl", ".off", ".ply"):
        path = tmp_path / f"cut{suffix}"
        torus.export(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(StspbrError, match=f"cut{suffix}") as caught:
            read_asset(path)
        assert "\n" not in str(caught.value)
    trimesh.PointCloud([[0, 0, 0], [1, 1, 1.0]]).export(tmp_path / "points.ply")
    with pytest.raises(StspbrError, match="points.ply: there are no triangles"):
        read_asset(tmp_path / "points.ply")
    with pytest.raises(StspbrError, match="cannot read .blend: use .glb"):
        read_asset(tmp_path / "a.blend")


U_OFF = "OFF\n8 2 0\n" + "\n".join(
    f"{x} {y} 0" for x, y in ((0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3))
)
U_PLY = (
    "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
)


@pytest.mark.parametrize("first", [0, 3])
def test_concave_polygons_of_off_and_ply(tmp_path, first):
    ring = [(k + first) % 8 for k in range(8)]
    faces = "\n8 " + " ".join(map(str, ring)) + "\n3 0 1 2\n"
    (tmp_path / "a.off").write_text(U_OFF + faces)
    (tmp_path / "a.ply").write_text(U_PLY + U_OFF.partition("0\n")[2] + faces)
    for suffix in ("off", "ply"):
        mesh = read_asset(tmp_path / f"a.{suffix}").mesh
        p = mesh.positions[mesh.faces].astype(float)
        areas = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) / 2
        assert areas.sum() == pytest.approx(7 + 4.5) and len(areas) == 7


PLY = """ply
format ascii 1.0
comment TextureFile skin.png
element vertex 3
property float x
property float y
property float z
property float s
property float t
element face 1
property list uchar int vertex_indices
end_header
0 0 0 0 0
1 0 0 1 0
0 1 0 0 1
3 0 1 2
"""


def test_textures_that_are_missing_are_named(tmp_path, capfd):
    (tmp_path / "a.ply").write_text(PLY)
    with pytest.raises(StspbrError, match="names the texture skin.png, which does not exist beside it"):
        read_asset(tmp_path / "a.ply")
    assert capfd.readouterr().err == ""
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "skin.png")
    assert read_asset(tmp_path / "a.ply").materials[0].albedo.reshape(-1, 3)[0].tolist() == [1, 0, 0]


def test_colours_that_trimesh_does_not_read_are_noted(tmp_path):
    places = "0 0 0{0}\n1 0 0{0}\n0 1 0{0}\n3 0 1 2"
    plain = np.zeros(1, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")])
    plain["corners"] = np.eye(3)
    painted = plain.copy()
    painted["colour"] = 0xFC1F
    files = {
        "COFF": (places.format(" 0 0 255 255"), True), "OFF": (places.format("") + " 255 0 0", True),
        "OFF ": (places.format(""), False), "stl": (plain, False), "STL": (painted, True),
    }  # fmt: skip
    for head, (body, noted) in files.items():
        path = tmp_path / ("a.stl" if isinstance(body, np.ndarray) else "a.off")
        if isinstance(body, np.ndarray):
            path.write_bytes(bytes(80) + b"\1\0\0\0" + body.tobytes())
        else:
            path.write_text(f"{head}\n3 1 0\n{body}\n")
        notes = read_asset(path).extras.get("notes", [])
        assert ("the colours of its vertices or faces are left out" in notes) == noted, head
