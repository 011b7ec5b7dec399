"""Bilinear lookup, as all maps of the package are meant: texel centres at +0.5."""

from __future__ import annotations

import numpy as np


def bilinear(image: np.ndarray, uv: np.ndarray, wrap_v: bool = True) -> np.ndarray:
    """Values ``[..., C]`` of ``image [H, W, C]`` at ``uv [..., 2]``, (0, 0) the top-left corner.

    Args:
        wrap_v: whether rows repeat as columns do; False: they end at the outer texels' centres (a light's poles).
    """
    height, width, channels = image.shape
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    y = y if wrap_v else np.clip(y, 0, height - 1)
    left, top = np.floor(x), np.floor(y)
    s, t = (x - left)[..., None], (y - top)[..., None]
    left, top = left.astype(np.int64) % width, top.astype(np.int64) % height
    right = (left + 1) % width
    bottom = (top + 1) % height if wrap_v else np.minimum(top + 1, height - 1)
    flat = image.reshape(-1, channels)
    upper = flat[top * width + left] * (1 - s) + flat[top * width + right] * s
    lower = flat[bottom * width + left] * (1 - s) + flat[bottom * width + right] * s
    return upper * (1 - t) + lower * t
