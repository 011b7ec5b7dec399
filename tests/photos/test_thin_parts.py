"""Parts of masks that are thinner than a hull's cells, and holes that the background shows through."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.photos.consensus_hull import consensus_hull, silhouette
from stspbr.photos.thin_parts import seen_through, thickened, thin_parts
from stspbr.scene import Camera, look_at

pytest.importorskip("cv2")


def lollipop() -> tuple[np.ndarray, np.ndarray]:
    """A disc with a stick, and the stick alone."""
    rows, columns = np.mgrid[:120, :120]
    disc = np.hypot(rows - 80, columns - 60) < 25
    stick = (np.abs(columns - 60) <= 1) & (rows >= 10) & (rows < 80) & ~disc
    return disc | stick, stick


def test_a_stick_is_thin_and_a_disc_is_not():
    mask, stick = lollipop()
    found = thin_parts(mask, 5.0)
    assert (found & stick).sum() > 0.9 * stick.sum() and not (found & ~stick).any()
    assert not thin_parts(mask & ~stick, 5.0).any() and not thin_parts(np.zeros_like(mask), 5.0).any()
    assert not thin_parts(mask, 1.0).any()  # the stick is wider than that


def test_only_thin_parts_grow():
    mask, stick = lollipop()
    grown = thickened(mask, 6.0) & ~mask
    assert np.abs(np.argwhere(grown)[:, 1] - 60).max() <= 1 + 4.5
    assert grown[12:50].any(axis=1).all() and grown[90:].sum() == 0


def test_a_narrow_likeness_is_no_hole():
    likely = np.zeros((60, 60), bool)
    likely[10:30, 10:30] = True
    likely[40:43] = True
    found = seen_through(likely, 6.0)
    assert found[12:28, 12:28].all() and not found[40:43].any()
    assert not seen_through(likely[35:], 6.0).any()


def test_a_hull_keeps_a_stick_that_is_thinner_than_its_cells():
    """A stick of a quarter of a cell on a ball, from eight sides, by exact outlines."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(40_000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    turn, height = rng.uniform(0, 2 * np.pi, 40_000), rng.uniform(0.9, 2.4, 40_000)
    stick = np.stack([0.012 * np.cos(turn), height, 0.012 * np.sin(turn)], axis=1)
    cameras, masks = [], []
    for around in np.linspace(0, 2 * np.pi, 9)[:-1]:
        place = np.array([6 * np.sin(around), 1.5, 6 * np.cos(around)])
        camera = Camera(look_at(place, np.array([0, 0.5, 0])), 300, 300, 120, 120, 240, 240)
        mask = np.zeros((240, 240), bool)
        for points in (ball, stick):
            local = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
            columns, rows = np.floor(120 - 300 * local[:, :2] / local[:, 2:] * [1, -1]).astype(int).T
            mask[rows, columns] = True
        cameras.append(camera)
        masks.append(mask)
    middle = np.array([0.0, 0.7, 0.0])
    bare = consensus_hull(masks, cameras, middle, 2.0, 0.85)
    width = bare.cell * 300 / 6
    hull = consensus_hull([thickened(mask, width) for mask in masks], cameras, middle, 2.0, 0.85)
    tip = hull.points[hull.points[:, 1] > 1.2]
    assert tip[:, 1].max() > 2.2 and np.hypot(tip[:, 0], tip[:, 2]).max() < 2.0 * hull.cell
    assert len(tip) > 2 * (bare.points[:, 1] > 1.2).sum()
    shape = silhouette(hull, cameras[0])
    assert (shape & masks[0]).sum() / masks[0].sum() > 0.97
