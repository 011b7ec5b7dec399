"""The best materials of cells once more, now with a normal, a roughness and a highlight of each cell's own.

A normal that is off by a few degrees moves a lamp's reflection elsewhere: neither kind explains the views then, and a
dark metal cannot be told from black gloss. Therefore both kinds may turn the cell's normals a little, by Gauss-Newton
steps from the grid search's results, all parameters at once and within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stspbr.optimize.cell_fits import Fit, Fits, lobes_of, tonemap_weight
from stspbr.optimize.evidence import F0_RANGE
from stspbr.optimize.observations import Cells, Observations
from stspbr.render.brdf import DIELECTRIC_F0
from stspbr.render.light import PrefilteredLight
from stspbr.transport.transport import Transport

LARGEST_TILT = math.radians(12.0)
"""Per axis: coarse's normals are seldom worse where the shape is right."""
_LIKELY_TILT = math.radians(5.0)  # how far a normal is turned without good reason
_ROUNDS = 1
_NUDGE = 0.02  # of finite differences, in radians and of roughness
_LEAP = 0.15  # largest change of roughness per round
# places of the parameters ``[U, 8]``: rotation about the axes, roughness, F0, albedo
_TILT, _ROUGHNESS, _F0, _ALBEDO = slice(0, 3), 3, 4, slice(5, 8)


@dataclass
class _Views:
    """All that stays while a kind is fitted: observations, cells, and how light is looked up."""

    seen: Observations
    cells: Cells
    light: PrefilteredLight
    texture: Callable[..., Tensor]
    transport: Transport | None

    def lobes(self, normal: Tensor, roughness: Tensor) -> Tensor:
        """``[3, N, 3]`` diffuse, mirror and rim (see ``cell_fits``) with other normals and roughness ``[N, 1]``."""
        return lobes_of(self.seen, normal, roughness, self.light, self.texture, self.transport)


@torch.no_grad()
def refit_cells(
    start: Fits,
    seen: Observations,
    cells: Cells,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> Fits:
    """``start``, the result of ``fit_cells``, with ``metal`` and ``lenient`` refined, where that lowers their errors.

    The dielectric of ``start`` stays as it is: its F0 is exact, as it will be rendered.
    """
    views = _Views(seen, cells, light, texture, transport)
    metal = _refitted(views, start.metal, start.metal.error, metallic=True)
    lenient = _refitted(views, start.dielectric, start.lenient, metallic=False)
    return replace(start, metal=metal, lenient=lenient.error)


def _refitted(views: _Views, start: Fit, error: Tensor, metallic: bool) -> Fit:
    weight = tonemap_weight(views.seen).float()
    count = views.cells.pooled(torch.ones_like(weight[:, :1]))
    target, owner = weight * views.seen.radiance, views.cells.owner
    values = torch.cat(
        [torch.zeros_like(start.albedo), start.roughness, torch.full_like(error, DIELECTRIC_F0), start.albedo], dim=1
    )
    free_f0 = (DIELECTRIC_F0, DIELECTRIC_F0) if metallic else F0_RANGE
    for _ in range(_ROUNDS):
        here = values.index_select(0, owner)
        sums = _Sums.of(views.cells, *_linearized(views, here, weight, target, metallic))
        values = _solved(sums, values.double(), error, free_f0).float()
    here = values.index_select(0, owner)
    rest = weight * _radiance(_lobes(views, here), here, metallic) - target
    found = (views.cells.pooled(rest.square().mean(dim=1, keepdim=True)) / count).sqrt()
    better = found < error
    albedo, roughness = values[:, _ALBEDO], values[:, _ROUGHNESS, None]
    return Fit(
        torch.minimum(found, error),
        torch.where(better, albedo, start.albedo),
        torch.where(better, roughness, start.roughness),
    )


def _lobes(views: _Views, here: Tensor, turn: Tensor | None = None, rougher: float = 0.0) -> Tensor:
    """Lobes with the parameters ``here [N, 8]``, their rotation increased by ``turn [3]``."""
    tilt = here[:, _TILT] if turn is None else here[:, _TILT] + turn
    normal = views.seen.normal + torch.linalg.cross(tilt, views.seen.normal)
    roughness = (here[:, _ROUGHNESS, None] + rougher).clamp(0.0, 1.0)
    return views.lobes(torch.nn.functional.normalize(normal, dim=1), roughness)


def _radiance(lobes: Tensor, here: Tensor, metallic: bool) -> Tensor:
    diffuse, mirror, rim = lobes
    if metallic:
        return here[:, _ALBEDO] * mirror + rim
    return here[:, _ALBEDO] * diffuse + here[:, _F0, None] * mirror + rim


def _linearized(
    views: _Views, here: Tensor, weight: Tensor, target: Tensor, metallic: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The weighted radiance as a linear function of the parameters.

    Returns:
        The columns of rotation, roughness and F0, the column of each channel's albedo in its channel, and what is left
        without them, less the target; each ``[3, N]``, channels first.
    """
    lobes = _lobes(views, here)
    value = _radiance(lobes, here, metallic)

    def planes(values: Tensor) -> Tensor:
        return (weight * values).T.contiguous()

    shared = []
    for axis in range(3):
        turn = torch.zeros(3, device=here.device)
        turn[axis] = _NUDGE
        shared.append(planes((_radiance(_lobes(views, here, turn), here, metallic) - value) / _NUDGE))
    nudge = -_NUDGE if float(here[:, _ROUGHNESS].mean()) > 0.5 else _NUDGE
    moved = ((here[:, _ROUGHNESS, None] + nudge).clamp(0.0, 1.0) - here[:, _ROUGHNESS, None]).abs().clamp(min=1e-3)
    rougher = _radiance(_lobes(views, here, rougher=nudge), here, metallic) - value
    shared.append(planes(rougher / moved * math.copysign(1.0, nudge)))
    shared.append(planes(torch.zeros_like(value) if metallic else lobes[1]))
    slope = planes(lobes[1] if metallic else lobes[0])
    rest = planes(value) - target.T - slope * here[:, _ALBEDO].T
    # against the parameters themselves, not their change: neighbours may have other ones
    for number, column in enumerate(shared):
        rest -= column * here[:, number]
    return shared, slope, rest


@dataclass
class _Sums:
    """Per cell: the products of the columns ``[U, 8, 8]``, and those with the rest ``[U, 8]``."""

    square: Tensor
    mixed: Tensor

    @classmethod
    def of(cls, cells: Cells, shared: list[Tensor], slope: Tensor, rest: Tensor) -> _Sums:
        count, first = len(shared), _ALBEDO.start
        pairs = [(i, j) for i in range(count) for j in range(i, count)]
        columns = [(shared[i] * shared[j]).sum(dim=0) for i, j in pairs]
        columns += [(column * rest).sum(dim=0) for column in shared]
        for other in (*shared, slope, rest):
            columns += list(slope * other)
        sums = cells.pooled(torch.stack(columns, dim=1).double())
        square, mixed = sums.new_zeros(cells.count, first + 3, first + 3), sums.new_zeros(cells.count, first + 3)
        for number, (i, j) in enumerate(pairs):
            square[:, i, j] = square[:, j, i] = sums[:, number]
        mixed[:, :count] = sums[:, len(pairs) : len(pairs) + count]
        by_channel = sums[:, len(pairs) + count :].view(cells.count, count + 2, 3)
        square[:, :count, first:] = by_channel[:, :count]
        square[:, first:, :count] = by_channel[:, :count].transpose(1, 2)
        square[:, first:, first:] = torch.diag_embed(by_channel[:, count])
        mixed[:, first:] = by_channel[:, count + 1]
        return cls(square, mixed)


def _solved(sums: _Sums, values: Tensor, error: Tensor, free_f0: tuple[float, float]) -> Tensor:
    """Least squares within bounds: what leaves them is held there, and the rest is solved again."""
    low, high = torch.empty_like(values), torch.empty_like(values)
    low[:, _TILT], high[:, _TILT] = -LARGEST_TILT, LARGEST_TILT
    low[:, _ROUGHNESS] = (values[:, _ROUGHNESS] - _LEAP).clamp(min=0.03)
    high[:, _ROUGHNESS] = (values[:, _ROUGHNESS] + _LEAP).clamp(max=1.0)
    low[:, _F0], high[:, _F0] = free_f0
    low[:, _ALBEDO], high[:, _ALBEDO] = 0.0, 1.0
    square = sums.square.clone()
    diagonal = square.diagonal(dim1=1, dim2=2)
    diagonal += 1e-9 + 1e-6 * diagonal.mean(dim=1, keepdim=True)
    diagonal[:, _TILT] += error.double().square() / _LIKELY_TILT**2
    held = torch.zeros_like(values, dtype=torch.bool)
    found = values
    for _ in range(3):
        fixed = torch.where(held, found, torch.zeros_like(found))
        right = -sums.mixed - (square @ fixed[..., None])[..., 0]
        keep = (~held).double()
        matrix = square * keep[:, :, None] * keep[:, None, :] + torch.diag_embed(held.double())
        solution = torch.linalg.solve(matrix, right * keep)
        solution = torch.where(held, found, solution)
        outside = (solution < low) | (solution > high)
        found, held = solution.clamp(low, high), held | outside
    return torch.where(found.isfinite(), found, values)
