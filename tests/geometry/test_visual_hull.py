"""The hull and the box of a sphere from masks computed by formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.geometry.visual_hull import estimate_box, visual_hull_sdf
from stspbr.scene import Camera, Frame, look_at

_RADIUS = 0.4
_CENTRE = np.array([0.15, -0.1, 0.05])


def _frame(name: str, camera: Camera, pose: np.ndarray) -> Frame:
    """The exact mask of the sphere: rays that pass its centre closer than its radius."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    rays = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = camera.world_to_camera @ pose @ np.append(_CENTRE, 1)
    along = rays @ centre[:3]
    miss = np.sqrt(np.maximum(np.sum(centre[:3] ** 2) - along**2, 0))
    alpha = (miss < _RADIUS).astype(np.float32)[..., None]
    return Frame(name, camera, np.repeat(alpha, 3, axis=2), alpha, pose)


def _frames(count: int = 24, size: int = 128, turntable: bool = False) -> list[Frame]:
    frames = []
    for k in range(count):
        y = 1 - 2 * (k + 0.5) / count
        angle = k * np.pi * (3 - np.sqrt(5))
        s = np.sqrt(1 - y * y)
        c2w, pose = look_at(2.5 * np.array([s * np.cos(angle), y, s * np.sin(angle)]), (0, 0, 0)), np.eye(4)
        if turntable:  # the same view of a moved object by a moved camera
            pose = look_at((0.3 * k, 1.0, -2.0), (0, 0, 0.1 * k))
            c2w = pose @ c2w
        camera = Camera(c2w, 1.4 * size, 1.3 * size, 0.5 * size, 0.48 * size, size, size)
        frames.append(_frame(f"view_{k}", camera, pose))
    return frames


@pytest.mark.parametrize("turntable", [False, True])
def test_hull_holds_the_sphere_and_little_more(turntable):
    frames = _frames(turntable=turntable)
    points = np.random.default_rng(0).uniform(-1, 1, (20000, 3)).astype(np.float32)
    truth = np.linalg.norm(points - _CENTRE, axis=1) - _RADIUS
    sdf = visual_hull_sdf(points, frames)
    assert sdf.dtype == np.float32
    pixel = 2.5 / (1.3 * 128)
    assert (sdf[truth < -pixel] < 0).all()
    assert (sdf[truth > 0.08] > 0).all()
    near = np.abs(truth) < 0.15
    assert np.abs(sdf[near] - truth[near]).mean() < 0.03


def test_points_that_nobody_sees_are_outside():
    camera = _frames(1)[0]
    behind = camera.camera.camera_to_world[:3, 3] * 2
    sdf = visual_hull_sdf(np.stack([behind, _CENTRE]), [camera])
    assert sdf[0] > 0 > sdf[1]


def test_beside_the_image_is_outside_only_if_the_mask_is_whole():
    frame = _frames(1)[0]
    beside = _CENTRE + 1.5 * frame.camera.camera_to_world[:3, 0]
    assert visual_hull_sdf(np.stack([beside, _CENTRE]), [frame])[0] > 0.3
    other = _frames(8)[5]
    cut = frame.camera.resampled((64, 0, 64, 128), (64, 128))  # the object's left part is not in this image
    cropped = Frame("cut", cut, frame.image[:, 64:], frame.alpha[:, 64:])
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (2000, 3)).astype(np.float32) + _CENTRE.astype(np.float32)
    truth = np.linalg.norm(points - _CENTRE, axis=1) - _RADIUS
    assert (visual_hull_sdf(points, [cropped, other])[truth < -0.03] < 0).all()


@pytest.mark.parametrize("turntable", [False, True])
def test_box_holds_the_sphere_and_little_more(turntable):
    low, high = estimate_box(_frames(turntable=turntable), margin=0.0)
    assert (low <= _CENTRE - _RADIUS).all()
    assert (high >= _CENTRE + _RADIUS).all()
    assert ((high - low) < 2 * _RADIUS * 1.25).all()
    wide_low, wide_high = estimate_box(_frames(turntable=turntable), margin=0.1)
    np.testing.assert_allclose(low - wide_low, 0.1 * (high - low).max())
    np.testing.assert_allclose(wide_high - high, 0.1 * (high - low).max())


def test_bad_masks_name_their_frame():
    frames = _frames(4)
    frames[2].alpha[:] = 0
    with pytest.raises(StspbrError, match="view_2"):
        visual_hull_sdf(np.zeros((1, 3)), frames)
    with pytest.raises(StspbrError, match="at least two"):
        estimate_box(frames[:1])
    with pytest.raises(StspbrError, match="no point"):
        moved = _frames(24)
        for k, frame in enumerate(moved):
            frame.alpha[:] = np.roll(frame.alpha, (-1) ** k * 40, axis=1)  # half see it left, half see it right
        estimate_box(moved)


def test_large_masks_are_reduced(monkeypatch):
    """128 pixels are reduced by 3, which leaves 2 over: the hull moves by less than a reduced pixel."""
    frames = _frames(12)
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (500, 3)).astype(np.float32)
    (low, high), sdf = estimate_box(frames, margin=0.0), visual_hull_sdf(points, frames)
    monkeypatch.setattr("stspbr.geometry.visual_hull._MASK_SIDE", 60)
    (small_low, small_high), small = estimate_box(frames, margin=0.0), visual_hull_sdf(points, frames)
    pixel = 3 * 4.0 / frames[0].camera.fx  # about the width of a reduced one at the object
    assert not np.array_equal(sdf, small)
    np.testing.assert_allclose(small, sdf, atol=pixel)
    np.testing.assert_allclose([small_low, small_high], [low, high], atol=pixel)


def test_what_is_unknown_carves_nothing():
    """A hand hides half of the object in one view: the hull is that of the other views there."""
    frames = _frames(12, 64)
    rows = np.arange(frames[0].camera.height)[:, None, None] < frames[0].camera.height // 2
    known = np.broadcast_to(np.where(rows, 0.0, 1.0), frames[0].alpha.shape).astype(np.float32)
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (4000, 3)).astype(np.float32)
    whole = visual_hull_sdf(points, frames)
    masked = replace(frames[0], alpha=frames[0].alpha * known)
    unaware = visual_hull_sdf(points, [masked, *frames[1:]])
    aware = visual_hull_sdf(points, [replace(masked, known=known), *frames[1:]])
    others = visual_hull_sdf(points, frames[1:])
    assert ((whole < 0) & (unaware > 0)).any()
    assert not ((whole < -0.02) & (aware > 0)).any()
    assert (aware >= others - 1e-6).all() or (np.sign(aware) >= np.sign(others) - 1e-6).all()


def test_what_no_mask_shows_is_not_the_object():
    frames = _frames(6, 64)
    # in every view the sphere and, beside it, a part of the picture of which nothing is known
    open_ = [replace(frame, known=np.ones_like(frame.alpha)) for frame in frames]
    for frame in open_:
        frame.known[:, :12] = 0.0
        frame.alpha[:, :12] = 0.0
    points = np.random.default_rng(0).uniform(-1, 1, (20000, 3)).astype(np.float32)
    sdf = visual_hull_sdf(points, open_)
    shown = np.zeros(len(points), bool)
    for frame in open_:
        local = (points - frame.camera.camera_to_world[:3, 3]) @ frame.camera.camera_to_world[:3, :3]
        column = frame.camera.cx - frame.camera.fx * local[:, 0] / local[:, 2]
        row = frame.camera.cy + frame.camera.fy * local[:, 1] / local[:, 2]
        inside = (column > 0) & (column < 64) & (row > 0) & (row < 64)
        i, j = (np.clip(part, 0, 63).astype(int) for part in (row, column))
        shown |= inside & (frame.alpha[i, j, 0] > 0.5)
    assert not ((sdf < -0.02) & ~shown).any()
    truth = np.linalg.norm(points - _CENTRE, axis=1) - _RADIUS
    assert (sdf[truth < -0.08] < 0).all()
