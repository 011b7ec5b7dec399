"""The proxy surface of masks, and exposures found on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.capture_check.frames import ObjectPlace, place_object
from stspbr.capture_check.surface import proxy_surface, reduced_frames, relative_stops
from stspbr.scene import Frame
from stspbr.scene.camera_rig import sphere_cameras

CENTRE, RADIUS = np.array([0.2, -0.1, 0.3]), 0.5


def balls(count=24, size=72):
    """A ball lit from one side: its brightness is a function of the place on it, and nothing else."""
    frames = []
    cameras = sphere_cameras(count, 3.0, 36.0, size, target=CENTRE, elevation_degrees=(-75.0, 75.0))
    for k, camera in enumerate(cameras):
        rows, columns = np.mgrid[:size, :size] + 0.5
        local = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], -1)
        directions = local @ camera.camera_to_world[:3, :3].T
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        origin = camera.position - CENTRE
        along = directions @ origin
        root = along**2 - origin @ origin + RADIUS**2
        alpha = (root > 0)[..., None].astype(np.float32)
        point = origin + directions * (-along - np.sqrt(np.maximum(root, 0)))[..., None]
        grey = (0.5 + 0.45 * point[..., 1:2] / RADIUS).astype(np.float32)
        frames.append(Frame(f"{k}", camera, np.repeat(grey, 3, axis=-1) * alpha, alpha))
    return frames


def test_the_hull_of_a_ball_is_the_ball():
    frames = balls()
    place = place_object(frames)
    assert place.from_masks and place.centre == pytest.approx(CENTRE, abs=0.01)
    surface, fault = proxy_surface(reduced_frames(frames), place)
    assert surface.from_masks and fault == ""
    outward = surface.points - CENTRE
    distance = np.linalg.norm(outward, axis=1)
    assert np.abs(distance / RADIUS - 1).max() < 0.12
    assert (outward / distance[:, None] * surface.normals).sum(axis=1).mean() > 0.97


@pytest.mark.parametrize("masked", [True, False])
def test_exposures_are_found_whatever_the_light(masked):
    wanted = np.random.default_rng(4).uniform(-1, 1, 24)
    wanted -= np.median(wanted)
    frames = [replace(f, image=f.image * np.float32(2.0**s)) for f, s in zip(balls(), wanted, strict=True)]
    rng = np.random.default_rng(5)
    for frame in frames:  # highlights that move with the view
        shiny = rng.random(frame.alpha.shape[:2]) < 0.15
        frame.image[shiny] = 4.0 * frame.alpha[shiny]
    place = place_object(frames)
    if not masked:
        frames = [replace(f, alpha=np.ones_like(f.alpha)) for f in frames]
        place = ObjectPlace(CENTRE, RADIUS, from_masks=False)
    surface, _ = proxy_surface(frames, place)
    found = relative_stops(frames, surface)
    assert np.abs(np.array(found.stops) - wanted).max() < 0.15
    assert found.scatter < 0.2 and found.spread == pytest.approx(np.ptp(wanted), abs=0.2)


def test_frames_that_share_nothing_say_nothing():
    frames = balls(2)
    frames = [frames[0], replace(frames[1], image=frames[1].image * 0)]
    surface, _ = proxy_surface(frames, ObjectPlace(CENTRE, RADIUS, from_masks=False))
    found = relative_stops(frames, surface)
    assert found.stops == [None, None] and found.spread is None


def test_a_surface_that_glitters_scatters():
    frames = balls()
    rng = np.random.default_rng(6)
    frames = [replace(f, image=f.image * np.exp2(rng.normal(0, 1, f.alpha.shape)).astype(np.float32)) for f in frames]
    surface, _ = proxy_surface(frames, place_object(frames))
    assert 0.6 < relative_stops(frames, surface).scatter < 1.1  # few frames see a place, and its own value follows them


def test_nan_is_black_and_the_frame_stays_as_it_is():
    frame = balls(2)[0]
    frame.image[30, 30] = np.nan
    (small,) = reduced_frames([frame])
    assert np.isfinite(small.image).all() and np.isnan(frame.image[30, 30]).all()
