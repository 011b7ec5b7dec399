"""How far maps are from what the words of a prompt mean: nobody else's truth is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.colour import luminance_of
from stspbr.priors.vocabulary import Caption, Ranges, Vocabulary

TOLERANCE = {"albedo": 0.10, "roughness": 0.12, "metallic": 0.15}
"""How far outside its range a point still counts as one of a material of a pattern."""


def prompt_error(
    caption: Caption, vocabulary: Vocabulary, albedo: np.ndarray, roughness: np.ndarray, metallic: np.ndarray
) -> dict[str, Any]:
    """Distances of surface averages to the ranges of the caption's words.

    Args:
        albedo: ``[N, 3]`` linear, at points even over the surface; roughness, metallic: ``[N]``.

    Returns:
        Of one material: the ``mean`` values, their distance (``albedo``: largest of the channels, ``roughness``,
        ``metallic``; 0 inside), and whether metallic is on the ``right_side`` of 0.5. Of two: the ``shares`` of points
        that are within ``TOLERANCE`` of the first, of the second, and of either.
    """
    ranges = vocabulary.ranges(caption.first)
    if caption.second is None:
        mean = albedo.mean(0), float(roughness.mean()), float(metallic.mean())
        right = (mean[2] > 0.5) == (caption.first.base.metallic > 0.5)
        values = {"albedo": mean[0].tolist(), "roughness": mean[1], "metallic": mean[2]}
        return {"mean": values, **ranges.distance(*mean), "right_side": bool(right)}
    first, second = (_within(own, albedo, roughness, metallic) for own in (ranges, vocabulary.ranges(caption.second)))
    shares = {"first": first.mean(), "second": second.mean(), "either": (first | second).mean()}
    return {"shares": {name: float(value) for name, value in shares.items()}}


def light_in_albedo(albedo: np.ndarray, irradiance: np.ndarray) -> dict[str, float]:
    """How much the albedo ``[N, 3]`` follows the mean irradiance ``[N]`` over the surface.

    Returns:
        ``correlation`` of the luminances, and ``spread``, the standard deviation of the albedo's relative to its mean:
        without spread a correlation says nothing.
    """
    grey = luminance_of(albedo)
    spread = float(grey.std() / max(float(grey.mean()), 1e-8))
    if grey.std() < 1e-6 or irradiance.std() < 1e-6:
        return {"correlation": 0.0, "spread": spread}
    return {"correlation": float(np.corrcoef(grey, irradiance)[0, 1]), "spread": spread}


def _within(ranges: Ranges, albedo: np.ndarray, roughness: np.ndarray, metallic: np.ndarray) -> np.ndarray:
    """``[N]`` bool: the points that are near the ranges in everything."""
    low, high = ranges.albedo
    near = (np.maximum(low - albedo, albedo - high).max(1) <= TOLERANCE["albedo"]).astype(bool)
    for name, values, span in (("roughness", roughness, ranges.roughness), ("metallic", metallic, ranges.metallic)):
        near &= np.maximum(span[0] - values, values - span[1]) <= TOLERANCE[name]
    return near
