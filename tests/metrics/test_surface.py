"""Surface metrics on cases with known answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.surface import (
    geometry_error,
    material_error,
    read_material,
    sample_map,
    sample_surface,
    seen_samples,
    visible_points,
)
from stspbr.scene import Asset, Camera, Material, Mesh, look_at
from stspbr.scene.procedural import demo_asset


@pytest.fixture(scope="module")
def jar():
    return demo_asset(128, around=40, along=32)


def test_equal_assets_have_no_error(jar):
    error = material_error(jar, jar, samples=20_000)
    assert error["used"] == error["samples"] == 20_000
    np.testing.assert_allclose(error["albedo_scale"], 1.0)
    for region in ("all", "lit", "dark"):
        found = error[region]
        for name in ("albedo_mae", "albedo_mae_scaled", "roughness_mae", "roughness_rmse", "metallic_mae"):
            assert found[name] < 1e-9
        assert found["false_metal_rate"] == 0 and found["albedo_psnr"] > 150
    assert 0.02 < error["dark"]["count"] / error["used"] < 0.3
    assert error["all"]["missed_metal_rate"] == 0 and error["dark"]["missed_metal_rate"] is None
    json.dumps(error)


def test_constant_offsets_are_scored_as_they_are(jar):
    m = jar.materials[0]
    dull = Material(m.albedo * np.float32([0.5, 0.8, 1.0]), m.roughness + 0.1, m.metallic - 0.1)
    error = material_error(jar, Asset(jar.mesh, [dull]), samples=20_000)["all"]
    assert error["roughness_mae"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_bias"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_rmse"] == pytest.approx(0.1, abs=1e-6)
    assert error["roughness_mae_se"] < 1e-6
    assert error["metallic_bias"] == pytest.approx(-0.1, abs=1e-6)
    assert error["albedo_mae_scaled"] < 1e-6 < 0.05 < error["albedo_mae"]
    scale = material_error(jar, Asset(jar.mesh, [dull]), samples=20_000)["albedo_scale"]
    np.testing.assert_allclose(scale, [2.0, 1.25, 1.0], rtol=1e-5)


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


def test_another_unwrap_of_the_same_material_is_the_same(jar):
    m = jar.materials[0]
    mesh = replace(jar.mesh, uvs=(np.float32([1.25, 0.0]) - np.float32([1, -1]) * jar.mesh.uvs).astype(np.float32))
    # u → 1.25 − u: mirrored and shifted by whole texels, so that the maps can be re-baked without loss
    rebaked = [np.roll(image[:, ::-1], 32, axis=1) for image in (m.albedo, m.roughness, m.metallic)]
    error = material_error(jar, Asset(mesh, [Material(*rebaked)]), samples=20_000)["all"]
    assert max(error["albedo_mae"], error["roughness_mae"], error["metallic_mae"]) < 1e-6
    unbaked = material_error(jar, Asset(mesh, [m]), samples=20_000)["all"]
    assert unbaked["albedo_mae"] > 0.01


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
    turned = replace(quad, faces=quad.faces[:, ::-1].copy(), uv_faces=quad.uv_faces[:, ::-1].copy())
    error = material_error(asset, Asset(turned, [_plain()]), samples=100)
    assert error["opposed"] == 100 and error["used"] == 0


def test_each_face_reads_its_own_material():
    mesh = replace(_quad(), face_material=np.int32([0, 1]))
    asset = Asset(mesh, [_plain(0.2), _plain(0.6)])
    values = read_material(asset, np.array([0, 1, 1]), np.full((3, 3), 1 / 3))["roughness"]
    np.testing.assert_allclose(values, [0.2, 0.6, 0.6], rtol=1e-6)
    with pytest.raises(StspbrError, match="names material 1"):
        read_material(Asset(mesh, [_plain()]), np.array([1]), np.full((1, 3), 1 / 3))


def test_textures_without_uvs_are_refused():
    mesh = replace(_quad(), uvs=None, uv_faces=None)
    assert material_error(Asset(mesh, [_plain()]), Asset(mesh, [_plain()]), samples=10)["all"]["albedo_mae"] == 0
    textured = Material(np.zeros((2, 2, 3), np.float32), _plain().roughness, _plain().metallic)
    with pytest.raises(StspbrError, match="no UVs"):
        material_error(Asset(mesh, [textured]), Asset(mesh, [textured]), samples=10)


def test_bilinear_lookup_wraps():
    image = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    u = np.array([0.125, 0.375, 0.25, 0.0, 1.0, -0.125, 1.125])
    found = sample_map(image, np.stack([u, np.full_like(u, 0.7)], -1))[:, 0]
    np.testing.assert_allclose(found, [0, 1, 0.5, 1.5, 1.5, 3, 0])


def test_samples_are_uniform_by_area_and_reproducible():
    p = np.float32([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]])
    mesh = Mesh(p, np.int32([[0, 1, 2], [3, 4, 5]]))
    points, face, weights = sample_surface(mesh, 40_000, seed=1)
    assert np.mean(face == 0) == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    np.testing.assert_allclose(points[face == 0].mean(0), [1, 2 / 3, 0], atol=0.02)
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, p[mesh.faces[face]]), points)
    assert np.array_equal(points, sample_surface(mesh, 40_000, seed=1)[0])
    with pytest.raises(StspbrError, match="no face with an area"):
        sample_surface(Mesh(p, np.int32([[0, 0, 1]])), 10)


def test_geometry_of_parallel_planes_and_scaled_spheres():
    quad = _quad(size=100.0)
    lifted = replace(quad, positions=quad.positions + np.float32([0, 0, 0.5]))
    error = geometry_error(quad, lifted, samples=5000)
    assert error["chamfer_l1"] == pytest.approx(0.5, abs=1e-6)
    assert error["normal_consistency"] == pytest.approx(1.0)
    assert error["f_score_0.5%"] == 1.0  # the diagonal is 283
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=4)
    small, large = (Mesh(np.float32(ball.vertices * s), np.int32(ball.faces)) for s in (1.0, 1.03))
    error = geometry_error(small, large, samples=5000)
    assert error["accuracy"] == pytest.approx(0.03, rel=0.02)
    assert error["completeness"] == pytest.approx(0.03, rel=0.02)
    # 0.03 of a diagonal of 3.46 is 0.87 %: beyond half a percent, within one
    assert error["f_score_0.5%"] == 0.0 and error["f_score_1%"] > 0.99
    assert error["normal_consistency"] > 0.995
    with pytest.raises(StspbrError, match="empty mesh|no face"):
        geometry_error(small, Mesh(small.positions, np.zeros((0, 3), np.int32)), samples=10)


def test_closest_points_against_brute_force():
    from stspbr.metrics.triangle_tree import build_tree

    rng = np.random.default_rng(5)
    p = rng.normal(size=(60, 3))
    faces = np.concatenate([rng.integers(0, 60, (120, 3)), [[3, 3, 7], [5, 5, 5]]]).astype(np.int32)
    points = rng.normal(size=(300, 3)) * 1.5
    face, weights, distance = build_tree(p, faces).closest(points)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1.0)
    found = np.einsum("nk,nkd->nd", weights, p[faces[face]])
    np.testing.assert_allclose(np.linalg.norm(found - points, axis=1), distance, atol=1e-12)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41)), -1).reshape(-1, 2)
    grid = grid[grid.sum(1) <= 1]
    dense = np.concatenate([1 - grid.sum(1, keepdims=True), grid], axis=1) @ p[faces]  # [F, G, 3]
    brute = np.sqrt(((dense.reshape(-1, 3)[None] - points[:, None]) ** 2).sum(-1)).min(1)
    assert (distance <= brute + 1e-12).all()  # nothing on any triangle is closer
    assert np.abs(distance - brute).max() < 0.1


def test_visibility_of_a_sphere_behind_a_wall():
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=3)
    sphere = Mesh(np.float32(ball.vertices), np.int32(ball.faces))
    camera = Camera(look_at((0, 0, 4), (0, 0, 0)), 40.0, 40.0, 32, 32, 64, 64)
    points, _, _ = sample_surface(sphere, 4000)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    seen = visible_points(sphere, points, normals, [camera])
    front = points[:, 2] - 0.25  # the horizon of a unit sphere from a distance of 4; facets blur it
    assert seen[front > 0.08].all() and not seen[front < -0.08].any()
    assert not visible_points(sphere, points, normals, [camera], minimum=2).any()
    # a wall before the left half, and a pose that turns the sphere round
    wall = Mesh(
        np.concatenate([sphere.positions, np.float32([[-3, -3, 1.5], [0, -3, 1.5], [0, 3, 1.5], [-3, 3, 1.5]])]),
        np.concatenate([sphere.faces, len(sphere.positions) + np.int32([[0, 1, 2], [0, 2, 3]])]),
    )
    hidden = visible_points(wall, points, normals, [camera])
    assert not hidden[points[:, 0] < -0.01].any() and hidden[(points[:, 0] > 0.01) & (points[:, 2] > 0.3)].all()
    turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    back = visible_points(sphere, points, normals, [camera], [turn])
    assert back[points[:, 2] < -0.3].all() and not back[points[:, 2] > -0.2].any()
    narrow = camera.cropped(0, 0, 32, 64)
    assert not visible_points(sphere, points, normals, [narrow])[points[:, 0] > 0.01].any()


def test_seen_restricts_the_samples(jar):
    camera = Camera(look_at((0, 0, 3), (0, 0, 0)), 60.0, 60.0, 32, 32, 64, 64)
    seen = seen_samples(jar.mesh, [camera], samples=5000, seed=2)
    assert 0.2 < seen.mean() < 0.5
    error = material_error(jar, jar, samples=5000, seed=2, seen=seen)
    assert error["used"] == seen.sum() and error["unseen"] == 5000 - seen.sum()
    with pytest.raises(StspbrError, match="one bool a sample"):
        material_error(jar, jar, samples=100, seen=seen)


def _quad(size=1.0):
    p = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * np.float32(size)
    f = np.int32([[0, 1, 2], [0, 2, 3]])
    return Mesh(p, f, np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]), f.copy())


def _plain(roughness=0.4):
    one = np.ones((1, 1, 1), np.float32)
    return Material(np.full((1, 1, 3), 0.5, np.float32), one * np.float32(roughness), 0 * one)
