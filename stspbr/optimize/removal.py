"""How the maps would change without one of the views: the step to the best maps of all views, and of all but one.

A texel's own 5×5 matrix takes its neighbours for moving along with it. A photograph that is finer or coarser than the
maps does not: texels that share pixels are fitted against each other, and what one gives up another takes. So the whole
problem is solved here, (Wᵀ Jᵀ q J W + Λ₀) δ = Wᵀ Jᵀ q r, with the weights W of the texture filters and q of a robust
loss, which are held, by conjugate gradients (Hestenes and Stiefel 1952), preconditioned by the texels' own matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stspbr.optimize.confidence import Evidence
from stspbr.optimize.posterior import PRIOR_STD, covariance

STEPS = 60
"""Of conjugate gradients, at most."""
_ENOUGH = 1e-4  # of the residual at the start, in the preconditioner's norm
_ROWS = 1 << 17  # texels whose matrices are inverted at a time


@torch.no_grad()
def without_view(evidence: Evidence, information: Sequence[Tensor], view: int, steps: int = STEPS) -> list[Tensor]:
    """``[H, W, 5]`` per material: how the parameters of each texel would change without a view.

    Neither of the two fits has to be finished: it is the difference of where both would go from today's maps. With
    A δ = b for all views and A_v, b_v of the one, it is (A − A_v)⁻¹ (A_v δ − b_v).

    Args:
        information: ``[H, W, 12]`` per material, of all views; view: its number; steps: of each of the two solutions.
    """
    sides = [(own.shape[0], own.shape[1]) for own in information]
    inside = (evidence.seen.view == view)[:, None]
    own = torch.where(inside, evidence.weight, 0.0)
    rest = torch.where(inside, 0.0, evidence.weight)
    whole = _solved(evidence, evidence.weight, _collected(evidence, evidence.pull(), sides), sides, steps)
    # what is left of the view's residuals after the step that all views take together
    left = evidence.residual - _through(evidence, whole, sides)
    force = _collected(evidence, evidence.jacobian.transposed(own * left), sides)
    change = _solved(evidence, rest, -force, sides, steps)
    return [part.reshape(*side, 5).float() for part, side in zip(_split(change, sides), sides, strict=True)]


def _solved(evidence: Evidence, weight: Tensor, force: Tensor, sides: Sequence[tuple[int, int]], steps: int) -> Tensor:
    """``[T, 5]`` float64: the step of all T texels under ``force [T, 5]``, with ``weight [N, 1]`` of the pixels."""
    prior = force.new_tensor(PRIOR_STD).pow(-2)
    packed = _collected(evidence, evidence.jacobian.information(weight), sides)
    inverse = torch.cat([covariance(rows).float() for rows in packed.split(_ROWS)])

    def applied(step: Tensor) -> Tensor:
        pixels = evidence.jacobian.transposed(weight * _through(evidence, step, sides))
        return _collected(evidence, pixels, sides) + prior * step

    def smoothed(rows: Tensor) -> Tensor:
        return (inverse @ rows.float()[..., None])[..., 0].double()

    found, left = torch.zeros_like(force), force.clone()
    direction = near = smoothed(left)
    size = start = (left * near).sum()
    for _ in range(steps):
        if float(size) <= _ENOUGH**2 * float(start):
            break
        product = applied(direction)
        length = size / (direction * product).sum()
        found += length * direction
        left -= length * product
        near = smoothed(left)
        size, before = (left * near).sum(), size
        direction = near + size / before * direction
    return found


def _through(evidence: Evidence, step: Tensor, sides: Sequence[tuple[int, int]]) -> Tensor:
    """``[N, 3]``: by how much each pixel's tonemapped radiance changes with the texels, ``step [T, 5]``."""
    parts = zip(_split(step, sides), sides, strict=True)
    read = evidence.reads.lookup([part.float().reshape(*side, 5) for part, side in parts])
    own = evidence.jacobian
    return own.albedo * read[:, :3] + own.roughness * read[:, 3:4] + own.metallic * read[:, 4:]


def _collected(evidence: Evidence, values: Tensor, sides: Sequence[tuple[int, int]]) -> Tensor:
    """``[T, C]`` float64 of all materials' texels."""
    return torch.cat([own.reshape(-1, own.shape[-1]) for own in evidence.reads.collected(values, sides)]).double()


def _split(rows: Tensor, sides: Sequence[tuple[int, int]]) -> list[Tensor]:
    return list(rows.split([height * width for height, width in sides]))
