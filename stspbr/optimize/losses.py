"""The one table of image losses, weighted sums of them, and the terms for coverage and smoothness.

Colours are linear radiance and enter every loss clamped to [0, 65535], the range of half floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as functional
from torch import Tensor

from stspbr.errors import StspbrError, did_you_mean

MAXIMUM_RADIANCE = 65535.0
SMAPE_EPSILON = 0.01
RELMSE_EPSILON = 0.01  # as a fraction of the exposure
DARKEST_METAL = 1.0 / 3.0  # luminance of the albedo; bare metals lie above (Lagarde 2011, Hoffman 2013)
MSSSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, section 3.2
MSSSIM_WINDOW = 11
MSSSIM_SIGMA = 1.5


@dataclass(frozen=True)
class LossFunction:
    """One entry of the table.

    ``function(rendered, target, exposure)`` gets clamped radiance of equal shapes. It returns the error of each
    element (same shape), or, where ``whole_image`` is set, one error for each image of [B,H,W,C].
    """

    function: Callable[[Tensor, Tensor, Tensor | float], Tensor]
    whole_image: bool = False

    def __call__(self, rendered: Tensor, target: Tensor, exposure: Tensor | float = 1.0) -> Tensor:
        return self.function(clamp_radiance(rendered), clamp_radiance(target), exposure)


def clamp_radiance(radiance: Tensor) -> Tensor:
    """Radiance limited to [0, 65535]; outside the limits there is no gradient, NaN stays NaN."""
    return radiance.clamp(0.0, MAXIMUM_RADIANCE)


def tonemap(radiance: Tensor) -> Tensor:
    """T(x) = sRGB(ln(x + 1)) of radiance >= 0, any shape; 0 to 0 and 1 to 0.85. Its slope at 0 is 12.92."""
    logarithm = torch.log1p(radiance)
    # The power's argument is kept off 0, where its slope is infinite and `where` would turn it into NaN.
    curve = 1.055 * logarithm.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(logarithm > 0.0031308, curve, 12.92 * logarithm)


def tonemap_slope(radiance: Tensor) -> Tensor:
    """dT/dx of ``tonemap`` at radiance >= 0, any shape."""
    logarithm = torch.log1p(radiance)
    curve = 1.055 / 2.4 * logarithm.clamp(min=0.0031308).pow(1 / 2.4 - 1.0)
    return torch.where(logarithm > 0.0031308, curve, 12.92) / (1.0 + radiance)


def measure_exposure(target: Tensor) -> Tensor:
    """The squared radiance that is typical of the covered ``target`` pixels [..., C]; a scalar tensor.

    The square of the power mean with exponent 1/2, (mean sqrt(y))^4. Scaling the light by s scales it by s², like
    mean(y²), but a few highlights thousands of times brighter than the rest do not decide it.
    """
    return clamp_radiance(target).sqrt().mean().pow(4)


def _mse(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return (rendered - target).square()


def _l1(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return (rendered - target).abs()


def _smape(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return (rendered - target).abs() / (rendered + target + SMAPE_EPSILON)


def _relmse(rendered: Tensor, target: Tensor, exposure: Tensor | float) -> Tensor:
    # A fixed epsilon as large as 0.1 would make this plain MSE wherever paint is dark.
    epsilon = RELMSE_EPSILON * exposure + 1e-20
    return (rendered - target).square() / (rendered.square() + target.square() + epsilon)


def _logl1(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return (tonemap(rendered) - tonemap(target)).abs()


def _logl2(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return (tonemap(rendered) - tonemap(target)).square()


def _msssim(rendered: Tensor, target: Tensor, _: Tensor | float) -> Tensor:
    return 1.0 - ms_ssim(tonemap(rendered), tonemap(target))


_losses = {
    "mse": LossFunction(_mse),
    "l1": LossFunction(_l1),
    "smape": LossFunction(_smape),
    "relmse": LossFunction(_relmse),
    "logl1": LossFunction(_logl1),
    "logl2": LossFunction(_logl2),
    "msssim": LossFunction(_msssim, whole_image=True),
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
    """A weighted sum of entries of the table.

    Args:
        terms: name to weight, e.g. ``{"logl1": 0.35, "smape": 0.15}``; terms of weight 0 are left out.

    Raises:
        StspbrError: no terms, an unknown name, or a weight that is negative or not finite.
    """

    def __init__(self, terms: Mapping[str, float]) -> None:
        for name, weight in terms.items():
            if name not in LOSSES:
                raise StspbrError(f"unknown loss {name!r}; there are {', '.join(LOSSES)}{did_you_mean(name, LOSSES)}")
            if not math.isfinite(weight) or weight < 0:
                raise StspbrError(f"loss {name}: weight {weight} is not a finite number >= 0")
        self.terms = {name: float(weight) for name, weight in terms.items() if weight > 0}
        if not self.terms:
            raise StspbrError(f"a composite loss needs a term with a weight above 0; there are {', '.join(LOSSES)}")
        self._functions = {name: LOSSES[name] for name in self.terms}

    @property
    def needs_images(self) -> bool:
        """Whether a term compares whole images, which ``__call__`` then demands."""
        return any(function.whole_image for function in self._functions.values())

    def __call__(
        self,
        rendered: Tensor,
        target: Tensor,
        normalizer: Tensor | float,
        exposure: Tensor | float,
        *,
        saturation: Tensor | float | None = None,
        images: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare pixels, and whole images where a term asks for them.

        Args:
            rendered, target: [..., C] linear radiance of the same pixels: the union of both coverages. The caller
                has weighted them by their coverage.
            normalizer: what sums over pixels are divided by: the target's coverage in pixels, times C. An object
                that covers more pixels than it should is thus not rewarded by a larger divisor. At least 1 is used.
            exposure: ``measure_exposure`` of the capture, in radiance²; scales the epsilon of relmse.
            saturation: radiance (broadcastable to the pixels) at which the target's sensor clips: where both are
                at or above it there is no error.
            images: (rendered, target) [B,H,W,C], and where it clips (saturation) [B,1,1,1]; whole-image terms are the
                mean over B and are not divided.

        Returns:
            The weighted sum, and each term's value without its weight, detached.
        """
        rendered, target = _prepare(rendered, target, saturation)
        divisor = normalizer.clamp(min=1.0) if isinstance(normalizer, Tensor) else max(float(normalizer), 1.0)
        values: dict[str, Tensor] = {}
        for name, function in self._functions.items():
            if not function.whole_image:
                values[name] = function.function(rendered, target, exposure).sum() / divisor
            elif images is None:
                raise StspbrError(f"the loss {name} compares whole images; CompositeLoss was called without images")
            else:
                values[name] = function.function(*_prepare(*images), exposure).mean()
        total = sum((self.terms[name] * value for name, value in values.items()), rendered.new_zeros(()))
        return total, {name: value.detach() for name, value in values.items()}


def _prepare(rendered: Tensor, target: Tensor, saturation: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
    """Both clamped, with ``rendered`` replaced by the target where both are saturated."""
    rendered, target = clamp_radiance(rendered), clamp_radiance(target)
    if saturation is not None:
        rendered = torch.where((target >= saturation) & (rendered >= saturation), target, rendered)
    return rendered, target


def mask_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of coverage [..., H,W,1] in [0, 1] over whole images; a scalar."""
    return (rendered - target).square().mean()


def metal_prior(metallic: Tensor, albedo: Tensor) -> Tensor:
    """Dielectric first: the mean of metallic where the albedo is too dark for a metal; a scalar in [0, 1].

    A dielectric reflects 4 % of the light at normal incidence, a metal its albedo: a black dielectric and a metal of
    albedo 0.04 are the same surface, and no image tells them apart. Real metals reflect more than a third, so
    metallic is charged by 1 − L/⅓ where the luminance L of the albedo is below ⅓, and not at all above.

    Args:
        metallic: [..., 1] in [0, 1]; albedo: [..., 3] linear, a constant here.
    """
    return (metallic * (1.0 - metal_likeness(albedo.detach()))).mean()


def metal_likeness(albedo: Tensor) -> Tensor:
    """min(1, L/⅓) of the luminance L of linear albedo ``[..., 3]``; ``[..., 1]``: 1 where metals are as bright."""
    red, green, blue = albedo.split(1, dim=-1)
    return ((0.2126 * red + 0.7152 * green + 0.0722 * blue) / DARKEST_METAL).clamp(max=1.0)


def smoothness(values: Tensor, jittered: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference between a field at points and at their jittered neighbours; a scalar.

    Args:
        values, jittered: [..., C] samples of the field.
        weights: [..., 1] or [...] weight of each point (e.g. its coverage), constant; normalised to sum to 1.
    """
    difference = (values - jittered).abs().mean(dim=-1)
    if weights is None:
        return difference.mean()
    weights = weights.reshape(difference.shape)
    return (difference * weights).sum() / weights.sum().clamp(min=1e-12)


def msssim_scales(height: int, width: int) -> int:
    """Number of scales that MS-SSIM uses on images of this size: 5 from 176 pixels, fewer below, at least 1.

    Each scale halves the image, and the coarsest must still hold the 11 × 11 window.

    Raises:
        StspbrError: the image is smaller than the window.
    """
    scales = sum(min(height, width) >> scale >= MSSSIM_WINDOW for scale in range(len(MSSSIM_WEIGHTS)))
    if scales == 0:
        size = f"{height} x {width}"
        raise StspbrError(f"ms-ssim needs images of at least {MSSSIM_WINDOW} pixels a side, not {size}")
    return scales


def ms_ssim(images: Tensor, references: Tensor, data_range: float = 1.0) -> Tensor:
    """Multi-scale structural similarity of [B,H,W,C] images; [B], 1 where they are equal.

    Wang, Simoncelli, Bovik 2003, equation 7, with a Gaussian 11 × 11 window of sigma 1.5 without padding (torchmetrics
    counts a reflected border in at the coarsest scale, and so differs in the second or third digit). On small
    images the coarse scales are left out (``msssim_scales``) and the weights of the others made to sum to 1 again.
    Negative means of a scale count as 1e-6, where the powers are still differentiable.

    Args:
        data_range: white minus black. Our tonemapped radiance has 1 at a radiance of 1.7.
    """
    batch, height, width, channels = images.shape
    scales = msssim_scales(height, width)
    weights = [weight / sum(MSSSIM_WEIGHTS[:scales]) for weight in MSSSIM_WEIGHTS[:scales]]
    x = images.permute(0, 3, 1, 2).reshape(batch * channels, 1, height, width)
    y = references.permute(0, 3, 1, 2).reshape(batch * channels, 1, height, width)
    result = images.new_ones(batch)
    for scale, weight in enumerate(weights):
        luminance, structure = _ssim_maps(x, y, data_range)
        similarity = structure if scale < scales - 1 else luminance * structure
        mean = similarity.reshape(batch, -1).mean(dim=1)
        result = result * mean.clamp(min=1e-6).pow(weight)
        if scale < scales - 1:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return result


def _ssim_maps(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps of SSIM for [N,1,H,W] images."""
    offsets = torch.arange(MSSSIM_WINDOW, dtype=x.dtype, device=x.device) - (MSSSIM_WINDOW - 1) / 2
    kernel = torch.exp(-offsets.square() / (2 * MSSSIM_SIGMA**2))
    kernel = kernel / kernel.sum()

    def blur(image: Tensor) -> Tensor:
        rows = functional.conv2d(image, kernel.reshape(1, 1, -1, 1))
        return functional.conv2d(rows, kernel.reshape(1, 1, 1, -1))

    mean_x, mean_y, mean_xx, mean_yy, mean_xy = blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # Rounding can make the variance of a flat patch slightly negative.
    variance = (mean_xx - mean_x.square()).clamp(min=0) + (mean_yy - mean_y.square()).clamp(min=0)
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance, (2 * covariance + c2) / (variance + c2)
