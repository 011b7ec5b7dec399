"""The one table of image losses, weighted sums of them, and the terms for coverage and smoothness.

Colours are linear radiance and enter every loss clamped to [0, 65535], the range of half floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from stspbr.errors import StspbrError, did_you_mean
from stspbr.metrics.similarity import ms_ssim
from stspbr.optimize.evidence import log_odds_against

MAXIMUM_RADIANCE = 65535.0
SMAPE_EPSILON = 0.01
RELMSE_EPSILON = 0.01  # as a fraction of the exposure


@dataclass(frozen=True)
class LossFunction:
    """One entry of the table.

    ``function(rendered, target, exposure)`` gets clamped radiance of equal shapes. It returns the error of each
    element (same shape) or, if ``whole_image`` is set, one error per image of [B,H,W,C].
    """

    function: Callable[[Tensor, Tensor, Tensor | float], Tensor]
    whole_image: bool = False

    def __call__(self, rendered: Tensor, target: Tensor, exposure: Tensor | float = 1.0) -> Tensor:
        return self.function(clamp_radiance(rendered), clamp_radiance(target), exposure)


def clamp_radiance(radiance: Tensor) -> Tensor:
    """Radiance clamped to [0, 65535], any shape; no gradient outside, NaN stays NaN."""
    return radiance.clamp(0.0, MAXIMUM_RADIANCE)


def tonemap(radiance: Tensor) -> Tensor:
    """T(x) = sRGB(ln(x + 1)) of radiance >= 0, any shape; T(0) = 0, T(1) = 0.85, and the slope at 0 is 12.92."""
    logarithm = torch.log1p(radiance)
    # clamped because the power's slope at 0 is infinite, which `where` would turn into NaN
    curve = 1.055 * logarithm.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(logarithm > 0.0031308, curve, 12.92 * logarithm)


def tonemap_slope(radiance: Tensor) -> Tensor:
    """dT/dx of ``tonemap`` at radiance >= 0, any shape."""
    logarithm = torch.log1p(radiance)
    curve = 1.055 / 2.4 * logarithm.clamp(min=0.0031308).pow(1 / 2.4 - 1.0)
    return torch.where(logarithm > 0.0031308, curve, 12.92) / (1.0 + radiance)


def measure_exposure(target: Tensor) -> Tensor:
    """Typical squared radiance of the covered ``target`` pixels [..., C]; a scalar tensor.

    The square of the power mean with exponent 1/2, (mean sqrt(y))^4. Scaling the light by s scales it by s², like
    mean(y²), but it is robust against a few highlights thousands of times brighter than the rest.
    """
    return clamp_radiance(target).sqrt().mean().pow(4)


def _relmse(rendered: Tensor, target: Tensor, exposure: Tensor | float) -> Tensor:
    # a fixed epsilon as large as 0.1 would make this plain MSE on dark paint
    epsilon = RELMSE_EPSILON * exposure + 1e-20
    return (rendered - target).square() / (rendered.square() + target.square() + epsilon)


_losses = {
    "mse": LossFunction(lambda x, y, _: (x - y).square()),
    "l1": LossFunction(lambda x, y, _: (x - y).abs()),
    "smape": LossFunction(lambda x, y, _: (x - y).abs() / (x + y + SMAPE_EPSILON)),
    "relmse": LossFunction(_relmse),
    "logl1": LossFunction(lambda x, y, _: (tonemap(x) - tonemap(y)).abs()),
    "logl2": LossFunction(lambda x, y, _: (tonemap(x) - tonemap(y)).square()),
    # the floor keeps a start without likeness optimisable
    "msssim": LossFunction(lambda x, y, _: 1.0 - ms_ssim(tonemap(x), tonemap(y), floor=1e-6), whole_image=True),
}
LOSSES: Mapping[str, LossFunction] = MappingProxyType(_losses)
"""x rendered, y target, T the tonemap: mse (x−y)², l1 |x−y|, smape |x−y|/(x+y+0.01),
relmse (x−y)²/(x²+y²+0.01·exposure), logl1 |T(x)−T(y)|, logl2 (T(x)−T(y))², msssim 1 − MS-SSIM(T(x), T(y)).
Read-only; ``register_loss`` adds to it."""


def register_loss(
    name: str, function: Callable[[Tensor, Tensor, Tensor | float], Tensor], *, whole_image: bool = False
) -> None:
    """Add a loss to the table, so that settings can give it a weight: ``optimize.losses.appearance={name=0.5}``.

    Call it before the stage runs, in every process of a torchrun job.

    Args:
        function, whole_image: see :class:`LossFunction`; the function must be differentiable in ``rendered``.

    Raises:
        StspbrError: the name is taken.
    """
    if name in LOSSES:
        raise StspbrError(f"the loss {name!r} is registered already: choose another name")
    _losses[name] = LossFunction(function, whole_image)


class CompositeLoss:
    """A weighted sum of losses of the table.

    Args:
        terms: weight by name, e.g. ``{"logl1": 0.35, "smape": 0.15}``; terms of weight 0 are left out.

    Raises:
        StspbrError: no terms, an unknown name, or a weight that is negative or not finite.
    """

    def __init__(self, terms: Mapping[str, float]) -> None:
        for name, weight in terms.items():
            if name not in LOSSES:
                choices = f"{', '.join(LOSSES)}{did_you_mean(name, LOSSES)}"
                raise StspbrError(f"unknown loss {name!r}: choose from {choices}")
            if not math.isfinite(weight) or weight < 0:
                raise StspbrError(f"loss {name}: weight {weight} is not a finite number >= 0")
        self.terms = {name: float(weight) for name, weight in terms.items() if weight > 0}
        if not self.terms:
            raise StspbrError(f"a composite loss needs a weight above 0: choose from {', '.join(LOSSES)}")
        self._functions = {name: LOSSES[name] for name in self.terms}

    @property
    def needs_images(self) -> bool:
        """Whether a term compares whole images, which ``__call__`` then needs."""
        return any(function.whole_image for function in self._functions.values())

    def __call__(
        self,
        rendered: Tensor,
        target: Tensor,
        normalizer: Tensor | float,
        exposure: Tensor | float,
        *,
        saturation: Tensor | float | None = None,
        weight: Tensor | float = 1.0,
        images: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare pixels, and whole images if a term needs them.

        Args:
            rendered, target: [..., C] linear radiance of the same pixels, those of the union of both coverages,
                premultiplied by their coverage.
            normalizer: divisor of sums over pixels: the target's coverage in pixels, times C, so that an object that
                covers too many pixels is not rewarded by a larger divisor. At least 1 is used.
            exposure: ``measure_exposure`` of the capture, in radiance²; scales the epsilon of relmse.
            saturation: radiance (broadcastable to the pixels) at which the target's sensor clips: if both values are
                at or above it, the error is 0.
            weight: of each pixel (broadcastable to the pixels); whole-image terms do not use it.
            images: (rendered, target) [B,H,W,C], and their saturation [B,1,1,1]; whole-image terms are the mean over
                B and are not divided.

        Returns:
            The weighted sum, and each term's value without its weight, detached.

        Raises:
            StspbrError: a whole-image term without ``images``.
        """
        rendered, target = _prepare(rendered, target, saturation)
        divisor = normalizer.clamp(min=1.0) if isinstance(normalizer, Tensor) else max(float(normalizer), 1.0)
        values: dict[str, Tensor] = {}
        for name, function in self._functions.items():
            if not function.whole_image:
                values[name] = (weight * function.function(rendered, target, exposure)).sum() / divisor
            elif images is None:
                raise StspbrError(f"the loss {name} compares whole images; CompositeLoss was called without images")
            else:
                values[name] = function.function(*_prepare(*images), exposure).mean()
        total = sum((self.terms[name] * value for name, value in values.items()), rendered.new_zeros(()))
        return total, {name: value.detach() for name, value in values.items()}

    @torch.no_grad()
    def of_each(
        self, rendered: Tensor, target: Tensor, exposure: Tensor | float, saturation: Tensor | float | None = None
    ) -> Tensor:
        """[..., 1]: the weighted sum of each pixel, added over its channels, before it is divided and added up.

        Args:
            rendered, target, exposure, saturation: as ``__call__`` takes them; terms that compare whole images have no
                value of a pixel and are left out.
        """
        rendered, target = _prepare(rendered, target, saturation)
        total = torch.zeros_like(rendered)
        for name, function in self._functions.items():
            if not function.whole_image:
                total += self.terms[name] * function.function(rendered, target, exposure)
        return total.sum(dim=-1, keepdim=True)


def _prepare(rendered: Tensor, target: Tensor, saturation: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
    """Both clamped; ``rendered`` is replaced by the target in pixels in which both are saturated."""
    rendered, target = clamp_radiance(rendered), clamp_radiance(target)
    if saturation is not None:
        rendered = torch.where((target >= saturation) & (rendered >= saturation), target, rendered)
    return rendered, target


def mask_loss(rendered: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean squared difference of coverage [..., H,W,1] in [0, 1] over whole images; a scalar.

    Args:
        known: [..., H,W,1], 0 where the target's mask is unknown; None: it is known everywhere.
    """
    square = (rendered - target).square()
    return square.mean() if known is None else (square * known).mean()


def metal_prior(metallic: Tensor, albedo: Tensor, odds: float) -> Tensor:
    """The mean of metallic, weighted by the log odds against a metal of this albedo; at least 0.

    The rule is that of ``evidence``, which the survey follows, too. Bright surfaces cost nothing.

    Args:
        metallic: [..., 1] in [0, 1]; albedo: [..., 3] linear, which gets no gradient.
        odds: against metals darker than ``evidence.DARK_METAL``, at least 1.
    """
    return (metallic * log_odds_against(albedo.detach(), odds)).mean()


def smoothness(values: Tensor, jittered: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference between a field at points and at their jittered neighbours; a scalar.

    Args:
        values, jittered: [..., C] samples of the field.
        weights: [..., 1] or [...] constant weight of each point (e.g. its coverage); normalised to sum to 1.
    """
    difference = (values - jittered).abs().mean(dim=-1)
    if weights is None:
        return difference.mean()
    weights = weights.reshape(difference.shape)
    return (difference * weights).sum() / weights.sum().clamp(min=1e-12)
