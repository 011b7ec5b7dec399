"""The demo's object, its light, and the cameras around it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.procedural.jar import BLACK, BRASS, demo_asset, demo_light
from stspbr.scene import Mesh, direction_to_latlong
from stspbr.scene.camera_rig import bounding_sphere, object_cameras, sphere_cameras


@pytest.fixture(scope="module")
def jar():
    return demo_asset(128)


def test_numpy_only():
    code = (
        "import sys, stspbr.procedural.jar, stspbr.scene.camera_rig;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'scipy', 'mitsuba', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_surface_is_closed_simple_and_oriented(jar):
    mesh = jar.mesh
    f = mesh.faces
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    directed = Counter(map(tuple, edges.tolist()))
    assert all(n == 1 and directed[(b, a)] == 1 for (a, b), n in directed.items())  # closed, each edge both ways
    assert len(mesh.positions) - len(edges) // 2 + len(f) == 2  # genus 0
    assert len(np.unique(f)) == len(mesh.positions)
    assert 6000 <= len(f) <= 10000
    p = mesh.positions.astype(np.float64)
    a, b, c = p[f[:, 0]], p[f[:, 1]], p[f[:, 2]]
    assert np.sum(a * np.cross(b, c)) / 6.0 > 1.0  # outwards
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    assert area.min() > 1e-7
    assert np.linalg.norm(p, axis=-1).max() < 1.0
    np.testing.assert_allclose(0.5 * (p.min(0) + p.max(0)), 0.0, atol=0.01)


def test_normals_and_tangents_are_those_of_the_surface(jar):
    mesh = jar.mesh
    p, uv = mesh.positions.astype(np.float64)[mesh.faces], mesh.uvs.values.astype(np.float64)[mesh.uvs.index]
    e1, e2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    face_normal = np.cross(e1, e2)
    face_normal /= np.linalg.norm(face_normal, axis=-1, keepdims=True)
    normals = mesh.normals.values[mesh.normals.index]
    np.testing.assert_allclose(np.linalg.norm(mesh.normals.values, axis=-1), 1.0, atol=1e-5)
    assert (normals * face_normal[:, None]).sum(-1).min() > 0.75
    determinant = (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])[:, None]
    assert (determinant < 0).all()  # v grows downwards: no mirrored triangle, and none without UV area
    along_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / determinant
    along_v = (e2 * d1[:, :1] - e1 * d2[:, :1]) / determinant
    tangents = mesh.tangents.values[mesh.tangents.index]
    t = tangents.mean(1)[:, :3]
    assert ((t * along_u).sum(-1) / np.linalg.norm(along_u, axis=-1)).min() > 0.99
    bitangent = tangents[:, 0, 3:] * np.cross(normals.mean(1), t)
    assert ((bitangent * along_v).sum(-1)).max() < 0  # glTF: the bitangent points up in the image


def test_uvs_fill_one_chart(jar):
    uvs = jar.mesh.uvs
    assert uvs.values.min() == 0.0 and uvs.values.max() == 1.0
    corners = uvs.values[uvs.index].astype(np.float64)
    d1, d2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * np.abs(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]).sum()
    assert 0.96 < area <= 1.0 + 1e-6  # no overlap; only half triangles at the poles are free


def test_maps_hold_the_promised_materials(jar):
    material = jar.materials[0]
    albedo, roughness, metallic = material.albedo, material.roughness[..., 0], material.metallic[..., 0]
    for image, channels in ((albedo, 3), (material.roughness, 1), (material.metallic, 1)):
        assert image.shape == (128, 128, channels) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
    black = np.abs(albedo - BLACK).max(-1) < 1e-4
    brass = np.abs(albedo - BRASS).max(-1) < 1e-4
    assert 0.03 < black.mean() < 0.2 and 0.1 < brass.mean() < 0.4
    np.testing.assert_allclose(roughness[black], 0.10, atol=1e-4)
    assert np.all(metallic[black] == 0) and np.all(metallic[brass] == 1)
    np.testing.assert_allclose(roughness[brass], 0.25, atol=1e-4)
    glaze = (metallic == 0) & (albedo.min(-1) > 0.3) & (roughness < 0.3)
    low, high = np.percentile(roughness[glaze], [2, 98])  # a few texels are blends with a neighbouring region
    assert glaze.mean() > 0.3 and low >= 0.15 and high <= 0.25
    assert roughness[glaze].std() > 0.01
    assert np.any(roughness > 0.69)
    # the left and the right edge of the maps meet at the seam
    assert np.abs(albedo[:, 0] - albedo[:, -1]).max() < 0.2


def test_object_and_light_are_reproducible(jar):
    again = demo_asset(128)
    assert np.array_equal(again.mesh.positions, jar.mesh.positions)
    assert np.array_equal(again.materials[0].albedo, jar.materials[0].albedo)
    assert np.array_equal(demo_light(32).radiance, demo_light(32).radiance)


def test_light_shows_every_flip():
    light = demo_light(64).radiance
    assert light.shape == (64, 128, 3) and light.dtype == np.float32
    assert light.min() > 0 and light.max() > 50 and 0.2 < light.mean() < 2
    for other in (light[::-1], light[:, ::-1], np.roll(light, 64, axis=1), np.roll(light, 32, axis=1)):
        assert np.abs(other - light).mean() > 0.2 * light.mean()
    # the same light at another resolution: same energy
    fine = demo_light(128).radiance.reshape(64, 2, 128, 2, 3).mean((1, 3))
    assert abs(fine.mean() / light.mean() - 1) < 0.02


def test_sphere_cameras_look_at_the_target_from_their_distance():
    target = np.array([0.3, -0.2, 0.5])
    cameras = sphere_cameras(40, 2.5, 40.0, (48, 64), seed=3, target=target, elevation_degrees=(-20, 60))
    assert len(cameras) == 40
    for camera in cameras:
        offset = camera.position - target
        assert np.linalg.norm(offset) == pytest.approx(2.5)
        assert -20.001 <= np.degrees(np.arcsin(offset[1] / 2.5)) <= 60.001
        np.testing.assert_allclose(-camera.camera_to_world[:3, 2], -offset / 2.5, atol=1e-12)
        assert (camera.width, camera.height, camera.cx, camera.cy) == (64, 48, 32.0, 24.0)
        assert 2 * np.degrees(np.arctan(0.5 * 48 / camera.fy)) == pytest.approx(40.0)
    # spread evenly: every direction of the belt has a camera near it
    directions = np.array([(c.position - target) / 2.5 for c in cameras])
    gaps = np.degrees(np.arccos(np.clip(directions @ directions.T - 3 * np.eye(40), -1, 1))).min(1)
    assert gaps.min() > 12 and gaps.max() < 32
    azimuth = np.sort(direction_to_latlong(directions)[:, 0])
    assert np.diff(np.append(azimuth, azimuth[0] + 1)).max() < 0.08


def test_object_cameras_frame_the_object_and_hold_out_views(jar):
    train, test = object_cameras(jar.mesh, 30, 10, 64)
    assert len(train) == 30 and len(test) == 10
    points = np.concatenate([jar.mesh.positions, np.ones((len(jar.mesh.positions), 1))], axis=1)
    reach = []
    for camera in train + test:
        clip = points @ camera.clip_from_object(np.eye(4)).T
        assert (np.abs(clip[:, 2]) < clip[:, 3]).all()  # between near and far
        reach.append(np.abs(clip[:, :2] / clip[:, 3:]).max())
    assert max(reach) == pytest.approx(0.92, abs=1e-3) and np.median(reach) > 0.6  # as near as all of them can stand
    a, b = np.array([c.position for c in train]), np.array([c.position for c in test])
    assert np.linalg.norm(a[:, None] - b, axis=-1).min() > 0.05
    again, _ = object_cameras(jar.mesh, 30, 10, 64)
    assert np.array_equal(again[7].camera_to_world, train[7].camera_to_world)


def test_cameras_that_cannot_be_are_refused():
    with pytest.raises(StspbrError, match="radius"):
        sphere_cameras(3, 0.0, 40.0, 64)
    with pytest.raises(StspbrError, match="empty"):
        object_cameras(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), 2, 1, 64)
    centre, radius = bounding_sphere(np.array([[0, 0, 0], [2, 0, 0], [1, 1, 0]]))
    np.testing.assert_allclose(centre, [1, 0.5, 0])
    assert radius == pytest.approx(np.sqrt(1.25))
