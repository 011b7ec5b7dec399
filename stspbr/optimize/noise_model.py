"""The noise of photographs: the variance a + b·I of a pixel of value I, as it is measured, and what the pixel weighs.

The noise is measured in squares of two by two pixels: the difference of the two diagonals, halved, has the variance of
one pixel, and neither brightness nor a slope changes it. Texture does, so that a low quantile counts and not the mean
(cf. Immerkær 1996, "Fast noise variance estimation"). JPEG's quantisation hides noise: then all pixels weigh the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.losses import clamp_radiance, tonemap_slope

_BINS = 12  # of brightness
_FEWEST = 64  # squares in a bin that counts
_QUANTILE = 0.25  # of the absolute differences: flat squares, if a quarter is flat
_OF_NORMAL = 0.31864  # that quantile of the absolute value of a standard normal
_MODEL_ERROR = 0.02  # of tonemapped radiance: what renders differ from photographs by without any noise
_BELOW_WHITE = 0.9  # clipped pixels have no noise
_MOST = 500_000  # values of one photograph: of more, every so many are enough, and memory is bounded


@dataclass(frozen=True)
class NoiseModel:
    """Variance ``a + b·I`` of linear pixels I as the photographs hold them; both ≥ 0."""

    a: float
    b: float

    def of_means(self, count: int) -> NoiseModel:
        """The noise of means of ``count`` pixels."""
        return self if count == 1 else NoiseModel(self.a / count, self.b / count)

    def variance(self, pixels: Tensor) -> Tensor:
        """Of linear ``pixels``, any shape."""
        return self.a + self.b * pixels.clamp(min=0.0)

    def weight(self, pixels: Tensor) -> Tensor:
        """``[..., 1]`` in (0, 1] of pixels ``[..., 3]``: 1 without noise, falling as 1 / deviation where noise rules.

        The deviation is that of tonemapped radiance, in which images are compared; an absolute error of Laplacian scale
        s has the weight 1 / s.
        """
        pixels = clamp_radiance(pixels)
        deviation2 = tonemap_slope(pixels).square() * self.variance(pixels)
        return _MODEL_ERROR / (_MODEL_ERROR**2 + deviation2.mean(dim=-1, keepdim=True)).sqrt()


def measure_noise(views: Iterable[tuple[Tensor, Tensor]], white: float) -> NoiseModel:
    """The noise of photographs, which are looked at one by one.

    Args:
        views: image ``[H, W, 3]`` (linear, straight inside of the object) and alpha ``[H, W, 1]`` of each.
        white: the value at which they clip.

    Returns:
        The model; ``a = b = 0`` if too few squares lie inside of the object.
    """
    parts = [_squares(own, mask, white) for own, mask in views]
    mean, difference = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    if len(mean) < _FEWEST:
        return NoiseModel(0.0, 0.0)
    edges = np.quantile(mean, np.linspace(0.0, 1.0, _BINS + 1))
    rows = []
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (mean >= low) & (mean <= high)
        if inside.sum() >= _FEWEST:
            rows.append((mean[inside].mean(), (np.quantile(difference[inside], _QUANTILE) / _OF_NORMAL) ** 2))
    return _line(np.array(rows))


def _squares(image: Tensor, alpha: Tensor, white: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and absolute differences ``[N]`` of the squares that the object fills and that do not clip."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    corners = [image[r:height:2, c:width:2] for r in (0, 1) for c in (0, 1)]
    covered = torch.stack([alpha[r:height:2, c:width:2, 0] for r in (0, 1) for c in (0, 1)]).amin(0)
    stacked = torch.stack(corners)
    difference = 0.5 * (corners[0] - corners[1] - corners[2] + corners[3]).abs()
    good = (covered > 0.999)[..., None] & (stacked.amax(0) < _BELOW_WHITE * white)
    step = max(1, -(-int(good.sum()) // _MOST))
    means, differences = (values[good][::step].double().cpu().numpy() for values in (stacked.mean(0), difference))
    return means, differences


def _line(rows: np.ndarray) -> NoiseModel:
    """``a`` and ``b`` ≥ 0 of variances (second column) over values (first), equal relative errors counting alike."""
    if len(rows) == 0 or rows[:, 1].max() <= 0:
        return NoiseModel(0.0, 0.0)
    from scipy.optimize import nnls

    weight = 1.0 / np.maximum(rows[:, 1], 0.05 * rows[:, 1].max())
    matrix = np.stack([np.ones(len(rows)), rows[:, 0]], axis=1) * weight[:, None]
    (a, b), _ = nnls(matrix, rows[:, 1] * weight)
    return NoiseModel(float(a), float(b))
