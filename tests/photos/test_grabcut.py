"""One photo cut by colour, and masks without dust."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.photos import grabcut

pytest.importorskip("cv2")


def disc(shape=(90, 120), centre=(45, 60), radius=25.0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


def test_a_disc_is_cut_out_of_its_box():
    rng = np.random.default_rng(0)
    mask = disc()
    image = np.where(mask[..., None], (200, 60, 40), (70, 90, 80)) + rng.normal(0, 12, (*mask.shape, 3))
    image = image.clip(0, 255).astype(np.uint8)
    labels = grabcut.inside_box(mask.shape, (30, 15, 60, 60))
    assert (labels > 0).sum() == 3600 and labels[15, 30] and not labels[14, 30] and not labels[15, 90]
    found = grabcut.cut(image, labels, seed=1)
    assert (found & mask).sum() / (found | mask).sum() > 0.97
    assert np.array_equal(found, grabcut.cut(image, labels, seed=1))
    with_sure = labels.copy()
    with_sure[disc(radius=8)] = grabcut.BACKGROUND  # a hole that is known
    assert not grabcut.cut(image, with_sure)[disc(radius=8)].any()


def test_labels_of_one_side_only():
    image = np.zeros((20, 20, 3), np.uint8)
    assert grabcut.cut(image, np.full((20, 20), grabcut.PROBABLE_OBJECT, np.uint8)).all()
    assert not grabcut.cut(image, np.zeros((20, 20), np.uint8)).any()


def test_cleaning():
    mask = disc()
    dirty = mask.copy()
    dirty[5:8, 5:8] = True  # dust
    dirty[45, 60] = False  # a speckle
    dirty[20, 80:110] = True  # a hair
    ring = mask & ~disc(radius=10)
    assert (grabcut.cleaned(dirty) ^ mask).sum() < 12
    assert (grabcut.cleaned(ring) ^ ring).sum() < 12  # a hole of that size is meant
    two = disc(centre=(45, 30), radius=20) | disc(centre=(45, 90), radius=15)
    assert (grabcut.cleaned(two) ^ two).sum() < 24


def test_growing_and_shrinking():
    mask = disc(radius=20)
    for radius in (-6.0, 4.0):
        assert abs(grabcut.dilated(mask, radius).sum() - np.pi * (20 + radius) ** 2) < 150
    assert not grabcut.dilated(np.zeros((4, 4), bool), 3).any()
