"""The flash as a part of the light: where it is, what it takes over, and that it can be found from what it lights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.flash import Flash
from stspbr.optimize.lights import LearnedLight
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch, render_gbuffer
from stspbr.render.lamp import CameraLamp, lamp_look_up
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Asset, Camera, Material, look_at
from stspbr.scene.capture import Capture
from stspbr.scene.mesh import Mesh
from stspbr.settings import LightSettings
from stspbr.stages.state import make_light

CPU = torch.device("cpu")


def seen():
    """A square in the plane z = 0 from two sides."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    cameras = [
        Camera(look_at(np.array(at), np.zeros(3)), 24, 24, 8, 8, 16, 16) for at in ((0, 0, 3.0), (1.5, 0.5, 2.5))
    ]
    views = ViewBatch.of(cameras, [np.eye(4)] * 2, CPU)
    return cameras, render_gbuffer(Surface.of(mesh, CPU), views, get_backend("cpu", CPU))


def test_it_moves_with_the_camera():
    cameras, gbuffer = seen()
    flash = Flash(3.0)
    with torch.no_grad():
        flash.place.copy_(torch.tensor([2.0, 5.0, -1.0]))
    lamps = flash.seen_from(gbuffer) + gbuffer.position
    for number, camera in enumerate(cameras):
        wanted = camera.position + camera.camera_to_world[:3, :3] @ np.array([0.06, 0.15, -0.03])
        found = lamps[gbuffer.view == number].detach().numpy()
        assert len(found) > 10 and np.allclose(found, wanted, atol=1e-5)


def test_strength_and_offset_are_found_from_what_it_lights():
    _, gbuffer = seen()
    truth, flash = Flash(3.0), Flash(3.0)
    with torch.no_grad():
        truth.strength.copy_(torch.tensor([1.0, 0.5, 0.2]))
        truth.place.copy_(torch.tensor([4.0, -8.0, 0.0]))
    rough = torch.full_like(gbuffer.to_eye[:, :1], 0.4)

    def shown(own: Flash) -> torch.Tensor:
        found, weights = lamp_look_up(gbuffer.normal, gbuffer.to_eye, rough, own.seen_from(gbuffer), own.intensity())
        return found * (0.04 * weights[:, :1] + weights[:, 1:2] + 0.4 * weights[:, 2:])

    with torch.no_grad():
        target = shown(truth)
    adam = torch.optim.Adam(flash.parameters(), lr=0.15)
    for _ in range(150):
        adam.zero_grad()
        (shown(flash) - target).square().mean().backward()
        adam.step()
    assert torch.allclose(flash.intensity(), truth.intensity(), rtol=0.03)
    assert torch.allclose(flash.offset[:2], truth.offset[:2], atol=0.03)


def test_a_settled_light_is_as_bright_and_can_be_read_again(session):
    light = LearnedLight(EnvironmentCube(16, 0.5, common_scale=True), 0.0, flash=Flash(2.0))
    with torch.no_grad():
        light.cube.common.copy_(torch.tensor([3.0, 1.0, -2.0]))
    before = light.prefiltered()
    light.settle()
    after = light.prefiltered()
    assert before.lamp is not None and after.lamp is not None
    assert torch.allclose(before.lamp, after.lamp) and torch.allclose(before.diffuse, after.diffuse, rtol=1e-4)
    from stspbr.stages.state import save_state

    path = session.run / "light.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_state(light, path)
    settings = LightSettings(learned_resolution=16)
    again = make_light(Capture([]), settings, session, path)
    assert again.flash is not None and torch.equal(again.prefiltered().lamp, after.lamp)
    assert make_light(Capture([]), settings, session).flash is None


def test_no_flash_beside_a_known_light(session):
    from stspbr.procedural.lights import studio_light

    with pytest.raises(StspbrError, match="light.flash=on: beside a flash the light is learned"):
        make_light(Capture([], light=studio_light(16)), LightSettings(), session, flash=2.0)


def test_a_finished_asset_is_drawn_with_the_lamp_of_its_stage():
    """In the capture's units: what the flash adds to a picture is what the stage's own flash sent."""
    cameras, _ = seen()
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    one = np.ones((1, 1, 1), np.float32)
    asset = Asset(mesh, [Material(np.full((1, 1, 3), 0.4, np.float32), 0.4 * one, 0.0 * one)])
    backend = get_backend("cpu", CPU)
    views = ViewBatch.of(cameras, [np.eye(4)] * 2, CPU)
    light = EnvironmentCube(16, 0.2).prefilter()
    flash = Flash(1.5)  # in a box half as large
    with torch.no_grad():
        flash.strength.copy_(torch.tensor([1.0, 0.5, 0.2]))
        flash.place.copy_(torch.tensor([4.0, -8.0, 0.0]))
    lamp = CameraLamp.of(flash.facts(2.0), CPU)
    assert lamp is not None and CameraLamp.of(None, CPU) is None
    renderer = AssetRenderer(asset, backend, CPU)
    with torch.no_grad():
        light = replace(light, lamp=torch.ones(3))  # of another stage: counts for nothing here
        dark, lit = (renderer.render(views, light, lamp=own)["rgb"] for own in (None, lamp))
        gbuffer = render_gbuffer(Surface.of(mesh, CPU), views, backend)
        to_lamp = 2.0 * (flash.seen_from(replace(gbuffer, position=gbuffer.position / 2, eye=gbuffer.eye / 2)))
        rough = torch.full_like(gbuffer.to_eye[:, :1], 0.4)
        found, w = lamp_look_up(gbuffer.normal, gbuffer.to_eye, rough, to_lamp, 4.0 * flash.intensity())
        wanted = found * (0.04 * w[:, :1] + w[:, 1:2] + 0.4 * 0.96 * w[:, 2:])
    added = (lit - dark).reshape(-1, 3).index_select(0, gbuffer.covered)
    whole = gbuffer.covered.numel() > 50 and wanted.min() > 0
    assert whole and torch.median((added - wanted).abs() / wanted) < 1e-4
    assert torch.equal(dark, renderer.render(views, replace(light, lamp=None))["rgb"])
