"""Image errors on numpy arrays ``[H, W, C]``: PSNR, SSIM, MS-SSIM and LPIPS, where a mask says which pixels count."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError

_MS_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # Wang et al. 2003, section 4
_REACH = 5  # pixels that SSIM's window reaches to either side


def display(image: np.ndarray) -> np.ndarray:
    """Linear radiance clipped to [0, 1] and sRGB-encoded, float32: what an eye (or an 8-bit file) sees."""
    return linear_to_srgb(np.clip(np.asarray(image, dtype=np.float64), 0.0, 1.0))


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
    """``psnr`` of linear images after ``display``."""
    return psnr(display(reference), display(estimate), mask)


def ssim(
    reference: np.ndarray,
    estimate: np.ndarray,
    mask: np.ndarray | None = None,
    peak: float = 1.0,
    reflect: bool = False,
) -> float:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ 1.5, mean over windows and channels.

    Args:
        reference, estimate: ``[H, W, C]``, at least 11×11.
        mask: as in ``psnr``; windows are weighted by the mask's value at their centre.
        peak: the value that stands for full signal.
        reflect: False takes whole windows only (as scikit-image does), so the outer five pixels are no centres;
            True takes a window around every pixel, with the images reflected at their edges (as torchmetrics does).
    """
    reference, estimate = _pair(reference, estimate)
    if min(reference.shape[:2]) < 11:
        raise StspbrError(f"SSIM needs images of at least 11x11 pixels, not {reference.shape[1]}x{reference.shape[0]}")
    similarity, _ = _ssim_maps(reference, estimate, peak, reflect)
    return _window_mean(similarity, _weights(mask, reference))


def ms_ssim(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None, peak: float = 1.0) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, eq. 7) over up to five octaves.

    Images below 176 pixels have fewer octaves than five (``ms_ssim_scales``); the weights of those that are
    left are scaled to sum to 1. Means are over windows and channels, and negative ones count as 0. As in
    torchmetrics, contrast is taken of whole windows and the coarsest octave's similarity of reflected images.

    Args:
        reference, estimate: ``[H, W, C]``, at least 11×11.
        mask: as in ``ssim``; each octave takes the mask's 2×2 means, and all windows are of reflected images, since
            whole ones of the coarse octaves would see only the images' middle.
        peak: the value that stands for full signal.
    """
    reference, estimate = _pair(reference, estimate)
    weight = _weights(mask, reference)
    scales = ms_ssim_scales(*reference.shape[:2])
    exponents = _MS_WEIGHTS[:scales] / (1.0 if scales == 5 else _MS_WEIGHTS[:scales].sum())
    out = 1.0
    for k, exponent in enumerate(exponents):
        coarsest = k == scales - 1
        similarity, contrast = _ssim_maps(reference, estimate, peak, reflect=coarsest or mask is not None)
        term = _window_mean(similarity if coarsest else contrast, weight)
        out *= max(term, 0.0) ** exponent
        reference, estimate, weight = _halved(reference), _halved(estimate), _halved(weight)
    return float(out)


def ms_ssim_scales(height: int, width: int) -> int:
    """How many octaves ``ms_ssim`` uses: as many as leave 11 pixels on the shorter side, at most five."""
    if min(height, width) < 11:
        raise StspbrError(f"MS-SSIM needs images of at least 11x11 pixels, not {width}x{height}")
    return int(min(5, np.floor(np.log2(min(height, width) / 11.0)) + 1))


def lpips_or_none(
    reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None
) -> tuple[float | None, str | None]:
    """LPIPS with AlexNet (Zhang et al. 2018), where its package and weights are on this machine; nothing is fetched.

    Args:
        reference, estimate: ``[H, W, 3]`` encoded for display, in [0, 1].
        mask: as in ``psnr``: pixels are multiplied by it, and the map of distances is weighted by it.

    Returns:
        ``(distance, None)``, or ``(None, why not)``.
    """
    reference, estimate = _pair(reference, estimate)
    if reference.shape[2] != 3:
        raise StspbrError(f"LPIPS compares RGB images, not ones of {reference.shape[2]} channels")
    weight = _weights(mask, reference)
    model, reason = _lpips_model(spatial=mask is not None)
    if model is None:
        return None, reason
    import torch

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(2.0 * image - 1.0).permute(2, 0, 1)[None].float()

    try:
        with torch.no_grad():
            distance = model(tensor(weight * reference), tensor(weight * estimate)).double().cpu().numpy()
    except RuntimeError as error:  # AlexNet's pooling leaves nothing of images that are too small
        return None, f"LPIPS failed on {reference.shape[1]}x{reference.shape[0]} pixels: {_first_line(error)}"
    if mask is None:
        return float(distance.mean()), None
    return float((distance[0, 0] * weight[..., 0]).sum() / weight.sum()), None


@functools.lru_cache(maxsize=2)
def _lpips_model(spatial: bool):
    """``(network, None)`` or ``(None, why not)``."""
    if importlib.util.find_spec("lpips") is None:
        return None, "the package lpips is not installed: pip install lpips"
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not any(folder.glob("alexnet-owt-*.pth")):
        return None, f"AlexNet's weights are not in {folder}: load torchvision.models.alexnet(weights='DEFAULT') once"
    try:
        import lpips

        return lpips.LPIPS(net="alex", spatial=spatial, verbose=False).eval(), None
    except Exception as error:  # a broken optional package must not end an evaluation
        return None, f"the package lpips does not load: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _ssim_maps(a: np.ndarray, b: np.ndarray, peak: float, reflect: bool) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast-structure factor per window: ``[H, W, C]``, less ten rows and columns if not reflected."""
    if reflect:
        edge = ((_REACH, _REACH), (_REACH, _REACH), (0, 0))
        a, b = np.pad(a, edge, mode="reflect"), np.pad(b, edge, mode="reflect")
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    contrast = (2.0 * shared + c2) / (var_a + var_b + c2)
    return (2.0 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast, contrast


def _window_mean(values: np.ndarray, weight: np.ndarray) -> float:
    """Mean of a map of windows, weighted at their centres; ``weight`` is the images' ``[H, W, 1]``."""
    if values.shape[0] < weight.shape[0]:
        weight = weight[_REACH:-_REACH, _REACH:-_REACH]
    if weight.sum() <= 0:
        raise StspbrError("the mask is empty where there are whole windows of 11x11 pixels: no pixel to compare")
    return float((weight * values).sum() / (weight.sum() * values.shape[2]))


def _blurred(image: np.ndarray) -> np.ndarray:
    """Gaussian of σ 1.5 and 11 taps, whole windows only."""
    taps = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / 1.5) ** 2)
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
