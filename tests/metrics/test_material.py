"""Material errors in 3D on cases with known answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.metrics.material import material_error, read_material
from stspbr.metrics.material_reader import SurfaceReader
from stspbr.metrics.material_statistics import ALBEDO_BANDS, kinds_by_albedo
from stspbr.procedural.jar import demo_asset
from stspbr.render.backend import get_backend
from stspbr.scene import Asset, Camera, Corners, Material, Mesh, look_at
from stspbr.scene.bilinear import bilinear
from stspbr.texture.atlas import rasterize_atlas
from stspbr.texture.dilate import dilate
from stspbr.texture.unwrap import unwrap

VALUES = ("albedo_mae", "albedo_mae_scaled", "roughness_mae", "roughness_rmse", "metallic_mae", "metallic_rmse")


@pytest.fixture(scope="module")
def jar():
    return demo_asset(128, around=40, along=32)


# -- metal or not, by albedo --------------------------------------------------------------------------------


def test_missed_and_false_metal_are_counted_by_albedo():
    grey = np.array([0.03, 0.03, 0.06, 0.06, 0.06, 0.5, 1.0])[:, None].repeat(3, axis=1)
    truth = {"albedo": grey, "metallic": np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0])}
    guess = {"albedo": grey, "metallic": np.array([1.0, 1.0, 0.2, 0.8, 0.1, 0.9, 0.0])}
    bands = kinds_by_albedo((truth, guess))
    assert [band["albedo"][0] for band in bands] == list(ALBEDO_BANDS[:-1])
    dark, iron, bright = bands[1], bands[2], bands[-1]
    assert (dark["metal"], dark["dielectric"], dark["missed_metal_rate"], dark["false_metal_rate"]) == (1, 1, 0.0, 1.0)
    assert (iron["metal"], iron["missed_metal_rate"], iron["false_metal_rate"]) == (2, 0.5, 0.0)
    assert (bright["metal"], bright["dielectric"], bright["missed_metal_rate"], bright["false_metal_rate"]) == (
        1,
        1,
        0,
        0,
    )
    assert bands[0]["missed_metal_rate"] is None and bands[0]["false_metal_rate"] is None


# -- what is equal, and what is off by a known amount -------------------------------------------------------


def test_equal_assets_have_no_error(jar):
    error = material_error(jar, jar, samples=20_000)
    assert error["used"] == error["samples"] == 20_000
    assert error["back"]["used"] == 20_000 and error["matched_back"] == 1.0
    np.testing.assert_allclose(error["albedo_scale"], 1.0)
    for found in (error["all"], error["lit"], error["dark"], error["back"]):
        assert all(found[name] < 1e-9 for name in VALUES)
        assert found["false_metal_rate"] == 0 and found["albedo_psnr"] > 150
        assert found["normal_angle_mean"] < 1e-5
    assert 0.02 < error["dark"]["count"] / error["used"] < 0.3
    assert error["all"]["missed_metal_rate"] == 0 and error["dark"]["missed_metal_rate"] is None
    assert error["not_converged"] == []
    json.dumps(error, allow_nan=False)


def test_another_unwrap_scores_nearly_zero(jar):
    # gentle maps, so that what is left is the error of resampling them
    material = _smooth_material(256)
    before = Asset(replace(jar.mesh, tangents=None), [material])
    after = _unwrapped_anew(before, 512)
    error = material_error(before, after, samples=20_000)
    assert error["used"] == 20_000
    for found in (error["all"], error["back"]):
        assert max(found[name] for name in VALUES) < 1e-3
        assert found["normal_angle_mean"] < 0.1
    # the maps themselves have nothing in common
    assert material_error(before, replace(after, materials=[material]), samples=5000)["all"]["albedo_mae"] > 0.05


def test_constant_offsets_are_scored_as_they_are(jar):
    m = jar.materials[0]
    dull = Material(m.albedo * np.float32([0.5, 0.8, 1.0]), m.roughness + 0.1, m.metallic - 0.1)
    whole = material_error(jar, Asset(jar.mesh, [dull]), samples=20_000)
    error = whole["all"]
    assert error["roughness_mae"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_bias"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_rmse"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_mae_se"] < 1e-6
    assert error["metallic_bias"] == pytest.approx(-0.1, abs=1e-6)
    assert error["albedo_mae_scaled"] < 1e-6 < 0.05 < error["albedo_mae"]
    np.testing.assert_allclose(whole["albedo_scale"], [2.0, 1.25, 1.0], rtol=1e-5)
    assert whole["back"]["roughness_bias"] == pytest.approx(0.1, abs=1e-6)  # backwards too, it is estimate − reference
    shifted = Asset(jar.mesh, [replace(m, albedo=m.albedo + np.float32(0.1))])
    error = material_error(jar, shifted, samples=5000)["all"]
    assert error["albedo_mae"] == pytest.approx(0.1, abs=1e-6)
    assert error["albedo_psnr"] == pytest.approx(20.0, abs=1e-4)


def test_a_bent_normal_map_scores_its_angle():
    tilt = np.radians(20.0)
    bent = replace(_plain(), normal=np.float32([[[np.sin(tilt), 0, np.cos(tilt)]]]))
    quad = _quad()
    error = material_error(Asset(quad, [_plain()]), Asset(quad, [bent]), samples=500)
    assert error["all"]["normal_angle_mean"] == pytest.approx(20.0, abs=1e-3)
    # v runs the other way: the same map in a mirrored layout leans to the same side, its u axis being the same
    flipped = replace(quad, uvs=Corners(quad.uvs.values * np.float32([1, -1]) + np.float32([0, 1]), quad.uvs.index))
    error = material_error(Asset(quad, [bent]), Asset(flipped, [bent]), samples=500)
    assert error["all"]["normal_angle_mean"] < 1e-3
    turned = replace(quad, uvs=Corners(1 - quad.uvs.values, quad.uvs.index))
    error = material_error(Asset(quad, [bent]), Asset(turned, [bent]), samples=500)
    assert error["all"]["normal_angle_mean"] == pytest.approx(40.0, abs=1e-3)


def test_shading_normals_are_the_renderers(jar):
    from stspbr.render.asset_renderer import AssetRenderer

    rng = np.random.default_rng(0)
    normal = np.concatenate([0.3 * rng.normal(size=(4, 4, 2)), np.ones((4, 4, 1))], axis=2)
    normal = np.float32(normal / np.linalg.norm(normal, axis=2, keepdims=True))
    mesh = replace(jar.mesh, tangents=None)
    asset = Asset(mesh, [replace(_plain(), normal=normal)])
    renderer = AssetRenderer(asset, get_backend("auto", torch.device("cpu")), torch.device("cpu"))
    camera = Camera(look_at((0, 0.3, 3), (0, 0, 0)), 400.0, 400.0, 64, 64, 128, 128)
    from stspbr.render.gbuffer import ViewBatch, render_gbuffer

    view = ViewBatch.of([camera], [np.eye(4)], torch.device("cpu"))
    gbuffer = render_gbuffer(renderer.surface, view, renderer.backend)
    rendered = renderer.material(gbuffer).normal.numpy()
    from stspbr.metrics.triangle_tree import TriangleTree

    face, weights, distance = TriangleTree(mesh.positions, mesh.faces).closest(gbuffer.position.numpy())
    read = read_material(asset, face, weights)["normal"]
    assert distance.max() < 1e-5
    assert np.degrees(np.arccos(np.clip((read * rendered).sum(1), -1, 1))).mean() < 0.3  # the renderer has mip levels


# -- regions, rates, standard errors ------------------------------------------------------------------------


def test_regions_and_metal_rates():
    quad = _quad()
    # quarters of the surface: black dielectric, grey dielectric, grey metal, pitch-black metal
    albedo = np.repeat(np.float32([0.05, 0.5, 0.5, 0.0])[None, :, None], 3, axis=2)
    metallic = np.float32([0, 0, 1, 1])[None, :, None]
    rough = np.full((1, 4, 1), 0.3, np.float32)
    truth = Asset(quad, [Material(np.repeat(albedo, 64, 1), np.repeat(rough, 64, 1), np.repeat(metallic, 64, 1))])
    wrong = np.float32([1, 0, 0, 1])[None, :, None]
    guess = Asset(quad, [replace(truth.materials[0], metallic=np.repeat(wrong, 64, 1))])
    error = material_error(truth, guess, samples=40_000)
    # an eighth of a percent of the points lies in the blend between quarters
    assert error["all"]["false_metal_rate"] == pytest.approx(0.5, abs=0.02)
    assert error["all"]["missed_metal_rate"] == pytest.approx(0.5, abs=0.02)
    assert error["all"]["metallic_mae"] == pytest.approx(0.5, abs=0.02)
    assert error["dark"]["false_metal_rate"] > 0.98 and error["dark"]["missed_metal_rate"] < 0.02
    assert error["lit"]["missed_metal_rate"] > 0.97
    assert error["lit"]["count"] / error["used"] == pytest.approx(0.75, abs=0.01)
    assert error["dark"]["count"] / error["used"] == pytest.approx(0.5, abs=0.01)
    assert error["all"]["false_metal_rate_se"] == pytest.approx(np.sqrt(0.25 / 20_000), rel=0.05)


def test_standard_errors_are_the_spread_over_seeds(jar):
    m = jar.materials[0]
    rng = np.random.default_rng(3)
    noisy = [np.clip(x + rng.exponential(0.2, x.shape) * (x < 0.6), 0, 2).astype(np.float32) for x in
             (m.albedo, m.roughness, m.metallic)]  # fmt: skip
    guess = Asset(demo_asset(128, around=30, along=24).mesh, [Material(*noisy)])
    runs = [material_error(jar, guess, samples=2000, seed=k, back=False)["lit"] for k in range(60)]
    names = [n for n in runs[0] if n + "_se" in runs[0]]
    assert {"albedo_mae_scaled", "roughness_rmse", "false_metal_rate", "normal_angle_mean", "albedo_psnr"} <= set(names)
    for name in names:
        spread = np.std([run[name] for run in runs], ddof=1)
        said = np.mean([run[name + "_se"] for run in runs])
        assert said == spread == 0 or 0.7 < said / spread < 1.4, name  # the spread of 60 runs is itself known to 9 %


def test_points_are_drawn_until_the_values_stand(jar):
    m = jar.materials[0]
    rare = m.roughness.copy()
    rare[::8, ::8] += 0.5  # few texels are wrong, so that a mean needs many points
    guess = Asset(jar.mesh, [replace(m, roughness=rare)])
    error = material_error(jar, guess, max_samples=400_000, back=False)
    assert error["samples"] == 400_000 and error["not_converged"] == []
    for name in ("roughness_mae", "roughness_rmse"):
        assert error["lit"][name + "_se"] <= 0.01 * error["lit"][name]
    short = material_error(jar, guess, max_samples=100_000, back=False)
    assert short["samples"] == 100_000 and "roughness_mae" in short["not_converged"]
    fixed = material_error(jar, guess, samples=3000, back=False)
    assert fixed["samples"] == 3000 and "roughness_mae" in fixed["not_converged"]
    assert fixed == material_error(jar, guess, samples=3000, back=False)


def test_unseen_surface_is_kept_apart(jar):
    camera = Camera(look_at((0, 0, 3), (0, 0, 0)), 60.0, 60.0, 32, 32, 64, 64)
    m = jar.materials[0]
    behind = np.abs((np.arange(128) + 0.5) / 128 - 0.5) > 0.25  # the seam is at −Z
    wrong = Asset(jar.mesh, [replace(m, roughness=m.roughness + 0.2 * behind[None, :, None].astype(np.float32))])
    error = material_error(jar, wrong, samples=10_000, cameras=[camera])
    assert error["used"] + error["unseen"] == 10_000 and 0.2 < error["used"] / 10_000 < 0.5
    assert error["all"]["count"] == error["used"] and error["all"]["roughness_mae"] < 0.005
    unseen = error["unseen_surface"]
    assert unseen["count"] == error["unseen"] and unseen["unmatched"] == 0
    assert unseen["roughness_mae"] > 0.1
    turned = np.diag([-1.0, 1.0, -1.0, 1.0])
    error = material_error(jar, wrong, samples=10_000, cameras=[camera], poses=[turned])
    assert error["all"]["roughness_mae"] > 0.19


# -- pairs --------------------------------------------------------------------------------------------------


def test_another_tessellation_is_nearly_the_same(jar):
    fine = demo_asset(128, around=90, along=50)
    error = material_error(jar, fine, samples=20_000)
    assert error["used"] > 0.99 * error["samples"]
    assert error["all"]["albedo_mae"] < 0.01 and error["all"]["metallic_mae"] < 0.03


def test_far_and_opposed_pairs_are_left_out():
    quad = _quad()
    asset = Asset(quad, [_plain()])
    away = replace(quad, positions=quad.positions + np.float32([0, 0, 1]))
    error = material_error(asset, Asset(away, [_plain()]), samples=100)
    assert error["too_far"] == 100 and error["used"] == 0 and error["all"] == {"count": 0}
    assert error["matched_back"] == 0 and error["back"]["too_far"] == 100
    turned = quad.with_corners(lambda corners: Corners(corners.values, corners.index[:, ::-1].copy()))
    error = material_error(asset, Asset(turned, [_plain()]), samples=100)
    assert error["opposed"] == 100 and error["used"] == 0


def test_turned_scaled_and_holed_meshes():
    quad = Asset(_quad(), [_plain()])

    def against(positions=None, faces=None, fraction=0.02):
        mesh = quad.mesh if positions is None else replace(quad.mesh, positions=np.float32(positions))
        if faces is not None:
            mesh = mesh.of_faces(faces)
        other = Asset(mesh, [_plain()])
        return material_error(quad, other, samples=20_000, seed=1, max_distance_fraction=fraction)

    # turned about the y axis by 30°, a point at x lies x·sin 30° above the estimate's plane
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    turn = np.float64([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    error = against(quad.mesh.positions @ turn.T, fraction=0.1)
    near = 0.1 * np.sqrt(8) / s
    assert error["used"] / 20_000 == pytest.approx(near, abs=0.01)
    assert error["too_far"] + error["used"] == 20_000
    # a turn leaves the material's values alone but for the normal
    assert error["all"]["normal_angle_mean"] == pytest.approx(30.0, abs=1e-3)
    # scaled by half, a rim beyond 0.5 + r is too far; all of the estimate has a partner
    error = against(0.5 * quad.mesh.positions, fraction=0.1)
    r = 0.1 * np.sqrt(8)
    assert error["used"] / 20_000 == pytest.approx((1 + 4 * 0.5 * 2 * r + np.pi * r * r) / 4, abs=0.01)
    assert error["matched_back"] == 1.0
    # half of the surface is missing: what has no partner is rejected, and the way back is whole
    error, d = against(faces=[0]), 0.02 * np.sqrt(8)  # a strip along the cut is still near enough
    assert error["used"] / 20_000 == pytest.approx(0.5 + (d * np.sqrt(8) - d * d) / 4, abs=0.01)
    assert error["matched_back"] == 1.0


# -- footprint ----------------------------------------------------------------------------------------------


def test_a_fine_checkerboard_is_its_mean_from_afar():
    board = np.kron(np.indices((64, 64)).sum(0) % 2, np.ones((4, 4)))[..., None].astype(np.float32)
    quad, flat = _quad(), _plain()
    fine = Asset(quad, [replace(flat, roughness=board)])
    grey = Asset(quad, [replace(flat, roughness=np.float32([[[0.5]]]))])
    raw = material_error(fine, grey, samples=5000, back=False)
    assert raw["all"]["roughness_mae"] == pytest.approx(0.5 * 0.875**2, abs=0.01)  # 0.5 but for borders
    coarse = material_error(fine, grey, samples=2000, footprint=0.25)
    assert coarse["all"]["roughness_mae"] < 0.01 and coarse["back"]["roughness_mae"] < 0.01
    assert coarse["footprint"] == 0.25
    # at a footprint far below a texel nothing changes
    sharp = material_error(fine, grey, samples=5000, footprint=1e-4, back=False)
    assert sharp["all"]["roughness_mae"] == pytest.approx(raw["all"]["roughness_mae"], abs=0.005)


def test_the_footprint_does_not_depend_on_the_unwrap(jar):
    before = Asset(replace(jar.mesh, tangents=None), [_smooth_material(256)])
    error = material_error(before, _unwrapped_anew(before, 256), samples=2000, footprint=0.02, back=False)
    assert max(error["all"][name] for name in VALUES) < 2e-3


# -- reading ------------------------------------------------------------------------------------------------


def test_each_face_reads_its_own_material():
    mesh = replace(_quad(), face_material=np.int32([0, 1]))
    asset = Asset(mesh, [_plain(0.2), _plain(0.6)])
    values = read_material(asset, np.array([0, 1, 1]), np.full((3, 3), 1 / 3))["roughness"]
    np.testing.assert_allclose(values, [0.2, 0.6, 0.6], rtol=1e-6)
    with pytest.raises(StspbrError, match="has material 1"):
        read_material(Asset(mesh, [_plain()]), np.array([1]), np.full((1, 3), 1 / 3))


def test_a_glb_of_factors_and_of_textures_reads_right(tmp_path):
    mesh = replace(_quad(), face_material=np.int32([0, 1]))
    one = np.ones((1, 1, 1), np.float32)
    plain = Material(np.float32([[[0.8, 0.2, 0.05]]]), 0.3 * one, 1.0 * one, name="factors")
    ramp = np.linspace(0, 1, 16, dtype=np.float32)[None, :, None].repeat(16, 0)
    textured = Material(np.repeat(ramp, 3, 2), 1 - ramp, 0.5 * ramp, name="maps")
    write_glb(tmp_path / "two.glb", Asset(mesh, [plain, textured]), texture_bits=16)
    found = read_gltf(tmp_path / "two.glb")
    points = np.repeat([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]], 2, axis=0), np.array([0, 1, 0, 1])
    a = read_material(Asset(mesh, [plain, textured]), points[1], points[0])
    b = read_material(found, points[1], points[0])
    for name in ("albedo", "roughness", "metallic"):
        np.testing.assert_allclose(b[name], a[name], atol=1e-3)
    np.testing.assert_allclose(a["albedo"][0], [0.8, 0.2, 0.05], rtol=1e-6)
    error = material_error(Asset(mesh, [plain, textured]), found, samples=2000)["all"]
    assert max(error[name] for name in VALUES) < 1e-3


def test_factors_multiply_textures(tmp_path):
    """A GLB by hand: two materials without any texture, one of them with factors on a packed texture."""
    document = _two_factor_materials(tmp_path / "factors.gltf")
    asset = read_gltf(document)
    owner = SurfaceReader(asset).owner
    values = read_material(asset, np.array([int(np.argmax(owner == k)) for k in (0, 1)]), np.full((2, 3), 1 / 3))
    np.testing.assert_allclose(values["albedo"], [[0.5, 0.25, 0.125], [1, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(values["roughness"], [0.7, 0.5 * 128 / 255], rtol=1e-4)
    np.testing.assert_allclose(values["metallic"], [0.0, 0.25 * 64 / 255], rtol=1e-4, atol=1e-9)


def test_textures_without_uvs_are_refused():
    mesh = replace(_quad(), uvs=None)
    assert material_error(Asset(mesh, [_plain()]), Asset(mesh, [_plain()]), samples=10)["all"]["albedo_mae"] == 0
    textured = Material(np.zeros((2, 2, 3), np.float32), _plain().roughness, _plain().metallic)
    with pytest.raises(StspbrError, match="no UVs"):
        material_error(Asset(mesh, [textured]), Asset(mesh, [textured]), samples=10)


def test_bilinear_lookup_wraps():
    image = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    u = np.array([0.125, 0.375, 0.25, 0.0, 1.0, -0.125, 1.125])
    found = bilinear(image, np.stack([u, np.full_like(u, 0.7)], -1))[:, 0]
    np.testing.assert_allclose(found, [0, 1, 0.5, 1.5, 1.5, 3, 0])


def test_wide_lookups_average_texels():
    image = np.arange(16, dtype=np.float32).reshape(1, 16, 1).repeat(16, 0)
    asset = Asset(_quad(), [replace(_plain(), roughness=image)])
    reader = SurfaceReader(asset)
    face, weights = np.array([0]), np.array([[0.25, 0.5, 0.25]])  # u = 0.75
    assert reader.read(face, weights)["roughness"] == pytest.approx(11.5)
    assert reader.read(face, weights, width=0.125)["roughness"] == pytest.approx(11.5)  # a texel
    assert reader.read(face, weights, width=0.5)["roughness"] == pytest.approx(11.5)
    assert reader.read(face, weights, width=2.0)["roughness"] == pytest.approx(7.5)


def _unwrapped_anew(asset: Asset, resolution: int) -> Asset:
    """The same surface with xatlas' UVs and the maps resampled onto them, dilated beyond the charts."""
    mesh = asset.mesh
    uvs = unwrap(mesh.positions, mesh.faces, resolution)
    texels = rasterize_atlas(uvs, resolution, get_backend("auto", torch.device("cpu")).rasterize)
    read = read_material(asset, texels.triangle.numpy().astype(int), texels.barycentric.numpy().astype(float))

    def spread(values):
        image = texels.scatter(torch.as_tensor(np.float32(values).reshape(len(values), -1))).numpy()
        return np.ascontiguousarray(dilate(image, texels.mask.numpy()))

    material = Material(*(spread(read[name]) for name in ("albedo", "roughness", "metallic")))
    return Asset(replace(mesh, uvs=uvs), [material])


def _smooth_material(resolution: int) -> Material:
    u, v = np.meshgrid(*[(np.arange(resolution) + 0.5) / resolution * 2 * np.pi] * 2)
    waves = [0.5 + 0.3 * np.sin(u + p) * np.cos(v / 2 + q) for p, q in ((0, 0), (1, 2), (2, 4), (3, 1), (4, 3))]
    maps = np.stack(waves, axis=-1).astype(np.float32)
    return Material(maps[..., :3], maps[..., 3:4], maps[..., 4:5])


def _two_factor_materials(path):
    import base64
    import io

    from PIL import Image

    quad = _quad()
    chunks = [quad.positions.tobytes(), quad.uvs.values.tobytes(), np.uint32([[0, 1, 2]]).tobytes(),
              np.uint32([[0, 2, 3]]).tobytes()]  # fmt: skip
    starts = np.cumsum([0, *map(len, chunks)])
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (9, 128, 64)).save(stream, "PNG")
    packed = stream.getvalue()

    def uri(kind, data):
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [-1, -1, 0], "max": [1, 1, 0]},
        {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC2"},
        *({"bufferView": k, "componentType": 5125, "count": 3, "type": "SCALAR"} for k in (2, 3)),
    ]
    primitives = [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2 + k, "material": k} for k in (0, 1)]
    first = {"baseColorFactor": [0.5, 0.25, 0.125, 1], "roughnessFactor": 0.7, "metallicFactor": 0}
    second = {"roughnessFactor": 0.5, "metallicFactor": 0.25, "metallicRoughnessTexture": {"index": 0}}
    gltf = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}],
        "accessors": accessors,
        "bufferViews": [{"buffer": 0, "byteOffset": int(s), "byteLength": len(c)}
                        for s, c in zip(starts, chunks, strict=False)],
        "buffers": [{"byteLength": int(starts[-1]), "uri": uri("application/octet-stream", b"".join(chunks))}],
        "materials": [{"pbrMetallicRoughness": first}, {"pbrMetallicRoughness": second}],
        "textures": [{"source": 0}],
        "images": [{"uri": uri("image/png", packed)}],
    }  # fmt: skip
    path.write_text(json.dumps(gltf))
    return path


def _quad(size=1.0):
    p = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * np.float32(size)
    f = np.int32([[0, 1, 2], [0, 2, 3]])
    return Mesh(p, f, Corners(np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]), f))


def _plain(roughness=0.4):
    one = np.ones((1, 1, 1), np.float32)
    return Material(np.full((1, 1, 3), 0.5, np.float32), one * np.float32(roughness), 0 * one)
