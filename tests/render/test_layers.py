"""Cut-outs and blended surfaces: closed forms of cards over cards, both sides lit, gradients, and the path tracer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.procedural.fern import fern
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.layers import compose_layers, layers_of
from stspbr.render.light import EnvironmentCube
from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, Corners, Material, Mesh, look_at
from stspbr.scene.camera_rig import object_cameras

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
SIZE = 32


def view(eye=(0.0, 0.0, 3.0)) -> ViewBatch:
    camera = Camera(look_at(eye, (0, 0, 0)), SIZE, SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE)
    return ViewBatch.of([camera], [np.eye(4)], CPU)


def cards(heights=(0.0, -0.2), opacities=(None, None), cutoff=None) -> Asset:
    """Squares that face +Z, each with its own material: red, green, blue."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    positions = np.concatenate([np.c_[square, np.full(4, z, np.float32)] for z in heights])
    index = np.concatenate([faces + 4 * k for k in range(len(heights))])
    uvs = Corners(np.tile(square * (0.5, -0.5) + 0.5, (len(heights), 1)).astype(np.float32), index)
    one = np.ones((1, 1, 1), np.float32)
    colours = np.eye(3, dtype=np.float32)
    materials = [
        Material(colours[k].reshape(1, 1, 3), one, 0 * one, name=f"{k}", opacity=opacity,
                 cutoff=None if opacity is None else cutoff)
        for k, opacity in enumerate(opacities)
    ]  # fmt: skip
    return Asset(
        Mesh(positions, index, uvs, face_material=np.repeat(np.arange(len(heights)), 2).astype(np.int32)), materials
    )


@pytest.fixture(scope="module")
def sky():
    cube = EnvironmentCube(16)
    cube.set_radiance(torch.ones(6, 16, 16, 3))
    return cube.prefilter().detach()


def middle(image: torch.Tensor) -> torch.Tensor:
    return image[0, 12:20, 12:20].reshape(-1, image.shape[-1])


def test_an_opaque_surface_is_as_without_layers():
    asset = demo_asset(32, around=24, along=24)
    surface = Surface.of(asset.mesh, CPU)
    batch = view((2.0, 1.0, 3.0))
    gbuffer = render_gbuffer(surface, batch, BACKEND)
    layers = list(layers_of(surface, batch, BACKEND, lambda g: torch.ones_like(g.position[:, :1])))
    assert len(layers) == 1
    assert torch.equal(
        compose_layers(layers, [layers[0].gbuffer.normal], BACKEND), compose(gbuffer, gbuffer.normal, BACKEND)
    )


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_a_blended_card_lets_the_rest_through(sky, share):
    renderer = AssetRenderer(cards(opacities=(np.full((1, 1, 1), share, np.float32), None)), BACKEND, CPU)
    out = renderer.render(view(), sky)
    expected = torch.tensor([share, 1.0 - share, 0.0])
    assert torch.allclose(middle(out["albedo"]), expected.expand(64, 3), atol=1e-5)
    assert torch.allclose(middle(out["alpha"]), torch.ones(64, 1), atol=1e-6)
    alone = AssetRenderer(cards((0.0,), (np.full((1, 1, 1), share, np.float32),)), BACKEND, CPU)
    assert torch.allclose(middle(alone.render(view(), sky)["alpha"]), torch.full((64, 1), share), atol=1e-6)


def test_coverage_alone_is_the_alpha_of_the_whole():
    surface, shares = Surface.of(cards((0.0, -0.2)).mesh, CPU), torch.tensor([0.3, 0.8])
    layers = list(layers_of(surface, view((0.5, 0.3, 3.0)), BACKEND, lambda g: shares[g.triangle // 2, None]))
    whole = compose_layers(layers, [layer.gbuffer.normal for layer in layers], BACKEND)
    alone = compose_layers(layers, [layer.opacity[:, :0] for layer in layers], BACKEND)
    assert alone.shape[-1] == 1 and 0.8 < float(alone.max()) < 0.9
    assert torch.equal(alone, whole[..., -1:])


def test_three_cards_are_laid_over_each_other_in_order(sky):
    half = np.full((1, 1, 1), 0.5, np.float32)
    out = AssetRenderer(cards((-0.1, 0.2, 0.0), (half, half, half)), BACKEND, CPU).render(view(), sky)
    # green is in front, then blue, then red
    assert torch.allclose(middle(out["albedo"]), torch.tensor([0.125, 0.5, 0.25]).expand(64, 3), atol=1e-5)
    assert torch.allclose(middle(out["alpha"]), torch.full((64, 1), 0.875), atol=1e-6)


def test_a_mask_shows_its_surface_or_what_is_behind(sky):
    opacity = np.where(np.arange(64)[None, :, None] < 32, 0.7, 0.2).repeat(64, 0).astype(np.float32)
    renderer = AssetRenderer(cards(opacities=(opacity, None), cutoff=0.5), BACKEND, CPU)
    albedo = renderer.render(view(), sky)["albedo"][0]
    assert torch.allclose(albedo[12:20, 10:14], torch.tensor([1.0, 0.0, 0.0]).expand(8, 4, 3), atol=1e-5)
    assert torch.allclose(albedo[12:20, 18:22], torch.tensor([0.0, 1.0, 0.0]).expand(8, 4, 3), atol=1e-5)


def test_the_edge_of_what_is_cut_out_does_not_show(sky):
    """A card that is cut away altogether, half over another one: its own outline must leave no trace."""
    gone = cards((0.0, 0.3), (None, np.zeros((1, 1, 1), np.float32)), cutoff=0.5)
    moved = gone.mesh.positions.copy()
    moved[4:, 0] += 0.9
    gone = replace(gone, mesh=replace(gone.mesh, positions=moved))
    out = AssetRenderer(gone, BACKEND, CPU).render(view((0.3, 0.2, 3.0)), sky)
    solid = AssetRenderer(cards((0.0,), (None,)), BACKEND, CPU).render(view((0.3, 0.2, 3.0)), sky)
    for name in ("rgb", "alpha"):
        difference = (out[name] - solid[name]).abs().amax(dim=3)
        assert int((difference > 0.01).sum()) <= 2  # where both outlines cross one pixel
        assert float(difference.mean()) < 1e-3


def test_both_sides_of_a_card_are_lit(sky):
    opacity = np.full((1, 1, 1), 0.5, np.float32)
    renderer = AssetRenderer(cards((0.0,), (opacity,)), BACKEND, CPU)
    front, back = (renderer.render(view((0.0, 0.0, z)), sky) for z in (3.0, -3.0))
    assert torch.allclose(middle(front["rgb"]), middle(back["rgb"]), atol=1e-5)
    assert torch.allclose(middle(front["normal"]), -middle(back["normal"]), atol=1e-5)


def test_facing_is_the_side_of_the_triangle_that_is_seen():
    surface = Surface.of(fern(64).mesh, CPU)
    for eye in ((1.0, 0.2, 3.0), (-1.0, 0.5, 2.5)):
        gbuffer = render_gbuffer(surface, view(eye), BACKEND)
        corners = surface.positions[surface.faces.long()].index_select(0, gbuffer.triangle)
        outward = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        expected = torch.where((outward * gbuffer.to_eye).sum(1, keepdim=True) < 0, -1.0, 1.0)
        assert torch.equal(gbuffer.facing(), expected)
        assert 0.02 < (expected < 0).float().mean() < 0.98


def test_opacity_has_the_gradient_of_the_blend():
    asset = cards((0.0, -0.2, -0.4), (None, None, None))
    surface = Surface.of(asset.mesh, CPU)
    share = torch.tensor([0.3, 0.6, 0.9], requires_grad=True)
    colour = torch.tensor([[0.9], [0.5], [0.1]])

    def blended(values):
        layers = list(layers_of(surface, view(), BACKEND, lambda g: values[g.triangle // 2, None]))
        image = compose_layers(layers, [colour[layer.gbuffer.triangle // 2] for layer in layers], BACKEND)
        return middle(image).mean(0)

    for channel in (0, 1):
        (grad,) = torch.autograd.grad(blended(share)[channel], share)
        a, b, c = share.detach().double()
        x, y, z = colour[:, 0].double()
        if channel == 0:
            exact = torch.stack([x - b * y - (1 - b) * c * z, (1 - a) * (y - c * z), (1 - a) * (1 - b) * z])
        else:
            exact = torch.stack([(1 - b) * (1 - c), (1 - a) * (1 - c), (1 - a) * (1 - b)])
        assert torch.allclose(grad.double(), exact, atol=1e-5)


def test_the_path_tracer_cuts_out_the_same():
    ok, message = llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    from stspbr.render.mitsuba_scene import render

    asset, light = fern(256), demo_light(height=64)
    (camera,), _ = object_cameras(asset.mesh, 1, 0, 96, fov_degrees=40.0, seed=0)
    renderer = AssetRenderer(asset, BACKEND, CPU)
    fine = ViewBatch.of([camera.resized(384, 384)], [np.eye(4)], CPU)
    alpha = renderer.render(fine, prefilter_latlong(light, base_resolution=128))["alpha"][0]
    alpha = alpha.reshape(96, 4, 96, 4, 1).mean(dim=(1, 3)).numpy()
    ((_, traced),) = render(asset, light, [camera], spp=64)
    assert 0.05 < traced.mean() < 0.6
    assert np.minimum(alpha, traced).sum() / np.maximum(alpha, traced).sum() > 0.93
