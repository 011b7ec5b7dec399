"""The light solved for: with geometry and materials fixed, the images are linear in its texels.

All views at once determine it by non-negative least squares, where a gradient step only moves it along. But light
and albedo are a product: the images of a diffuse surface do not tell a bright side of the light from a bright side of
the object. Two things do. Highlights of non-metals have a known strength (F0 = 0.04) and show absolute radiance. And
points of like colour are likely to be of one colour, whichever way they face. So the albedo of each of the object's few
colours (``palette``) is solved for together with the light, and what then is left is fitted by albedo, cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.fields.materials import MaterialFields
from stspbr.optimize.bounded_quadratic import fixed_column_sums, fixed_sum, minimize_above
from stspbr.optimize.cell_fits import tonemap_weight
from stspbr.optimize.light_image import LightImage
from stspbr.optimize.lights import LearnedLight, in_units_of
from stspbr.optimize.observations import Cells, Observations, observe
from stspbr.optimize.palette import palette
from stspbr.optimize.survey import field_values, teach
from stspbr.optimize.views import step_generator
from stspbr.render.cube_pyramid import solid_angles
from stspbr.render.light import pairs_over_edges
from stspbr.settings import LightSolveSettings

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_DARKEST = 1e-4  # of the light's mean radiance: texels do not get darker
_EQUAL = 0.3  # of log radiance: smaller differences of neighbours count by their squares, larger ones by their size
_OUTLIER = 2.0  # median errors from which a pixel counts by its error's size instead of its square
_FAINT = 3e-3  # error that is never an outlier: images without noise must not make one of what is nearly right
_FACTORS = (0.5, 2.0)  # limits of what one sweep, or the last fit, multiplies an albedo by
_LESS_SURE = 0.02  # of the mean evidence of cells: those with less keep their albedo


def solve_light(problem: Reconstruction, fields: MaterialFields, settings: LightSolveSettings) -> str:
    """Solve for the learned light, and train ``fields`` to the albedo that then explains the views.

    Args:
        problem: within the box [−1, 1]³; its appearance consists of ``fields``, its light is a ``LearnedLight``.

    Returns:
        A summary in one line.
    """
    light = problem.light
    assert isinstance(light, LearnedLight)
    seen = observe(problem, settings.observations)
    if len(seen) == 0:
        return "light: no point is seen"
    known = field_values(fields, seen.position)
    with torch.no_grad():
        material = torch.cat([in_units_of(light, known[:, :3]), known[:, 3:5]], dim=1)
    solver = LightSolver(problem, light, seen, settings)
    group = None
    if settings.palette > 0:
        generator = step_generator(2, problem.seed, seen.position.device)
        group, colours = palette(material[:, :3], material[:, 4:], settings.palette, generator)
        solved = solver.solve(torch.cat([colours[group], material[:, 3:]], dim=1), group)
    else:
        solved = solver.solve(material, None)
    before = solver.error(light.cube.radiance.detach(), material)
    factor = solver.albedo_factor(solved, material, Cells(seen.position, group))
    material[:, :3] = (material[:, :3] * factor).clamp(0.0, 1.0)
    after = solver.error(solved, material)
    change = (fixed_column_sums(factor.log()) / len(factor)).exp()
    light.set_radiance(solved, change)
    with torch.no_grad():
        unit = light.albedo_factor()
        known[:, :3] = (material[:, :3] if unit is None else material[:, :3] / unit).clamp(0.0, 1.0)
    teach(fields, seen.position, known, torch.arange(len(seen), device=known.device), settings.teaching, problem.seed)
    colours_found = "" if group is None else f", {int(group.max()) + 1} colours"
    moved = ", ".join(f"{100 * (float(value) - 1):+.1f}" for value in change)
    return f"light: solved from {len(seen)} pixels{colours_found}; error {before:.4f} to {after:.4f}, albedo {moved} %"


@dataclass
class _Pairs:
    """Neighbouring texels: indices ``[E]`` each, and the length of their common edge as a share of all edges'."""

    first: Tensor
    second: Tensor
    length: Tensor

    @classmethod
    def of(cls, size: int, like: Tensor) -> _Pairs:
        device = like.device
        flat = torch.arange(6 * size * size, device=device).reshape(6, size, size)
        over = pairs_over_edges(size, device)
        first = torch.cat([flat[:, 1:].reshape(-1), flat[:, :, 1:].reshape(-1), over[0]])
        second = torch.cat([flat[:, :-1].reshape(-1), flat[:, :, :-1].reshape(-1), over[1]])
        area = solid_angles(size).to(device).repeat(6, 1, 1).reshape(-1)
        length = (0.5 * (area[first] + area[second])).sqrt()
        return cls(first, second, (length / length.sum()).to(like.dtype)[:, None])

    def laplacian(self, weight: Tensor, values: Tensor) -> Tensor:
        """The gradient of ½ Σ weight (difference)² by ``values [T, 3]``; weight ``[E, 3]``."""
        pull = weight * (values.index_select(0, self.first) - values.index_select(0, self.second))
        out = torch.zeros_like(values).index_add_(0, self.first, pull)
        return out.index_add_(0, self.second, pull, alpha=-1.0)

    def totals(self, weight: Tensor, count: int) -> Tensor:
        """``[T, 3]`` sums of the weights of each texel's pairs."""
        out = weight.new_zeros(count, weight.shape[1]).index_add_(0, self.first, weight)
        return out.index_add_(0, self.second, weight)


class LightSolver:
    """The least-squares problem of one set of observations.

    Errors are weighted by the tonemap's slope at the photographed radiance: to first order they are those of the loss
    logl2. Large ones count by their size, by iterated weights, and so do the differences of neighbouring texels in log
    radiance, along the length of their edge.
    """

    def __init__(
        self, problem: Reconstruction, light: LearnedLight, seen: Observations, settings: LightSolveSettings
    ) -> None:
        self._light, self._seen, self._settings = light, seen, settings
        self._texture = problem.backend.texture
        self._transport = None if problem.transport is None else problem.transport.transport
        self._weight = tonemap_weight(seen).to(seen.radiance.dtype)
        size, device = light.cube.resolution, seen.position.device
        self._pairs = _Pairs.of(size, seen.radiance)
        area = solid_angles(size).to(device)
        self._area = (area / (6.0 * area.sum())).to(seen.radiance.dtype)[None, :, :, None]
        self._shape = light.cube.log_radiance.shape

    @torch.no_grad()
    def solve(self, material: Tensor, group: Tensor | None) -> Tensor:
        """The light ``[6, N, N, 3]`` that explains the observations best.

        Args:
            material: ``[M, 5]`` albedo in units of the light, roughness, metallic.
            group: ``[M]`` int64, points whose albedos have one unknown factor per channel; None: albedo is known.
        """
        radiance = self._light.cube.radiance.detach()
        for _ in range(self._settings.sweeps):
            image = self._image(material, radiance)
            radiance, factor = self._sweep(image, radiance, group)
            if group is not None:
                changed = (material[:, :3] * factor.index_select(0, group)).clamp(0.0, 1.0)
                material = torch.cat([changed, material[:, 3:]], dim=1)
        return radiance

    @torch.no_grad()
    def error(self, radiance: Tensor, material: Tensor) -> float:
        """Root mean square error of tonemapped radiance."""
        rest = self._weight * (self._image(material, radiance).radiance(radiance) - self._seen.radiance)
        return (fixed_sum(rest.square()) / rest.numel()) ** 0.5

    @torch.no_grad()
    def albedo_factor(self, radiance: Tensor, material: Tensor, cells: Cells) -> Tensor:
        """``[M, 3]``: the factors of albedo, equal in a cell, with which the observations are explained best."""
        image = self._image(material, radiance)
        rest = image.radiance(radiance) - self._seen.radiance
        weight, slope = self._robust(rest), image.by_albedo(radiance)
        sums = cells.pooled(torch.cat([weight * slope * rest, weight * slope * slope], dim=1).double())
        mixed, square = sums.split(3, dim=1)
        evidence = square + _LESS_SURE * fixed_column_sums(square) / len(square)
        factor = (1.0 - mixed / evidence).clamp(*_FACTORS).to(rest.dtype)
        return factor.index_select(0, cells.owner)

    def _image(self, material: Tensor, radiance: Tensor) -> LightImage:
        return LightImage(self._light, self._seen, material, radiance, texture=self._texture, transport=self._transport)

    def _sweep(self, image: LightImage, radiance: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor]:
        """One quadratic problem about ``radiance``; the light and the groups' albedo factors ``[G, 3]``."""
        target = self._seen.radiance - image.rest()
        weight = self._robust(image.linear(radiance) - target)
        eliminated = None if group is None else _Eliminated(weight, image.by_albedo(radiance), group)
        mean = fixed_column_sums((self._area * radiance).reshape(-1, 3))
        floor = (_DARKEST * mean).expand(self._shape)
        level = self._settings.smoothness * self._typical_error(weight, image.linear(radiance) - target)
        pull = level * self._stiffness(radiance.reshape(-1, 3), floor.reshape(-1, 3))

        def weighted(rest: Tensor) -> Tensor:
            return weight * rest if eliminated is None else eliminated(weight * rest)

        def product(values: Tensor) -> Tensor:
            fit = image.adjoint(weighted(image.linear(values)))
            return fit + self._pairs.laplacian(pull, values.reshape(-1, 3)).view(self._shape)

        sharp = image.adjoint(weight * image.linear(torch.ones_like(radiance), True), True)
        stiff = sharp + 2.0 * self._pairs.totals(pull, len(radiance.reshape(-1, 3))).view(self._shape)
        scale = stiff.clamp(min=1e-12 * float(stiff.max())).rsqrt()
        found = scale * minimize_above(
            lambda values: scale * product(scale * values),
            scale * image.adjoint(weighted(target)),
            radiance / scale,
            floor / scale,
            self._settings.steps,
        )
        if eliminated is None:
            return found, torch.ones(1, 3, device=found.device)
        return found, (1.0 - eliminated.best(weight * (image.linear(found) - target))).clamp(*_FACTORS)

    def _robust(self, rest: Tensor) -> Tensor:
        """``[M, 3]`` weights of squared errors in radiance, whose sum is their mean."""
        squares = (self._weight * rest).square().mean(dim=1, keepdim=True)
        limit = (_OUTLIER**2 * squares.median()).clamp(min=_FAINT**2)
        return self._weight.square() / (rest.numel() * (1.0 + squares / limit).sqrt())

    def _typical_error(self, weight: Tensor, rest: Tensor) -> float:
        return fixed_sum(weight * rest.square())

    def _stiffness(self, radiance: Tensor, floor: Tensor) -> Tensor:
        """``[E, 3]``: weights with which squares of differences in radiance act as sizes of those in log radiance."""
        lifted = radiance + floor
        one, other = (lifted.index_select(0, index) for index in (self._pairs.first, self._pairs.second))
        steep = (one / other).log().square() + _EQUAL**2
        return self._pairs.length / (3.0 * (0.5 * (one + other)).square() * steep.sqrt())


class _Eliminated:
    """Least squares in which each group's relative change of albedo is at its best, whatever the light is.

    Args:
        weight: ``[M, 3]`` of squared errors; slope: ``[M, 3]`` what albedo changes; group: ``[M]`` int64.
    """

    def __init__(self, weight: Tensor, slope: Tensor, group: Tensor) -> None:
        self._slope, self._group = slope, group
        self._square = self._summed(weight * slope * slope)
        self._weighted = weight * slope

    def best(self, weighted: Tensor) -> Tensor:
        """``[G, 3]``: the changes, negative, that take most of the errors away; ``weighted``: weight times error."""
        return self._summed(weighted * self._slope) / self._square.clamp(min=1e-30)

    def __call__(self, weighted: Tensor) -> Tensor:
        """The weighted errors that are left."""
        return weighted - self._weighted * self.best(weighted).index_select(0, self._group)

    def _summed(self, values: Tensor) -> Tensor:
        count = int(self._group.max()) + 1
        out = values.new_zeros(count, 3, dtype=torch.float64).index_add_(0, self._group, values.double())
        return out.to(values.dtype)
