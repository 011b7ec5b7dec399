"""PSNR, SSIM and MS-SSIM against known values and other implementations."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.image import linear_to_srgb, ms_ssim, ms_ssim_scales, psnr, psnr_srgb, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    base = np.cumsum(np.cumsum(rng.normal(size=(61, 48, 3)), 0), 1)
    base = (base - base.min()) / (base.max() - base.min())
    return base, np.clip(base + 0.08 * rng.normal(size=base.shape), 0, 1)


def test_psnr_of_a_constant_error():
    a = np.full((8, 8, 3), 0.5)
    assert psnr(a, a) == float("inf")
    assert psnr(a, a + 0.1) == pytest.approx(20.0)
    assert psnr(4 * a, 4 * a + 0.1, peak=10.0) == pytest.approx(40.0)
    mask = np.zeros((8, 8, 1))
    mask[:2] = 1
    b = a.copy()
    b[:2] += 0.01
    b[2:] += 0.4
    assert psnr(a, b, mask) == pytest.approx(40.0)
    mask[2:4] = 0.5  # weights, not only a choice
    assert psnr(a, b, mask) == pytest.approx(-10 * np.log10((2 * 1e-4 + 1 * 0.16) / 3))
    with pytest.raises(StspbrError, match="empty"):
        psnr(a, b, np.zeros((8, 8)))
    with pytest.raises(StspbrError, match="shape"):
        psnr(a, b[:4])


def test_srgb_encoding_and_its_psnr():
    np.testing.assert_allclose(linear_to_srgb(np.array([0.0, 0.0031308, 0.21404114, 1.0, 7.0, -1.0])),
                               [0, 0.04045, 0.5, 1, 1, 0], atol=1e-5)  # fmt: skip
    a, b = np.full((4, 4, 3), 0.21404114), np.full((4, 4, 3), 1.5)
    assert psnr_srgb(a, b) == pytest.approx(-20 * np.log10(0.5), abs=1e-3)


def test_ssim_agrees_with_skimage(pair):
    metrics = pytest.importorskip("skimage.metrics")
    expected = metrics.structural_similarity(
        *pair, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair) == pytest.approx(expected, abs=1e-9)
    assert ssim(pair[0], pair[0]) == pytest.approx(1.0)
    assert ssim(pair[0] * 5, pair[1] * 5, peak=5.0) == pytest.approx(expected, abs=1e-9)


def test_masked_ssim_looks_where_the_mask_is(pair):
    a, b = pair
    c = b.copy()
    c[:, :20] = a[:, :20]
    left = np.zeros((61, 48))
    left[:, :14] = 1  # whole windows within the equal part
    assert ssim(a, c, left) == pytest.approx(1.0)
    assert ssim(a, c, 1 - left) < 0.99
    with pytest.raises(StspbrError, match="11x11"):
        ssim(a[:8], b[:8])


def test_ms_ssim_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    import torch

    rng = np.random.default_rng(1)
    a = np.cumsum(np.cumsum(rng.normal(size=(192, 208, 1)), 0), 1)
    a = (a - a.min()) / (a.max() - a.min())
    b = np.clip(a + 0.1 * rng.normal(size=a.shape), 0, 1)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) for x in (a, b)]
    expected = functional.multiscale_structural_similarity_index_measure(*tensors, data_range=1.0, sigma=1.5)
    # torchmetrics pads where we take whole windows only
    assert ms_ssim(a, b) == pytest.approx(float(expected), abs=0.01)
    assert ms_ssim(a, a) == pytest.approx(1.0)


def test_ms_ssim_uses_fewer_scales_on_small_images(pair):
    assert [ms_ssim_scales(n, 500) for n in (11, 21, 22, 44, 88, 175, 176, 1000)] == [1, 1, 2, 3, 4, 4, 5, 5]
    small = [x[:16, :16] for x in pair]
    assert ms_ssim(*small) == pytest.approx(ssim(*small), abs=0.05)  # one scale: SSIM itself, channels apart
    assert ms_ssim(pair[0], 1 - pair[0]) < 0.2
    with pytest.raises(StspbrError, match="11x11"):
        ms_ssim(pair[0][:5], pair[1][:5])
