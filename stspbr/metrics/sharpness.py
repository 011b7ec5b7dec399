"""How sharp a photograph of an object is, and how much it therefore counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from stspbr.colour import linear_to_srgb, luminance_of

_MID_GREY = 0.18
_LEAST_PIXELS = 16
SHARP = 0.6
"""Share of the usual sharpness from which a photograph counts in full: the object's own sides differ by as much."""
_LEAST_WEIGHT = 0.1


def sharpness(image: np.ndarray, alpha: np.ndarray) -> float | None:
    """Variance of the Laplacian of the display-encoded luminance inside the mask; None: too little is inside.

    Its median is brought to mid-grey first, so that exposure does not count, and two pixels at the outline are left
    out, which is sharp even where the photograph is not.

    Args:
        image: ``[H, W, 3]`` linear; alpha: ``[H, W, 1]`` coverage in [0, 1].
    """
    inside = ndimage.binary_erosion(alpha[..., 0] > 0.99, iterations=2, border_value=1)
    luminance = luminance_of(image)
    values = luminance[inside]
    if values.size < _LEAST_PIXELS:
        return None
    middle = float(np.median(values))
    if middle <= 0.0:
        return None
    seen = linear_to_srgb(np.clip(luminance * (_MID_GREY / middle), 0.0, 1.0))
    return float(np.var(ndimage.laplace(seen, mode="nearest")[inside]))


def sharpness_weights(values: Sequence[float | None]) -> np.ndarray:
    """``[V]`` in [0.1, 1]: how much each photograph counts, given their sharpness; 1 where nothing is known.

    In proportion to the sharpness over the median of all, from ``SHARP`` of that on in full.
    """
    known = [value for value in values if value is not None]
    usual = float(np.median(known)) if known else 0.0
    if usual <= 0.0:
        return np.ones(len(values))
    ratios = np.array([1.0 if value is None else value / usual for value in values])
    return np.clip(ratios / SHARP, _LEAST_WEIGHT, 1.0)
