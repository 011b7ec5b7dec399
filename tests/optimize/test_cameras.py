"""Corrected cameras: exact motions, gradients in double precision against differences, gauge, crops, recovery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.optimize.cameras import Cameras
from stspbr.optimize.poses import Poses, common_motions
from stspbr.optimize.views import ViewSet
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.reference.interpolate import interpolate
from stspbr.render.reference.rasterize import rasterize
from stspbr.scene import Camera, Frame, look_at
from stspbr.settings.camera import PoseSettings

CPU = torch.device("cpu")
SIZE = 24


def frames(count: int = 5, size: int = SIZE, still: bool = True) -> list[Frame]:
    out = []
    for k in range(count):
        angle = 2 * np.pi * k / count
        pose = look_at((3 * np.sin(angle), 0.5 + 0.2 * k, 3 * np.cos(angle)), (0.1, 0, 0))
        camera = Camera(pose, 1.1 * size, 1.2 * size, 0.52 * size, 0.47 * size, size, size, near=0.5, far=20.0)
        turn = np.eye(4) if still else look_at((0.2 * k, 0.1, 1), (0, 0, 0))
        turn[:3, 3] *= 0.1
        alpha = np.ones((size, size, 1), np.float32)
        out.append(Frame(f"f{k}", camera, np.zeros((size, size, 3), np.float32), alpha, object_to_world=turn))
    return out


def moved(count: int = 5, still: bool = True, scale: float = 0.02) -> Cameras:
    cameras = Cameras(frames(count, still=still), PoseSettings(), 0.0)
    generator = torch.Generator().manual_seed(0)
    for own in cameras.parameters():
        own.data.normal_(0.0, scale, generator=generator)
    return cameras


def batch(given: list[Frame]) -> ViewBatch:
    return ViewBatch.of([frame.camera for frame in given], [frame.object_to_world for frame in given], CPU)


def doubled(views: ViewBatch) -> ViewBatch:
    names = ("clip_from_object", "eye", "object_rotation", "projection", "camera_from_object")
    return replace(views, **{name: getattr(views, name).double() for name in names})


@pytest.mark.parametrize("still", [True, False], ids=["at rest", "moving object"])
def test_corrected_views_are_those_of_the_corrected_cameras(still):
    cameras, given = moved(still=still), frames(still=still)
    seen = cameras.seen(batch(given), range(5), 1.0)
    corrected = [replace(f, camera=cameras.camera(k, f.camera)) for k, f in enumerate(given)]
    wanted = batch(corrected)
    for name in ("clip_from_object", "eye", "projection", "camera_from_object"):
        torch.testing.assert_close(getattr(seen, name), getattr(wanted, name), atol=2e-5, rtol=1e-5)
    assert not seen.eye.requires_grad and seen.clip_from_object.requires_grad


def test_one_camera_and_a_moving_object_correct_the_object_and_turn_the_light():
    given = frames(still=False)
    given = [replace(frame, camera=given[0].camera) for frame in given]
    cameras = Cameras(given, PoseSettings(), 0.0)
    assert cameras.of_objects and not moved().of_objects
    with torch.no_grad():
        for own in cameras.parameters():
            own.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(1))
    seen = cameras.seen(batch(given), range(5), 1.0)
    corrected = [
        replace(
            f,
            camera=cameras.camera(k, f.camera),
            object_to_world=cameras.object_motion(k, f.camera) @ f.object_to_world,
        )
        for k, f in enumerate(given)
    ]
    wanted = batch(corrected)
    for name in ("clip_from_object", "eye", "object_rotation", "camera_from_object"):
        torch.testing.assert_close(getattr(seen, name), getattr(wanted, name), atol=2e-5, rtol=1e-5)
    assert np.array_equal(corrected[3].camera.camera_to_world, given[3].camera.camera_to_world)
    assert (seen.object_rotation - batch(given).object_rotation).abs().max() > 1e-3
    assert not seen.object_rotation.requires_grad


def test_nothing_is_corrected_before_the_start():
    cameras, views = moved(), batch(frames())
    cameras.start = 0.5
    assert cameras.seen(views, range(5), 0.4) is views


def test_crops_and_reduced_views_are_corrected_like_whole_ones():
    cameras, given = moved(), frames(size=64)
    views = ViewSet(given, 1, CPU, crop=16)
    whole = [replace(f, camera=cameras.camera(k, f.camera)) for k, f in enumerate(given)]
    crop, _ = views.crops([3], [(20, 10)])
    seen = cameras.seen(crop, [3], 1.0)
    wanted = batch([replace(whole[3], camera=whole[3].camera.resampled((20, 10, 16, 16), (16, 16)))])
    torch.testing.assert_close(seen.clip_from_object, wanted.clip_from_object, atol=1e-4, rtol=1e-4)


def test_a_motion_is_a_rotation_about_the_pivot_and_a_shift_in_units():
    poses = Poses(torch.tensor([[0.0, 0.0, -2.0]]).repeat(3, 1), 3.0)
    with torch.no_grad():
        poses.twist[1, 1], poses.twist[2, 5] = 0.05, 0.01
    found = poses.motion(torch.tensor([0, 1, 2])).detach()
    assert torch.equal(found[0], torch.eye(4))
    c, s = np.cos(0.05), np.sin(0.05)
    np.testing.assert_allclose(found[1, :3, :3], [[c, 0, s], [0, 1, 0], [-s, 0, c]], atol=1e-6)
    np.testing.assert_allclose(found[1] @ torch.tensor([0.0, 0.0, -2.0, 1.0]), [0, 0, -2, 1], atol=1e-6)
    np.testing.assert_allclose(found[2, :, 3], [0, 0, 0.03, 1], atol=1e-6)
    torch.testing.assert_close(found[1] @ poses.inverse(torch.tensor([1]))[0], torch.eye(4), atol=1e-6, rtol=0)


def relief() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A bumpy sheet that fills every view of a camera near +Z, with a smooth colour at each vertex."""
    side = np.linspace(-3, 3, 13)
    x, y = (grid.ravel() for grid in np.meshgrid(side, side))
    points = torch.tensor(np.stack([x, y, 0.15 * np.sin(2 * x) * np.cos(1.5 * y)], axis=1))
    colours = torch.tensor(np.stack([np.sin(2 * x + y), np.cos(x - 2 * y), 0.3 * x], axis=1))
    corner = np.arange(12)[:, None] * 13 + np.arange(12)
    quads = np.stack([corner, corner + 1, corner + 14, corner + 13], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return points, torch.tensor(faces, dtype=torch.int32), colours


def test_gradients_of_an_image_are_those_of_differences():
    """Through the rasteriser's reference in double precision, with respect to all six numbers and the lens."""
    points, faces, colours = relief()
    camera = Camera(look_at((0.3, 0.2, 3), (0, 0, 0)), 30.0, 32.0, 11.0, 13.0, SIZE, SIZE, near=0.5, far=20.0)
    given = [replace(frames(1)[0], camera=camera)]
    cameras = Cameras(given, PoseSettings(), 0.0).double()
    views, homogeneous = doubled(batch(given)), torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    weights = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5

    def error() -> torch.Tensor:
        seen = cameras.seen(views, [0], 1.0)
        clip = homogeneous @ seen.clip_from_object.transpose(1, 2)
        rast, _ = rasterize(clip, faces, (SIZE, SIZE))
        assert (rast[..., 3] > 0).all()
        return (interpolate(colours[None], rast, faces)[0][0] * weights).sum()

    for own in (cameras.poses.twist, cameras.lens):
        (gradient,) = torch.autograd.grad(error(), own)
        numeric = torch.zeros_like(own)
        for k in range(own.numel()):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    own.view(-1)[k] += step
                    values.append(float(error()))
                    own.view(-1)[k] -= step
            numeric.view(-1)[k] = (values[0] - values[1]) / 2e-5
        assert numeric.abs().min() > 1e-4
        torch.testing.assert_close(gradient, numeric, rtol=1e-4, atol=1e-5)


def test_what_moves_all_cameras_as_one_is_taken_out_and_nothing_else():
    given = frames()
    cameras = moved(scale=0.01)
    before = cameras.poses.twist.detach().clone()
    cameras.constrain()
    after = cameras.poses.twist.detach()
    assert (after - before).abs().max() > 1e-3
    assert (cameras.common.T @ after.reshape(-1, 1)).abs().max() < 1e-7
    common = torch.tensor([0.02, -0.01, 0.03])  # all cameras turn about the origin, as if the object had turned
    with torch.no_grad():
        for k, frame in enumerate(given):
            turned = torch.as_tensor(frame.camera.camera_to_world[:3, :3].T, dtype=torch.float32)
            cameras.poses.twist[k, :3] = turned @ common
            cameras.poses.twist[k, 3:] = 0.0  # the pivot is the origin, which stays
    cameras.constrain()
    assert cameras.poses.twist.abs().max() < 1e-6
    with torch.no_grad():
        for k, frame in enumerate(given):  # all cameras move away, in proportion
            away = frame.camera.camera_to_world[:3, :3].T @ frame.camera.position
            cameras.poses.twist[k, 3:] = 0.01 * torch.as_tensor(away, dtype=torch.float32)
    cameras.constrain()
    assert cameras.poses.twist.abs().max() < 1e-6
    single = common_motions(torch.eye(4).double()[None], torch.zeros(1, 3).double(), 1.0)
    assert single.shape == (6, 6)


def test_poses_of_objects_are_the_same_parameters():
    """object-to-world · exp(ξ): any frame of reference can have them."""
    poses = Poses(torch.zeros(1, 3), 1.0)
    with torch.no_grad():
        poses.twist[0, 3] = 0.05
    object_to_world = torch.as_tensor(look_at((0, 2, 0), (0, 0, 0)), dtype=torch.float32)
    found = object_to_world @ poses.motion(torch.tensor([0]))[0]
    torch.testing.assert_close(found[:3, 3] - object_to_world[:3, 3], 0.05 * object_to_world[:3, 0])
