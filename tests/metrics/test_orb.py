"""Stanford-ORB's figures against what they are by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.colour import linear_to_srgb
from stspbr.metrics import orb
from stspbr.scene.mesh import Mesh

SIDE = 40
DISC = (np.hypot(*np.mgrid[-19.5:20, -19.5:20]) < 15).astype(np.float32)


@pytest.fixture
def pair():
    rng = np.random.default_rng(3)
    target = rng.uniform(0.05, 0.9, (SIDE, SIDE, 3))
    return target, np.clip(target + rng.normal(0, 0.05, target.shape), 0, None)


def test_a_mask_loses_two_pixels_but_not_at_the_image_border():
    square = np.zeros((20, 20))
    square[5:15, :8] = 0.6
    expected = np.zeros((20, 20))
    expected[7:13, :6] = 1
    assert np.array_equal(orb.eroded(square), expected)
    assert orb.eroded(np.full((9, 9), 0.5)).sum() == 0


def test_relit_images_are_scaled_per_channel_and_novel_views_are_not(pair):
    target, estimate = pair
    plain = orb.image_scores(target, estimate, DISC, scaled=True)
    tinted = orb.image_scores(target, estimate * [0.5, 2.0, 3.0], DISC, scaled=True)
    for name in ("psnr_hdr", "psnr_ldr", "ssim"):
        assert tinted[name] == pytest.approx(plain[name], rel=1e-5)
    assert orb.image_scores(target, estimate * 0.5, DISC, scaled=False)["psnr_ldr"] < plain["psnr_ldr"] - 5
    scale = orb.channel_scale(target, target * [0.5, 2.0, 0.0], orb.eroded(DISC))
    inside = target[orb.eroded(DISC) > 0]
    assert scale == pytest.approx([2.0, 0.5, inside[:, 2].mean()])


def test_psnr_is_over_the_whole_image(pair):
    target, estimate = pair
    kept = orb.eroded(DISC)[..., None]
    by_hand = ((linear_to_srgb(estimate.clip(0, 1)) - linear_to_srgb(target)) ** 2 * kept).sum() / (3 * SIDE**2)
    assert orb.image_scores(target, estimate, DISC, scaled=False)["psnr_ldr"] == pytest.approx(
        -10 * np.log10(by_hand), abs=1e-3
    )
    brighter = linear_to_srgb(target * kept).mean() / (target * kept).mean()
    error = ((brighter * (estimate - target) * kept) ** 2).sum() / (3 * SIDE**2)  # nothing reaches the clip at 4
    found = orb.image_scores(target, estimate, DISC, scaled=False)["psnr_hdr"]
    assert found == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_bright_pixels_are_clipped_and_nothing_is_worse_than_grey(pair):
    target, estimate = pair
    target[18:22, 18:22] = 900.0
    far, near = estimate.copy(), estimate.copy()
    far[18:22, 18:22], near[18:22, 18:22] = 40.0, 900.0
    scores = [orb.image_scores(target, image, DISC, scaled=False)["psnr_hdr"] for image in (far, near)]
    assert scores[0] == scores[1]
    white = orb.image_scores(target * 0, np.ones_like(target), DISC, scaled=False)
    grey = -10 * np.log10(0.25 * orb.eroded(DISC).mean())
    assert white["psnr_ldr"] == pytest.approx(grey, abs=1e-4)


def test_equal_images_are_best_and_ssim_falls(pair):
    target, estimate = pair
    same, other = (orb.image_scores(target, image, DISC, scaled=False) for image in (target, estimate))
    assert same["psnr_hdr"] == 200.0 and same["ssim"] == pytest.approx(1.0)
    assert 0.5 < other["ssim"] < 0.999
    assert orb.albedo_scores(target, 3 * target, DISC)["psnr_ldr"] == 200.0


def test_normals_and_depth():
    up = np.zeros((SIDE, SIDE, 3))
    up[..., 2] = 5.0
    turned = np.zeros_like(up)
    turned[..., 0], turned[..., 2] = np.sin(0.2), np.cos(0.2)
    assert orb.normal_distance(up, turned, DISC) == pytest.approx(1 - np.cos(0.2), abs=1e-5)
    depth = np.random.default_rng(0).uniform(2, 3, (2, SIDE, SIDE))
    assert orb.depth_error(list(depth), list(depth * 7), [DISC, DISC]) == pytest.approx(0, abs=1e-12)
    # one factor for both: what is right in one view is wrong in the other
    assert orb.depth_error(list(depth), [depth[0], depth[1] * 2], [DISC, DISC]) > 0.01


def test_chamfer_is_of_the_targets_vertices():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    target, estimate = Mesh(square, faces), Mesh(square + np.float32([0, 0, 0.5]), faces)
    there = 0.25  # a vertex of the estimate's square lies above each of the target's
    # from inside the square to the nearest corner: 2 ∫∫ over a quarter of it of x² + y², and the height
    back = 0.25 + 2 * (1 / 12)
    assert orb.chamfer(target, estimate) == pytest.approx(0.5 * (there + back), rel=0.01)


def test_statistics_are_over_scenes():
    scores = {"light_all": {"a": {"psnr_hdr": 20.0, "lpips": None}, "b": {"psnr_hdr": 24.0, "lpips": None}}}
    assert orb.statistics(scores) == {"light": {"psnr_hdr": (22.0, 2.0), "lpips": None, "scene_count": 2}}
    assert orb.means([{"a": 1.0, "b": None}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": None}
