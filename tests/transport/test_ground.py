"""The floor against closed forms and a path tracer, its grey's gradient and recovery."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.metrics.image import display, psnr
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.light import EnvironmentCube
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, Corners, EnvironmentLight, Material, Mesh, Normalization, look_at
from stspbr.scene.light import latlong_to_direction
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import visibility
from stspbr.transport.ground import (
    FloorGrid,
    FloorLight,
    Ground,
    GroundedRadiosity,
    floored_light,
    lower_light,
    upper_half,
    upper_light,
)
from stspbr.transport.radiosity import Irradiance
from stspbr.transport.transport import Transport

from .scenes import sphere
from .test_radiosity import IDENTITY, plain

CPU = torch.device("cpu")
UP = np.array([0.0, 1.0, 0.0])


def sky_over_floor(grey: float, size: int = 32):
    """A white sky of radiance 1 and the floor under it."""
    mask = upper_half(size)
    above = EnvironmentCube(size, 1.0).prefilter(mask).detach()
    return FloorLight(light_filter(size)((1 - mask).repeat(1, 1, 1, 3)), [grey] * 3).joined(above)


def ball(albedo: float = 0.5, height: float | None = None):
    positions, faces = sphere(3000)
    cache = visibility(positions, faces, positions, faces, direction_bins())
    grid = FloorGrid(Ground(UP, height), cache, positions, faces)
    return GroundedRadiosity(cache, plain(len(cache.points.position), albedo), grid)


def lamps(height: int = 256) -> EnvironmentLight:
    """A blue sky with two lamps above, and magenta below, which a floor hides."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    way = latlong_to_direction(np.stack([u, v], axis=-1))
    radiance = np.where(way[..., 1:2] > 0, [0.5, 0.6, 0.8], [3.0, 0.0, 3.0])
    for axis, size, power in (((0.6, 0.7, 0.4), 0.97, 12.0), ((-0.8, 0.5, 0.1), 0.95, 5.0)):
        radiance[way @ (np.array(axis) / np.linalg.norm(axis)) > size] = power
    return EnvironmentLight(radiance.astype(np.float32))


def test_under_a_white_sky_the_floor_far_away_is_its_grey():
    light = sky_over_floor(0.3).detach()
    assert torch.allclose(light.specular[0][3], torch.tensor(0.3), atol=2e-3)
    assert torch.allclose(light.specular[0][2], torch.tensor(1.0), atol=2e-3)
    assert torch.allclose(light.diffuse[3, 7:9, 7:9], torch.tensor(0.3), atol=0.01)
    assert torch.allclose(light.diffuse[0, 7:9].mean(), torch.tensor(0.65), atol=0.01)  # half sky, half floor
    white = floored_light(EnvironmentLight(np.ones((16, 32, 3), np.float32)), [0.3, 0.2, 0.1])
    assert np.allclose(white.radiance[:8], 1.0) and np.allclose(white.radiance[8:], [0.3, 0.2, 0.1], atol=1e-3)


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 2.0, 4.0, 30.0])
def test_a_ball_hides_its_form_factor_from_the_floor(distance):
    """Of a ball that touches the plane at the origin: F = h R² / D³."""
    radiosity = ball(0.0)
    grid = radiosity.grid
    shade = grid.shade(direction_bins().flux(sky_over_floor(0.5).detach(), IDENTITY)[0])
    turn = torch.linspace(0, 6.0, 9)
    place = torch.stack([distance * turn.cos(), torch.full_like(turn, -1.0), distance * turn.sin()], dim=1)
    found = grid.at(shade, place, torch.tensor([[0.0, -1.0, 0.0]]).expand(9, 3))
    assert float(found.mean()) == pytest.approx(1.0 - (1.0 + distance**2) ** -1.5, abs=0.03)


def test_a_ball_s_underside_is_dark_and_its_top_is_as_without_a_floor(texture):
    radiosity = ball(0.0)
    light = sky_over_floor(0.5).detach()
    radiosity.bounced(light, IDENTITY[0], texture)
    open_, direct = (part[0, :, 0] for part in radiosity.arriving(light, IDENTITY))
    y = radiosity.cache.points.position[:, 1]
    ratio = direct / open_
    assert float(ratio[y < -0.98].max()) < 0.35 and float(ratio[y > 0.95].min()) > 0.99
    # far from the contact the floor sends up nearly all of its grey
    assert 0.9 < float(ratio[(y > -0.1) & (y < 0.1)].mean()) < 1.0


def test_light_does_not_grow_between_a_white_floor_and_a_white_ball(texture):
    radiosity = ball(1.0)
    light = sky_over_floor(0.949).detach()
    bounced = radiosity.bounced(light, IDENTITY[0], texture)
    open_, direct = radiosity.arriving(light, IDENTITY)
    total = Irradiance(open_, direct + bounced).total
    assert float(total.max()) <= 1.0 + 1e-2
    shade = next(iter(radiosity.shades.values()))
    assert float(shade.max()) <= 1.02
    black = ball(0.0)
    black.bounced(light, IDENTITY[0], texture)
    assert float((shade - next(iter(black.shades.values()))).mean()) > 0.01  # the ball lights the floor


def test_a_point_under_the_floor_is_on_it():
    grid = ball(0.0, height=0.2).grid
    down = torch.tensor([[0.3, -1.0, 0.0]])
    index, share = grid.nodes(torch.tensor([[0.1, -0.5, 0.2]]), down)
    other, same = grid.nodes(torch.tensor([[0.1, 0.2, 0.2]]), down)
    assert torch.equal(index, other) and torch.allclose(share, same, atol=1e-5)


def test_the_grey_s_gradient_is_that_of_differences():
    size = 16
    mask = upper_half(size)
    below = light_filter(size)((1 - mask).repeat(1, 1, 1, 3))
    floor = FloorLight(below, [0.3, 0.5, 0.7]).double()
    base = torch.rand(6, size, size, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    above = light_filter(size)((base * mask).float()).to(CPU, torch.float64)

    def outcome(slow):
        floor.slow.data.copy_(slow.data)
        own = torch.func.functional_call(floor, {"slow": slow}, (above,), strict=True)
        return torch.cat([own.specular[1].reshape(-1), own.diffuse.reshape(-1)]).sin().view(-1, 8, 3).sum(0)

    floor.forward = floor.joined
    assert torch.autograd.gradcheck(outcome, floor.slow.detach().clone().requires_grad_())
    assert torch.allclose(floor.grey, torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64), atol=1e-6)


def scene(rough: float, metal: float, albedo) -> tuple[Asset, Asset, list[Camera]]:
    """A ball on a wide floor of grey 0.6 and cameras that look down at it."""

    def constant(*values: float) -> np.ndarray:
        return np.asarray(values, np.float32).reshape(1, 1, -1)

    positions, faces = (part.numpy() for part in sphere(3000))
    material = Material(constant(*albedo), constant(rough), constant(metal))
    far = 3000.0
    corners = np.array([[-far, -1.001, -far], [-far, -1.001, far], [far, -1.001, far], [far, -1.001, -far]], np.float32)
    two = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    floor = Mesh(corners, two, normals=Corners(np.array([[0, 1, 0]], np.float32), np.zeros_like(two)))
    cameras = []
    for k, lift in enumerate((15.0, 45.0)):
        turn, lift = 0.5 + 2.0 * k, np.radians(lift)
        way = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
        cameras.append(Camera(look_at(3.4 * way, np.zeros(3)), 96.0, 96.0, 32.0, 32.0, 64, 64))
    return (
        Asset(Mesh(positions, faces, normals=Corners(positions.copy(), faces)), [material]),
        Asset(floor, [Material(constant(0.6, 0.6, 0.6), constant(1.0), constant(0.0))]),
        cameras,
    )


def traced(asset: Asset, floor: Asset, cameras: list[Camera], spp: int):
    """Images, and masks of pixels inside the ball's outline."""
    pytest.importorskip("mitsuba")
    from stspbr.render.mitsuba_scene import PathTracer

    tracer = PathTracer(asset, lamps(), 8, floor)
    images = [tracer.view(camera, None, spp, seed=k)[0] for k, camera in enumerate(cameras)]
    return images, [(tracer.coverage(camera) > 0.999).astype(np.float32) for camera in cameras]


def shaded(asset: Asset, cameras: list[Camera]) -> tuple[AssetRenderer, Transport, list[ViewBatch]]:
    """Our renderer of the asset, and its transport over a floor at its lowest point."""
    backend = get_backend("cpu", CPU)
    renderer = AssetRenderer(asset, backend, CPU)
    transport = Transport(backend, "numba", ground=Ground(UP, None))
    transport.refresh(renderer.surface, renderer.material)
    fine = [camera.resized(3 * camera.width, 3 * camera.height) for camera in cameras]
    return renderer, transport, [ViewBatch.of([camera], [np.eye(4)], CPU) for camera in fine]


def floor_of(grey: float) -> tuple[FloorLight, object]:
    """The floor under ``lamps``, and the light that it joins."""
    above, below = (prefilter_latlong(half(lamps()), 128) for half in (upper_light, lower_light))
    return FloorLight(below, [grey] * 3), above


@pytest.mark.parametrize(
    ("rough", "metal", "albedo", "least"),
    [(0.8, 0.0, (0.6, 0.5, 0.4), 40.0), (0.2, 0.0, (0.3, 0.3, 0.5), 39.0), (0.25, 1.0, (0.9, 0.8, 0.6), 30.0)],
)
def test_a_ball_on_a_floor_looks_as_path_traced(rough, metal, albedo, least):
    asset, table, cameras = scene(rough, metal, albedo)
    images, masks = traced(asset, table, cameras, 256)
    renderer, transport, views = shaded(asset, cameras)
    floor, above = floor_of(0.6)
    alone = Transport(renderer.backend, "numba")
    alone.refresh(renderer.surface, renderer.material)
    found = []
    for light, own in ((floor.joined(above), transport), (prefilter_latlong(lamps(), 128), alone)):
        values = []
        for view, image, mask in zip(views, images, masks, strict=True):
            fine = renderer.render(view, light, own.seen)["rgb"][0].numpy()
            ours = fine.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
            values.append(psnr(display(image), display(ours), mask))
        found.append(np.mean(values))
    assert found[0] > least and found[0] > found[1] + 8.0


def test_the_grey_is_recovered_from_a_path_traced_capture(texture):
    """Shape, material and light known: only the floor is fitted."""
    asset, table, cameras = scene(0.4, 0.0, (0.5, 0.5, 0.5))
    images, masks = traced(asset, table, cameras, 64)
    renderer, transport, _ = shaded(asset, cameras)
    floor, above = floor_of(0.2)
    views = ViewBatch.of(cameras, [np.eye(4)] * len(cameras), CPU)
    target, mask = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))
    optimizer = torch.optim.Adam(floor.parameters(), 1.0)
    render = AssetRenderer.render.__wrapped__  # with gradients
    for step in range(40):
        optimizer.param_groups[0]["lr"] = 1.5 * (1.0 - step / 40)
        if step % 10 == 0:
            transport.refresh(renderer.surface, renderer.material)
        optimizer.zero_grad()
        image = render(renderer, views, floor.joined(above), transport.seen)["rgb"]
        ((image - target) * mask).abs().mean().backward()
        optimizer.step()
    assert torch.allclose(floor.grey, torch.full((3,), 0.6), atol=0.05), floor.grey


def test_the_plane_moves_with_the_object_s_units():
    plane = Ground(UP, -0.4, shift=0.1)  # the object's origin lies 0.1 above the world's
    points = torch.tensor([[0.0, -0.3, 0.0], [0.2, 0.9, 0.1]])
    assert plane.level(points) == pytest.approx(-0.5) and plane.world_height(points) == pytest.approx(-0.4)
    box = Normalization(np.array([0.3, 0.2, 0.0]), 2.0)
    inside = plane.normalized(box)
    assert inside.level(points) == pytest.approx((-0.5 - 0.2) / 2.0)
    assert inside.world_height(points) == pytest.approx(-0.4)
    lowest = Ground(UP, None, shift=0.1).normalized(box)
    assert lowest.world_height((points - torch.tensor([0.3, 0.2, 0.0])) / 2.0) == pytest.approx(-0.2)
