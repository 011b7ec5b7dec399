"""Image errors on numpy arrays ``[H, W, C]``: PSNR, SSIM, MS-SSIM and LPIPS; a mask selects the pixels that count."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError, first_line

if TYPE_CHECKING:
    import torch

_STRIP = 1 << 21  # pixels of an image that are compared at a time


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
    """``psnr`` of linear images after ``display``; of large ones strip by strip, to save memory."""
    height, width = reference.shape[:2]
    rows = max(1, _STRIP // max(width, 1))
    if height <= rows or reference.shape != estimate.shape:
        return psnr(display(reference), display(estimate), mask)
    weight = np.ones((height, width, 1), np.float32) if mask is None else np.reshape(mask, (height, width, 1))
    error = total = 0.0
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        own = np.asarray(weight[part], np.float64)
        error += float((own * (display(reference[part]) - display(estimate[part])).astype(np.float64) ** 2).sum())
        total += float(own.sum()) * reference.shape[2]
    if total <= 0:
        raise StspbrError("the mask is empty: no pixel to compare")
    return float("inf") if error == 0 else float(10.0 * np.log10(total / error))


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
    from stspbr.metrics.similarity import REACH, ssim_windows

    reference, estimate = _pair(reference, estimate)
    weight = _weights(mask, reference)
    if min(reference.shape[:2]) < 11:
        raise StspbrError(f"SSIM needs images of at least 11x11 pixels, not {reference.shape[1]}x{reference.shape[0]}")
    first, second = (image.permute(0, 3, 1, 2) for image in _tensors(reference, estimate))
    windows = ssim_windows(first, second, peak)[0][0].mean(dim=0).numpy()
    if not reflect:
        windows, weight = windows[REACH:-REACH, REACH:-REACH], weight[REACH:-REACH, REACH:-REACH]
        if weight.sum() <= 0:
            raise StspbrError("the mask is empty where there are whole windows of 11x11 pixels: no pixel to compare")
    return float((weight[..., 0] * windows).sum() / weight.sum())


def ms_ssim(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None, peak: float = 1.0) -> float:
    """Multi-scale structural similarity, :func:`stspbr.metrics.similarity.ms_ssim`; negative means count as 0.

    Args:
        reference, estimate: ``[H, W, C]``, at least 11×11.
        mask: as in ``psnr``; windows are weighted by the mask's value at their centre.
        peak: the value that stands for full signal.
    """
    from stspbr.metrics import similarity

    reference, estimate = _pair(reference, estimate)
    weight = None if mask is None else _tensors(_weights(mask, reference))[0]
    images, references = _tensors(reference, estimate)
    return float(similarity.ms_ssim(images, references, peak, weight))


def lpips_or_none(
    reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None, net: str = "alex"
) -> tuple[float | None, str | None]:
    """LPIPS (Zhang et al. 2018), if its package and weights are installed; nothing is downloaded.

    Args:
        reference, estimate: ``[H, W, 3]`` encoded for display, in [0, 1].
        mask: as in ``psnr``: pixels are multiplied by it, and the map of distances is weighted by it.
        net: ``"alex"`` or ``"vgg"``.

    Returns:
        ``(distance, None)``, or ``(None, why not)``.
    """
    reference, estimate = _pair(reference, estimate)
    if reference.shape[2] != 3:
        raise StspbrError(f"LPIPS compares RGB images, not ones of {reference.shape[2]} channels")
    weight = _weights(mask, reference)
    model, reason = _lpips_model(spatial=mask is not None, net=net)
    if model is None:
        return None, reason
    import torch

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(2.0 * image - 1.0).permute(2, 0, 1)[None].float()

    try:
        with torch.no_grad():
            distance = model(tensor(weight * reference), tensor(weight * estimate)).double().cpu().numpy()
    except RuntimeError as error:  # the network's pooling leaves nothing of images that are too small
        return None, f"LPIPS failed on {reference.shape[1]}x{reference.shape[0]} pixels: {first_line(error)}"
    if mask is None:
        return float(distance.mean()), None
    return float((distance[0, 0] * weight[..., 0]).sum() / weight.sum()), None


_LPIPS_WEIGHTS = {"alex": ("alexnet-owt-*.pth", "AlexNet", "alexnet"), "vgg": ("vgg16-*.pth", "VGG", "vgg16")}


@functools.lru_cache(maxsize=4)
def _lpips_model(spatial: bool, net: str = "alex"):
    """``(network, None)`` or ``(None, why not)``."""
    if importlib.util.find_spec("lpips") is None:
        return None, "the package lpips is not installed: pip install lpips"
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    pattern, name, model = _LPIPS_WEIGHTS[net]
    if not any(folder.glob(pattern)):
        return None, f"{name}'s weights are not in {folder}: load torchvision.models.{model}(weights='DEFAULT') once"
    try:
        import lpips

        return lpips.LPIPS(net=net, spatial=spatial, verbose=False).eval(), None
    except Exception as error:  # a broken optional package must not end an evaluation
        return None, f"the package lpips does not load: {first_line(error)}"


def _tensors(*images: np.ndarray) -> list[torch.Tensor]:
    """``[1, H, W, C]`` of each."""
    import torch

    return [torch.from_numpy(image)[None] for image in images]


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
