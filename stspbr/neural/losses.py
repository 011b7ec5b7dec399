"""The losses between a predicted and a path-traced picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stspbr.metrics.similarity import ssim_windows


def _dissimilarity(x: Tensor, y: Tensor) -> Tensor:
    return 1.0 - ssim_windows(x, y)[0].mean()


def _linear(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: function(torch.expm1(x), torch.expm1(y))


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean()


def _square(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean()


PICTURE_LOSSES: Mapping[str, tuple[Callable[[Tensor, Tensor], Tensor], Mapping[str, float]]] = {
    "logl1": (_absolute, {"Unet": 2.0, "PixelCNN": 2.0}),
    "logl2": (_square, {"Unet": 500.0, "PixelCNN": 500.0}),
    "logssim": (_dissimilarity, {"Unet": 1.0, "PixelCNN": 1.0}),
    "l1": (_linear(_absolute), {"Unet": 0.5, "PixelCNN": 2.0}),
    "l2": (_linear(_square), {"Unet": 1.0, "PixelCNN": 1.0}),
    "ssim": (_linear(_dissimilarity), {"Unet": 1.0, "PixelCNN": 1.0}),
}
"""By name: the function of two pictures ``[B, C, H, W]`` in log(1 + radiance), and its weight per type of generator.

logl1 mean |x − y|, logl2 mean (x − y)², logssim 1 − SSIM; l1, l2 and ssim likewise of the radiance itself.
"""


def picture_losses(kind: str, names: list[str], predicted: Tensor, radiance: Tensor) -> dict[str, Tensor]:
    """The weighted losses by name.

    Args:
        kind: type of the generator; predicted: ``[B, C, H, W]`` log(1 + radiance); radiance: linear, of the truth.
    """
    truth = torch.log1p(radiance)
    return {name: PICTURE_LOSSES[name][1][kind] * PICTURE_LOSSES[name][0](predicted, truth) for name in names}
