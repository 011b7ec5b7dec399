"""Sizes, crops, exposures and the light's frame: what preparation may not change is checked ray by ray."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stspbr.datasets.preparation.prepare import prepare
from stspbr.errors import StspbrError
from stspbr.scene import Camera, Capture, Frame, look_at
from stspbr.scene.object_sphere import project
from stspbr.settings import CaptureFolderSettings, PreparationSettings

RADIUS = 0.5
OUTLINE = 0.13  # what 16 samples a pixel leave open at an outline; half a pixel off would be 0.5


def ball_frame(name, angle, width=48, height=32, focal=60.0, distance=3.0, shift=(0.0, 0.0), value=0.5, lift=0.4):
    """A ball about the origin whose brightness in object space is known: ``shade`` of the place on it."""
    position = distance * np.array([math.sin(angle), lift, math.cos(angle)])
    camera = Camera(
        look_at(position, (0, 0, 0)), focal, focal, width / 2 + shift[0], height / 2 + shift[1], width, height
    )
    image, alpha = ball_image(camera, np.eye(4), value)
    return Frame(name, camera, image, alpha)


def rays(camera, object_to_world):
    """Origin ``[3]`` and unit directions ``[H, W, 3]`` of all pixels in object space."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    local = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], axis=-1)
    matrix = np.linalg.inv(object_to_world) @ camera.camera_to_world
    directions = local @ matrix[:3, :3].T
    return matrix[:3, 3], directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def ball_image(camera, object_to_world, value=0.5):
    """16 samples a pixel of a ball with a smooth pattern in object space, over black; alpha is its coverage."""
    fine = camera.resized(camera.width * 4, camera.height * 4)
    origin, directions = rays(fine, object_to_world)
    along = directions @ origin
    root = along**2 - origin @ origin + RADIUS**2
    hit = root > 0
    point = origin + directions * (-along - np.sqrt(np.maximum(root, 0)))[..., None]
    colour = value * (1.0 + 0.5 * np.sin(4.0 * point)) * hit[..., None]
    pixels = np.concatenate([colour, hit[..., None]], axis=-1)
    pixels = pixels.reshape(camera.height, 4, camera.width, 4, 4).mean(axis=(1, 3)).astype(np.float32)
    return pixels[..., :3], pixels[..., 3:]


def settings(**values):
    return PreparationSettings(**values)


def ring(count=8, **options):
    return [ball_frame(f"{k:02d}.png", 2 * math.pi * k / count, **options) for k in range(count)]


def check_images_fit_their_cameras(capture, tolerance):
    """Each image is what its camera sees of the ball: crops, pads and reductions moved camera and pixels alike."""
    for frame in capture.frames:
        image, alpha = ball_image(frame.camera, frame.object_to_world)
        assert frame.image.shape == (frame.camera.height, frame.camera.width, 3)
        assert np.abs(frame.alpha - alpha).max() < tolerance
        assert np.abs(frame.image - image).max() < tolerance


def test_nothing_to_do_changes_nothing():
    capture = Capture(ring())
    prepared = prepare(capture, settings())
    for before, after in zip(capture.frames, prepared.frames, strict=True):
        assert after.image is before.image and after.camera is before.camera


@pytest.mark.parametrize("scale", [2, 3, 2.5])
def test_any_reduction(scale):
    capture = prepare(Capture(ring(focal=90.0)), settings(image_scale=scale))
    assert {(f.camera.width, f.camera.height) for f in capture.frames} == {(round(48 / scale), round(32 / scale))}
    check_images_fit_their_cameras(capture, OUTLINE)
    energy = [f.image.sum() * 48 * 32 / f.camera.width / f.camera.height for f in capture.frames]
    assert energy == pytest.approx([f.image.sum() for f in ring(focal=90.0)], rel=1e-5)


def test_longest_side():
    assert prepare(Capture(ring()), settings(max_side=20)).frames[0].image.shape == (13, 20, 3)
    assert prepare(Capture(ring()), settings(max_side=400)).frames[0].image.shape == (32, 48, 3)
    assert prepare(Capture(ring()), settings(max_side=30, image_scale=3)).frames[0].image.shape == (11, 16, 3)


def test_upright_and_lying_images_share_one_canvas():
    frames = ring()
    frames[3] = ball_frame("03.png", 2.4, width=32, height=48, shift=(3.0, -5.0))
    capture = prepare(Capture(frames), settings())
    assert {f.image.shape for f in capture.frames} == {(48, 48, 3)}
    check_images_fit_their_cameras(capture, 1e-6)  # copied pixel by pixel
    assert [f.alpha.sum() for f in capture.frames] == pytest.approx([f.alpha.sum() for f in frames])


def test_finer_images_are_reduced_to_a_like_footprint():
    frames = ring()
    frames[2] = ball_frame("02.png", 1.5, width=125, height=81, focal=150.0)
    frames[5] = ball_frame("05.png", 3.9, width=125, height=81, focal=150.0, distance=3.0)
    capture = prepare(Capture(frames), settings())
    sizes = {(f.camera.width, f.camera.height) for f in capture.frames}
    assert len(sizes) == 1 and max(sizes)[0] <= 52
    density = [f.camera.fx for f in capture.frames]
    assert max(density) / min(density) < 1.05
    check_images_fit_their_cameras(capture, OUTLINE)


def test_as_fine_from_afar_counts_as_fine():
    """Twice the pixels at twice the distance show the same footprint: nothing to reduce."""
    frames = ring()
    frames[2] = ball_frame("02.png", 1.5, width=96, height=64, focal=120.0, distance=6.0)
    capture = prepare(Capture(frames), settings())
    assert {f.image.shape for f in capture.frames} == {(64, 96, 3)}
    check_images_fit_their_cameras(capture, 1e-6)


def test_crop_has_one_size_keeps_every_mask_and_is_exact():
    frames = [ball_frame(f"{k}", 0.7 * k, width=96, height=72, shift=(4.0 * k - 12, 9 - 3.0 * k)) for k in range(8)]
    capture = prepare(Capture(frames), settings(crop=True, crop_margin=0.15))
    (shape,) = {f.image.shape for f in capture.frames}
    assert shape[0] % 8 == shape[1] % 8 == 0 and max(shape) < 40
    assert [f.alpha.sum() for f in capture.frames] == pytest.approx([f.alpha.sum() for f in frames])
    check_images_fit_their_cameras(capture, 1e-6)
    # an object at the border: the window stays on the image rather than show what nobody photographed
    edge = ball_frame("edge", 0.3, width=96, height=72, shift=(-36.0, 0.0))
    cropped = prepare(Capture([*frames, edge]), settings(crop=True)).frames[-1]
    assert cropped.camera.cx == edge.camera.cx


def test_crop_needs_masks():
    frames = ring()
    frames[4] = replace(frames[4], alpha=np.ones_like(frames[4].alpha))
    with pytest.raises(StspbrError, match=r"04\.png: its mask covers the whole image: --crop"):
        prepare(Capture(frames), settings(crop=True))
    frames[4] = replace(frames[4], alpha=np.zeros_like(frames[4].alpha))
    with pytest.raises(StspbrError, match=r"04\.png: its mask is empty: --crop"):
        prepare(Capture(frames), settings(crop=True))


def test_padding_beside_a_cut_object_is_told():
    frames = ring()
    frames[3] = ball_frame("03.png", 2.4, width=32, height=48, shift=(-16.0, 0.0))
    said = []
    prepare(Capture(frames), settings(), said.append)
    assert len(said) == 1 and "03.png" in said[0] and "runs out" in said[0]
    said.clear()
    prepare(Capture([*ring(), ball_frame("up", 2.4, width=32, height=48)]), settings(), said.append)
    assert said == []


def test_exposures_and_gains_are_divided_out():
    factors = [1.0, 1.0, 0.25, 4.0, 1.0]
    gains = [(2.0, 1.0, 1.5)] * 4 + [(1.0, 1.0, 3.0)]
    truth = ring(5)
    frames = []
    for frame, factor, gain in zip(truth, factors, gains, strict=True):
        image = frame.image * np.float32(factor) * np.array(gain, np.float32)
        frames.append(replace(frame, image=image, saturation=1.0, exposure=8.0 * factor, white_balance=gain))
    capture = prepare(Capture(frames), settings())
    usual = np.array([2.0, 1.0, 1.5])  # the median gains stay in, as does the median exposure
    for frame, before in zip(capture.frames, truth, strict=True):
        assert frame.image == pytest.approx(before.image * usual, rel=1e-5)
        assert frame.exposure is None and frame.white_balance is None
    # channels clip at 1 over their factor; of the last frame's these are 2, 1 and 1/2
    assert [f.saturation for f in capture.frames] == pytest.approx([1.0, 1.0, 4.0, 0.25, 0.5])
    ignored = prepare(Capture(frames), settings(exposure="ignore"))
    assert all(f.image is g.image and f.exposure is None for f, g in zip(ignored.frames, frames, strict=True))


@pytest.mark.parametrize("key", ["exposure", "white_balance"])
def test_exposures_of_some_frames_only_are_refused(key):
    frames = [replace(f, **{key: 2.0 if key == "exposure" else (1.0, 1.0, 2.0)}) for f in ring()]
    frames[6] = replace(frames[6], **{key: None})
    with pytest.raises(StspbrError, match=rf"06\.png: has no {key}, 7 other frames have: .*--exposure ignore"):
        prepare(Capture(frames), settings())
    prepare(Capture(frames), settings(exposure="ignore"))
    frames[6] = replace(frames[6], **{key: 0.0 if key == "exposure" else (1.0, -1.0, 2.0)})
    with pytest.raises(StspbrError, match=rf"06\.png: its {key} is not positive"):
        prepare(Capture(frames), settings())


def moving(count=6):
    """Frames in which camera and object both move."""
    frames = []
    for k, frame in enumerate(ring(count)):
        pose = look_at((0.1 * k, -0.2, 0.3), (1.0, 0.1 * k, -0.5 * k))
        camera = replace(frame.camera, camera_to_world=pose @ frame.camera.camera_to_world)
        frames.append(replace(frame, camera=camera, object_to_world=pose))
    return frames


@pytest.mark.parametrize("where", ["world", "camera", "object"])
def test_every_ray_in_object_space_stays(where):
    before = Capture(moving())
    after = prepare(before, settings(light_frame=where))
    for a, b in zip(before.frames, after.frames, strict=True):
        old, new = rays(a.camera, a.object_to_world), rays(b.camera, b.object_to_world)
        assert new[0] == pytest.approx(old[0], abs=1e-6) and np.abs(new[1] - old[1]).max() < 1e-6
        assert project(b, np.array([0.1, 0.2, 0.3])) == pytest.approx(project(a, np.array([0.1, 0.2, 0.3])))
    if where == "camera":
        assert all(np.array_equal(f.camera.camera_to_world, np.eye(4)) for f in after.frames)
    if where == "object":
        assert all(np.array_equal(f.object_to_world, np.eye(4)) for f in after.frames)


def test_the_settings_of_a_folder_hold_all_of_them():
    choice = CaptureFolderSettings(kind="nerf", folder="x", max_side=64, crop=True, light_frame="camera")
    capture = prepare(Capture(ring(width=96, height=64)), choice)
    assert capture.frames[0].image.shape[:2] < (64, 64) and np.array_equal(capture.frames[0].camera.position, [0, 0, 0])
