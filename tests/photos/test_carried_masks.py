"""Masks carried from one box to all views through known points, against known masks."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.photos.carried_masks import carry_masks, object_points
from stspbr.photos.working_photos import PosedPhoto, WorkingPhoto

pytest.importorskip("cv2")


def posed(ball) -> list[PosedPhoto]:
    return [
        PosedPhoto(f"p{k}", image, np.ones(image.shape[:2], bool), camera, seen)
        for k, (image, camera, seen) in enumerate(zip(ball.images, ball.cameras, ball.seen, strict=True))
    ]


def working(photos: list[PosedPhoto], folder) -> list[WorkingPhoto]:
    return [WorkingPhoto.of(photo, folder / f"{photo.name}.npz") for photo in photos]


def coverages(outlines, ball) -> list[np.ndarray]:
    return [
        outline and outline.coverage(np.ones(mask.shape, bool))
        for outline, mask in zip(outlines, ball.masks, strict=True)
    ]


def box_about(mask: np.ndarray, margin: int = 5) -> tuple[float, float, float, float]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (columns[0] - margin, rows[0] - margin, np.ptp(columns) + 2 * margin, np.ptp(rows) + 2 * margin)


def overlap(found: np.ndarray, mask: np.ndarray) -> float:
    found = found[..., 0] > 0.5
    return (found & mask).sum() / (found | mask).sum()


def test_a_box_in_one_photo_masks_all(ball, tmp_path):
    done, photos = [], working(posed(ball), tmp_path)
    outlines, failed = carry_masks(photos, ball.points, 2, box_about(ball.masks[2]), on_photo=lambda: done.append(1))
    masks = coverages(outlines, ball)
    assert not failed and len(done) == len(masks) == 7
    overlaps = [overlap(found, mask) for found, mask in zip(masks, ball.masks, strict=True)]
    assert min(overlaps) > 0.95, overlaps
    assert all(m.dtype == np.float32 and 0 <= m.min() and m.max() <= 1 for m in masks)


@pytest.mark.slow
def test_a_photo_of_something_else_is_left_out(ball, tmp_path):
    photos = posed(ball)
    other = np.full_like(photos[5].image, 128)
    photos[5] = PosedPhoto("p5", other, photos[5].valid, photos[5].camera, np.zeros(0, int))
    outlines, failed = carry_masks(working(photos, tmp_path), ball.points, 0, box_about(ball.masks[0]))
    masks = coverages(outlines, ball)
    assert list(failed) == ["p5"] and masks[5] is None and "mask" in failed["p5"]
    pairs = [pair for k, pair in enumerate(zip(masks, ball.masks, strict=True)) if k != 5]
    assert min(overlap(found, mask) for found, mask in pairs) > 0.95


def test_votes_tell_the_objects_points(ball):
    found = object_points(posed(ball), ball.masks, ball.points)
    seen = np.unique(np.concatenate(ball.seen))
    on = ball.on_ball[seen]
    assert found[seen][on].mean() > 0.97 and found[seen][~on].mean() < 0.1
    assert not np.delete(found, seen).any()


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((900, 10, 20, 20), "p0: the box is outside of the photo"),
        ((0, 0, 200, 150), "p0: the box is the whole photo"),
        ((1, 1, 9, 9), "the object in the box has 0 sparse points, too few"),
    ],
)
def test_a_box_that_is_no_use(ball, tmp_path, box, says):
    with pytest.raises(StspbrError, match=says):
        carry_masks(working(posed(ball), tmp_path), ball.points, 0, box)
