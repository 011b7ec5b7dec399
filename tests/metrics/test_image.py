"""PSNR, SSIM, MS-SSIM and LPIPS against known values and other implementations."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import numpy as np
import pytest

from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError
from stspbr.metrics import image as image_metrics
from stspbr.metrics.image import display, lpips_or_none, ms_ssim, psnr, psnr_srgb, ssim


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


def test_display_encoding_and_its_psnr():
    linear = np.array([0.0, 0.0031308, 0.21404114, 1.0, 7.0, -1.0])
    np.testing.assert_allclose(display(linear), [0, 0.04045, 0.5, 1, 1, 0], atol=1e-5)
    assert np.array_equal(display(linear), linear_to_srgb(linear.clip(0, 1)))  # one transfer function in the package
    a, b = np.full((4, 4, 3), 0.21404114), np.full((4, 4, 3), 1.5)
    assert psnr_srgb(a, b) == pytest.approx(-20 * np.log10(0.5), abs=1e-3)


def test_psnr_agrees_with_skimage_and_torchmetrics(pair):
    ours = psnr(*pair)
    metrics = pytest.importorskip("skimage.metrics")
    assert ours == pytest.approx(metrics.peak_signal_noise_ratio(*pair, data_range=1.0), rel=1e-12)
    functional = pytest.importorskip("torchmetrics.functional.image")
    theirs = functional.peak_signal_noise_ratio(*_tensors(*pair), data_range=1.0)
    assert ours == pytest.approx(float(theirs), abs=1e-5)  # its logarithms are float32


def test_ssim_agrees_with_skimage(pair):
    metrics = pytest.importorskip("skimage.metrics")
    options = dict(channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected, windows = metrics.structural_similarity(*pair, full=True, **options)
    assert ssim(*pair) == pytest.approx(expected, abs=1e-12)
    assert ssim(pair[0], pair[0]) == pytest.approx(1.0)
    assert ssim(pair[0] * 5, pair[1] * 5, peak=5.0) == pytest.approx(expected, abs=1e-12)
    mask = np.random.default_rng(2).uniform(size=(61, 48))
    masked = np.average(windows.mean(-1)[5:-5, 5:-5], weights=mask[5:-5, 5:-5])
    assert ssim(*pair, mask) == pytest.approx(masked, abs=1e-12)


def test_ssim_agrees_with_torchmetrics(pair):
    functional = pytest.importorskip("torchmetrics.functional.image")
    expected, windows = functional.structural_similarity_index_measure(
        *_tensors(*pair), data_range=1.0, sigma=1.5, return_full_image=True
    )
    assert ssim(*pair, reflect=True) == pytest.approx(float(expected), abs=1e-12)
    assert ssim(*pair) == pytest.approx(float(windows[..., 5:-5, 5:-5].mean()), abs=1e-12)
    mask = np.random.default_rng(2).uniform(size=(61, 48))
    masked = np.average(windows[0].mean(0).numpy(), weights=mask)
    assert ssim(*pair, mask, reflect=True) == pytest.approx(masked, abs=1e-12)


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


@pytest.mark.parametrize("shape", [(192, 208, 1), (177, 181, 3)])
def test_ms_ssim_agrees_with_torchmetrics(shape):
    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(1)
    a = np.cumsum(np.cumsum(rng.normal(size=shape), 0), 1)
    a = (a - a.min()) / (a.max() - a.min())
    b = np.clip(a + 0.1 * rng.normal(size=a.shape), 0, 1)
    theirs = functional.multiscale_structural_similarity_index_measure
    # torchmetrics keeps the exponents in float32
    assert ms_ssim(a, b) == pytest.approx(float(theirs(*_tensors(a, b), data_range=1.0, sigma=1.5)), abs=1e-7)
    assert ms_ssim(a, a) == pytest.approx(1.0)
    a, b = a[:50, :61], b[:50, :61]  # three octaves
    weights = np.array([0.0448, 0.2856, 0.3001])
    expected = theirs(*_tensors(a, b), data_range=1.0, sigma=1.5, betas=tuple(weights / weights.sum()))
    assert ms_ssim(a, b) == pytest.approx(float(expected), abs=1e-7)


def test_masked_ms_ssim_looks_where_the_mask_is(pair):
    a, b = (np.tile(x, (3, 4, 1)) for x in pair)
    assert ms_ssim(a, b, np.ones(a.shape[:2])) == pytest.approx(ms_ssim(a, b), abs=0.02)  # other edges
    c = b.copy()
    c[:, :150] = a[:, :150]
    left = np.zeros(a.shape[:2])
    left[:, :40] = 1  # the coarsest octave's windows reach 80 pixels
    assert ms_ssim(a, c, left) == pytest.approx(1.0)
    assert ms_ssim(a, c, 1 - left) < 0.99
    with pytest.raises(StspbrError, match="empty"):
        ms_ssim(a, b, 0 * left)


def test_ms_ssim_uses_fewer_scales_on_small_images(pair):
    small = [x[:16, :16] for x in pair]
    assert ms_ssim(*small) == pytest.approx(ssim(*small, reflect=True))  # one scale: SSIM itself
    assert ms_ssim(pair[0], 1 - pair[0]) < 0.2
    with pytest.raises(StspbrError, match="11x11"):
        ms_ssim(pair[0][:5], pair[1][:5])


def test_lpips_says_why_it_is_not_there(pair, monkeypatch, tmp_path):
    image_metrics._lpips_model.cache_clear()
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setattr(image_metrics.importlib.util, "find_spec", lambda name: None)
    value, reason = lpips_or_none(*pair)
    assert value is None and "pip install lpips" in reason
    monkeypatch.undo()
    image_metrics._lpips_model.cache_clear()
    _install_lpips(monkeypatch, tmp_path, weights=False)
    value, reason = lpips_or_none(*pair)
    assert value is None and "AlexNet" in reason and str(tmp_path) in reason
    image_metrics._lpips_model.cache_clear()


def test_lpips_is_given_signed_images_and_masked(pair, monkeypatch, tmp_path):
    image_metrics._lpips_model.cache_clear()
    _install_lpips(monkeypatch, tmp_path, weights=True)
    a, b = pair
    # the stand-in network's distance is the mean absolute difference of what it is given, in [-1, 1]
    assert lpips_or_none(a, b) == (pytest.approx(2 * np.abs(a - b).mean(), rel=1e-5), None)
    mask = np.zeros((61, 48))
    mask[:30] = 1
    assert lpips_or_none(a, b, mask)[0] == pytest.approx(2 * np.abs(a - b)[:30].mean(), rel=1e-5)
    with pytest.raises(StspbrError, match="RGB"):
        lpips_or_none(a[..., :1], b[..., :1])
    image_metrics._lpips_model.cache_clear()


def _install_lpips(monkeypatch, folder, weights: bool):
    """A package lpips whose network has no weights: only the wiring is tested."""
    import torch

    class Network:
        def __init__(self, net, spatial, verbose):
            self.spatial = spatial

        def eval(self):
            return self

        def __call__(self, x, y):
            distance = (x - y).abs().mean(1, keepdim=True)
            return distance if self.spatial else distance.mean((2, 3), keepdim=True)

    module = types.ModuleType("lpips")
    module.__spec__ = importlib.machinery.ModuleSpec("lpips", None)
    module.LPIPS = Network
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    if weights:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "alexnet-owt-0.pth").touch()


def _tensors(*images):
    import torch

    return [torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) for x in images]


def test_large_images_are_compared_strip_by_strip(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 70, 30, 3))
    mask = rng.random((70, 30))
    wanted = [psnr_srgb(a, b, mask), psnr_srgb(a, b)]
    monkeypatch.setattr("stspbr.metrics.image._STRIP", 333)
    assert [psnr_srgb(a, b, mask), psnr_srgb(a, b)] == pytest.approx(wanted, rel=1e-6)
    assert psnr_srgb(a, a) == float("inf")
    with pytest.raises(StspbrError, match="mask is empty"):
        psnr_srgb(a, b, mask * 0)
