"""A mesh that is given: its shape, and the normal map that belongs to it, come out as they went in."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.geometry.tangents import with_frames
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Corners, Material, Mesh
from stspbr.scene.attributes import joined as joined_parts
from stspbr.scene.origin import shift
from stspbr.settings import (
    BakeSettings,
    CaptureMeshSettings,
    CoarseSettings,
    SpecializeSettings,
    UnpackSettings,
    settings_for,
)
from stspbr.stages import fit as fit_stage
from stspbr.stages import given_mesh as given_mesh_stage
from stspbr.stages.bake import run_bake
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.given_mesh import given_mesh, load_given_mesh, read_given_mesh, with_layouts
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_capture
from stspbr.stages.unpack_orm import run_unpack_orm
from stspbr.texture.atlas import rasterize_layout

STEPS = ["optimize.iterations=2", "optimize.batch=1"]
FIELDS = [f"fields.{n}.{k}" for n in ("appearance", "reflectance") for k in ("levels=2", "log2_table_size=10")]


def wavy_jar(shift: float = 0.0) -> Asset:
    """The jar with waves in its normal map; ``shift`` moves all UVs by whole tiles or parts of one."""
    asset = demo_asset()
    y, x = np.mgrid[0:256, 0:256] * (2.0 * np.pi * 3.0 / 256.0)
    waves = np.stack([0.3 * np.sin(x), 0.3 * np.cos(y), np.ones_like(x)], axis=-1)
    waves /= np.linalg.norm(waves, axis=-1, keepdims=True)
    uvs = asset.mesh.uvs
    mesh = replace(asset.mesh, uvs=Corners(uvs.values + np.float32(shift), uvs.index))
    return Asset(mesh, [replace(asset.materials[0], normal=waves.astype(np.float32))])


def fit_given(source, tmp_path, asset: Asset, *, coarse: list[str] = ()) -> Asset:
    run = tmp_path / "run"
    shutil.copytree(source / "capture", run / "capture")
    path = tmp_path / "given.glb"
    write_glb(path, asset)
    session = Session.open(run, device="cpu", quiet=True)
    run_coarse(session, settings_for(CoarseSettings, [*STEPS, *FIELDS, f"mesh={path}", *coarse]))
    run_specialize(session, settings_for(SpecializeSettings, [*STEPS, "survey.steps=5"]))
    bake = run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=256"]))
    return read_gltf(bake.file("asset.glb"))


def seen_normals(source, asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Shading normals and coverage in one view of the capture."""
    session = Session.open(source, device="cpu", quiet=True)
    frame = load_capture(session.parent("capture")).frames[0]
    camera = frame.camera.resized(128, 128)
    light = prefilter_latlong(demo_light(), base_resolution=128)
    out = AssetRenderer(asset, session.backend, torch.device("cpu")).render(
        ViewBatch.of([camera], [frame.object_to_world], torch.device("cpu")), light
    )
    return out["normal"][0].numpy(), out["alpha"][0].numpy() > 0.999


@pytest.mark.parametrize("shift", [0.0, 0.4], ids=["inside", "repeating"])
def test_normal_map_of_the_given_mesh_is_kept(tiny_run, tmp_path, shift):
    given = wavy_jar(shift)
    asset = fit_given(tiny_run, tmp_path, given, coarse=["normals_from=2.0"])
    truth, inside = seen_normals(tiny_run, given)
    ours, _ = seen_normals(tiny_run, asset)
    flat, _ = seen_normals(tiny_run, Asset(given.mesh, demo_asset().materials))
    error = np.degrees(np.arccos(np.clip((truth * ours).sum(-1), -1, 1)))[inside[..., 0]]
    without = np.degrees(np.arccos(np.clip((truth * flat).sum(-1), -1, 1)))[inside[..., 0]]
    assert np.median(without) > 8.0  # the waves matter here
    assert np.median(error) < 1.0


def test_normal_map_can_be_ignored(tiny_run, tmp_path):
    asset = fit_given(tiny_run, tmp_path, wavy_jar(), coarse=["normals_from=2.0", "mesh_normal_map=ignore"])
    assert asset.materials[0].normal is None


def test_given_normals_are_the_start_of_learned_ones(tiny_run, tmp_path):
    asset = fit_given(tiny_run, tmp_path, wavy_jar(), coarse=["normals_from=0.0"])
    truth, inside = seen_normals(tiny_run, wavy_jar())
    ours, _ = seen_normals(tiny_run, asset)
    error = np.degrees(np.arccos(np.clip((truth * ours).sum(-1), -1, 1)))[inside[..., 0]]
    assert 0.0 < np.median(error) < 6.0  # two steps move them a little, and only a little


# -- several materials, parts and nodes -------------------------------------------------------------------------


QUARTER = [0.0, 0.5**0.5, 0.0, 0.5**0.5]
NODES = [
    {"name": "still life", "children": [1, 2], "translation": [0.5, 0.0, -0.25], "rotation": QUARTER},
    {"name": "top", "mesh": 0, "scale": [0.8, 0.8, 0.8]},
    {"name": "crate node", "mesh": 1, "translation": [0.1, -1.45, 0.0], "scale": [1.0, 0.5, 1.25]},
]


def crate(size: int = 64, repeats: float = 2.0, normal_map: bool = True) -> Asset:
    """A cube of side 1.4: the same boards on each of its sides, ``repeats`` times over."""
    positions, faces, uvs = [], [], []
    square = np.array([(0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
    for axis in range(3):
        for sign in (1.0, -1.0):
            out = np.eye(3)[axis] * sign
            across = np.eye(3)[(axis + 1) % 3]
            up = np.cross(out, across)
            faces += [np.array([[0, 1, 2], [0, 2, 3]]) + len(positions)]
            positions += [0.7 * (out + across * x + up * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            uvs.append(square * repeats - 0.25)
    faces, positions = np.concatenate(faces).astype(np.int32), np.array(positions, np.float32)
    normals = np.repeat(np.concatenate([np.eye(3)[[a, a]] * [[1], [-1]] for a in range(3)]), 4, axis=0)
    uvs = Corners(np.concatenate(uvs).astype(np.float32), faces)
    mesh = Mesh(positions, faces, uvs, Corners(normals.astype(np.float32), faces))
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    board = (np.floor(4 * y) % 2)[..., None]
    grain = (0.5 + 0.5 * np.sin(40 * y + 3 * np.sin(6.3 * x)))[..., None]
    albedo = np.array([0.45, 0.22, 0.08]) * (0.6 + 0.4 * grain) * (0.6 + 0.4 * board)
    roughness, metallic = 0.35 + 0.3 * board, np.zeros_like(board)
    nail = ((x % 0.5 - 0.1) ** 2 + (y % 0.25 - 0.06) ** 2 < 0.03**2)[..., None]
    albedo, roughness = np.where(nail, 0.6, albedo), np.where(nail, 0.25, roughness)
    metallic = np.where(nail, 1.0, metallic)
    normal = None
    if normal_map:
        slope = 0.35 * np.cos(2 * np.pi * 4 * y)
        normal = np.stack([np.zeros_like(slope), slope, np.ones_like(slope)], axis=-1)
        normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)
    maps = (m.astype(np.float32) for m in (albedo, roughness, metallic))
    mesh = with_frames(mesh) if normal_map else mesh
    return Asset(mesh, [Material(*maps, normal=normal, name="boards")], name="crate")


def write_parts(path: Path, assets: list[Asset], nodes: list[dict] = NODES) -> Path:
    """One GLB of several assets, the k-th being mesh k of ``nodes``; the first node is the root."""
    content: dict = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": nodes, "meshes": []}
    lists = ("materials", "accessors", "bufferViews", "images", "textures", "samplers")
    content |= {name: [] for name in lists}
    binary = b""
    for asset in assets:
        write_glb(path, asset)
        data = path.read_bytes()
        size = struct.unpack_from("<I", data, 12)[0]
        one, blob = json.loads(data[20 : 20 + size]), data[28 + size :]
        base = {name: len(content[name]) for name in lists}
        for view in one["bufferViews"]:
            view["byteOffset"] += len(binary)
        for accessor in one["accessors"]:
            accessor["bufferView"] += base["bufferViews"]
        for image in one.get("images", []):
            image["bufferView"] += base["bufferViews"]
        for texture in one.get("textures", []):
            texture["source"] += base["images"]
            texture["sampler"] += base["samplers"]
        for material in one["materials"]:
            pbr = material["pbrMetallicRoughness"]
            infos = [pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture")]
            for info in [*infos, material.get("normalTexture"), material.get("occlusionTexture")]:
                if info is not None:
                    info["index"] += base["textures"]
        for primitive in one["meshes"][0]["primitives"]:
            primitive["attributes"] = {k: v + base["accessors"] for k, v in primitive["attributes"].items()}
            primitive["indices"] += base["accessors"]
            primitive["material"] += base["materials"]
        content["meshes"] += one["meshes"]
        for name in lists:
            content[name] += one.get(name, [])
        binary += blob + b"\0" * (-len(blob) % 4)
    content = {name: value for name, value in content.items() if value != []}
    content["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + 8 + len(binary))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(head + chunks)
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The still life: a jar with a normal map, a crate whose UVs repeat, each on a node of its own."""
    path = tmp_path_factory.mktemp("parts") / "parts.glb"
    return write_parts(path, [small_jar(), crate(32)])


@pytest.fixture(scope="module")
def parts_run(parts, tmp_path_factory):
    """Every stage done on the still life; what was given to the GLB writer; and the run."""
    run = tmp_path_factory.mktemp("parts-run")
    session = Session.open(run, device="cpu", quiet=True)
    run_capture(session, capture_of(parts))
    fitted = fit_stages(session, parts, coarse=["normals_from=2.0"])
    run_unpack_orm(session, UnpackSettings())
    return session, fitted


def small_jar() -> Asset:
    asset, waves = demo_asset(64, around=24, along=16), wavy_jar().materials[0].normal[::4, ::4]
    return Asset(asset.mesh, [replace(asset.materials[0], normal=waves, name="glaze")])


def capture_of(path) -> CaptureMeshSettings:
    return CaptureMeshSettings(
        asset=str(path), light="procedural:demo", views=6, test_views=2, resolution=32, supersample=1
    )


def fit_stages(session: Session, path, *, coarse: list[str] = (), bake: list[str] = ()) -> Asset:
    """Coarse, specialize and bake; returns the asset as bake handed it to the writer."""
    handed = []
    run_coarse(session, settings_for(CoarseSettings, [*STEPS, *FIELDS, f"mesh={path}", *coarse]))
    run_specialize(session, settings_for(SpecializeSettings, [*STEPS, "survey.steps=5"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_stage, "write_glb", lambda p, a, **o: (handed.append(a), write_glb(p, a, **o)))
        run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=64", "padding=1", *bake]))
    return handed[0]


def bake_report(session: Session) -> dict:
    return json.loads(session.parent("bake").file("metrics.json").read_text())


def test_shape_uvs_frames_nodes_and_names_reach_the_writer_untouched(parts, parts_run):
    given, (_, fitted) = read_gltf(parts), parts_run
    for name in ("faces", "face_material", "face_node", "positions"):
        np.testing.assert_array_equal(getattr(fitted.mesh, name), getattr(given.mesh, name), err_msg=name)
    for (name, ours), (_, theirs) in zip(fitted.mesh.attributes(), given.mesh.attributes(), strict=True):
        np.testing.assert_array_equal(ours.values[ours.index], theirs.values[theirs.index], err_msg=name)
    assert [m.name for m in fitted.materials] == ["glaze", "boards"]
    assert [(n.name, n.parent, n.mesh) for n in fitted.nodes] == [(n.name, n.parent, n.mesh) for n in given.nodes]
    for ours, theirs in zip(fitted.nodes, given.nodes, strict=True):
        np.testing.assert_array_equal(ours.local_to_parent, theirs.local_to_parent)


def test_each_material_gets_maps_of_its_own_size(parts, parts_run):
    given, (session, fitted) = read_gltf(parts), parts_run
    exported = read_gltf(session.parent("bake").file("asset.glb"))
    for asset in (fitted, exported):
        for ours, theirs in zip(asset.materials, given.materials, strict=True):
            side = max(m.shape[0] for m in (theirs.albedo, theirs.roughness, theirs.normal))
            for name in ("albedo", "roughness", "metallic", "normal"):
                assert getattr(ours, name).shape[:2] == (side, side), name
    report = bake_report(session)["given"]
    assert [m["uvs"] for m in report["materials"]] == ["kept", "kept"] and report["nodes"] == 3
    jar, boards = (m["shared_texels"] for m in report["materials"])
    assert jar["shared"] == 0.0 and boards["shared"] > 0.9  # six sides show the same boards, four times each
    assert boards["roughness"] > 0.0


def test_normal_maps_of_several_materials_are_kept(parts, parts_run):
    given, (_, fitted) = read_gltf(parts), parts_run
    for ours, theirs in zip(fitted.materials, given.materials, strict=True):
        cosine = (ours.normal * theirs.normal).sum(-1)[:, 1:-1]
        assert np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))) < 0.5, ours.name
        assert np.degrees(np.arccos(np.clip(np.quantile(cosine, 0.02), -1, 1))) < 8.0, ours.name


def test_the_exported_file_looks_as_it_was_trained(parts_run):
    assert bake_report(parts_run[0])["export_psnr"] >= 45.0


def test_unpacked_maps_are_named_by_material(parts_run):
    files = set(parts_run[0].parent("unpack-orm").files)
    wanted = {f"{m}_{kind}.png" for m in ("glaze", "boards") for kind in ("occlusion", "roughness", "metallic")}
    assert wanted <= files


def test_names_and_transforms_are_in_the_final_file(parts, parts_run):
    """Names, parents and local transforms as given, geometry in its place."""
    given, exported = read_gltf(parts), read_gltf(parts_run[0].parent("bake").file("asset.glb"))
    assert [(n.name, n.parent, n.mesh) for n in exported.nodes] == [(n.name, n.parent, n.mesh) for n in given.nodes]
    for ours, theirs in zip(exported.nodes, given.nodes, strict=True):
        np.testing.assert_allclose(ours.local_to_parent, theirs.local_to_parent, atol=1e-6)
    for node in range(3):
        ours, theirs = (np.sort(a.mesh.positions[a.mesh.faces[a.mesh.face_node == node]], 0) for a in (exported, given))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_given_mesh_comes_back_from_its_artifact(parts, parts_run):
    wanted = given_mesh(read_gltf(parts), keep_normal_maps=True)
    found = load_given_mesh(parts_run[0].parent("coarse"))
    assert [(m.name, m.size) for m in found.materials] == [(m.name, m.size) for m in wanted.materials]
    for ours, theirs in zip(found.normal_maps, wanted.normal_maps, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("positions", "faces", "face_material", "face_node"):
        np.testing.assert_array_equal(getattr(found.mesh, name), getattr(wanted.mesh, name), err_msg=name)
    for (name, ours), (_, theirs) in zip(found.mesh.attributes(), wanted.mesh.attributes(), strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values, err_msg=name)
        np.testing.assert_array_equal(ours.index, theirs.index, err_msg=name)


def test_only_what_has_no_uvs_gets_new_ones():
    jar, box = small_jar(), crate(32, normal_map=False)
    box = replace(box, mesh=replace(box.mesh, uvs=Corners(np.zeros((1, 2), np.float32), np.zeros_like(box.mesh.faces))))
    given = given_mesh(joined(jar, box), keep_normal_maps=True)
    assert given.materials[1].size is None and given.materials[1].normal_map is None
    mesh, sizes, renewed = with_layouts(given, 48, 2)
    first = mesh.face_material == 0
    assert renewed == [1] and sizes[1] == (48, 48)
    np.testing.assert_array_equal(
        mesh.uvs.values[mesh.uvs.index[first]], given.mesh.uvs.values[given.mesh.uvs.index[first]]
    )
    new = mesh.uvs.values[mesh.uvs.index[~first]]
    texels = rasterize_layout(mesh.uvs, sizes[1], np.flatnonzero(~first))
    assert new.min() >= 0 and new.max() <= 1
    assert len(torch.unique(texels.texel)) == len(texels.texel) > 48 * 48 / 4  # no overlap
    tangents = mesh.tangents.values[mesh.tangents.index]
    np.testing.assert_allclose(np.linalg.norm(tangents[..., :3], axis=-1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(mesh.positions, given.mesh.positions)


def test_materials_without_faces_are_left_out():
    jar = small_jar()
    extra = Asset(jar.mesh, [replace(jar.materials[0], name="unused"), jar.materials[0]])
    extra.mesh.face_material = np.ones(len(jar.mesh.faces), np.int32)
    given = given_mesh(extra, keep_normal_maps=False)
    assert [m.name for m in given.materials] == ["glaze"] and not given.mesh.face_material.any()
    assert given.normal_maps == [None]


def test_what_bake_could_not_use_is_refused_before_anything_is_fitted(tmp_path, monkeypatch):
    jar = small_jar()
    write_glb(tmp_path / "a.glb", jar)
    settings = settings_for(CoarseSettings, [f"mesh={tmp_path / 'a.glb'}"])
    monkeypatch.setattr(given_mesh_stage, "read_asset", lambda *_: broken)
    broken = replace(
        jar, mesh=replace(jar.mesh, uvs=Corners(np.full_like(jar.mesh.uvs.values, np.nan), jar.mesh.uvs.index))
    )
    with pytest.raises(StspbrError, match="a.glb: some UVs are NaN"):
        read_given_mesh(settings)
    broken = replace(jar, mesh=replace(jar.mesh, uvs=None))
    assert read_given_mesh(settings).materials[0].size is None
    monkeypatch.setattr(given_mesh_stage, "MAX_FACES", 100)
    with pytest.raises(StspbrError, match="glaze has no UVs and .* at most 100"):
        read_given_mesh(settings)


def test_an_artifact_of_before_is_refused(parts_run, monkeypatch):
    coarse = parts_run[0].parent("coarse")
    monkeypatch.setitem(coarse.manifest, "files", {"mesh.safetensors": coarse.manifest["files"]["mesh.safetensors"]})
    with pytest.raises(StspbrError, match="run `stspbr coarse` again"):
        load_given_mesh(coarse)


def joined(one: Asset, two: Asset) -> Asset:
    """Two assets as one mesh with two materials."""
    parts = [with_frames(asset.mesh) for asset in (one, two)]
    for number, part in enumerate(parts):
        part.face_material = np.full(len(part.faces), number, np.int32)
        part.face_node = np.zeros(len(part.faces), np.int32)
    mesh = replace(joined_parts(parts, fill_tangents=False), face_node=None)
    return Asset(mesh, [*one.materials, *two.materials])


def test_a_mesh_far_from_the_origin_is_brought_into_the_world_of_the_capture(tmp_path):
    place = np.array([512345.5, 5403210.25, 431.0])
    far = small_jar().transformed(shift(place))
    write_glb(tmp_path / "far.glb", far)
    settings = settings_for(CoarseSettings, [f"mesh={tmp_path / 'far.glb'}"])
    given = read_given_mesh(settings, shift(place))
    assert given.mesh.positions.mean(axis=0) == pytest.approx(small_jar().mesh.positions.mean(axis=0), abs=0.02)
    with pytest.raises(StspbrError, match="far from what the capture shows: move it there"):
        read_given_mesh(settings)
    near = tmp_path / "near.glb"
    write_glb(near, small_jar())
    settings = settings_for(CoarseSettings, [f"mesh={near}"])
    assert np.array_equal(read_given_mesh(settings, shift(place)).mesh.positions, read_asset(near).mesh.positions)
