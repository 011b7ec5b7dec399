"""SSIM and MS-SSIM of tensors, differentiable: what the evaluation measures and the loss ``msssim`` optimises.

Own code: in float64, which flat bright parts need, torchmetrics' convolution takes 6 to 20 times as long.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from stspbr.errors import StspbrError

WINDOW = 11
REACH = WINDOW // 2  # pixels that a window reaches to either side
_SIGMA = 1.5
_OCTAVE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, section 3.2


def ssim_windows(x: Tensor, y: Tensor, data_range: float = 1.0, window: int = WINDOW) -> tuple[Tensor, Tensor]:
    """SSIM (Wang et al. 2004) and its contrast-structure factor in a Gaussian window around every pixel.

    Args:
        x, y: ``[B, C, H, W]``, at least 6×6; they are reflected at their edges.
        data_range: white minus black.
        window: its side in pixels, odd.

    Returns:
        Two maps ``[B, C, H, W]``. Windows less than ``window // 2`` from an edge see reflections, the others do not.
    """
    reach = window // 2
    x, y = (functional.pad(image, (reach,) * 4, mode="reflect") for image in (x, y))
    rows, columns = (_blur_matrix(size, x, reach) for size in x.shape[-2:])
    mean_x, mean_y, xx, yy, xy = (rows @ torch.cat([x, y, x * x, y * y, x * y]) @ columns.T).chunk(5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # Rounding can make the variance of a flat patch slightly negative.
    variance = (xx - mean_x.square()).clamp(min=0) + (yy - mean_y.square()).clamp(min=0)
    contrast = (2 * (xy - mean_x * mean_y) + c2) / (variance + c2)
    return (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1) * contrast, contrast


def ms_ssim(
    images: Tensor, references: Tensor, data_range: float = 1.0, mask: Tensor | None = None, floor: float = 0.0
) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003, eq. 7); ``[B]``, 1 for equal images.

    Images below 176 pixels have fewer octaves than five (``ms_ssim_octaves``); the weights of those that are left are
    scaled to sum to 1. As in torchmetrics, contrast is taken of whole windows and the coarsest octave's similarity
    of reflected images.

    Args:
        images, references: ``[B, H, W, C]``, at least 11×11.
        data_range: white minus black.
        mask: ``[B, H, W, 1]`` weights of the windows' centres; each octave takes its 2×2 means, and all windows are
            of reflected images, since whole ones of the coarse octaves would see only the images' middle.
        floor: what an octave's mean counts as if it is below: above 0, the gradient of the others stays.

    Raises:
        StspbrError: the images are smaller than the window, or the mask is empty.
    """
    octaves = ms_ssim_octaves(*images.shape[1:3])
    total = sum(_OCTAVE_WEIGHTS[:octaves]) if octaves < len(_OCTAVE_WEIGHTS) else 1.0  # the five sum to 1.0001
    x, y = images.permute(0, 3, 1, 2), references.permute(0, 3, 1, 2)
    weight = None if mask is None else mask.permute(0, 3, 1, 2)
    result = images.new_ones(len(images))
    for octave, exponent in enumerate(_OCTAVE_WEIGHTS[:octaves]):
        coarsest = octave == octaves - 1
        similarity, contrast = ssim_windows(x, y, data_range)
        windows = similarity if coarsest else contrast
        if weight is not None:
            held = weight.sum(dim=(1, 2, 3))
            if (held <= 0).any():
                raise StspbrError(f"the mask is empty in octave {octave + 1} of MS-SSIM: no pixel to compare")
            mean = (weight * windows).sum(dim=(1, 2, 3)) / (held * windows.shape[1])
            weight = functional.avg_pool2d(weight, 2)
        else:
            whole = windows if coarsest else windows[..., REACH:-REACH, REACH:-REACH]
            mean = whole.mean(dim=(1, 2, 3))
        result = result * mean.clamp(min=floor) ** (exponent / total)
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return result


def ms_ssim_octaves(height: int, width: int) -> int:
    """How many octaves MS-SSIM has: as many as leave 11 pixels on the shorter side, at most five.

    Raises:
        StspbrError: the image is smaller than the window.
    """
    octaves = sum(min(height, width) >> octave >= WINDOW for octave in range(len(_OCTAVE_WEIGHTS)))
    if octaves == 0:
        raise StspbrError(f"MS-SSIM needs images of at least {WINDOW}x{WINDOW} pixels, not {width}x{height}")
    return octaves


def _blur_matrix(size: int, like: Tensor, reach: int) -> Tensor:
    """``[size − 2 reach, size]``: a Gaussian around each place that has ``reach`` neighbours on both sides."""
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    offset = place - place[: size - 2 * reach, None] - reach
    weight = torch.where(offset.abs() <= reach, torch.exp(-0.5 * (offset / _SIGMA) ** 2), 0.0)
    return weight / weight.sum(dim=1, keepdim=True)
