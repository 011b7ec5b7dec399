"""How the maps would change without some of the views: where a fit to all views goes, and where one to the others.

Both are taken from today's maps, which need not be at their best for either. What is fitted is what ``bake`` fits: the
loss of the images, and the smoothness of the maps, each as the quadratic function that touches it here (iteratively
reweighted least squares): an absolute value |x| has the curvature 1/max(|x|, ε). All texels are solved for together, by
conjugate gradients (Hestenes and Stiefel 1952): texels that share pixels are fitted against each other, and smoothness
binds neighbours. A texel's own 5×5 matrix, of which its confidence is made, knows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.optimize.confidence import Evidence, Reads, map_sides
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.optimize.views import step_generator
from stspbr.settings import LossSettings

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

STEPS = 40
"""Of conjugate gradients, at most."""
FINENESS = 0.01
"""ε, of residuals in tonemapped radiance and of differences between texels: a fit is not taken for finer than that."""
_NEIGHBOURS = 3  # of each pixel, with which its smoothness is measured; bake draws others at every step
_ENOUGH = 1e-4  # of the residual at the start, in the preconditioner's norm
_CHANNELS = (3.0, 3.0, 3.0, 2.0, 2.0)  # over how many the smoothness of each parameter is a mean


@torch.no_grad()
def without_views(
    problem: Reconstruction, evidence: Evidence, views: Sequence[int], steps: int = STEPS
) -> list[Tensor]:
    """``[H, W, 5]`` per material: how albedo, roughness and metallic of each texel would change without ``views``.

    With A δ = b for all views and A_v, b_v of those that are left out, it is (A − A_v)⁻¹ (A_v δ − b_v). Geometry,
    normals and light are held. Of the losses only ``logl1`` and ``logl2`` are known; other ones count as ``logl1``.

    Args:
        problem: whose appearance is a ``TextureAppearance``; evidence: of its maps as they are.
        views: their numbers; steps: of each of the two solutions.
    """
    fit = _Fit.of(problem, evidence)
    every = torch.ones_like(evidence.stands)
    own = of_views(evidence, views)[:, None].to(every.dtype)
    whole = fit.solved(fit.force(every, None), every, steps)
    change = fit.solved(-fit.force(own, whole), every - own, steps)
    return [part.reshape(*side, 5).float() for part, side in zip(_split(change, fit.sides), fit.sides, strict=True)]


def of_views(evidence: Evidence, views: Sequence[int]) -> Tensor:
    """``[N]`` bool: which pixels of the evidence belong to ``views``."""
    return torch.isin(evidence.seen.view, evidence.seen.view.new_tensor(list(views)))


@torch.no_grad()
def information_without(evidence: Evidence, information: Sequence[Tensor], views: Sequence[int]) -> list[Tensor]:
    """``[H, W, 12]`` per material: what the other views say of each texel, exactly.

    Args:
        information: ``[H, W, 12]`` per material, of all views.
    """
    left = torch.where(of_views(evidence, views)[:, None], torch.zeros_like(evidence.weight), evidence.weight)
    sides = [(own.shape[0], own.shape[1]) for own in information]
    return evidence.reads.collected(evidence.jacobian.information(left), sides)


@dataclass
class _Fit:
    """The quadratic function of all T texels' parameters that a fit is near today's maps.

    Attributes:
        evidence: N pixels; here, beside: M = 3 N places that they show, and neighbours of these.
        data: ``[N, 3]`` curvature of a pixel's loss; smooth: ``[M, 5]`` that of the difference of two neighbours.
        maps: today's, ``[H, W, 5]`` per material; sides: their heights and widths.
    """

    evidence: Evidence
    here: Reads
    beside: Reads
    data: Tensor
    smooth: Tensor
    maps: list[Tensor]
    sides: list[tuple[int, int]]

    @classmethod
    def of(cls, problem: Reconstruction, evidence: Evidence) -> _Fit:
        appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
        sides = map_sides(appearance)
        here, beside = _neighbours(evidence.reads, sides, appearance.JITTER_TEXELS, problem.seed)
        maps = [
            _values(own.albedo, own.reflectance, side) for own, side in zip(appearance.materials, sides, strict=True)
        ]
        losses = problem.settings.losses
        apart = (here.lookup(maps) - beside.lookup(maps)).abs()
        weight = apart.new_tensor([losses.albedo_smoothness] * 3 + [losses.reflectance_smoothness] * 2)
        smooth = (
            _paired(evidence.stands) / _NEIGHBOURS * weight / (apart.new_tensor(_CHANNELS) * apart.clamp(min=FINENESS))
        )
        data = evidence.stands * _curvature(evidence.residual.abs(), losses)
        return cls(evidence, here, beside, data, smooth, maps, sides)

    def force(self, counted: Tensor, step: Tensor | None) -> Tensor:
        """``[T, 5]``: how the pixels, each ``counted [N, 1]`` times, draw the texels after a ``step [T, 5]``."""
        residual, apart = self.evidence.residual, self._apart(self.maps)
        if step is not None:
            residual, apart = residual - self._through(step), apart + self._apart(self._as_maps(step))
        drawn = self._collected(self.evidence.reads, self._transposed(counted * self.data * residual))
        return drawn - self._parted(_paired(counted) * self.smooth * apart)

    def solved(self, force: Tensor, counted: Tensor, steps: int) -> Tensor:
        """``[T, 5]``: the step under ``force`` of a fit to the pixels, each ``counted`` times."""
        data, smooth = counted * self.data, _paired(counted) * self.smooth
        held = FINENESS * force.new_tensor(PRIOR_STD).pow(-2)  # of the prior, in the units of the loss
        own, reads = self.evidence.jacobian, self.evidence.reads
        square = [(data * part.square()).sum(1, keepdim=True) for part in (own.roughness, own.metallic)]
        usual = self._collected(reads, torch.cat([data * own.albedo.square(), *square], dim=1)) + held
        usual = usual + self._collected(self.here, smooth) + self._collected(self.beside, smooth)

        def applied(step: Tensor) -> Tensor:
            pixels = self._collected(reads, self._transposed(data * self._through(step)))
            return pixels + self._parted(smooth * self._apart(self._as_maps(step))) + held * step

        found, left = torch.zeros_like(force), force.clone()
        near = left / usual
        direction = near.clone()
        size = start = (left * near).sum()
        for _ in range(steps):
            if float(size) <= _ENOUGH**2 * float(start):
                break
            product = applied(direction)
            length = size / (direction * product).sum()
            found += length * direction
            left -= length * product
            near = left / usual
            size, before = (left * near).sum(), size
            direction = near + size / before * direction
        return found

    def _through(self, step: Tensor) -> Tensor:
        """``[N, 3]``: by how much each pixel's tonemapped radiance changes."""
        read, own = self.evidence.reads.lookup(self._as_maps(step)), self.evidence.jacobian
        return own.albedo * read[:, :3] + own.roughness * read[:, 3:4] + own.metallic * read[:, 4:]

    def _transposed(self, values: Tensor) -> Tensor:
        return self.evidence.jacobian.transposed(values)

    def _apart(self, maps: Sequence[Tensor]) -> Tensor:
        """``[M, 5]``: the differences of neighbours."""
        return self.here.lookup(maps) - self.beside.lookup(maps)

    def _parted(self, values: Tensor) -> Tensor:
        """The transpose of ``_apart``."""
        return self._collected(self.here, values) - self._collected(self.beside, values)

    def _collected(self, reads: Reads, values: Tensor) -> Tensor:
        """``[T, C]`` float64 of all materials' texels."""
        return torch.cat([own.reshape(-1, own.shape[-1]) for own in reads.collected(values, self.sides)]).double()

    def _as_maps(self, step: Tensor) -> list[Tensor]:
        parts = zip(_split(step, self.sides), self.sides, strict=True)
        return [part.float().reshape(*side, 5) for part, side in parts]


def _curvature(size: Tensor, losses: LossSettings) -> Tensor:
    """``[N, 3]``: curvature of a pixel's loss, a mean over three channels, at residuals of ``size [N, 3]``."""
    terms = losses.reflectance
    squared = terms.get("logl2", 0.0)
    absolute = sum(terms.values()) - squared
    return (absolute / size.clamp(min=FINENESS) + 2.0 * squared) / 3.0


def _neighbours(reads: Reads, sides: Sequence[tuple[int, int]], texels: float, seed: int) -> tuple[Reads, Reads]:
    """The pairs of places that the smoothness of the maps compares: see ``TextureAppearance.smoothness``."""
    uv, uv_da, owner = (_paired(own) for own in (reads.uv, reads.uv_da, reads.owner))
    noise = torch.randn(uv.shape, generator=step_generator(0, seed, uv.device), device=uv.device)
    texel = texels / uv.new_tensor([(width, height) for height, width in sides])
    shift = noise * texel[owner] + (uv_da.reshape(-1, 2, 2) * noise[:, None]).sum(dim=-1)
    here = replace(reads, uv=uv, uv_da=uv_da, owner=owner)
    return here, replace(here, uv=uv + shift)


def _paired(values: Tensor) -> Tensor:
    """``[M, …]`` of ``[N, …]``."""
    return values.repeat(_NEIGHBOURS, *(1 for _ in values.shape[1:]))


def _values(albedo: Tensor, reflectance: Tensor, side: tuple[int, int]) -> Tensor:
    """``[H, W, 5]`` of a material's maps ``[1, H, W, C]`` at ``side``; albedo, roughness, metallic."""
    parts = (own.detach().permute(0, 3, 1, 2) for own in (albedo, reflectance[..., :2]))
    sized = [torch.nn.functional.adaptive_avg_pool2d(own, side) for own in parts]
    return torch.cat(sized, dim=1)[0].permute(1, 2, 0).contiguous()


def _split(rows: Tensor, sides: Sequence[tuple[int, int]]) -> list[Tensor]:
    return list(rows.split([height * width for height, width in sides]))
