"""The display curve as a differentiable function: radiance to the picture that a model of pictures has been shown."""

from __future__ import annotations

import torch
from torch import Tensor

SHOULDER = 0.9
"""Display values from here on are compressed: they stay below 1, and keep a gradient however bright they are."""


def display_curve(radiance: Tensor) -> Tensor:
    """sRGB-encoded pictures in [0, 1) of linear radiance ≥ 0, any shape; the sRGB curve below ``SHOULDER``.

    Above it the curve is s + (1 − s) z / (1 + z) with z = (y − s) / (1 − s): value and slope are continuous, and the
    slope falls with the square of the brightness only.
    """
    bounded = radiance.clamp(min=0.0031308)  # the power's slope at 0 is infinite, which ``where`` would turn into NaN
    curve = torch.where(radiance > 0.0031308, 1.055 * bounded.pow(1 / 2.4) - 0.055, 12.92 * radiance)
    above = ((curve - SHOULDER) / (1.0 - SHOULDER)).clamp(min=0.0)
    return torch.where(curve > SHOULDER, SHOULDER + (1.0 - SHOULDER) * above / (1.0 + above), curve)


def radiance_of(picture: Tensor) -> Tensor:
    """The inverse of ``display_curve``, of pictures in [0, 1]; those beyond 0.995 are taken as 0.995."""
    bounded = picture.clamp(0.0, 0.995)
    z = ((bounded - SHOULDER) / (1.0 - SHOULDER)).clamp(min=0.0)
    curve = torch.where(bounded > SHOULDER, SHOULDER + (1.0 - SHOULDER) * z / (1.0 - z), bounded)
    return torch.where(curve > 0.04045, ((curve.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4), curve / 12.92)


def area_filtered(images: Tensor, side: int) -> Tensor:
    """``[B, H, W, C]`` reduced to ``[B, side, side, C]`` by means over blocks; H = W, a multiple of ``side``."""
    batch, height, width, channels = images.shape
    if height == side:
        return images
    block = height // side
    return images.reshape(batch, side, block, side, width // side, channels).mean(dim=(2, 4))
