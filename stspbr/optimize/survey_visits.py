"""Which points the survey asks again: those of whose metallic the views leave much open, by its posterior.

Each cell is taken for a texel that shows what the networks say there, and the posterior of ``confidence`` is formed
from the pixels in it. A point is worth a visit if two standard deviations of metallic reach to the other kind; if there
are more such points than the survey can ask, they are drawn in proportion to their std.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.optimize.confidence import OF_MEAN, jacobian_of, pixel_weights
from stspbr.optimize.losses import tonemap
from stspbr.optimize.observations import Cells, Observations
from stspbr.optimize.posterior import PRIOR_STD, variances
from stspbr.optimize.views import step_generator

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_REACH = 2.0  # standard deviations


@torch.no_grad()
def metallic_std(problem: Reconstruction, seen: Observations, own: Tensor, cells: Cells) -> Tensor:
    """``[U]``: the posterior's standard deviation of each cell's metallic, if all of it is what its points say.

    Args:
        own: ``[N, 5]`` albedo in units of the light, roughness, metallic of the networks at ``seen``.
        cells: of the points of ``seen``.
    """
    transport = None if problem.transport is None else problem.transport.transport
    jacobian, value = jacobian_of(seen, own, problem.light.prefiltered(), problem.backend.texture, transport)

    def summed(values: Tensor) -> Tensor:
        return values.new_zeros(cells.count, values.shape[1]).index_add_(0, cells.owner, values)

    def around(size: Tensor) -> Tensor:
        sums = summed(torch.cat([torch.ones_like(size), size], dim=1))
        return OF_MEAN * (sums[:, 1:] / sums[:, :1]).index_select(0, cells.owner)

    residual = tonemap(seen.radiance) - tonemap(value)
    weight = pixel_weights(seen, own, value, residual, len(problem.views), around)[1]
    return variances(summed(jacobian.information(weight)))[:, 4].sqrt().to(own.dtype)


def reaching(metallic: Tensor, std: Tensor) -> Tensor:
    """``[N]`` bool: whether two standard deviations of metallic ``[N]`` reach beyond the middle between the kinds."""
    return (metallic - 0.5).abs() < _REACH * std


def drawn_by(std: Tensor, most: int, seed: int) -> Tensor:
    """Indices of points, in order: all, or about ``most``, each with a chance in proportion to its ``std [N]``."""
    count = len(std)
    if count <= most:
        return torch.arange(count, device=std.device)
    share = std.clamp(min=1e-3 * PRIOR_STD[4])
    chance = torch.rand(count, generator=step_generator(1, seed, std.device), device=std.device)
    return torch.nonzero(chance < share * (most / share.sum())).squeeze(1)
