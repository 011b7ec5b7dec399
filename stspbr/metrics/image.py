"""Image errors on numpy arrays ``[H, W, C]``: PSNR, SSIM and MS-SSIM, where a mask says which pixels count."""

from __future__ import annotations

import numpy as np

from stspbr.errors import StspbrError

_MS_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # Wang et al. 2003, section 4


def linear_to_srgb(image: np.ndarray) -> np.ndarray:
    """Linear radiance to sRGB code values in [0, 1]; what is outside is clipped."""
    x = np.clip(np.asarray(image, dtype=np.float64), 0.0, 1.0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-12) ** (1.0 / 2.4) - 0.055)


def psnr(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, of the values as they are given (linear or encoded).

    Args:
        reference, estimate: ``[H, W, C]``.
        mask: ``[H, W]`` or ``[H, W, 1]`` weights in [0, 1], e.g. coverage; None counts every pixel.
        peak: the value that stands for full signal.

    Returns:
        dB; ``inf`` for equal images.
    """
    reference, estimate = _pair(reference, estimate)
    weight = _weights(mask, reference)
    error = float((weight * (reference - estimate) ** 2).sum() / (weight.sum() * reference.shape[2]))
    return float("inf") if error == 0 else float(10.0 * np.log10(peak * peak / error))


def psnr_srgb(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """``psnr`` of linear images after clipping to [0, 1] and sRGB encoding: what an eye (or an 8-bit file) sees."""
    return psnr(linear_to_srgb(reference), linear_to_srgb(estimate), mask)


def ssim(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None, peak: float = 1.0) -> float:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ 1.5, mean over valid windows and channels.

    With a mask, windows are weighted by the mask's value at their centre.
    """
    reference, estimate = _pair(reference, estimate)
    if min(reference.shape[:2]) < 11:
        raise StspbrError(f"SSIM needs images of at least 11x11 pixels, not {reference.shape[1]}x{reference.shape[0]}")
    similarity, _ = _ssim_maps(reference, estimate, peak)
    weight = _weights(mask, reference)[5:-5, 5:-5]
    if weight.sum() == 0:
        raise StspbrError("the mask is empty where SSIM has whole windows: no pixel to compare")
    return float((weight * similarity).sum() / (weight.sum() * reference.shape[2]))


def ms_ssim(reference: np.ndarray, estimate: np.ndarray, peak: float = 1.0) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, eq. 7) over up to five octaves.

    Images below 176 pixels have fewer octaves than five (``ms_ssim_scales``); the weights of those that are
    left are scaled to sum to 1. Negative contrast terms count as 0.
    """
    reference, estimate = _pair(reference, estimate)
    scales = ms_ssim_scales(*reference.shape[:2])
    weights = _MS_WEIGHTS[:scales] / _MS_WEIGHTS[:scales].sum()
    out = np.ones(reference.shape[2])
    for k, weight in enumerate(weights):
        similarity, contrast = _ssim_maps(reference, estimate, peak)
        term = (similarity if k == scales - 1 else contrast).mean(axis=(0, 1))
        out *= np.maximum(term, 0.0) ** weight
        reference, estimate = _halved(reference), _halved(estimate)
    return float(out.mean())


def ms_ssim_scales(height: int, width: int) -> int:
    """How many octaves ``ms_ssim`` uses: as many as leave 11 pixels on the shorter side, at most five."""
    if min(height, width) < 11:
        raise StspbrError(f"MS-SSIM needs images of at least 11x11 pixels, not {width}x{height}")
    return int(min(5, np.floor(np.log2(min(height, width) / 11.0)) + 1))


def _ssim_maps(a: np.ndarray, b: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast-structure factor per window, ``[H − 10, W − 10, C]``."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    contrast = (2.0 * shared + c2) / (var_a + var_b + c2)
    return (2.0 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast, contrast


def _blurred(image: np.ndarray) -> np.ndarray:
    """Gaussian of σ 1.5 and 11 taps, whole windows only."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()
    rows = sum(tap * image[k : image.shape[0] - 10 + k] for k, tap in enumerate(taps))
    return sum(tap * rows[:, k : rows.shape[1] - 10 + k] for k, tap in enumerate(taps))


def _halved(image: np.ndarray) -> np.ndarray:
    """2×2 means; an odd last row or column is left out."""
    h, w = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    image = image[:h, :w]
    return 0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2])


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reference, estimate = np.asarray(reference, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if reference.shape != estimate.shape or reference.ndim != 3:
        raise StspbrError(f"images differ in shape: {reference.shape} and {estimate.shape}; both must be [H, W, C]")
    return reference, estimate


def _weights(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """``[H, W, 1]`` float64."""
    height, width, _ = image.shape
    if mask is None:
        return np.ones((height, width, 1))
    if np.size(mask) != height * width:
        raise StspbrError(f"the mask has shape {np.shape(mask)} but the images have {height} rows and {width} columns")
    weight = np.asarray(mask, dtype=np.float64).reshape(height, width, 1)
    if weight.sum() <= 0:
        raise StspbrError("the mask is empty: no pixel to compare")
    return weight
