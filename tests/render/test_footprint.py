"""A pixel's area: how normals turn in it, and that a highlight smaller than a pixel is shaded as its mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.render import asset_renderer
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.footprint import blurred
from stspbr.render.gbuffer import Surface, ViewBatch, render_gbuffer
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Asset, Camera, Corners, Material, Mesh, look_at

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
SIZE, DISTANCE = 24, 4.0


def ball(rows: int = 96) -> Mesh:
    """The unit sphere with exact normals."""
    theta = np.pi * np.linspace(0.02, 0.98, rows)[:, None]
    phi = 2.0 * np.pi * np.arange(2 * rows)[None] / (2 * rows)
    points = np.stack(np.broadcast_arrays(np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)), -1)
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = index[:-1], index[1:], np.roll(index[1:], -1, 1), np.roll(index[:-1], -1, 1)
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))]).astype(np.int32)
    positions = points.reshape(-1, 3).astype(np.float32)
    return Mesh(positions, faces, normals=Corners(positions.copy(), faces))


def camera(size: int = SIZE) -> Camera:
    return Camera(look_at((0, 0, DISTANCE), (0, 0, 0)), 1.4 * size, 1.4 * size, size / 2, size / 2, size, size)


def batch(size: int = SIZE) -> ViewBatch:
    return ViewBatch.of([camera(size)], [np.eye(4)], CPU)


def test_the_normals_of_a_sphere_turn_as_its_radius_says():
    gbuffer = render_gbuffer(Surface.of(ball(), CPU), batch(), BACKEND)
    middle = gbuffer.to_eye.mul(gbuffer.normal).sum(1) > 0.99
    assert middle.sum() >= 2
    step = (DISTANCE - 1.0) / (1.4 * SIZE)  # a pixel's side on the surface; the normal turns by as many radians
    found = gbuffer.bend[middle].mean()
    assert float(found) == pytest.approx(2.0 * step**2 / 12.0, rel=0.05)


def test_a_plane_keeps_its_roughness():
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    mesh = Mesh(square, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    gbuffer = render_gbuffer(Surface.of(mesh, CPU), batch(), BACKEND)
    roughness = torch.linspace(0.03, 1.0, len(gbuffer.covered))[:, None]
    assert float(gbuffer.bend.abs().max()) < 1e-10
    assert torch.allclose(gbuffer.blurred(roughness), roughness, atol=1e-4)
    assert blurred(roughness, None) is roughness


def test_it_adds_variances_and_has_their_gradient():
    roughness = torch.tensor([[0.1], [0.4], [0.9]], dtype=torch.float64, requires_grad=True)
    bend = torch.full((3, 1), 3e-4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda r: blurred(r, bend), roughness)
    assert torch.allclose(blurred(roughness, bend) ** 4, roughness**4 + bend)
    assert float(blurred(torch.ones(1, 1), torch.full((1, 1), 0.18))) == 1.0


def test_a_pixel_is_the_mean_of_its_highlights(monkeypatch):
    cube = EnvironmentCube(64)
    radiance = torch.full((6, 64, 64, 3), 0.05)
    for face in (0, 2, 4):
        radiance[face, 20:24, 30:34] = 60.0  # lamps that a pixel shows whole
    cube.set_radiance(radiance)
    light = cube.prefilter().detach()

    def texel(*values):
        return np.array(values, np.float32).reshape(1, 1, -1)

    renderer = AssetRenderer(Asset(ball(), [Material(texel(0.9, 0.9, 0.9), texel(0.12), texel(1.0))]), BACKEND, CPU)
    fine = renderer.render(batch(SIZE * 16), light)["rgb"][0]
    truth = fine.reshape(SIZE, 16, SIZE, 16, 3).mean(dim=(1, 3))
    filtered = renderer.render(batch(), light)["rgb"][0]
    original = asset_renderer.render_gbuffer

    def without(*arguments):
        gbuffer = original(*arguments)
        gbuffer.bend = None
        return gbuffer

    monkeypatch.setattr(asset_renderer, "render_gbuffer", without)
    plain = renderer.render(batch(), light)["rgb"][0]
    inside = slice(6, SIZE - 6)
    errors = [float((image - truth)[inside, inside].square().mean()) for image in (filtered, plain)]
    assert errors[0] < 0.4 * errors[1]
