"""Features of copies: where they are found, and that tilted views find what plain ones cannot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stspbr.photos.instance_features import even_contrast, instance_features, match, noise_of, together, without_noise
from stspbr.photos.instances import find_copies

pytest.importorskip("pycolmap")
cv2 = pytest.importorskip("cv2")

SIDE = 240


def texture() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full((SIDE, SIDE), 0.5, np.float32)
    for _ in range(220):
        centre, axes = rng.uniform(10, SIDE - 10, 2), rng.uniform(3, 16, 2)
        cv2.ellipse(image, tuple(int(v) for v in centre), tuple(int(v) for v in axes), rng.uniform(0, 180), 0, 360,
                    float(rng.uniform(0.1, 0.9)), -1)  # fmt: skip
    return ndimage.gaussian_filter(image, 0.8)


def scene(to_second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texture at (20, 20), and beside it under the affine map ``[2, 3]`` (pixels at whole numbers)."""
    photo = np.full((380, 760), 0.4, np.float32)
    photo[20 : 20 + SIDE, 20 : 20 + SIDE] = texture()
    labels = np.zeros(photo.shape, np.int32)
    labels[20 : 20 + SIDE, 20 : 20 + SIDE] = 1
    warp = {"flags": cv2.INTER_AREA | cv2.INTER_LINEAR}
    other = cv2.warpAffine(ndimage.gaussian_filter(texture(), 0.5), to_second, (760, 380), **warp)
    inside = cv2.warpAffine(np.ones((SIDE, SIDE), np.uint8), to_second, (760, 380), flags=cv2.INTER_NEAREST) > 0
    photo[inside], labels[inside] = other[inside], 2
    return photo, labels


def misses(first, second, pairs, to_second) -> np.ndarray:
    """Pixels by which matches miss the map."""
    start = first.points[pairs[:, 0]] - 0.5 - 20
    there = start @ to_second[:, :2].T + to_second[:, 2] + 0.5
    return np.linalg.norm(there - second.points[pairs[:, 1]], axis=1)


def test_a_turned_copy_matches_without_any_search():
    turn = cv2.getRotationMatrix2D((0, 0), 70, 0.9)
    turn[:, 2] = (400, 310)
    photo, labels = scene(turn)
    labels, copies = find_copies(labels)
    first, second = (instance_features(photo, labels, copy) for copy in copies)
    pairs = match(first, second).pairs
    wrong = misses(first, second, pairs, turn) > 2.0
    assert len(pairs) > 60 and wrong.mean() < 0.1
    inner = ndimage.binary_erosion(labels == 1, iterations=3)
    assert inner[first.points[:, 1].astype(int), first.points[:, 0].astype(int)].all()  # nothing at the rim


def test_tilted_views_match_what_is_seen_at_a_slant():
    slant = np.array([[0.36, 0.0, 400.0], [0.0, 1.0, 30.0]])
    photo, labels = scene(slant)
    labels, copies = find_copies(labels)
    plain = [instance_features(photo, labels, copy) for copy in copies]
    tilted = [together(own, instance_features(photo, labels, copy, "affine"))
              for own, copy in zip(plain, copies, strict=True)]  # fmt: skip
    few, many = match(*plain).pairs, match(*tilted).pairs
    right = int((misses(*tilted, many, slant) < 3.0).sum())
    assert right > 40 and right > 2 * (misses(*plain, few, slant) < 3.0).sum()
    assert right > 0.7 * len(many)
    assert np.array_equal(tilted[0].points[: len(plain[0].points)], plain[0].points)
    assert len(np.unique(many, axis=0)) == len(many)  # one match per pair of places


def test_highlights_have_no_features():
    turn = np.array([[1.0, 0.0, 400.0], [0.0, 1.0, 30.0]])
    photo, labels = scene(turn)
    cv2.circle(photo, (170, 170), 40, 1.0, -1)
    labels, copies = find_copies(labels)
    found = instance_features(photo, labels, copies[0])
    assert len(found.points) and np.linalg.norm(found.points - 170.5, axis=1).min() > 40


def test_contrast_is_even_under_a_gradient_of_light():
    picture = texture() * np.linspace(0.2, 1.0, SIDE, dtype=np.float32)
    out = even_contrast(picture, np.ones((SIDE, SIDE), bool), 20.0)
    dark, bright = out[20:-20, 20:120], out[20:-20, -120:-20]
    assert abs(dark.mean() - bright.mean()) < 0.03 and dark.std() > 0.8 * bright.std()


def test_noise_is_measured_and_averaged_out():
    photo, labels = scene(np.array([[1.0, 0.0, 400.0], [0.0, 1.0, 40.0]]))
    assert without_noise(photo, labels) is photo  # edges and print are no noise
    rng = np.random.default_rng(1)
    noisy = (photo + 0.04 * rng.normal(size=photo.shape)).astype(np.float32)
    assert noise_of(noisy, labels) == pytest.approx(0.04, rel=0.25)
    clean = without_noise(noisy, labels)
    inside = labels > 0
    assert np.abs(clean - photo)[inside].mean() < 0.6 * np.abs(noisy - photo)[inside].mean()
    assert noise_of(clean, labels) < 0.012
