"""Fill the texels outside the charts, so that filtering and mips read nothing but the surface."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from stspbr.errors import StspbrError


def dilate(image: np.ndarray, mask: np.ndarray, band: int = 8) -> np.ndarray:
    """Fill every uncovered texel.

    Up to ``band`` texels from a chart the nearest covered texel is repeated, for bilinear filtering and the first
    mips; beyond, a push-pull pyramid blends smoothly, so that coarse mips get the mean of nearby texels.

    Args:
        image: ``[H, W, C]`` float; unit vectors must be normalised again afterwards.
        mask: ``[H, W]`` bool, true for texels at which ``image`` is valid.
        band: texels.

    Returns:
        ``[H, W, C]`` of the same type; covered texels are unchanged, bit for bit. The values of uncovered ones do not
        matter, NaN included.

    Raises:
        StspbrError: nothing is covered.
    """
    mask = np.asarray(mask, dtype=bool)
    if not mask.any():
        raise StspbrError("no texel of the texture is covered by the mesh: are its UVs inside [0, 1]?")
    image = np.asarray(image)
    if mask.all():
        return image.copy()
    distance, (rows, columns) = distance_transform_edt(~mask, return_indices=True)
    known = distance <= band
    nearest = image[rows, columns]
    weight = known[..., None].astype(np.float64)
    filled = _push_pull(np.where(known[..., None], nearest, 0.0).astype(np.float64), weight)
    out = np.where(known[..., None], nearest, filled.astype(image.dtype))
    return np.ascontiguousarray(out)


def _push_pull(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Smooth values everywhere from ``weighted [H, W, C]`` (value · weight) and ``weight [H, W, 1]``."""
    value = weighted / np.maximum(weight, 1e-12)
    height, width = weight.shape[:2]
    if weight.min() > 0 or (height == 1 and width == 1):
        return value
    coarse = _push_pull(*_halved(weighted, weight))
    # weights saturate at one: the coarse level must not blur a texel that is known
    share = np.minimum(weight, 1.0)
    return value * share + _doubled(coarse, height, width) * (1.0 - share)


def _halved(weighted: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over 2×2 blocks (an odd border is padded with zeros), with the weight limited to one."""
    pad = [(0, n % 2) for n in weight.shape[:2]] + [(0, 0)]

    def blocks(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, pad)
        return x[0::2, 0::2] + x[1::2, 0::2] + x[0::2, 1::2] + x[1::2, 1::2]

    total, total_weight = blocks(weighted), blocks(weight)
    limited = np.minimum(total_weight, 1.0)
    return total * (limited / np.maximum(total_weight, 1e-12)), limited


def _doubled(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear upsampling of ``coarse`` to ``height × width``, the border clamped."""
    for axis, size in ((0, height), (1, width)):
        position = (np.arange(size) + 0.5) / 2.0 - 0.5
        first = np.floor(position).astype(np.int64)
        fraction = (position - first).reshape([-1 if k == axis else 1 for k in range(3)])
        limit = coarse.shape[axis] - 1
        a = np.take(coarse, np.clip(first, 0, limit), axis=axis)
        b = np.take(coarse, np.clip(first + 1, 0, limit), axis=axis)
        coarse = a + (b - a) * fraction
    return coarse
