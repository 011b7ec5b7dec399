"""What you see is what you export: files read by others (trimesh, Pillow) look like the trainer's preview."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from stspbr.formats.gltf.writer import write_glb, write_gltf
from stspbr.formats.images import write_exr, write_hdr
from stspbr.formats.obj_writer import write_obj
from stspbr.formats.ply import write_ply
from stspbr.geometry.tangents import with_frames
from stspbr.metrics.image import psnr_srgb
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.gbuffer import compose, render_gbuffer
from stspbr.render.shading import shade
from stspbr.scene import Asset, Corners, EnvironmentLight, Material, Mesh, Node

SAME = 45.0  # dB, for the same shading model


def decoded(stored):
    """sRGB to linear, by the standard's formula once more."""
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def picture(image) -> np.ndarray:
    pixels = np.asarray(image, np.float64) / 255
    return pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]


def material_of(albedo, roughness, metallic, occlusion, normal, *, srgb=True, green=1.0) -> Material:
    """A material of stored numbers; ``srgb`` and ``green`` are what a wrong reader would do."""
    bumps = (normal * 2 - 1) * [1.0, green, 1.0]
    maps = (decoded(albedo) if srgb else albedo, roughness, metallic, occlusion, bumps)
    return Material(*(np.ascontiguousarray(one, np.float32) for one in maps))


def mesh_of(geometry, transform=None) -> Mesh:
    """trimesh's vertices as ours: it counts v upwards, and it has no tangents, so they are MikkTSpace's again."""
    transform = np.eye(4) if transform is None else transform
    points = trimesh.transform_points(geometry.vertices, transform)
    normals = np.asarray(geometry.vertex_normals) @ np.linalg.inv(transform[:3, :3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    uvs = np.asarray(geometry.visual.uv) * [1, -1] + [0, 1]
    faces = np.asarray(geometry.faces, np.int32)
    if np.linalg.det(transform[:3, :3]) < 0:
        faces = faces[:, ::-1]
    arrays = [np.asarray(table, np.float32) for table in (points, uvs, normals)]
    return with_frames(Mesh(arrays[0], faces, Corners(arrays[1], faces), Corners(arrays[2], faces)))


def by_trimesh(path, orm=(0, 1, 2), **wrong) -> Asset:
    """A GLB or glTF with one mesh."""
    scene = trimesh.load(path, process=False, force="scene")
    (name,) = scene.graph.nodes_geometry
    transform, geometry = scene.graph[name]
    stored = scene.geometry[geometry].visual.material
    packed = picture(stored.metallicRoughnessTexture)
    occlusion = picture(stored.occlusionTexture)[..., orm[0]]
    maps = (packed[..., orm[1]], packed[..., orm[2]], occlusion)
    material = material_of(
        picture(stored.baseColorTexture), *(one[..., None] for one in maps), picture(stored.normalTexture), **wrong
    )
    return Asset(mesh_of(scene.geometry[geometry], transform), [material])


@pytest.fixture(scope="module")
def glb(studio, tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "ball.glb"
    assert write_glb(path, studio.asset) == []
    return path


def test_the_preview_shows_something(studio):
    covered = studio.preview["alpha"][..., 0] == 1
    assert 0.3 < covered.mean() < 0.8 and studio.preview["rgb"][covered].std() > 0.1


def test_glb(studio, glb):
    assert studio.compare(studio.preview, studio.render(by_trimesh(glb))) > SAME


@pytest.mark.parametrize(
    "wrong",
    [{"green": -1.0}, {"orm": (0, 2, 1)}, {"orm": (1, 1, 2)}, {"srgb": False}],
    ids=["green", "roughness and metallic", "occlusion", "sRGB"],
)
def test_a_reader_that_gets_it_wrong_is_seen(studio, glb, wrong):
    assert studio.compare(studio.preview, studio.render(by_trimesh(glb, **wrong))) < SAME - 10


def test_the_light_comes_along(studio, tmp_path):
    """As the libraries of others read it; which way it points is what a path tracer and three.js are asked."""
    cv2, OpenEXR = pytest.importorskip("cv2"), pytest.importorskip("OpenEXR")
    radiance = studio.light.radiance
    write_exr(tmp_path / "light.exr", radiance)
    write_hdr(tmp_path / "light.hdr", radiance)
    with OpenEXR.File(str(tmp_path / "light.exr")) as file:
        np.testing.assert_array_equal(file.channels()["RGB"].pixels, radiance)
    by_opencv = cv2.imread(str(tmp_path / "light.hdr"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert (
        np.abs(by_opencv - radiance).max(axis=-1, keepdims=True) <= 0.01 * radiance.max(axis=-1, keepdims=True)
    ).all()


def test_quantised_glb_and_separate_files(studio, tmp_path):
    write_glb(tmp_path / "small.glb", studio.asset, quantized=True)
    write_gltf(tmp_path / "apart.gltf", studio.asset)
    assert studio.compare(studio.preview, studio.render(by_trimesh(tmp_path / "apart.gltf"))) > SAME
    # trimesh reads no normalised integers: our own reader undoes them
    from stspbr.formats.gltf.reader import read_gltf

    assert studio.compare(studio.preview, studio.render(read_gltf(tmp_path / "small.glb"))) > SAME


def test_glb_with_a_turned_stretched_and_mirrored_node(studio, tmp_path):
    local = np.array([[0, -2, 0, 1], [0.5, 0, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]])
    asset = replace(studio.asset, nodes=[Node("up", np.linalg.inv(local)), Node("ball", local, 0)])
    asset.mesh = replace(asset.mesh, face_node=np.ones(len(asset.mesh.faces), np.int32))
    write_glb(tmp_path / "a.glb", asset)
    assert studio.compare(studio.preview, studio.render(by_trimesh(tmp_path / "a.glb"))) > SAME


def test_obj(studio, tmp_path):
    path = write_obj(tmp_path / "a.obj", studio.asset)
    geometry = trimesh.load(path, process=False, force="mesh")
    keys = {key.lower(): value for key, value in geometry.visual.material.kwargs.items()}

    def map_of(key):
        return picture(Image.open(tmp_path / " ".join(keys[key])))

    assert {"map_pr", "map_pm", "map_ao", "norm"} <= set(keys)
    maps = [map_of(key)[..., :1] for key in ("map_pr", "map_pm", "map_ao")]
    material = material_of(picture(geometry.visual.material.image), *maps, map_of("norm"))
    asset = Asset(mesh_of(geometry), [material])
    assert studio.compare(studio.preview, studio.render(asset)) > SAME


def test_obj_with_float_maps_is_read_again(studio, tmp_path):
    from stspbr.formats.obj import read_obj

    asset = read_obj(write_obj(tmp_path / "a.obj", studio.asset, texture_format="exr"))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".exr"] * 5 + [".mtl", ".obj"]
    for name in ("albedo", "roughness", "metallic", "occlusion", "normal"):
        np.testing.assert_allclose(
            getattr(asset.materials[0], name), getattr(studio.asset.materials[0], name), atol=1e-6
        )


def test_ply(studio, make_ball, tmp_path):
    """Values at vertices: compared with the preview of what a vertex can hold, no bumps and no occlusion."""
    material = replace(studio.asset.materials[0], normal=None, occlusion=None)
    smooth = Asset(make_ball(80, 160), [material])
    write_ply(tmp_path / "a.ply", smooth)
    geometry = trimesh.load(tmp_path / "a.ply", process=False)
    raw = geometry.metadata["_ply_raw"]["vertex"]["data"]
    faces = np.asarray(geometry.faces, np.int32)
    assert len(faces) == len(smooth.mesh.faces)
    corners = np.asarray(geometry.vertices)[faces]
    np.testing.assert_allclose(corners, smooth.mesh.positions[smooth.mesh.faces], atol=1e-6)
    uvs = np.stack([raw["s"], 1 - raw["t"]], axis=-1)[faces]
    np.testing.assert_allclose(uvs, smooth.mesh.uvs.values[smooth.mesh.uvs.index], atol=1e-6)
    colour = decoded(np.stack([raw[name] for name in ("red", "green", "blue")], axis=-1) / 255.0)
    normals = np.stack([raw["nx"], raw["ny"], raw["nz"]], axis=-1)
    values = np.concatenate([colour, np.stack([raw["roughness"], raw["metallic"]], axis=-1)], axis=1)
    mesh = Mesh(np.asarray(geometry.vertices, np.float32), faces, normals=Corners(normals, faces))
    lit = shaded(studio, mesh, values)
    assert studio.compare(studio.render(smooth), lit) > SAME
    swapped = values[:, [2, 1, 0, 3, 4]]
    assert studio.compare(studio.render(smooth), shaded(studio, mesh, swapped)) < 35


def shaded(studio, mesh: Mesh, values: np.ndarray) -> dict[str, np.ndarray]:
    """A mesh with albedo, roughness and metallic ``[V, 5]`` at its vertices, under the studio's light."""
    flat = Material(*(np.ones((1, 1, n), np.float32) for n in (3, 1, 1)))
    surface = AssetRenderer(Asset(mesh, [flat]), studio.backend, studio.device).surface
    gbuffer = render_gbuffer(surface, studio.view, studio.backend)
    listed = gbuffer.rast.reshape(-1, 4).index_select(0, gbuffer.covered)[None, None].contiguous()
    table = torch.as_tensor(values, dtype=torch.float32)[None].contiguous()
    at = studio.backend.interpolate(table, listed, surface.faces)[0][0, 0]
    rgb = shade(
        gbuffer.normal, gbuffer.to_eye, at[:, :3], at[:, 3:4], at[:, 4:5], studio.filtered,
        texture=studio.backend.texture, light_rotation=(gbuffer.object_rotation, gbuffer.view),
    )  # fmt: skip
    image = compose(gbuffer, rgb, studio.backend)[0].numpy()
    return {"rgb": image[..., :3], "alpha": image[..., 3:]}


def test_a_path_tracer_sees_the_same(studio, glb):
    """Mitsuba on the file that trimesh read; a ball shadows nothing of itself. Light and bumps may not be flipped."""
    from stspbr.render import mitsuba_bsdf
    from stspbr.render.mitsuba_scene import render

    works, why = mitsuba_bsdf.llvm_status()
    if not works:
        pytest.skip(f"path-traced reference: {why}")

    side = 96
    bare = replace(studio.asset, materials=[replace(studio.asset.materials[0], occlusion=None)])
    preview = studio.render(bare, side)  # without occlusion: a path tracer finds its own

    def decibels(radiance, spp=16, **wrong):
        asset = by_trimesh(glb, **wrong)
        asset.materials[0].occlusion = None
        light = EnvironmentLight(np.ascontiguousarray(radiance))
        rgb, alpha = render(asset, light, [studio.camera_of(side)], spp=spp, max_depth=2)[0]
        whole = (preview["alpha"] == 1) & (alpha > 0.999)  # at the outline the two share pixels by other rules
        assert whole.mean() > 0.3
        return psnr_srgb(preview["rgb"], rgb, whole.astype(float))

    radiance = studio.light.radiance
    assert decibels(radiance, spp=400) > 35
    for turned in (radiance[:, ::-1], radiance[::-1], np.roll(radiance, radiance.shape[1] // 4, axis=1)):
        assert decibels(turned) < 22
    assert decibels(radiance, green=-1.0) < 22
