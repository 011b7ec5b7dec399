"""The G-buffer: the covered pixels in order, each with what a camera ray through its centre would find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Camera, EnvironmentLight, Mesh, direction_to_latlong, latlong_to_direction, look_at
from stspbr.scene.camera_rig import object_cameras

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
SIZE = (40, 48)
POSE = np.block([[look_at((0.3, 0.5, 0.8), (0.1, 0, 0))[:3, :3], np.array([[0.2], [-0.1], [0.15]])], [np.eye(4)[3:]]])


@pytest.fixture(scope="module")
def asset():
    return demo_asset(32, around=24, along=20)


@pytest.fixture(scope="module")
def cameras(asset) -> list[Camera]:
    return object_cameras(asset.mesh, 3, 0, SIZE, seed=2, fill=0.7)[0]


def neighbours(gbuffer) -> torch.Tensor:
    """``[B, H, W]``: how many of each pixel's nine (with itself) are covered."""
    hit = (gbuffer.rast[..., 3] > 0).float()[:, None]
    return (torch.nn.functional.avg_pool2d(hit, 3, 1, padding=1)[:, 0] * 9).round()


def together(views: list[ViewBatch]) -> ViewBatch:
    parts = (torch.cat([getattr(v, name) for v in views]) for name in ("clip_from_object", "eye", "object_rotation"))
    return ViewBatch(*parts, views[0].resolution)


@pytest.fixture(scope="module")
def views(cameras) -> ViewBatch:
    """Three views, the second of them of a moved object."""
    poses = [np.eye(4), POSE, np.eye(4)]
    return together([ViewBatch.of([camera], [pose], CPU) for camera, pose in zip(cameras, poses, strict=True)])


@pytest.fixture(scope="module")
def gbuffer(asset, views):
    return render_gbuffer(Surface.of(asset.mesh, CPU), views, BACKEND)


def test_covered_pixels_are_the_raster_s_in_ascending_order(gbuffer):
    hit = (gbuffer.rast[..., 3] > 0).reshape(-1)
    assert len(gbuffer.covered) == int(hit.sum()) > 500
    assert bool((gbuffer.covered[1:] > gbuffer.covered[:-1]).all())
    assert bool(hit[gbuffer.covered].all())
    assert torch.equal(gbuffer.triangle, gbuffer.rast[..., 3].reshape(-1)[gbuffer.covered].long() - 1)


def test_positions_project_back_to_their_pixels_centres(gbuffer, views):
    height, width = SIZE
    clip = views.clip_from_object.double()[gbuffer.view]
    place = torch.cat([gbuffer.position.double(), torch.ones(len(gbuffer.view), 1)], dim=1)
    x, y, _, w = (clip @ place[..., None])[..., 0].unbind(1)
    pixel = gbuffer.covered % (height * width)
    assert float(((x / w + 1) * width / 2 - (pixel % width + 0.5)).abs().max()) < 1e-3
    assert float(((y / w + 1) * height / 2 - (pixel // width + 0.5)).abs().max()) < 1e-3


def test_positions_lie_in_their_triangles(gbuffer, asset):
    corners = torch.as_tensor(asset.mesh.positions)[torch.as_tensor(asset.mesh.faces, dtype=torch.long)]
    corners = corners.double()[gbuffer.triangle]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    distance = ((gbuffer.position.double() - corners[:, 0]) * torch.nn.functional.normalize(normal, dim=1)).sum(1)
    assert float(distance.abs().max()) < 1e-5
    low, high = corners.amin(1) - 1e-5, corners.amax(1) + 1e-5
    assert bool(((gbuffer.position >= low) & (gbuffer.position <= high)).all())


def test_to_eye_is_unit_and_points_at_the_camera_in_object_space(gbuffer, cameras):
    torch.testing.assert_close(gbuffer.to_eye.norm(dim=1), torch.ones(len(gbuffer.view)), atol=1e-5, rtol=0)
    torch.testing.assert_close(gbuffer.normal.norm(dim=1), torch.ones(len(gbuffer.view)), atol=1e-5, rtol=0)
    for number, pose in enumerate((np.eye(4), POSE, np.eye(4))):
        eye = torch.as_tensor(np.linalg.inv(pose) @ np.append(cameras[number].position, 1.0))[:3]
        mine = gbuffer.view == number
        towards = torch.nn.functional.normalize(eye - gbuffer.position[mine].double(), dim=1)
        torch.testing.assert_close(gbuffer.to_eye[mine].double(), towards, atol=1e-5, rtol=0)
    assert float((gbuffer.normal * gbuffer.to_eye).sum(1).mean()) > 0.3  # outside faces the cameras


def test_a_batch_is_its_views_one_after_another(gbuffer, asset, views):
    surface = Surface.of(asset.mesh, CPU)
    pixels = SIZE[0] * SIZE[1]
    assert gbuffer.view.unique().tolist() == [0, 1, 2]
    for number in range(3):
        alone = ViewBatch(
            *(getattr(views, n)[number : number + 1] for n in ("clip_from_object", "eye", "object_rotation")), SIZE
        )
        single = render_gbuffer(surface, alone, BACKEND)
        mine = gbuffer.view == number
        assert torch.equal(gbuffer.covered[mine] - number * pixels, single.covered)
        assert bool((single.view == 0).all())
        for name in ("triangle", "position", "normal", "to_eye", "uv", "uv_da", "tangent"):
            torch.testing.assert_close(getattr(gbuffer, name)[mine], getattr(single, name), msg=name)


def test_attributes_are_absent_where_the_mesh_has_none(asset, views):
    bare = replace(asset.mesh, uvs=None, tangents=None)
    gbuffer = render_gbuffer(Surface.of(bare, CPU), views, BACKEND)
    assert gbuffer.uv is gbuffer.uv_da is gbuffer.tangent is None


def test_uv_derivatives_are_those_of_neighbouring_pixels(asset, views, gbuffer):
    pixels, width = SIZE[0] * SIZE[1], SIZE[1]
    column = gbuffer.covered % pixels % width
    follows = (gbuffer.covered[1:] == gbuffer.covered[:-1] + 1) & (column[1:] > column[:-1])
    same = follows & (gbuffer.triangle[1:] == gbuffer.triangle[:-1])
    assert int(same.sum()) > 50
    step = (gbuffer.uv[1:] - gbuffer.uv[:-1])[same]
    middle = 0.5 * (gbuffer.uv_da[1:] + gbuffer.uv_da[:-1])[same][:, [0, 2]]
    torch.testing.assert_close(step, middle, atol=2e-4, rtol=0.05)


def test_compose_covers_inside_and_leaves_the_outside_black(gbuffer):
    values = torch.rand(len(gbuffer.covered), 2, generator=torch.Generator().manual_seed(0)) + 0.5
    image = compose(gbuffer, values, BACKEND)
    assert image.shape == (3, *SIZE, 3)
    alpha, share = image[..., 2], neighbours(gbuffer)
    assert int((share == 9).sum()) > 500
    torch.testing.assert_close(alpha[share == 9], torch.ones_like(alpha[share == 9]), atol=1e-6, rtol=0)
    assert not bool(image[share == 0].any())


def test_compose_antialiases_silhouettes(cameras):
    """Of a box, whose faces are larger than pixels; at a finely tessellated edge few pixels see the edge's own face."""
    sides = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])
    corners = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], np.float32) * 0.6
    faces = np.concatenate([sides[:, [0, 1, 2]], sides[:, [0, 2, 3]]]).astype(np.int32)
    surface = Surface.of(Mesh(corners, faces), CPU)

    def coverage(scale: int):
        camera = cameras[1].resized(SIZE[1] * scale, SIZE[0] * scale)
        gbuffer = render_gbuffer(surface, ViewBatch.of([camera], [POSE], CPU), BACKEND)
        return gbuffer, compose(gbuffer, torch.ones(len(gbuffer.covered), 1), BACKEND)[0, ..., 1]

    gbuffer, alpha = coverage(1)
    _, fine = coverage(16)
    true = fine.reshape(SIZE[0], 16, SIZE[1], 16).mean(dim=(1, 3))
    edge = (neighbours(gbuffer)[0] > 0) & (neighbours(gbuffer)[0] < 9)
    hard = (gbuffer.rast[0, ..., 3] > 0).float()
    assert float(alpha.min()) >= 0 and float(alpha.max()) <= 1
    assert int(((alpha > 0.02) & (alpha < 0.98)).sum()) > 0.25 * int(edge.sum())
    assert float((alpha - true)[edge].abs().mean()) < 0.4 * float((hard - true)[edge].abs().mean())


def test_compose_puts_each_value_at_its_pixel(asset, gbuffer):
    image = compose(gbuffer, gbuffer.covered.float()[:, None], BACKEND)[..., 0].reshape(-1)
    same = image[gbuffer.covered] == gbuffer.covered
    assert float(same.float().mean()) > 0.8  # all but those that antialiasing blends


def test_turned_object_is_a_camera_and_a_light_turned_back(asset, cameras):
    """A quarter turn about +Y takes the texels of the map onto each other, so that both pictures are the same."""
    pose = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    light = demo_light(64)
    rows, columns = (np.arange(64) + 0.5) / 64, (np.arange(128) + 0.5) / 128
    directions = latlong_to_direction(np.stack(np.meshgrid(columns, rows), axis=-1))
    found = direction_to_latlong(directions @ pose[:3, :3].T) * (128, 64)
    place = np.floor(found + 1e-6).astype(int) % (128, 64)
    turned_light = EnvironmentLight(np.ascontiguousarray(light.radiance[place[..., 1], place[..., 0]]))
    assert not np.allclose(turned_light.radiance, light.radiance, atol=0.1)

    renderer = AssetRenderer(asset, BACKEND, CPU)
    one, other = (prefilter_latlong(x, base_resolution=128) for x in (light, turned_light))
    camera = cameras[1]
    moved = replace(camera, camera_to_world=np.linalg.inv(pose) @ camera.camera_to_world)
    by_object = renderer.render(ViewBatch.of([camera], [pose], CPU), one)
    by_camera = renderer.render(ViewBatch.of([moved], [np.eye(4)], CPU), other)
    unturned = renderer.render(ViewBatch.of([moved], [np.eye(4)], CPU), one)
    for name, image in by_object.items():
        torch.testing.assert_close(image, by_camera[name], atol=2e-3, rtol=2e-3, msg=name)
    assert float((by_object["rgb"] - unturned["rgb"]).abs().mean()) > 1e-2


def test_any_pose_is_the_same_as_moving_the_camera_and_the_light_s_rotation(asset, cameras):
    renderer = AssetRenderer(asset, BACKEND, CPU)
    light = prefilter_latlong(demo_light(32), base_resolution=128)
    moved = replace(cameras[0], camera_to_world=np.linalg.inv(POSE) @ cameras[0].camera_to_world)
    views = ViewBatch.of([moved], [np.eye(4)], CPU)
    views.object_rotation = torch.as_tensor(POSE[None, :3, :3], dtype=torch.float32)
    by_object = renderer.render(ViewBatch.of([cameras[0]], [POSE], CPU), light)
    by_camera = renderer.render(views, light)
    for name, image in by_object.items():
        torch.testing.assert_close(image, by_camera[name], atol=1e-3, rtol=1e-3, msg=name)


def test_gradients_reach_positions_and_values(asset, views):
    surface = Surface.of(asset.mesh, CPU)
    surface.positions = surface.positions.clone().requires_grad_()
    gbuffer = render_gbuffer(surface, views, BACKEND)
    values = torch.ones(len(gbuffer.covered), 1, requires_grad=True)
    by_values, by_positions = torch.autograd.grad(
        compose(gbuffer, values, BACKEND).square().sum(), [values, surface.positions]
    )
    assert bool((by_values != 0).all())
    assert bool(by_positions.any()) and bool(torch.isfinite(by_positions).all())
