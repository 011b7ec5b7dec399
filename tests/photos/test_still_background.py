"""A turntable is told from a walk around the object, and what turns is told from what stands still."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photo_table import printed_paper
from stspbr.photos.still_background import still_background
from stspbr.scene import Camera, look_at

pytest.importorskip("cv2")


def ball_module():
    spec = importlib.util.spec_from_file_location("ball_turned", Path(__file__).parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def turned(count: int, size: tuple[int, int]):
    """Photos of a ball and a printed disc that turn before a printed wall, the cameras as the ball sees them, masks."""
    balls = ball_module()
    width, height = size
    paper, wall = printed_paper(512, seed=5), printed_paper(400, seed=11)
    rows, columns = np.mgrid[:height, :width] * 400 // max(size)
    behind = np.rint(255 * wall[rows % 400, columns] ** 0.45).astype(np.uint8)
    images, cameras, masks = [], [], []
    for k in range(count):
        turn, lift = 2 * np.pi * k / count, np.radians(32.0)
        direction = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
        camera = Camera(look_at(4.8 * direction, np.zeros(3)), 1.1 * width, 1.1 * width, width / 2, height / 2, *size)
        image, mask = balls._ray_cast(camera, paper)
        disc = on_disc(camera, 1.5)
        gain = 1.0 + 0.06 * np.sin(3.0 * k)  # exposure drifts
        seen = np.where((mask | disc)[..., None], image, behind)
        images.append(np.clip(np.rint(seen * gain), 0, 255).astype(np.uint8))
        cameras.append(camera)
        masks.append(mask)
    return images, cameras, masks


def on_disc(camera: Camera, radius: float) -> np.ndarray:
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    local = np.stack([(x - camera.cx) / camera.fx, (camera.cy - y) / camera.fy, -np.ones_like(x)], axis=-1)
    d = local @ camera.camera_to_world[:3, :3].T
    down = (-1.0 - camera.position[1]) / d[..., 1]
    place = camera.position + down[..., None] * d
    return (down > 0) & (np.hypot(place[..., 0], place[..., 2]) < radius)


def test_what_turns_is_told_from_what_stands_still():
    images, cameras, masks = turned(12, (320, 240))
    found = still_background(images)
    assert found is not None and found.share > 0.3
    for moving, camera, mask in zip(found.moving, cameras, masks, strict=True):
        turns = mask | on_disc(camera, 1.5)
        assert moving[mask].mean() > 0.995  # a feature at the object's outline is inside, too
        assert 0.7 < moving[turns].mean()  # of the disc, what has a pattern
        assert moving[~turns].mean() < 0.1


def test_a_walk_around_the_object_has_no_still_background(ball):
    assert still_background(ball.images) is None
    assert still_background(ball.images[:3]) is None  # too few


def test_a_plain_background_is_none():
    images, cameras, masks = turned(8, (160, 120))
    plain = [np.where((m | on_disc(c, 1.5))[..., None], i, 200).astype(np.uint8)
             for i, c, m in zip(images, cameras, masks, strict=True)]  # fmt: skip
    assert still_background(plain) is None
    assert still_background([*images[:6], images[0][:100]]) is None  # of another size


@pytest.mark.slow
def test_a_turntable_is_posed_by_the_object(tmp_path):
    """From photos alone: cameras as the object sees them, masks without the disc, the light on the camera."""
    pytest.importorskip("pycolmap")
    from stspbr.datasets.transforms import read_transforms
    from stspbr.settings import CapturePhotosSettings
    from stspbr.stages.capture import run_capture
    from stspbr.stages.session import Session

    images, cameras, masks = turned(20, (480, 360))
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"p{k:02d}.png")
    session = Session.open(tmp_path / "run", device="cpu", quiet=True)
    artifact = run_capture(session, CapturePhotosSettings(folder=str(folder)))
    facts = json.loads((artifact.path / "run.json").read_text())["photos"]
    assert facts["turntable"] and facts["registered"] >= 18 and any("turntable" in note for note in facts["notes"])
    capture = read_transforms(artifact.path)
    assert all(np.array_equal(frame.camera.camera_to_world, np.eye(4)) for frame in capture.frames)
    at = [int(Path(frame.name).stem[1:]) for frame in capture.frames]
    seen_from = [frame.object_to_world[:3, :3].T for frame in capture.frames]
    first = cameras[at[0]].camera_to_world[:3, :3] @ seen_from[0].T
    for k, rotation in zip(at, seen_from, strict=True):
        cosine = (np.trace((first @ rotation).T @ cameras[k].camera_to_world[:3, :3]) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 1.5
    overlaps = []
    for k, frame in zip(at, capture.frames, strict=True):
        found = np.asarray(frame.alpha)[..., 0] > 0.5
        overlaps.append((found & masks[k]).sum() / (found | masks[k]).sum())
    assert np.mean(overlaps) > 0.93, overlaps
