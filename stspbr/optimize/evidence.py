"""Metal or not: the one rule by which the images and the prior decide, for the survey and for the loss.

The images speak as a likelihood ratio: the errors of the best metal and of the best non-metal, in units of the noise
that the errors themselves show, over the number of independent looks. The prior speaks as odds against dark metals.
Both are natural logarithms here and are added. The prior counts for no more than a clear ratio does, so that it
decides only where the images do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stspbr.colour import luminance_of

CLEAR = 100.0
"""Likelihood ratio from which the images have decided: no prior is stronger."""
DARK_METAL, DARKEST_METAL = 0.1, 1.0 / 3.0
"""Albedo luminances: the prior's odds hold below the first; above the second, as bare metals are (Lagarde 2011,
Hoffman 2013), metal and non-metal are equally likely."""
SHADES = (0.13, 0.4)
"""Limits of albedo luminance between dark, medium and bright: a piece of the surface has one of the three."""
F0_RANGE = (0.03, 0.044)
"""Reflectances at normal incidence that a non-metal is allowed, in place of 0.04: dust, wear and oils dim a highlight
more often than anything brightens it, so that a highlight within them proves no metal."""


def log_odds_against(albedo: Tensor, odds: float) -> Tensor:
    """ln of the odds against a metal of linear ``albedo`` ``[..., 3]``; ``[..., 1]``, from 0 to ln ``CLEAR``.

    Args:
        odds: against a metal darker than ``DARK_METAL``, at least 1; they fall to 1 at ``DARKEST_METAL``, linearly in
            the logarithm of the luminance. More than ``CLEAR`` counts as ``CLEAR``.
    """
    luminance = luminance_of(albedo)[..., None].clamp(min=1e-6)
    range_ = math.log(DARKEST_METAL / DARK_METAL)
    share = ((math.log(DARKEST_METAL) - luminance.log()) / range_).clamp(0.0, 1.0)
    return share * math.log(min(odds, CLEAR))


def log_likelihood_ratio(dielectric: Tensor, metal: Tensor, noise: Tensor | float, looks: Tensor) -> Tensor:
    """ln of how much likelier the looks are if the point is metal; > 0 speaks for metal. Any shape.

    Errors are Gaussian with an unknown scale of at least ``noise``; each explanation has the scale that suits it best.
    Where both errors are above ``noise``, the ratio of the likelihoods is that of the errors to the power of the looks.

    Args:
        dielectric, metal: root mean square errors of the best non-metal and of the best metal, noise included.
        noise: error that is always there, in the same unit.
        looks: number of independent looks.
    """

    def surprise(error: Tensor) -> Tensor:
        """- ln of the largest likelihood of one look, up to a constant."""
        scale = error.clamp(min=noise)
        return scale.log() + 0.5 * (error / scale).square()

    return looks * (surprise(dielectric) - surprise(metal))


def effective_looks(count: Tensor, looks: Tensor, correlation: Tensor | float) -> Tensor:
    """Number of independent observations among ``count`` that belong to ``looks`` looks (Kish's design effect).

    Args:
        correlation: of two errors within one look, in [0, 1]: at 1 a look counts once, however many pixels it has.
    """
    each = (count / looks.clamp(min=1.0)).clamp(min=1.0)
    return looks * each / (1.0 + (each - 1.0) * correlation)


def correlation_within(error: Tensor, group: Tensor) -> Tensor:
    """Mean correlation in [0, 1] of the signed ``error`` ``[N]`` of pairs in one group; ``group`` ``[N]`` int64.

    1 if no group has two members: nothing is known to be independent.
    """
    _, owner = torch.unique(group, return_inverse=True)
    groups = int(owner.max()) + 1 if len(owner) else 0
    count = error.new_zeros(groups).index_add_(0, owner, torch.ones_like(error))
    total = error.new_zeros(groups).index_add_(0, owner, error)
    power = error.new_zeros(groups).index_add_(0, owner, error.square())
    possible = ((count - 1.0) * power).sum()
    shared = (total.square() - power).sum() / possible.clamp(min=1e-30)
    return torch.where(possible > 0, shared.clamp(0.0, 1.0), torch.ones_like(shared))


def confidence(ratio: Tensor) -> Tensor:
    """How sure the images are of the likelier kind, in [0, 1): 2p − 1 of its probability at even odds. Any shape."""
    return (0.5 * ratio.abs()).tanh()


def is_clear(ratio: Tensor) -> Tensor:
    """Whether the images alone decide, given the logarithm of the likelihood ratio; bool of the same shape."""
    return ratio.abs() >= math.log(CLEAR)
