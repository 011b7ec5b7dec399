"""Which pixels a texel's values come from: exact shares of its variance, and the direction in which each pixel pulls.

Since Σ Λ Σ = Σ, and Λ is a sum over pixels and the prior, a texel's variance is a sum of their shares: share_i of a
parameter c is w_i q_i (Σ JᵀJ Σ)_cc / Σ_cc, the prior's is (Σ Λ₀ Σ)_cc / Σ_cc, and together they are 1. The pull of a
pixel is its part of Σ Jᵀ r, what it would add to the parameter. For several texels variances and pulls are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.optimize.confidence import Evidence
from stspbr.optimize.posterior import CHANNELS, covariance, outer, prior, quadratic

FEW = 16
"""Texels up to which the sums are formed in double precision, each from its own pixels."""


@dataclass
class Influence:
    """Where one channel of a set of texels comes from.

    Attributes:
        share: ``[N]`` in [0, 1] of each pixel of the evidence; prior: that of the prior. The sum of all is 1.
        pull: ``[N]`` signed, in units of the channel, mean over the texels (and over the three colours of albedo).
        std: root mean square of the posterior's standard deviations over the texels.
    """

    share: Tensor
    prior: float
    pull: Tensor
    std: float

    def by_view(self, view: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """``[count]`` share and pull of each view; ``view [N]`` int64 is each pixel's."""
        zero = self.share.new_zeros(count)
        return zero.index_add(0, view, self.share), zero.index_add(0, view, self.pull)


@torch.no_grad()
def influence(evidence: Evidence, information: Sequence[Tensor], chosen: Sequence[Tensor], channel: str) -> Influence:
    """Where ``channel`` of the texels ``chosen`` comes from.

    Args:
        information: ``[H, W, 12]`` per material; chosen: ``[H, W]`` bool per material, at least one true in all.
        channel: one of ``posterior.CHANNELS``.
    """
    parameters = CHANNELS[channel]
    if sum(int(mask.sum()) for mask in chosen) <= FEW:
        return _of_few(evidence, chosen, parameters)
    squares, vectors = [], []
    total = own = 0.0
    count = sum(int(mask.sum()) for mask in chosen)
    for packed, mask in zip(information, chosen, strict=True):
        columns = covariance(packed[mask])[..., list(parameters)].transpose(-1, -2)  # [T, P, 5]
        total += float(sum(columns[:, k, c].sum() for k, c in enumerate(parameters)))
        own += float(quadratic(prior(columns), columns).sum())
        square, vector = packed.new_zeros(packed.shape), packed.new_zeros(*packed.shape[:-1], 5)
        square[mask] = outer(columns).sum(1).to(packed.dtype)
        vector[mask] = (columns.mean(1) / count).to(packed.dtype)
        squares.append(square)
        vectors.append(vector)
    share = (evidence.reads.lookup(squares) * evidence.information()).sum(1) / total
    pull = (evidence.reads.lookup(vectors) * evidence.pull()).sum(1)
    return Influence(share, own / total, pull, (total / (count * len(parameters))) ** 0.5)


def _of_few(evidence: Evidence, chosen: Sequence[Tensor], parameters: Sequence[int]) -> Influence:
    """As ``influence``, texel by texel from its own pixels in double precision: single floats cancel in Σ JᵀJ Σ."""
    share, pull = (torch.zeros(len(evidence.pixel), dtype=torch.float64, device=evidence.weight.device) for _ in "ab")
    own, total, count = 0.0, 0.0, 0
    for number, mask in enumerate(chosen):
        for row, column in torch.nonzero(mask).tolist():
            only = [torch.zeros(*part.shape, 1, device=part.device) for part in chosen]
            only[number][row, column] = 1.0
            weight = evidence.reads.lookup(only)[:, 0].double()
            at = torch.nonzero(weight).squeeze(1)
            jacobian, precision = evidence.jacobian.at(at).double(), weight[at, None] * evidence.weight[at].double()
            columns = covariance(jacobian.information(precision).sum(0))[:, list(parameters)].T  # [P, 5]
            total += float(sum(columns[k, c] for k, c in enumerate(parameters)))
            own += float(quadratic(prior(columns), columns).sum())
            share[at] += (jacobian.information(precision) @ outer(columns).sum(0)[:, None])[:, 0]
            pull[at] += jacobian.transposed(precision * evidence.residual[at].double()) @ columns.mean(0)
            count += 1
    like = evidence.weight.dtype
    return Influence(
        (share / total).to(like), own / total, (pull / count).to(like), (total / (count * len(parameters))) ** 0.5
    )
