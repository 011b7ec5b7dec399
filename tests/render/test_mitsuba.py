"""The path-traced reference: BRDF, camera, light and texture conventions, against numbers made another way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.procedural.jar import demo_light
from stspbr.render import mitsuba_bsdf
from stspbr.scene import Asset, Camera, Corners, EnvironmentLight, Material, Mesh, latlong_to_direction, look_at


@pytest.fixture(scope="module")
def mi():
    ok, message = mitsuba_bsdf.llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    return mitsuba_bsdf.require_mitsuba("tests")


def test_importing_the_adapter_does_not_import_mitsuba():
    code = "import sys, stspbr.render.mitsuba_scene; sys.exit('mitsuba' in sys.modules or 'drjit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 0


def test_missing_mitsuba_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StspbrError, match=r"stspbr\[reference\]"):
        mitsuba_bsdf.require_mitsuba("path-traced captures")


def test_an_llvm_that_does_not_work_is_reported_with_the_cure(monkeypatch, mi):
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", "/nowhere/libLLVM.so")
    ok, message = mitsuba_bsdf.llvm_status.__wrapped__()
    assert not ok
    assert "libllvm19" in message and "/nowhere/libLLVM.so" in message


def test_newest_llvm_comes_first(monkeypatch, tmp_path):
    for name in ("libLLVM-15.so.1", "libLLVM-19.so", "libLLVM.so.19.1", "libLLVM.so.22.1", "libLLVM-14.0.6.so"):
        (tmp_path / name).touch()
    monkeypatch.setattr(mitsuba_bsdf, "_LLVM_FOLDERS", (str(tmp_path),))
    found = [os.path.basename(path) for path in mitsuba_bsdf.find_llvm()]
    assert found == ["libLLVM.so.22.1", "libLLVM-19.so"]


# (albedo, roughness, metallic, N·V, directional albedo): double-precision sums over 2000 × 4000 directions
FURNACE = [
    (0.6, 0.8, 0.0, 0.2, 0.62452),
    (0.6, 0.8, 0.0, 1.0, 0.59820),
    (0.03, 0.15, 0.0, 0.5, 0.09909),
    (0.6, 0.8, 1.0, 0.2, 0.46075),
]


@pytest.mark.parametrize(("albedo", "roughness", "metallic", "cosine", "expected"), FURNACE)
def test_white_furnace(mi, albedo, roughness, metallic, cosine, expected):
    bsdf = _bsdf(mi, albedo, roughness, metallic)
    si, one, two = _hit(mi, cosine), *_stratified(mi, 512)
    sample, weight = bsdf.sample(mi.BSDFContext(), si, one, two)
    assert abs(float(np.mean(np.array(weight)[0])) - expected) < 0.003
    # the density that `sample` reports is the one that `pdf` gives, and it is a density
    wo = mi.Vector3f(sample.wo)
    said, again = np.array(sample.pdf), np.array(bsdf.pdf(mi.BSDFContext(), si, wo))
    np.testing.assert_allclose(again[said > 0], said[said > 0], rtol=2e-3)
    uniform = mi.warp.square_to_uniform_sphere(two)
    total = 4.0 * np.pi * np.mean(np.array(bsdf.pdf(mi.BSDFContext(), si, uniform)))
    below = np.mean(said == 0)  # reflected under the horizon: a sample that is lost, not a density
    assert abs(total + below - 1.0) < 0.02
    value = 4.0 * np.pi * np.mean(np.array(bsdf.eval(mi.BSDFContext(), si, uniform))[0])
    assert abs(value - expected) < 0.004


def test_brdf_values_and_two_sides(mi):
    rng = np.random.default_rng(0)
    albedo, roughness, metallic = [0.8, 0.3, 0.05], 0.37, 0.3
    bsdf = _bsdf(mi, albedo, roughness, metallic)
    v, w = _unit(rng.normal(size=(64, 3))), _unit(rng.normal(size=(64, 3)))
    v[:, 2], w[:, 2] = np.abs(v[:, 2]) + 0.02, np.abs(w[:, 2]) + 0.02
    v, w = _unit(v), _unit(w)
    expected = _brdf(v[:, None], w[:, None], np.array(albedo), roughness, metallic)[:, 0] * w[:, 2:]
    for side in (1.0, -1.0):
        si = _hit(mi, 1.0, count=64)
        flip = np.array([1.0, 1.0, side])
        si.wi = mi.Vector3f((v * flip).T.astype(np.float32))
        got = np.array(bsdf.eval(mi.BSDFContext(), si, mi.Vector3f((w * flip).T.astype(np.float32)))).T
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-6)
        across = np.array(bsdf.eval(mi.BSDFContext(), si, mi.Vector3f((-w * flip).T.astype(np.float32))))
        assert np.all(across == 0)


def test_texels_are_where_gltf_has_them(mi):
    from stspbr.render.mitsuba_scene import PathTracer

    rng = np.random.default_rng(1)
    albedo = rng.uniform(size=(4, 8, 3)).astype(np.float32)
    material = Material(albedo, np.full((1, 1, 1), 0.5, np.float32), np.zeros((1, 1, 1), np.float32))
    bsdf = mi.load_dict(PathTracer._bsdf(_Holder(mi), material, bumpy=False))
    rows, columns = np.meshgrid(np.arange(4), np.arange(8), indexing="ij")
    for shift in (0.0, 1.0, -2.0):  # repeat
        si = _hit(mi, 1.0, count=32)
        si.uv = mi.Point2f(np.stack([(columns.ravel() + 0.5) / 8 + shift, (rows.ravel() + 0.5) / 4 - shift]))
        got = np.array(bsdf.eval_diffuse_reflectance(si)).T.reshape(4, 8, 3)
        np.testing.assert_allclose(got, albedo, atol=2e-5)
    si = _hit(mi, 1.0)
    si.uv = mi.Point2f(3.0 / 8, 2.0 / 4)  # the corner of four texels: bilinear gives their mean
    got = np.array(bsdf.eval_diffuse_reflectance(si))[:, 0]
    np.testing.assert_allclose(got, albedo[1:3, 2:4].mean((0, 1)), atol=2e-5)


def test_camera_puts_vertices_where_the_projection_says(mi):
    from stspbr.render.mitsuba_scene import PathTracer

    pose = look_at((1.0, 2.0, 3.0), (0.1, 0.2, -0.1))
    rng = np.random.default_rng(2)
    for cx, cy, width, height in ((24.0, 16.0, 48, 32), (13.3, 25.1, 48, 32), (20.0, 30.0, 32, 64)):
        camera = Camera(pose, 60.0, 60.0, cx, cy, width, height)
        # a triangle of a few pixels somewhere in the image: the centroid of its coverage is that of its corners
        aim = np.array([rng.uniform(10, width - 10), rng.uniform(10, height - 10)])
        pixels = aim + np.array([[-5.0, -3.0], [6.0, -2.0], [1.0, 7.0]])
        local = np.stack([(pixels[:, 0] - cx) / 60.0, (cy - pixels[:, 1]) / 60.0, -np.ones(3)], axis=-1) * 3.0
        points = local @ pose[:3, :3].T + pose[:3, 3]
        mesh = Mesh(points.astype(np.float32), np.array([[0, 1, 2]], np.int32))
        clip = np.concatenate([mesh.positions, np.ones((3, 1))], axis=1) @ camera.clip_from_object(np.eye(4)).T
        projected = (clip[:, :2] / clip[:, 3:] + 1.0) * 0.5 * [width, height]
        np.testing.assert_allclose(projected, pixels, atol=1e-3)
        rgb, alpha = PathTracer(_asset(mesh), _constant_light(), 2).view(camera, spp=2048)
        assert rgb.shape == (height, width, 3) and alpha.shape == (height, width, 1)
        y, x = np.mgrid[:height, :width] + 0.5
        centroid = np.array([(alpha[..., 0] * x).sum(), (alpha[..., 0] * y).sum()]) / alpha.sum()
        assert np.abs(centroid - projected.mean(0)).max() < 0.05
        a, b = projected[1] - projected[0], projected[2] - projected[0]
        assert alpha.sum() == pytest.approx(0.5 * abs(a[0] * b[1] - a[1] * b[0]), rel=0.01)


def test_rectangular_pixels_are_refused(mi):
    from stspbr.render.mitsuba_scene import render

    camera = Camera(look_at((0, 0, 3), (0, 0, 0)), 40.0, 41.0, 16, 16, 32, 32)
    with pytest.raises(StspbrError, match="fx = fy"):
        render(_asset(_sphere(2)), _constant_light(), [camera])


@pytest.mark.parametrize("texel", [(11, 3), (6, 20), (16, 45), (25, 60)])
def test_mirror_ball_shows_the_light_where_our_convention_says(mi, texel):
    from stspbr.render.mitsuba_scene import render

    row, column = texel
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[row, column] = 100.0
    towards = latlong_to_direction(np.array([(column + 0.5) / 64, (row + 0.5) / 32]))
    eye = 8.0 * _unit(towards + 0.35 * _unit(np.cross(towards, [0.3, 1.0, 0.2])))  # so that the glint faces us
    camera = Camera(look_at(eye, (0, 0, 0)), 300.0, 300.0, 40, 40, 80, 80)
    asset = _asset(_sphere(5), albedo=1.0, roughness=0.05, metallic=1.0)
    rgb, _ = render(asset, EnvironmentLight(radiance), [camera], spp=64, max_depth=2)[0]
    y, x = np.mgrid[:80, :80] + 0.5
    weight = rgb[..., 0] / rgb[..., 0].sum()
    px, py = (weight * x).sum(), (weight * y).sum()
    ray = _unit(np.array([(px - 40) / 300, (40 - py) / 300, -1.0]) @ camera.camera_to_world[:3, :3].T)
    b = ray @ eye
    point = eye + ray * (-b - np.sqrt(b * b - (eye @ eye - 1.0)))
    reflected = ray - 2.0 * (ray @ point) * point
    assert np.degrees(np.arccos(np.clip(reflected @ towards, -1, 1))) < 1.0


def test_pole_to_pole_rows_hold_the_same_light():
    from stspbr.render.mitsuba_scene import _pole_to_pole

    radiance = np.random.default_rng(3).uniform(size=(6, 4, 3)).astype(np.float32)
    v = np.linspace(0.0, 1.0, 301)
    ours = np.stack([np.interp(v, (np.arange(6) + 0.5) / 6, radiance[:, 1, k]) for k in range(3)], -1)
    theirs = np.stack([np.interp(v, np.arange(13) / 12, _pole_to_pole(radiance)[:, 1, k]) for k in range(3)], -1)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_the_light_stays_when_the_object_turns(mi):
    from stspbr.render.mitsuba_scene import render

    mesh, light = _quad(), demo_light(32)
    turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    turn[:3, 3] = 0.2, 0.1, 0.0
    camera = Camera(look_at((0.7, 0.4, 3.0), (0, 0, 0)), 30.0, 30.0, 16, 16, 32, 32)
    moved = replace(camera, camera_to_world=turn @ camera.camera_to_world)
    turned_light = EnvironmentLight(np.roll(light.radiance, 32, axis=1))
    material = {"albedo": 0.5, "roughness": 0.5, "metallic": 0.5, "normal": (0.4, 0.3, 0.86)}
    asset = _asset(mesh, **material)
    # the last view returns to the first pose: placing the object leaves nothing behind
    views = render(asset, light, [camera, moved, camera], [np.eye(4), turn, np.eye(4)], spp=1024, max_depth=2)
    expected = render(asset, turned_light, [camera], spp=1024, max_depth=2)[0]
    np.testing.assert_allclose(views[1][0].mean((0, 1)), expected[0].mean((0, 1)), rtol=0.02)
    np.testing.assert_allclose(views[1][1].sum(), expected[1].sum(), rtol=0.01)
    np.testing.assert_allclose(views[2][0].mean((0, 1)), views[0][0].mean((0, 1)), rtol=0.02)
    assert np.abs(views[1][0].mean((0, 1)) / views[0][0].mean((0, 1)) - 1.0).max() > 0.1


@pytest.mark.parametrize(("mapped", "tilted"), [((0.5, 0.0), (0.5, 0.0)), ((0.0, 0.5), (0.0, 0.5))])
def test_normal_map_follows_tangent_and_green_is_up(mi, mapped, tilted):
    from stspbr.render.mitsuba_scene import render

    camera = Camera(look_at((0.0, 0.0, 3.0), (0, 0, 0)), 30.0, 30.0, 16, 16, 32, 32)
    look = {"albedo": 0.9, "roughness": 0.4, "metallic": 1.0}
    by_map = _asset(_quad(), normal=(*mapped, np.sqrt(0.75)), **look)
    mesh = _quad()
    mesh.normals = Corners(np.tile(np.array([[*tilted, np.sqrt(0.75)]], np.float32), (4, 1)), mesh.faces)
    light = demo_light(32)
    # with its TANGENT attribute, and with tangents derived from the UVs: the same on a plain quad
    bare = _quad()
    bare.tangents = None
    derived = Asset(bare, by_map.materials)
    got, again, expected = (
        render(asset, light, [camera], spp=512, max_depth=2)[0][0].mean((0, 1))
        for asset in (by_map, derived, _asset(mesh, **look))
    )
    np.testing.assert_allclose(got, expected, rtol=0.03)
    np.testing.assert_allclose(again, got, rtol=0.03)


def test_same_seed_same_image_and_black_background(mi):
    from stspbr.render.mitsuba_scene import render

    camera = Camera(look_at((0.0, 0.0, 4.0), (0, 0, 0)), 40.0, 40.0, 16, 16, 32, 32)
    asset, light = _asset(_sphere(3)), demo_light(32)
    one, two = (render(asset, light, [camera, camera], spp=16, seed=5) for _ in range(2))
    for (rgb, alpha), (rgb2, alpha2) in zip(one, two, strict=True):
        assert np.array_equal(rgb, rgb2) and np.array_equal(alpha, alpha2)
    assert not np.array_equal(one[0][0], one[1][0])  # each frame has noise of its own
    rgb, alpha = one[0]
    assert np.all(rgb[alpha[..., 0] == 0] == 0) and alpha[16, 16, 0] == 1 and alpha[0, 0, 0] == 0


def test_views_of_one_size_share_one_kernel(mi):
    import drjit as dr

    from stspbr.render.mitsuba_scene import PathTracer

    camera = Camera(look_at((0.0, 0.0, 4.0), (0, 0, 0)), 40.0, 40.0, 16, 16, 32, 32, 2.0, 6.0)
    pose = look_at((3.0, 1.0, 2.0), (0.1, 0, 0))
    other = Camera(pose, 47.0, 47.0, 13.5, 17.25, 32, 32, 1.25, 9.0)
    tracer = PathTracer(_asset(_sphere(3)), demo_light(32))
    with dr.scoped_set_flag(dr.JitFlag.KernelHistory):
        kernels = []
        for place in (camera, other, camera):
            dr.kernel_history_clear()
            view = tracer.view(place, spp=16, seed=3)
            kernels.append({h["hash"] for h in dr.kernel_history([dr.KernelType.JIT]) if h["operation_count"] > 500})
    assert kernels[0] and kernels[0] == kernels[1]
    # and nothing of the other camera stays behind
    again = PathTracer(_asset(_sphere(3)), demo_light(32)).view(camera, spp=16, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(view, again, strict=True))


def test_mitsuba_has_the_threads_of_the_process(mi):
    import drjit as dr
    import torch

    before = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        mitsuba_bsdf.require_mitsuba("tests")
        assert dr.thread_count() == count
    torch.set_num_threads(before)


def test_surroundings_are_seen_and_hide_but_are_not_covered(mi):
    from stspbr.render.mitsuba_scene import PathTracer

    camera = Camera(look_at((0.0, 0.0, 4.0), (0, 0, 0)), 40.0, 40.0, 16, 16, 32, 32)
    screen = _quad()  # in front of the ball's right half
    screen.positions = screen.positions * np.float32([0.5, 1, 1]) + np.float32([0.5, 0, 1.5])
    ball, green = _asset(_sphere(3)), _asset(screen, albedo=(0.0, 0.8, 0.0), roughness=1.0)
    alone = PathTracer(ball, _constant_light())
    together = PathTracer(ball, _constant_light(), surroundings=green, show_light=True)
    rgb, alpha = together.view(camera, spp=16)
    cover, whole = together.coverage(camera, spp=64), alone.coverage(camera, spp=64)
    assert whole == pytest.approx(alone.view(camera, spp=256)[1], abs=0.12)  # of Monte Carlo at the outline
    assert cover[:, :15] == pytest.approx(whole[:, :15], abs=0.12) and cover[14:18, 18:24].max() == 0
    assert rgb[16, 20, 1] > 0.5 > 0.1 > rgb[16, 20, 0] and rgb[1, 1] == pytest.approx(1, abs=1e-3)  # screen; light
    shifted = np.eye(4)
    shifted[0, 3] = -0.5
    moved = together.coverage(camera, shifted, spp=64)
    assert moved[16, 3] > cover[16, 3] + 0.5 and moved[16, 20] == 0  # the object moves, the screen stays


def test_materials_go_to_their_faces(mi):
    from stspbr.render.mitsuba_scene import render

    mesh = _quad()
    mesh.face_material = np.array([1, 0], np.int32)
    black, white = (_asset(mesh, albedo=a, roughness=1.0).materials[0] for a in (0.0, 1.0))
    camera = Camera(look_at((0.0, 0.0, 3.0), (0, 0, 0)), 30.0, 30.0, 16, 16, 32, 32)
    rgb, _ = render(Asset(mesh, [black, white]), _constant_light(), [camera], spp=64)[0]
    lower_right, upper_left = rgb[20, 20, 0], rgb[12, 12, 0]  # face 0 is below the diagonal
    assert lower_right > 0.8 and upper_left < 0.1


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.4, 0.8])
def test_sphere_agrees_with_quadrature(mi, roughness, metallic):
    from stspbr.render.mitsuba_scene import render
    from stspbr.render.quadrature import quadrature_radiance

    light = demo_light(32)
    camera = Camera(look_at((3.0, 1.5, 3.5), (0, 0, 0)), 52.0, 52.0, 12, 12, 24, 24)
    albedo = np.array([0.6, 0.4, 0.1])
    asset = _asset(_sphere(6), albedo=albedo, roughness=roughness, metallic=metallic)
    rgb, alpha = render(asset, light, [camera], spp=1024, max_depth=2)[0]
    inside = alpha[..., 0] == 1
    y, x = np.mgrid[:24, :24][:, inside] + 0.5
    rays = _unit(np.stack([(x - 12) / 52, (12 - y) / 52, -np.ones_like(x)], -1) @ camera.camera_to_world[:3, :3].T)
    eye = camera.position
    b = rays @ eye
    normals = eye + rays * (-b - np.sqrt(np.maximum(b * b - (eye @ eye - 1.0), 0.0)))[:, None]
    truth = _shade(_unit(normals), -rays, light.radiance, albedo, roughness, metallic)
    colour, metal = albedo[None], np.array([[metallic]])
    shipped = quadrature_radiance(_unit(normals), -rays, colour, np.full(len(rays), roughness), metal, light, 192)
    assert _psnr(shipped, truth) >= 45.0  # the two quadratures share no code
    for one in (truth, shipped):
        assert _psnr(rgb[inside], one) >= 36.0


def _psnr(a, b):
    return 10.0 * np.log10(1.0 / np.mean((a - b) ** 2))


def _shade(normals, view, radiance, albedo, roughness, metallic):
    """Full-BRDF quadrature ``[N, 3]`` over the bilinear light, on a grid four times as fine as its texels."""
    height, width, _ = radiance.shape
    v, u = (np.arange(4 * height) + 0.5) / (4 * height), (np.arange(4 * width) + 0.5) / (4 * width)
    wrapped = np.concatenate([radiance[:, -1:], radiance, radiance[:, :1]], axis=1).astype(np.float64)
    along = np.stack([[np.interp(u * width, np.arange(-1, width + 1) + 0.5, row) for row in wrapped[..., k]]
                      for k in range(3)], -1)  # fmt: skip
    light = np.stack([[np.interp(v * height, np.arange(height) + 0.5, column) for column in along[..., k].T]
                      for k in range(3)], -1).transpose(1, 0, 2).reshape(-1, 3)  # fmt: skip
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    directions = latlong_to_direction(grid)
    solid = np.sin(np.pi * grid[:, 1]) * (np.pi / (4 * height)) * (2 * np.pi / (4 * width))
    out = np.empty((len(normals), 3))
    for i, (n, w) in enumerate(zip(normals, view, strict=True)):
        t = _unit(np.cross(n, [0.0, 1.0, 0.0] if abs(n[1]) < 0.9 else [1.0, 0.0, 0.0]))
        frame = np.stack([t, np.cross(n, t), n])
        lit = directions @ n > 0
        wo = directions[lit] @ frame.T
        f = _brdf((frame @ w)[None], wo, albedo, roughness, metallic)
        out[i] = ((f * wo[:, 2:]) * light[lit] * solid[lit, None]).sum(0)
    return out


def _brdf(v, w, albedo, roughness, metallic):
    """glTF's simplified BRDF ``[..., 3]`` for directions about +Z, double precision, written out plainly."""
    alpha2 = roughness**4
    h = _unit(v + w)
    nv, nl, nh, vh = v[..., 2:], w[..., 2:], h[..., 2:], (v * h).sum(-1, keepdims=True)
    d = alpha2 / (np.pi * (nh**2 * (alpha2 - 1.0) + 1.0) ** 2)
    vis = 0.5 / (nl * np.sqrt(nv**2 * (1 - alpha2) + alpha2) + nv * np.sqrt(nl**2 * (1 - alpha2) + alpha2))
    f0 = 0.04 * (1.0 - metallic) + albedo * metallic
    f = f0 + (1.0 - f0) * (1.0 - vh) ** 5
    return (1.0 - f) * albedo * (1.0 - metallic) / np.pi + f * d * vis


class _Holder:
    """Stands in for a PathTracer where only its Mitsuba module is needed."""

    def __init__(self, mi):
        self._mi = mi


def _bsdf(mi, albedo, roughness, metallic):
    from stspbr.render.mitsuba_scene import PathTracer

    return mi.load_dict(PathTracer._bsdf(_Holder(mi), _material(albedo, roughness, metallic), bumpy=False))


def _hit(mi, cosine, count=1):
    import drjit as dr

    si = dr.zeros(mi.SurfaceInteraction3f, count)
    si.n, si.sh_frame = mi.Normal3f(0, 0, 1), mi.Frame3f(mi.Vector3f(0, 0, 1))
    si.wi = mi.Vector3f(float(np.sqrt(1 - cosine**2)), 0.0, cosine)
    return si


def _stratified(mi, side):
    """Lobe and direction samples: a jittered grid of ``side²`` points."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    two = (np.stack([x, y]) + rng.uniform(size=(2, side * side))) / side
    return mi.Float(rng.uniform(size=side * side)), mi.Point2f(two)


def _material(albedo=0.8, roughness=0.5, metallic=0.0, normal=None):
    one = np.ones((1, 1, 1), np.float32)
    colour = np.broadcast_to(np.asarray(albedo, np.float32), (1, 1, 3)).copy()
    bump = None if normal is None else np.asarray(normal, np.float32).reshape(1, 1, 3)
    return Material(colour, one * np.float32(roughness), one * np.float32(metallic), normal=bump)


def _asset(mesh, **look):
    return Asset(mesh, [_material(**look)])


def _constant_light():
    return EnvironmentLight(np.ones((8, 16, 3), np.float32))


def _quad():
    """Two triangles in the plane z = 0 that face +Z; u to the right, v down; face 0 is the lower right."""
    p = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    f = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    n, t = np.tile(np.float32([[0, 0, 1]]), (4, 1)), np.tile(np.float32([[1, 0, 0, 1]]), (4, 1))
    return Mesh(p, f, Corners(uv, f), Corners(n, f), Corners(t, f))


def _sphere(level):
    """A unit icosphere with exact normals."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=level)
    p, f = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    return Mesh(p, f, normals=Corners(p, f))


def _unit(v):
    v = np.asarray(v, dtype=np.float64)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
