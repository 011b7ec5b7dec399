"""What is drawn: channels, lights that turn, a photo from its own camera, two things side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.colour import srgb_to_linear
from stspbr.metrics.image import display
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.light import EnvironmentCube, PrefilteredLight
from stspbr.scene import Camera, EnvironmentLight, Frame, look_at
from stspbr.scene.light import turned_light
from stspbr.view.drawing import (
    BACKGROUND,
    Lamp,
    Look,
    background,
    difference,
    divided,
    draw,
    labelled,
    photo_camera,
    photo_picture,
    ramp,
)
from stspbr.view.placement import Placement, quaternion_of, rotation_of
from stspbr.view.subject import Subject

CPU = torch.device("cpu")


def filtered(light: EnvironmentLight) -> PrefilteredLight:
    """Coarse, but quick."""
    return EnvironmentCube.from_latlong(light, 32).prefilter().detach()


def lamp(radiance: np.ndarray) -> Lamp:
    light = EnvironmentLight(radiance.astype(np.float32))
    return Lamp(light, filtered(light))


@pytest.fixture(scope="module")
def sunny() -> Lamp:
    """A dim light with one bright patch."""
    radiance = np.full((64, 128, 3), 0.2)
    radiance[20:28, 70:80] = 8.0
    return lamp(radiance)


@pytest.fixture(scope="module")
def subject() -> Subject:
    asset = demo_asset(64, around=24, along=20)
    return Subject.of(AssetRenderer(asset, get_backend("auto", CPU), CPU), None, occluded=True)


def camera_at(eye, size: int = 64, height: int | None = None) -> Camera:
    height = height or size
    focal = 1.2 * height
    return Camera(look_at(np.array(eye, float), np.zeros(3)), focal, focal, size / 2, height / 2, size, height)


def test_channels_show_the_material(subject, sunny):
    camera = camera_at((0, 1, 4))
    assert subject.channels == ("shaded", "albedo", "roughness", "metallic", "normal", "occlusion")
    pictures = {name: draw(subject, sunny, camera, np.eye(4), Look(name)) for name in subject.channels}
    covered = np.isfinite(pictures["albedo"][1])
    assert 0.05 < covered.mean() < 0.9
    inside = covered & np.logical_and.reduce([np.roll(covered, by, axis) for by in (1, -1) for axis in (0, 1)])
    for name, (image, depth) in pictures.items():
        assert image.shape == (64, 64, 3) and np.array_equal(np.isfinite(depth), covered)
        assert np.allclose(image[0, 0], BACKGROUND)
        grey = np.ptp(image[inside], axis=1)
        assert (grey < 1e-6).all() if name in ("roughness", "metallic", "occlusion") else grey.max() > 0.05
    centre, radius = subject.sphere()
    near = pictures["albedo"][1][covered]
    distance = np.linalg.norm(camera.position - centre)
    assert near.min() > distance - radius and near.max() < distance + radius
    renderer = AssetRenderer(demo_asset(64, around=24, along=20), get_backend("auto", CPU), CPU)
    views = ViewBatch.of([camera], [np.eye(4)], CPU)
    same = renderer.render(views, sunny.filtered)
    assert np.allclose(pictures["shaded"][0][inside], display(same["rgb"][0].numpy())[inside], atol=1e-5)
    assert np.allclose(pictures["roughness"][0][inside], same["roughness"][0].numpy()[inside], atol=1e-5)


def test_turning_the_light_is_turning_its_map(subject, sunny):
    camera = camera_at((0, 1, 4))
    still = draw(subject, sunny, camera, np.eye(4), Look())[0]
    turned = draw(subject, sunny, camera, np.eye(4), Look(turn=90.0))[0]
    a = np.radians(90.0)
    rotation = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    light = turned_light(sunny.environment, rotation)
    again = draw(subject, Lamp(light, filtered(light)), camera, np.eye(4), Look())[0]
    assert np.abs(turned - still).max() > 0.1
    assert np.abs(turned - again).mean() < 0.002
    sky = background(sunny, camera, Look(turn=90.0, sky=True))
    assert np.abs(sky - background(Lamp(light, sunny.filtered), camera, Look(sky=True))).mean() < 0.01


def test_exposure_is_in_stops(subject, sunny):
    one = draw(subject, sunny, camera_at((0, 1, 4)), np.eye(4), Look(exposure=-3.0))[0]
    two = draw(subject, sunny, camera_at((0, 1, 4)), np.eye(4), Look(exposure=-2.0))[0]
    seen = np.isfinite(draw(subject, sunny, camera_at((0, 1, 4)), np.eye(4), Look("normal"))[1])
    bright = seen & (two.max(axis=-1) < 0.95) & (one.min(axis=-1) > 0.05)
    ratio = srgb_to_linear(two)[bright] / srgb_to_linear(one)[bright]
    assert bright.sum() > 50 and np.median(ratio) == pytest.approx(2.0, rel=0.02)


def test_a_photo_lies_on_the_render_of_its_camera(subject, sunny):
    """The photo is a render; in a wider picture both stand at the same place."""
    camera = replace(camera_at((1, 1, 3.5), 60, 48), cx=33.0, cy=20.0)
    renderer = AssetRenderer(demo_asset(64, around=24, along=20), get_backend("auto", CPU), CPU)
    out = renderer.render(ViewBatch.of([camera], [np.eye(4)], CPU), sunny.filtered)
    frame = Frame("a.exr", camera, out["rgb"][0].numpy(), out["alpha"][0].numpy())
    for size in ((60, 48), (240, 96), (96, 192)):
        wide = photo_camera(frame, *size)
        assert (wide.width, wide.height) == size
        photo, render = photo_picture(frame, wide), draw(subject, sunny, wide, np.eye(4), Look())[0]
        object_there = np.isfinite(draw(subject, sunny, wide, np.eye(4), Look("normal"))[1])
        assert np.abs(photo - render)[object_there].mean() < 0.05
        assert np.abs(np.roll(photo, 6, axis=1) - render)[object_there].mean() > 0.06
    assert np.abs(photo_picture(frame, photo_camera(frame, 60, 48)) - draw(
        subject, sunny, camera, np.eye(4), Look())[0]).max() < 0.02  # fmt: skip


def test_pieces():
    image = np.full((160, 200, 3), 0.5, np.float32)
    line = divided(image, 100, ("left", "right"))
    assert (line[:40, 99:101] > 0.9).all() and np.allclose(line[:40, :98], 0.5, atol=0.01)
    assert line[130:, 30:98].min() < 0.2 and line[130:, 102:170].min() < 0.2  # both are named
    small = divided(image[:80], 100, ("left", "right"))
    assert np.allclose(small[:, :98], 0.5, atol=0.01) and (small[:, 99:101] > 0.9).all()
    assert np.allclose(divided(image, 0, ("a", "b"))[:40], 0.5, atol=0.01)
    names = [labelled(image[:, :60], text, 8, "left") for text in ("images/train_0012.exr", "images/train_0013.exr")]
    for name in names:  # too long for it: its end is shown, and nothing of the text touches the border
        assert name[130:].min() < 0.2 and np.allclose(name[:, -1], name[0, 0], atol=0.15)
    assert np.abs(names[0] - names[1]).max() > 0.3
    heat = difference(image, image + np.float32([0.3]))
    assert (heat[0, 0] > 0.9).all() and (difference(image, image) < 0.1).all()
    low, high = ramp(np.array([0.0, 1.0]))
    assert low[0] > low[2] and high[2] > high[0]


def test_the_page_and_the_world():
    rng = np.random.default_rng(3)
    placement = Placement(np.array([1.0, 2.0, 3.0]), 5.0)
    pose = look_at(np.array([11.0, -4.0, 9.0]), np.array([0.0, 3.0, 3.0]))
    frame = Frame("a", Camera(pose, 50, 50, 20, 15, 40, 30), np.zeros((30, 40, 3)), np.zeros((30, 40, 1)))
    wxyz, position = placement.on_page(frame)
    back = placement.camera(wxyz, position, 2 * np.arctan(15 / 50), 40, 30)
    assert np.allclose(back.camera_to_world, pose) and (back.fx, back.cx, back.cy) == pytest.approx((50, 20, 15))
    assert back.near < np.linalg.norm(pose[:3, 3] - placement.centre) < back.far
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    assert np.allclose(rotation_of(quaternion_of(turn)), turn)
    # a camera that stands still before a turning object is a camera that goes around it
    turned = np.eye(4)
    turned[:3, :3] = turn
    moved = replace(frame, object_to_world=turned)
    assert np.allclose(placement.on_page(moved)[1] * 5.0 + placement.centre, turn.T @ pose[:3, 3])


def test_cameras_tell_where_the_object_is():
    frames = []
    for eye in ([4, 1, 0], [0, 1, 4], [-4, 2, 1], [0, 3, -4]):
        pose = look_at(np.array(eye, float) + [10, 0, 0], np.array([10.0, 0, 0]))
        camera = Camera(pose, 50, 50, 20, 20, 40, 40)
        frames.append(Frame("a", camera, np.zeros((40, 40, 3)), np.zeros((40, 40, 1))))
    placement = Placement.of_cameras(frames)
    assert np.allclose(placement.centre, [10, 0, 0], atol=1e-6) and 0.5 < placement.radius < 4
