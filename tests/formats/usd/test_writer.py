"""Assets written as USD: what the validators and AR viewers ask for, and every convention that can be flipped."""

from __future__ import annotations

import contextlib
import shutil
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("pxr", reason="usd-core is absent")
from pxr import Usd, UsdGeom, UsdLux, UsdShade, UsdUtils  # noqa: E402

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError  # noqa: E402
from stspbr.formats.images import read_image, read_pixels
from stspbr.formats.usd.asset import read_usd  # noqa: E402
from stspbr.formats.usd.light import read_lights  # noqa: E402
from stspbr.formats.usd.writer import write_usd  # noqa: E402
from stspbr.metrics.image import psnr  # noqa: E402
from stspbr.procedural.jar import demo_asset, demo_light  # noqa: E402
from stspbr.render.asset_renderer import AssetRenderer  # noqa: E402
from stspbr.render.backend import get_backend  # noqa: E402
from stspbr.render.gbuffer import ViewBatch  # noqa: E402
from stspbr.render.light import EnvironmentCube  # noqa: E402
from stspbr.scene import Asset, Corners, EnvironmentLight, Material, Mesh, direction_to_latlong, latlong_to_direction  # noqa: E402
from stspbr.scene.asset import Node  # noqa: E402
from stspbr.scene.camera_rig import object_cameras  # noqa: E402

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
SUFFIXES = [".usda", ".usdc", ".usd", ".usdz"]
# what Apple's AR profile of USDZ allows among the prims that are written here
AR_PRIMS = {"", "Xform", "Scope", "Mesh", "GeomSubset", "Material", "Shader"}


def waves(size: int = 64) -> np.ndarray:
    """A tangent-space normal map that is different in every direction."""
    y, x = np.mgrid[0:size, 0:size] * (2 * np.pi * 3 / size)
    out = np.stack([0.3 * np.sin(x) + 0.1, 0.35 * np.cos(y) - 0.1, np.ones_like(x)], axis=-1)
    return (out / np.linalg.norm(out, axis=-1, keepdims=True)).astype(np.float32)


def turned(angle: float, scale: float, shift: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    out[:3, :3] = scale * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    out[:3, 3] = shift
    return out


def rich_asset() -> Asset:
    """The jar in two materials (one with all five maps, one of numbers) and four nodes, one of them a mirror."""
    jar = demo_asset(64)
    base = jar.materials[0]
    y, x = np.mgrid[0:64, 0:64] / 64
    occlusion = (0.6 + 0.4 * np.sin(9 * x) * np.cos(7 * y)).astype(np.float32)[..., None]
    glazed = Material(
        eight_bits(base.albedo, srgb=True),
        eight_bits(base.roughness),
        eight_bits(base.metallic),
        eight_bits(np.clip(occlusion, 0, 1)),
        eight_bits(waves() / 2 + 0.5) * 2 - 1,
        name="Glaze & brass",
    )
    plain = Material(*(np.full((1, 1, n), v, np.float32) for n, v in ((3, 0.25), (1, 0.35), (1, 1.0))), name="Stahl §5")
    height = jar.mesh.positions[jar.mesh.faces].mean(axis=1)[:, 1]
    mesh = replace(
        jar.mesh,
        face_material=(height < -0.3).astype(np.int32),
        face_node=np.where(height > 0.4, 2, np.where(height < -0.6, 3, 1)).astype(np.int32),
    )
    nodes = [
        Node("Vase (röt)", turned(0.3, 2.0, (1, 2, 3))),
        Node("body", turned(-0.5, 0.7, (0, 0.5, 0)), 0, "Body mesh"),
        Node("lid", np.diag([-1.0, 1.0, 1.0, 1.0]), 1, "Lid mesh"),
        Node("foot", turned(1.0, 1.0, (0, 0, -1)), None, "Foot mesh"),
    ]
    return Asset(mesh, [glazed, plain], name="jar", nodes=nodes)


@pytest.fixture(scope="module")
def rich() -> Asset:
    return rich_asset()


@pytest.fixture(scope="module")
def lit():
    """A light to render under: a gradient, so that it looks different from everywhere."""
    direction = latlong_to_direction(np.stack(np.meshgrid((np.arange(32) + 0.5) / 32, (np.arange(16) + 0.5) / 16), -1))
    return EnvironmentCube.from_latlong(EnvironmentLight((1 + direction).astype(np.float32)), 16).prefilter().detach()


def eight_bits(image: np.ndarray, *, srgb: bool = False) -> np.ndarray:
    """The nearest values that an 8-bit texture can hold."""
    stored = np.rint(255 * (linear_to_srgb(image) if srgb else image)) / 255
    return (srgb_to_linear(stored) if srgb else stored).astype(np.float32)


def errors_of(path) -> list[str]:
    """What USD's own validators find: the validation framework, or the checker of older versions."""
    if hasattr(UsdUtils, "ComplianceChecker"):
        from pxr import Sdr, Tf

        with contextlib.suppress(Tf.ErrorException):  # said once: wheels lack the definitions of shader nodes
            Sdr.Registry().GetShaderNodeByIdentifier("UsdPreviewSurface")
        checker = UsdUtils.ComplianceChecker(arkit=path.suffix == ".usdz", skipARKitRootLayerCheck=False)
        checker.CheckCompliance(str(path))
        found = checker.GetErrors() + checker.GetFailedChecks() + checker.GetWarnings()
        return [line for line in found if "invalid shader node" not in line]
    from pxr import UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    stage = Usd.Stage.Open(str(path))
    return [error.GetErrorAsString() for error in UsdValidation.ValidationContext(validators).Validate(stage)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_validators_find_nothing(tmp_path, rich, suffix):
    path = tmp_path / f"asset{suffix}"
    write_usd(path, rich, demo_light())
    assert errors_of(path) == []
    if suffix == ".usdz":
        assert errors_of(tmp_path / "asset_environment.usda") == []


def test_the_validators_find_something_where_there_is_something(tmp_path, rich):
    write_usd(tmp_path / "asset.usda", rich)
    (tmp_path / "asset_textures/Glaze___brass_orm.png").unlink()
    text = (tmp_path / "asset.usda").read_text().replace('upAxis = "Y"', "").replace('defaultPrim = "jar"', "")
    (tmp_path / "asset.usda").write_text(text.replace("float4 inputs:bias = (-1, -1, -1, 0)", ""))
    found = "\n".join(errors_of(tmp_path / "asset.usda"))
    for wanted in ("upAxis", "default", "bias", "orm.png"):
        assert wanted in found


def test_a_usdz_is_what_ar_viewers_take(tmp_path, rich):
    notes = write_usd(tmp_path / "asset.usdz", rich, demo_light(), texture_bits=16)
    assert any("8 bits" in note for note in notes) and any("asset_environment.usda" in note for note in notes)
    with zipfile.ZipFile(tmp_path / "asset.usdz") as package:
        assert package.testzip() is None
        entries = package.infolist()
        data = (tmp_path / "asset.usdz").read_bytes()
        for entry in entries:
            name, extra = (int.from_bytes(data[entry.header_offset + k :][:2], "little") for k in (26, 28))
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
            assert entry.compress_type == zipfile.ZIP_STORED
        assert entries[0].filename == "asset.usdc"
        assert all(entry.filename.endswith(".png") for entry in entries[1:]) and len(entries) == 4
        assert all(read_pixels(package.read(e), "png").shape[-1] == 3 for e in entries[1:])
        assert all(package.read(e)[24] == 8 for e in entries[1:])
    stage = Usd.Stage.Open(str(tmp_path / "asset.usdz"))
    assert {str(prim.GetTypeName()) for prim in stage.Traverse()} <= AR_PRIMS
    assert not (tmp_path / "asset_textures").exists() or [
        file.name for file in (tmp_path / "asset_textures").iterdir()
    ] == ["environment.exr"]


@pytest.mark.parametrize("suffix", [".usda", ".usdc", ".usdz"])
def test_the_same_asset_gives_the_same_bytes(tmp_path, rich, suffix):
    for name in ("a", "b"):
        write_usd(tmp_path / name / f"asset{suffix}", rich, demo_light())
        time.sleep(0.01)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(tmp_path / "b") for file in (tmp_path / "b").rglob("*") if file.is_file())
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_stage_names_and_kinds(tmp_path, rich):
    write_usd(tmp_path / "asset.usdc", rich, demo_light())
    stage = Usd.Stage.Open(str(tmp_path / "asset.usdc"))
    root = stage.GetDefaultPrim()
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
    assert root.GetPath() == "/jar" and Usd.ModelAPI(root).GetKind() == "component"
    assert Usd.ModelAPI(root).GetAssetName() == "jar"
    names = {str(p.GetPath()): p.GetDisplayName() for p in stage.Traverse() if p.GetDisplayName()}
    assert names["/jar/Materials/Glaze___brass"] == "Glaze & brass"
    assert "Vase (röt)" in names.values() and "Stahl §5" in names.values()
    dome = UsdLux.DomeLight(stage.GetPrimAtPath("/Environment"))
    assert dome.GetTextureFormatAttr().Get() == "latlong"
    for prim in stage.Traverse():
        if prim.IsA(UsdGeom.Mesh):
            mesh = UsdGeom.Mesh(prim)
            assert mesh.GetSubdivisionSchemeAttr().Get() == "none"
            bounds = np.array(mesh.GetExtentAttr().Get())
            points = np.array(mesh.GetPointsAttr().Get())
            np.testing.assert_array_equal(bounds, [points.min(axis=0), points.max(axis=0)])
            assert len(np.unique(points, axis=0)) == len(points)  # welded
            assert UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsetsFamilyType() == "partition" or not (
                UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsets()
            )


def quad(**maps) -> Asset:
    """The square x, y in [−1, 1] that faces +Z, its image upright (v = 0 at the top), with 4 × 4 maps."""
    positions = np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], np.float32)
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    faces = np.array([[0, 3, 2], [0, 2, 1]], np.int32)
    base = {"albedo": np.full((1, 1, 3), 0.5), "roughness": np.full((1, 1, 1), 0.5), "metallic": np.zeros((1, 1, 1))}
    maps = {key: np.asarray(value, np.float32) for key, value in {**base, **maps}.items()}
    return Asset(Mesh(positions, faces, Corners(uvs, faces)), [Material(**maps, name="paint")], name="quad")


def written_quad(tmp_path, **maps):
    write_usd(tmp_path / "quad.usda", quad(**maps))
    return Usd.Stage.Open(str(tmp_path / "quad.usda"))


def shader(stage, name):
    return UsdShade.Shader(stage.GetPrimAtPath(f"/quad/Materials/paint/{name}"))


def test_v_grows_upwards(tmp_path):
    albedo = np.zeros((4, 4, 3))
    albedo[0] = (1, 0, 0)  # the top row is red
    stage = written_quad(tmp_path, albedo=albedo)
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/quad/quad"))
    st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    assert st.GetInterpolation() == "faceVarying"
    corners = np.array(st.ComputeFlattened())
    points = np.array(mesh.GetPointsAttr().Get())[np.array(mesh.GetFaceVertexIndicesAttr().Get())]
    # USD: (0, 0) is the image's lower left corner, so on this quad st is the position in [0, 1]
    np.testing.assert_allclose(corners, points[:, :2] * 0.5 + 0.5, atol=1e-7)
    assert read_pixels(tmp_path / "quad_textures/paint_albedo.png")[0, 0, 0] == 1
    np.testing.assert_array_equal(read_usd(tmp_path / "quad.usda").materials[0].albedo[0, :, 0], 1)


def test_albedo_is_srgb_and_data_is_raw(tmp_path):
    flat = np.tile(np.float32([0, 0, 1]), (4, 4, 1))
    half = {"albedo": np.full((4, 4, 3), 0.5), "roughness": np.full((4, 4, 1), 0.5), "normal": flat}
    stage = written_quad(tmp_path, **half)
    assert round(255 * read_pixels(tmp_path / "quad_textures/paint_albedo.png")[0, 0, 0]) == 188
    assert round(255 * read_pixels(tmp_path / "quad_textures/paint_orm.png")[0, 0, 1]) == 128
    spaces = [
        shader(stage, name).GetInput("sourceColorSpace").Get()
        for name in ("Albedo", "OcclusionRoughnessMetallic", "Normal")
    ]
    assert spaces == ["sRGB", "raw", "raw"]
    material = read_usd(tmp_path / "quad.usda").materials[0]
    np.testing.assert_allclose(material.albedo, 0.5, atol=0.005)
    np.testing.assert_allclose(material.roughness, 0.5, atol=0.003)


def test_packed_channels_are_occlusion_roughness_metallic(tmp_path):
    maps = {"occlusion": 0.2, "roughness": 0.4, "metallic": 0.8}
    stage = written_quad(tmp_path, **{key: np.full((4, 4, 1), value) for key, value in maps.items()})
    pixel = read_pixels(tmp_path / "quad_textures/paint_orm.png")[0, 0]
    np.testing.assert_allclose(pixel, list(maps.values()), atol=0.002)
    for key, channel in zip(maps, "rgb", strict=True):
        source = shader(stage, "Surface").GetInput(key).GetConnectedSources()[0][0]
        assert source.sourceName == channel, key
    back = read_usd(tmp_path / "quad.usda").materials[0]
    for key, value in maps.items():
        np.testing.assert_allclose(getattr(back, key), value, atol=0.002)


def test_green_of_the_normal_map_is_up(tmp_path, lit):
    """USD: the decoded normal's second part goes along the direction in which st's second part grows."""
    tilted = np.float32([0.2, 0.6, np.sqrt(1 - 0.2**2 - 0.6**2)])
    stage = written_quad(tmp_path, normal=np.tile(tilted, (4, 4, 1)))
    texture = shader(stage, "Normal")
    texel = read_pixels(tmp_path / "quad_textures/paint_normal.png")[0, 0]
    decoded = texel * np.array(texture.GetInput("scale").Get())[:3] + np.array(texture.GetInput("bias").Get())[:3]
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/quad/quad"))
    points = np.array(mesh.GetPointsAttr().Get())[np.array(mesh.GetFaceVertexIndicesAttr().Get())][:3]
    st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").ComputeFlattened())[:3]
    along = np.linalg.solve(st[1:] - st[0], points[1:] - points[0])  # dP/ds, dP/dt
    world = decoded @ np.array([*(along / np.linalg.norm(along, axis=1, keepdims=True)), (0, 0, 1)])
    np.testing.assert_allclose(world, tilted, atol=0.01)  # s is +X and t is +Y here
    # and that is what is rendered, of the asset and of the file
    view = ViewBatch.of([object_cameras(quad().mesh, 1, 0, 16, elevation_degrees=(-5, 5))[0][0]], [np.eye(4)], CPU)
    for asset in (quad(normal=np.tile(tilted, (4, 4, 1))), read_usd(tmp_path / "quad.usda")):
        image = AssetRenderer(asset, BACKEND, CPU).render(view, lit)
        seen = image["alpha"][0, ..., 0] > 0.99
        np.testing.assert_allclose(image["normal"][0][seen].numpy().mean(axis=0), tilted, atol=0.02)


def test_the_light_is_where_it_was(tmp_path):
    light = demo_light()
    light.radiance[40:50, 100:120] = (5000.0, 5.0, 0.5)
    write_usd(tmp_path / "asset.usda", quad(), light)
    texture, _, _ = read_image(tmp_path / "asset_textures/environment.exr")
    height, width = texture.shape[:2]
    row, column = np.unravel_index(texture[..., 0].argmax(), (height, width))
    # OpenEXR's statement, which UsdLux refers to: longitude π at the left edge, +Z at 0, +X at π/2
    longitude, latitude = np.pi * (1 - 2 * (column + 0.5) / width), np.pi * (0.5 - (row + 0.5) / height)
    there = np.array([np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)])
    u, v = direction_to_latlong(there)
    np.testing.assert_allclose(light.radiance[int(v * height), int(u * width)], (5000, 5, 0.5), rtol=1e-6)
    stage = Usd.Stage.Open(str(tmp_path / "asset.usda"))
    np.testing.assert_array_equal(read_lights(stage, None, [0.0], np.eye(3)).radiance, light.radiance)


def test_mitsuba_sees_the_domes_texture_where_we_see_the_light(tmp_path):
    """A second statement: Mitsuba's envmap has OpenEXR's layout, so the texture needs no turn there."""
    from stspbr.render import mitsuba_bsdf

    ok, message = mitsuba_bsdf.llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    mi = mitsuba_bsdf.require_mitsuba("tests")
    u, v = np.meshgrid((np.arange(128) + 0.5) / 128, (np.arange(64) + 0.5) / 64)
    light = EnvironmentLight((1.5 + latlong_to_direction(np.stack([u, v], axis=-1))).astype(np.float32))
    write_usd(tmp_path / "asset.usda", quad(), light)
    texture, _, _ = read_image(tmp_path / "asset_textures/environment.exr")
    direction = latlong_to_direction(np.random.default_rng(3).uniform(0.05, 0.95, (200, 2)))
    interaction = mi.SurfaceInteraction3f()
    interaction.wi = mi.Vector3f(*(-direction.T.astype(np.float32)))

    def seen(image: np.ndarray) -> np.ndarray:
        emitter = mi.load_dict({"type": "envmap", "bitmap": mi.Bitmap(np.ascontiguousarray(image)), "scale": 1.0})
        return np.array(emitter.eval(interaction)).reshape(3, -1).T

    np.testing.assert_allclose(seen(texture), 1.5 + direction, atol=0.06)
    for flipped in (texture[:, ::-1], texture[::-1], np.roll(texture, 32, axis=1), light.radiance):
        assert np.abs(seen(flipped) - (1.5 + direction)).max() > 0.5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_there_and_back_gives_the_same_asset_and_picture(tmp_path, rich, lit, suffix):
    path = tmp_path / f"jar{suffix}"
    write_usd(path, rich)
    back = read_usd(path)
    assert [m.name for m in back.materials] == [m.name for m in rich.materials]
    assert back.name == "jar"
    owners = {node.name: node for node in back.nodes}
    assert set(owners) == {node.name for node in rich.nodes}
    for node in rich.nodes:
        other = owners[node.name]
        np.testing.assert_allclose(other.local_to_parent, node.local_to_parent, atol=1e-9)
        assert other.mesh == node.mesh
        parent = None if node.parent is None else rich.nodes[node.parent].name
        assert parent == (None if other.parent is None else back.nodes[other.parent].name)
    # triangles: same places, owners and materials, whatever their order
    assert len(back.mesh.positions) == len(rich.mesh.positions)  # parts that touch are one surface
    ours, theirs = (triangle_table(asset) for asset in (rich, back))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    for camera in object_cameras(rich.mesh, 2, 0, 64)[0]:
        view = ViewBatch.of([camera], [np.eye(4)], CPU)
        a, b = (AssetRenderer(asset, BACKEND, CPU).render(view, lit) for asset in (rich, back))
        for what in ("rgb", "normal", "albedo", "roughness", "metallic"):
            assert psnr(a[what][0], b[what][0]) > 60, what


def triangle_table(asset: Asset) -> np.ndarray:
    """Every triangle's centre, area vector, node, material, UV and normal, sorted: order does not matter."""
    mesh = asset.mesh
    corner = mesh.positions[mesh.faces].astype(np.float64)
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    names = sorted(node.name for node in asset.nodes)
    node = np.array([names.index(asset.nodes[k].name) for k in mesh.face_node])
    shading = mesh.normals.values[mesh.normals.index].mean(axis=1) if mesh.normals is not None else np.zeros_like(area)
    uv = mesh.uvs.values[mesh.uvs.index].mean(axis=1)
    table = np.c_[corner.mean(axis=1), area, node, mesh.face_material, uv, shading]
    return table[np.lexsort(np.round(table[:, [2, 1, 0, 7, 6]], 4).T)]


def test_sixteen_bits_hold_more(tmp_path):
    ramp = np.linspace(0.2, 0.21, 16).reshape(4, 4, 1).astype(np.float32)
    write_usd(tmp_path / "eight.usda", quad(roughness=ramp))
    write_usd(tmp_path / "sixteen.usda", quad(roughness=ramp, albedo=np.repeat(ramp, 3, axis=2)), texture_bits=16)
    errors = [
        np.abs(read_usd(tmp_path / f"{name}.usda").materials[0].roughness - ramp).max() for name in ("eight", "sixteen")
    ]
    assert errors[0] > 1e-3 and errors[1] < 1e-5
    albedo = read_usd(tmp_path / "sixteen.usda").materials[0].albedo
    np.testing.assert_allclose(albedo, np.repeat(ramp, 3, axis=2), atol=2e-5)


def test_tangents_of_the_asset_are_kept(tmp_path):
    asset = quad(normal=np.broadcast_to(np.float32([0.6, 0, 0.8]), (4, 4, 3)))
    skewed = np.array([[np.sqrt(0.5), np.sqrt(0.5), 0, -1]], np.float32)
    asset.mesh = replace(asset.mesh, tangents=Corners(skewed, np.zeros((2, 3), np.int32)))
    write_usd(tmp_path / "quad.usdc", asset)
    back = read_usd(tmp_path / "quad.usdc").mesh
    np.testing.assert_allclose(back.tangents.values[back.tangents.index], skewed[np.zeros((2, 3), int)], atol=1e-7)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda a: setattr(a.mesh, "faces", a.mesh.faces[:0]), "no triangles"),
        (lambda a: setattr(a.mesh, "positions", a.mesh.positions * np.nan), "positions are not all finite"),
        (lambda a: setattr(a.mesh, "uvs", None), "has maps but the mesh has no UVs"),
        (lambda a: setattr(a.mesh, "face_material", np.array([0, 7], np.int32)), "material 7, which is missing"),
        (lambda a: setattr(a.nodes[0], "local_to_parent", np.diag([1.0, 0, 1, 1])), "node n has a scale of 0"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, change, wanted):
    asset = quad(albedo=np.full((4, 4, 3), 0.5))
    asset.nodes, asset.mesh.face_node = [Node("n", np.eye(4))], np.zeros(2, np.int32)
    write_usd(tmp_path / "quad.usda", asset)
    before = (tmp_path / "quad.usda").read_bytes()
    change(asset)
    with pytest.raises(StspbrError, match=wanted):
        write_usd(tmp_path / "quad.usda", asset)
    assert (tmp_path / "quad.usda").read_bytes() == before
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_other_places_and_suffixes(tmp_path):
    with pytest.raises(StspbrError, match="expected one of .usd, .usda"):
        write_usd(tmp_path / "quad.fbx", quad())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StspbrError, match="cannot write"):
        write_usd(tmp_path / "file" / "quad.usda", quad())
    with pytest.raises(StspbrError, match="choose 8 or 16"):
        write_usd(tmp_path / "quad.usda", quad(), texture_bits=10)
    shutil.rmtree(tmp_path)
