"""The differentiated path tracer: its values are the plain path tracer's, its gradients finite differences' of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.scene import Camera, look_at

SIZE = 48


@pytest.fixture(scope="module")
def scene():
    ok, message = llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    from stspbr.render.path_gradients import PathGradients, PixelRays

    asset, light = demo_asset(32, around=24, along=24), demo_light(height=32)
    tracer = PathGradients(asset, light, max_depth=4)
    pose = look_at(np.array([0.6, 1.2, 3.6]), np.zeros(3))
    camera = Camera(pose, 1.1 * SIZE, 1.1 * SIZE, SIZE / 2 + 1.5, SIZE / 2 - 2.0, SIZE, SIZE)
    image, alpha = tracer.view(camera, spp=1024)
    pixels = np.flatnonzero(alpha.reshape(-1) > 0.999)
    material = asset.materials[0]
    maps = [torch.from_numpy(np.ascontiguousarray(m)) for m in (material.albedo, material.roughness, material.metallic)]
    radiance = torch.from_numpy(np.asarray(light.radiance, np.float32))
    return tracer, PixelRays.of(camera, pixels), maps, radiance, image.reshape(-1, 3)[pixels], (camera, pixels)


def test_pixels_are_those_of_the_plain_path_tracer(scene):
    tracer, rays, maps, light, image, _ = scene
    found = tracer.radiance(rays, np.eye(4), maps, light, paths=256, gradient_paths=1, seed=1).numpy()
    difference = (found - image) / (1.0 + image)
    assert abs(difference.mean()) < 2e-3
    assert np.abs(difference).mean() < 0.04  # noise of 256 paths


def test_a_pose_of_the_object_is_the_inverse_pose_of_the_camera(scene):
    from stspbr.render.path_gradients import PixelRays

    tracer, rays, maps, light, _, (camera, pixels) = scene
    white = torch.ones_like(light)
    turn = np.eye(4)
    turn[:3, :3] = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    turned = Camera(turn @ camera.camera_to_world, camera.fx, camera.fy, camera.cx, camera.cy, SIZE, SIZE)
    settings = {"paths": 256, "gradient_paths": 1, "seed": 3}
    still = tracer.radiance(rays, np.eye(4), maps, white, **settings)
    moved = tracer.radiance(PixelRays.of(turned, pixels), turn, maps, white, **settings)
    assert abs(float((still - moved).mean() / still.mean())) < 2e-3
    assert float((still - moved).abs().mean() / still.mean()) < 0.02  # noise of both


@pytest.mark.parametrize("name", ["albedo", "roughness", "metallic", "light"])
def test_gradients_are_finite_differences(scene, name):
    tracer, rays, maps, light, _, _ = scene
    generator = torch.Generator().manual_seed(5)
    weight = torch.rand((len(rays), 3), generator=generator) + 0.5
    # rough and metallic: the derivative of a sharp highlight is mostly noise
    inputs = {"albedo": maps[0], "roughness": torch.full_like(maps[1], 0.5),
              "metallic": torch.full_like(maps[2], 0.9), "light": light}  # fmt: skip
    leaves = {key: value.clone().requires_grad_() for key, value in inputs.items()}

    def total(values, seed, paths, gradient_paths=1):
        three = [values["albedo"], values["roughness"], values["metallic"]]
        settings = {"paths": paths, "gradient_paths": gradient_paths, "seed": seed}
        return (weight * tracer.radiance(rays, np.eye(4), three, values["light"], **settings)).sum() / len(rays)

    for seed in range(4):
        total(leaves, seed, 4, 128).backward()
    direction = {"albedo": maps[0], "light": light}.get(name, torch.ones_like(inputs[name]))
    found = float((leaves[name].grad * direction).sum()) / 4
    h = 0.02
    with torch.no_grad():
        # the same random numbers on both sides: the noise of the difference is small
        pair = [total({**inputs, name: inputs[name] + sign * h * direction}, 77, 1024) for sign in (1, -1)]
    expected = float(pair[0] - pair[1]) / (2 * h)
    assert found == pytest.approx(expected, rel=0.06)


def test_values_and_gradients_are_the_same_bits_again(scene):
    tracer, rays, maps, light, _, _ = scene

    def once():
        leaf = maps[1].clone().requires_grad_()
        rgb = tracer.radiance(rays, np.eye(4), [maps[0], leaf, maps[2]], light, paths=8, gradient_paths=4, seed=9)
        rgb.square().sum().backward()
        return rgb.detach(), leaf.grad

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)
    assert once()[1].abs().sum() > 0


def test_a_floor_is_diffuse_hides_the_light_below_and_takes_a_new_grey(scene):
    from stspbr.render.mitsuba_scene import Floor
    from stspbr.render.path_gradients import PathGradients
    from stspbr.scene import EnvironmentLight

    asset = demo_asset(32, around=24, along=24)
    light = EnvironmentLight(np.ones((16, 32, 3), np.float32))
    low = float(asset.mesh.positions[:, 1].min())
    tracer = PathGradients(asset, light, max_depth=4, floor=Floor(low, (0.2, 0.4, 0.6)))
    # far from the object, a floor of albedo a under a white sky has radiance a
    down = look_at(np.array([60.0, 10.0, 60.0]), np.array([60.0, low, 60.2]))
    image, alpha = tracer.view(Camera(down, 40.0, 40.0, 8.0, 8.0, 16, 16), spp=256)
    assert alpha.min() == 1.0
    assert image.mean(axis=(0, 1)) == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    side = look_at(np.array([0.0, low + 0.2, 4.0]), np.array([0.0, low + 0.2, 0.0]))
    beside = Camera(side, 60.0, 60.0, 24.0, 24.0, SIZE, SIZE)
    dark, covered = tracer.view(beside, spp=64)
    tracer.take_floor((0.9, 0.9, 0.9))
    bright, _ = tracer.view(beside, spp=64)
    object_rows = slice(SIZE // 2 - 12, SIZE // 2 - 4)  # above the horizon: not the floor itself
    shown = covered[object_rows] > 0.999
    assert shown.any()
    lifted = (bright[object_rows] / np.maximum(dark[object_rows], 1e-6))[shown[..., 0]]
    assert lifted.mean() > 1.1  # the floor lights the object from below
