"""The sRGB transfer function, and luminance."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    """sRGB-encoded values to linear (IEC 61966-2-1, the exact two-piece curve); float32, same shape."""
    v = np.asarray(value, dtype=np.float64)
    return np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0.04045) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(value: np.ndarray) -> np.ndarray:
    """Linear values to sRGB-encoded ones: the inverse of :func:`srgb_to_linear`, without clipping."""
    v = np.asarray(value, dtype=np.float64)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0.0031308) ** (1 / 2.4) - 0.055).astype(np.float32)


def luminance_of(rgb: Array) -> Array:
    """Luminance ``[...]`` of linear colours ``[..., 3]`` with sRGB's primaries (Rec. 709)."""
    return 0.2126 * rgb[..., 0] + 0.7152 * rgb[..., 1] + 0.0722 * rgb[..., 2]
