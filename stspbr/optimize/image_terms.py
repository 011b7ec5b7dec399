"""Images against photographs: the mask term and the colour terms of both networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stspbr.optimize.losses import CompositeLoss, mask_loss
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.optimize.views import FULL_COVERAGE, Targets
from stspbr.settings import LossSettings

Pixels = tuple[Tensor, Tensor, Tensor, Tensor]  # radiance rendered and photographed, where that clips, weights


class ImageTerms:
    """The losses that compare renders with photographs.

    Args:
        losses: weights and regions.
        joint: whether one network has all channels; one_loss: whether one colour term drives everything.
        exposure: of the views, as ``CompositeLoss`` takes it.
    """

    def __init__(self, losses: LossSettings, *, joint: bool, one_loss: bool, exposure: float) -> None:
        self._losses, self._joint, self._one_loss, self._exposure = losses, joint, one_loss, exposure
        self._colour_a = CompositeLoss(losses.joint if joint else losses.appearance)
        self._colour_b = None if one_loss else CompositeLoss(losses.reflectance)

    def of(
        self, image: Tensor, targets: Targets, coverage: Tensor | None = None, weight: Tensor | None = None
    ) -> list[Term]:
        """Mask over the whole image; colour over the union of both coverages, divided by the target's.

        Args:
            image: ``[B, H, W, 4]`` rendered radiance over black, and coverage.
            coverage: of the target in pixels, if these are not all images of the batch.
            weight: ``[B, H, W, 1]`` of each pixel's colour; None: 1.
        """
        losses, alpha = self._losses, image[..., 3:]
        terms = []
        if alpha.requires_grad and losses.mask > 0:
            value = losses.mask * mask_loss(alpha, targets.alpha, targets.known)
            terms.append(Term("mask", value, STRICT_A, closed=True))
        union = torch.nonzero(((alpha.detach() > 0) | (targets.alpha > 0)).reshape(-1)).squeeze(1)
        coverage = targets.alpha.sum() if coverage is None else coverage

        def listed(values: Tensor) -> Tensor:
            return values.reshape(-1, values.shape[-1]).index_select(0, union)

        every = (
            listed(image)[:, :3],
            listed(targets.image),
            listed(targets.saturation.expand_as(targets.alpha)),
            alpha.new_ones(1, 1) if weight is None else listed(weight),
        )

        def region(name: str) -> Pixels:
            if name == "union":
                return every
            full = listed(torch.minimum(alpha.detach(), targets.alpha))[:, 0] > FULL_COVERAGE
            inside = torch.nonzero(full).squeeze(1)
            a, b, c, d = (v if len(v) == 1 else v.index_select(0, inside) for v in every)
            return a, b, c, d

        images = (image[..., :3], targets.image, targets.saturation)
        return terms + self.of_pixels(region, (coverage * 3.0).clamp(min=1.0), images)

    @property
    def pixelwise(self) -> bool:
        """Whether the colour losses are sums over pixels: none compares whole images."""
        return not any(own is not None and own.needs_images for own in (self._colour_a, self._colour_b))

    @torch.no_grad()
    def by_pixel(self, image: Tensor, targets: Targets, coverage: Tensor, weight: Tensor | None = None) -> Tensor:
        """``[B, H, W, 1]``: what each pixel adds to those colour losses of ``of`` that are sums over pixels.

        Args:
            image, targets, coverage, weight: as ``of`` takes them.
        """
        losses, total = self._losses, torch.zeros_like(targets.alpha)
        inside = torch.minimum(image[..., 3:], targets.alpha) > FULL_COVERAGE
        regions = (losses.appearance_region, losses.reflectance_region)
        for composite, where in zip((self._colour_a, self._colour_b), regions, strict=True):
            if composite is not None:
                values = composite.of_each(image[..., :3], targets.image, self._exposure, targets.saturation)
                total += values if where == "union" else values * inside
        total = total if weight is None else total * weight
        return total / (coverage * 3.0).clamp(min=1.0)

    @torch.no_grad()
    def by_view(self, image: Tensor, targets: Targets, weight: Tensor | None = None) -> Tensor:
        """``[B]``: the colour losses of each view, per covered pixel of it.

        Args:
            image, targets, weight: as ``of`` takes them; the losses are sums over pixels (``pixelwise``).
        """
        each = self.by_pixel(image, targets, image.new_ones(()), weight)
        return each.flatten(1).sum(1, dtype=torch.float64) / targets.alpha.flatten(1).sum(1).clamp(min=1.0)

    def of_pixels(
        self,
        region: Callable[[str], Pixels],
        normalizer: Tensor | float,
        images: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> list[Term]:
        """The losses of A and of B (or of both at once) over the pixels of their regions.

        Args:
            region: the pixels of a region of ``LossSettings``; images: as ``CompositeLoss`` takes them.
        """
        losses = self._losses

        def colour(composite: CompositeLoss, name: str, drives: frozenset[str], where: str) -> Term:
            rendered, target, clipped, weight = region(where)
            total, parts = composite(
                rendered, target, normalizer, self._exposure, saturation=clipped, weight=weight,
                images=images if composite.needs_images else None,
            )  # fmt: skip
            return Term(name, total, drives, parts)

        driven = STRICT_A | STRICT_B if self._one_loss else STRICT_A
        terms = [colour(self._colour_a, "joint" if self._joint else "A", driven, losses.appearance_region)]
        if self._colour_b is not None:
            terms.append(colour(self._colour_b, "B", STRICT_B, losses.reflectance_region))
        return terms
