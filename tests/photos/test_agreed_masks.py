"""Masks without a box, against known masks: what the cameras look at, and what all photos agree on."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.photos.agreed_masks import agreed_masks, agreed_upon, disputed
from stspbr.photos.found_object import Plane, _shown_whole, find_object
from stspbr.photos.table_look import table_look
from stspbr.photos.working_photos import PosedPhoto, WorkingPhoto
from stspbr.scene import Camera, look_at

pytest.importorskip("cv2")


def ball_scene(*arguments, **options):
    """That of ``conftest``, which pytest imports under a name of its own."""
    spec = importlib.util.spec_from_file_location("ball_scene_around", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.ball_scene(*arguments, **options)


def posed(ball) -> list[PosedPhoto]:
    return [
        PosedPhoto(f"p{k}", image, np.ones(image.shape[:2], bool), camera, seen)
        for k, (image, camera, seen) in enumerate(zip(ball.images, ball.cameras, ball.seen, strict=True))
    ]


def working(ball, folder) -> list[WorkingPhoto]:
    return [WorkingPhoto.of(photo, folder / f"{photo.name}.npz") for photo in posed(ball)]


def overlap(found: np.ndarray, mask: np.ndarray) -> float:
    return (found & mask).sum() / (found | mask).sum()


def test_the_object_is_what_the_cameras_look_at_above_its_table(ball):
    found = find_object(ball.cameras, ball.points)
    assert np.linalg.norm(found.centre) < 0.2 and 1.0 < found.radius < 2.5
    assert found.plane is not None
    assert found.plane.normal[1] > 0.999 and found.plane.offset == pytest.approx(-1.0, abs=0.02)
    assert not (found.on_object & ~ball.on_ball).any() and not (found.beside & found.on_object).any()
    assert (found.on_object & ball.on_ball).sum() > 0.9 * ball.on_ball.sum()
    assert found.may_be(np.array([[0.0, 0.0, 0.0], [0.0, -1.2, 0.0], [9.0, 0.0, 0.0]])).tolist() == [True, False, False]


def test_close_photos_that_show_no_object_whole_find_it_whole():
    """The sphere that most photos show lies inside the ball; and of the table few points are seen."""
    rng = np.random.default_rng(7)
    on_ball = rng.normal(size=(400, 3))
    on_ball /= np.linalg.norm(on_ball, axis=1, keepdims=True)
    on_ball = on_ball[on_ball[:, 1] > -0.7]
    table = np.stack([rng.uniform(-3, 3, 140), np.full(140, -1.0), rng.uniform(-3, 3, 140)], axis=1)
    points = np.concatenate([on_ball, table])
    cameras = []
    for turn in np.linspace(0, 2 * np.pi, 9)[:-1]:
        direction = np.array([np.cos(0.6) * np.sin(turn), np.sin(0.6), np.cos(0.6) * np.cos(turn)])
        cameras.append(Camera(look_at(2.6 * direction, np.zeros(3)), 220, 220, 100, 75, 200, 150))
    assert _shown_whole(cameras, np.zeros(3)) < 0.9
    found = find_object(cameras, points)
    known = np.arange(len(points)) < len(on_ball)
    assert found.radius >= 1.0 and found.on_object[known].mean() > 0.97 and not found.on_object[~known].any()
    assert found.plane is not None and found.plane.normal[1] > 0.999 and abs(found.plane.offset + 1.0) < 0.02


def test_without_a_table_the_nearest_cluster_is_the_object(ball):
    far = np.array([0.0, 0.5, -4.0]) + 0.3 * np.random.default_rng(0).normal(size=(200, 3))
    points = np.concatenate([ball.points[ball.on_ball], far])
    found = find_object(ball.cameras, points)
    assert found.plane is None
    assert found.on_object[: ball.on_ball.sum()].all() and not found.on_object[ball.on_ball.sum() :].any()


def test_what_cannot_be_found_is_said(ball):
    with pytest.raises(StspbrError, match="all photos look the same way"):
        find_object([ball.cameras[0]] * 3, ball.points)
    turned = [replace(c, camera_to_world=c.camera_to_world @ np.diag([-1.0, 1.0, -1.0, 1.0])) for c in ball.cameras]
    with pytest.raises(StspbrError, match="look away from each other"):
        find_object(turned, ball.points)
    with pytest.raises(StspbrError, match="has 0 sparse points where the cameras look"):
        find_object(ball.cameras, ball.points[~ball.on_ball])


def test_a_photo_differs_from_the_table_where_the_object_is(ball):
    photos = posed(ball)
    brighter = np.clip(photos[0].image * 1.2, 0, 255).astype(np.uint8)
    photos[0] = replace(photos[0], image=brighter)
    plane = Plane(np.array([0.0, 1.0, 0.0]), -1.0)
    look = table_look(photos, plane, np.zeros(3), 1.2)
    place = look.origin + 0.9 * look.reach * look.axes[0] * 0.5
    assert np.isnan(look.without(place[None]).colour).sum() >= np.isnan(look.colour).sum()
    for k, (photo, mask) in enumerate(zip(photos, ball.masks, strict=True)):
        likeness = look.compared(photo, k)
        known = np.isfinite(likeness.difference)
        assert np.nanmedian(likeness.difference[~mask & known]) < 1.0
        assert 3.0 * likeness.proven[mask].mean() < likeness.proven[~mask].mean()


def test_masks_of_all_photos_without_a_box(tmp_path):
    around = ball_scene(12, (160, 120), arc=330.0)
    done: list[int] = []
    agreed = agreed_masks(working(around, tmp_path), around.points, on_photo=lambda: done.append(1))
    assert not agreed.failed and len(done) == 12
    overlaps = [overlap(o.mask, mask) for o, mask in zip(agreed.outlines, around.masks, strict=True)]
    assert np.mean(overlaps) > 0.9, overlaps
    assert min(agreed.confidence) > 0.8


def test_a_mask_that_the_others_contradict_is_unsure_and_partly_unknown(ball, tmp_path):
    masks = [mask.copy() for mask in ball.masks]
    masks[2][:, :110] = False  # the left half is missing
    agreed = agreed_upon(working(ball, tmp_path), masks, ball.points)
    assert agreed.confidence[2] < 0.8 < min(c for k, c in enumerate(agreed.confidence) if k != 2)
    outline = agreed.outlines[2]
    assert outline is None or (outline.unknown is not None and outline.unknown[ball.masks[2] & ~masks[2]].mean() > 0.3)


def test_a_seam_is_no_dispute():
    rows, columns = np.mgrid[:100, :100]
    distance = np.hypot(rows - 50, columns - 50)
    assert not disputed(distance < 31, distance < 30).any()
    assert disputed(distance < 40, distance < 30).any() and disputed(distance < 20, distance < 30).any()
