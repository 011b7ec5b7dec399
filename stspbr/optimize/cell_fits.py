"""The best pure metal and the best pure non-metal of small cells of the surface, and how well the networks do there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.colour import luminance_of
from stspbr.optimize.evidence import F0_RANGE, correlation_within, effective_looks
from stspbr.optimize.losses import tonemap_slope
from stspbr.optimize.observations import Cells, Observations
from stspbr.render.brdf import DIELECTRIC_F0
from stspbr.render.footprint import blurred
from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import pure_responses, shade
from stspbr.transport.transport import Transport

ROUGHNESSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_F0 = (F0_RANGE[0], 0.5 * (F0_RANGE[0] + DIELECTRIC_F0), DIELECTRIC_F0, F0_RANGE[1])
_SHARES = (0.25, 0.5, 0.75, 1.0)  # between two roughnesses, where radiance is interpolated
_DARK = 0.01  # radiance below which the tonemap is so steep that the noise of black pixels would decide
_CHUNK = 1 << 16
_FACE = 4  # squares along a side of the direction cube: about 22° each


@dataclass
class Fit:
    """The best material of one kind in each of U cells.

    Attributes:
        error: ``[U, 1]`` root mean square of tonemapped radiance.
        albedo: ``[U, 3]`` linear, in units of the light; roughness: ``[U, 1]``.
    """

    error: Tensor
    albedo: Tensor
    roughness: Tensor


@dataclass
class Fits:
    """What the views say about U cells.

    Attributes:
        dielectric, metal: the best of each kind.
        lenient: ``[U, 1]`` error of the best non-metal whose F0 is anywhere in ``evidence.F0_RANGE``.
        pure, mixed: ``[U, 1]`` errors of the better of both kinds, and of the best mixture of them (any strength of
            diffuse and mirrored light), of one roughness and with the normals as they are.
    """

    dielectric: Fit
    metal: Fit
    lenient: Tensor
    pure: Tensor
    mixed: Tensor


@torch.no_grad()
def fit_cells(
    seen: Observations,
    cells: Cells,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> Fits:
    """The best pure dielectric and the best pure metal of every cell: a search over roughness, exact in albedo.

    Residuals are weighted by the tonemap's slope at the photographed radiance: to first order they are those of the
    loss logl2. They are summed over the observations of a cell and its neighbours, in double precision.

    Args:
        texture: the backend's texture function.
        transport: what hides light from the observations; None: nothing.
    """
    search = _Search(seen, cells, light, texture, transport)
    best: dict[str, Fit] = {}
    mixed: Tensor | None = None
    for roughness, sums in search.levels():
        for f0 in _F0:
            found = search.solved(_dielectric(sums, f0), roughness)
            for name in ("lenient",) if f0 != DIELECTRIC_F0 else ("lenient", "dielectric"):
                best[name] = _better(best.get(name), found)
        best["metal"] = _better(best.get("metal"), search.solved(_metal(sums), roughness))
        error = search.mixture(sums)
        mixed = error if mixed is None else torch.minimum(mixed, error)
    assert mixed is not None
    pure = torch.minimum(best["dielectric"].error, best["metal"].error)
    return Fits(best["dielectric"], best["metal"], best["lenient"].error, pure, torch.minimum(mixed, pure))


@torch.no_grad()
def errors_under_scales(
    scales: Sequence[float],
    seen: Observations,
    cells: Cells,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> Tensor:
    """``[U, S]``: errors, as in ``Fit``, of the better pure kind of each cell under ``light`` times each of S scales.

    The other arguments are those of ``fit_cells``. What the object sends to itself is taken to scale with the light.
    """
    search = _Search(seen, cells, light, texture, transport)
    best: list[Tensor | None] = [None] * len(scales)
    for roughness, sums in search.levels():
        for number, scale in enumerate(scales):
            kinds = (_dielectric(sums, DIELECTRIC_F0, scale), _metal(sums, scale))
            for error in (search.solved(kind, roughness).error for kind in kinds):
                known = best[number]
                best[number] = error if known is None else torch.minimum(known, error)
    return torch.cat([error for error in best if error is not None], dim=1)


@torch.no_grad()
def errors_of(
    material: Tensor,
    seen: Observations,
    cells: Cells,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> tuple[Tensor, Tensor]:
    """How well ``material`` ``[N, 5]`` (albedo in units of the light, roughness, metallic) explains its pixels.

    Returns:
        ``[U, 1]`` its root mean square error in each cell, as in ``Fit``; ``[N]`` the signed errors' luminance.
    """
    parts = []
    for part, own in zip(pieces(seen), material.split(_CHUNK), strict=True):
        rotation = (part.rotations, part.view)
        around = None if transport is None else transport.around(part.places, *rotation, light)
        parts.append(
            shade(
                part.normal, part.to_eye, own[:, :3], blurred(own[:, 3:4], part.bend), own[:, 4:5], light,
                texture=texture, light_rotation=rotation, occlusion=part.occlusion, surroundings=around,
                to_lamp=part.to_lamp,
            )
        )  # fmt: skip
    error = tonemap_weight(seen) * (torch.cat(parts) - seen.radiance).double()
    sums = cells.pooled(torch.cat([error.square().mean(dim=1, keepdim=True), torch.ones_like(error[:, :1])], dim=1))
    return (sums[:, :1] / sums[:, 1:]).sqrt().float(), luminance_of(error)


def independent_looks(seen: Observations, cells: Cells, error: Tensor) -> Tensor:
    """``[U, 1]``: how many independent observations a cell and its neighbours have.

    Looks that mirror the same part of the light (about 22° wide) are one look: errors of the light and of the normal
    are the same in them. How much the pixels of a look add is measured.

    Args:
        error: ``[N]`` signed errors of the current materials.
    """
    part = mirrored_part(seen)
    looks = cells.distinct(part).double()
    count = cells.pooled(looks.new_ones(len(seen), 1))
    return effective_looks(count, looks, correlation_within(error, cells.owner * (6 * _FACE * _FACE) + part)).float()


def mirrored_part(seen: Observations) -> Tensor:
    """``[N]`` int64 < 96: the square of the world's direction cube that each observation mirrors."""
    facing = (seen.normal * seen.to_eye).sum(dim=1, keepdim=True)
    mirrored = 2.0 * facing * seen.normal - seen.to_eye
    mirrored = (seen.rotations.to(mirrored.dtype).index_select(0, seen.view) @ mirrored[..., None])[..., 0]
    size, axis = mirrored.abs().max(dim=1)
    side = mirrored.gather(1, axis[:, None])[:, 0] < 0
    ahead, across = (mirrored.gather(1, ((axis + k) % 3)[:, None])[:, 0] / size.clamp(min=1e-12) for k in (1, 2))
    row, column = (((0.5 * v + 0.5) * _FACE).long().clamp(0, _FACE - 1) for v in (ahead, across))
    return ((2 * axis + side) * _FACE + row) * _FACE + column


def lobes_of(
    seen: Observations,
    normal: Tensor,
    roughness: Tensor,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None,
) -> Tensor:
    """``[3, N, 3]`` diffuse, mirror and rim at all observations, occlusion included.

    A dielectric's radiance is albedo · diffuse + F0 · mirror + rim, a metal's albedo · mirror + rim.

    Args:
        normal: ``[N, 3]`` in place of the observations' own; roughness: ``[N, 1]``.
    """
    parts = []
    for part, bent, own in zip(pieces(seen), normal.split(_CHUNK), roughness.split(_CHUNK), strict=True):
        rotation = (part.rotations, part.view)
        around = None if transport is None else transport.around(part.places, *rotation, light)
        (diffuse, _), (mirror, rim) = pure_responses(
            bent, part.to_eye, blurred(own, part.bend), light, texture=texture, light_rotation=rotation,
            surroundings=around, to_lamp=part.to_lamp,
        )  # fmt: skip
        lobes = torch.stack([diffuse, mirror, rim])
        parts.append(lobes if part.occlusion is None else lobes * part.occlusion)
    return torch.cat(parts, dim=1)


def pieces(seen: Observations) -> list[Observations]:
    """The observations in order, in parts that fit into memory."""
    return [seen.at(slice(start, start + _CHUNK)) for start in range(0, len(seen), _CHUNK)]


def tonemap_weight(seen: Observations) -> Tensor:
    """``[N, 3]`` from radiance to tonemapped radiance, in double precision."""
    return tonemap_slope(seen.radiance.clamp(min=_DARK)).double()


_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of diffuse, mirror, rim


@dataclass
class _Lobes:
    """Diffuse, mirror and rim ``[3, N, 3]`` at one roughness, weighted, and their sums per cell.

    ``sums`` ``[9, U, 3]``: the products of ``_PAIRS``, then those of each lobe with the target.
    """

    lobes: Tensor
    sums: Tensor

    @classmethod
    def of(cls, cells: Cells, target: Tensor, weight: Tensor, lobes: Tensor) -> _Lobes:
        lobes = weight * lobes
        return cls(lobes, _pooled(cells, [lobes[i] * lobes[j] for i, j in _PAIRS] + [lobe * target for lobe in lobes]))

    def cross(self, other: _Lobes, cells: Cells) -> Tensor:
        """``[6, U, 3]`` sums of the products of ``_PAIRS`` of either's one with the other's other, both ways."""
        one, two = self.lobes, other.lobes
        return _pooled(cells, [one[i] * two[j] + two[i] * one[j] for i, j in _PAIRS])


@dataclass
class _Search:
    """Which roughnesses are looked at, and what explains the cells at each."""

    seen: Observations
    cells: Cells
    light: PrefilteredLight
    texture: Callable[..., Tensor]
    transport: Transport | None

    def __post_init__(self) -> None:
        self._weight = tonemap_weight(self.seen)
        self._target = self._weight * self.seen.radiance.double()
        columns = torch.cat([torch.ones_like(self._target[:, :1]), self._target.square()], dim=1)
        pooled = self.cells.pooled(columns)
        self._count, self._power = pooled[:, :1], pooled[:, 1:]

    def levels(self) -> Iterator[tuple[float, Tensor]]:
        """Roughness and ``_Lobes.sums``, those of ``ROUGHNESSES`` and in between."""
        last: _Lobes | None = None
        for number, roughness in enumerate(ROUGHNESSES):
            even = torch.full_like(self.seen.position[:, :1], roughness)
            lobes = lobes_of(self.seen, self.seen.normal, even, self.light, self.texture, self.transport)
            here = _Lobes.of(self.cells, self._target, self._weight, lobes.double())
            if last is None:
                yield roughness, here.sums
            else:
                cross = here.cross(last, self.cells)
                for share in _SHARES:
                    between = share * roughness + (1.0 - share) * ROUGHNESSES[number - 1]
                    yield between, _between(last.sums, here.sums, cross, share)
            last = here

    def solved(self, products: _Products, roughness: float) -> Fit:
        """The best albedo in [0, 1] of slope · albedo + offset."""
        ss, so, oo, st, ot = products
        albedo = ((st - so) / ss.clamp(min=1e-12)).clamp(0.0, 1.0)
        error = self._error(self._power - 2.0 * ot + oo - 2.0 * albedo * (st - so) + albedo**2 * ss)
        return Fit(error, albedo.float(), torch.full_like(error, roughness))

    def mixture(self, sums: Tensor) -> Tensor:
        """``[U, 1]``: error of the best diffuse · a + mirror · f + rim, a and f at least 0, of each channel."""
        dd, dm, dr, mm, mr, rr, dt, mt, rt = sums
        first, second = dt - dr, mt - mr
        determinant = (dd * mm - dm**2).clamp(min=1e-12)
        a, f = (first * mm - second * dm) / determinant, (second * dd - first * dm) / determinant
        alone_a, alone_f = (first / dd.clamp(min=1e-12)).clamp(min=0.0), (second / mm.clamp(min=1e-12)).clamp(min=0.0)
        inside = (a >= 0) & (f >= 0)
        gained = torch.where(
            inside,
            a * first + f * second,
            torch.maximum(alone_a * first, alone_f * second),  # at a minimum, of the squares all that a lobe explains
        )
        return self._error(self._power - 2.0 * rt + rr - gained)

    def _error(self, squares: Tensor) -> Tensor:
        """``[U, 1]`` root mean square of the sums ``squares`` ``[U, 3]``."""
        return (squares.clamp(min=0.0).mean(dim=1, keepdim=True) / self._count).sqrt().float()


_Products = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Sums ``[U, 3]`` over a cell: slope², slope · offset, offset², and those of slope and of offset with the target."""


def _pooled(cells: Cells, columns: list[Tensor]) -> Tensor:
    return torch.stack(cells.pooled(torch.cat(columns, dim=1)).split(3, dim=1))


def _between(low: Tensor, high: Tensor, cross: Tensor, share: float) -> Tensor:
    """``_Lobes.sums`` of the lobes in between: ``share`` of the higher roughness, the rest of the lower one."""
    rest, pairs = 1.0 - share, len(_PAIRS)
    if share == 1.0:
        return high
    squares = rest**2 * low[:pairs] + share**2 * high[:pairs] + rest * share * cross
    return torch.cat([squares, rest * low[pairs:] + share * high[pairs:]])


def _dielectric(sums: Tensor, f0: float, scale: float = 1.0) -> _Products:
    """Of albedo · diffuse + scale · (f0 · mirror + rim): the light's scale is in albedo, too."""
    dd, dm, dr, mm, mr, rr, dt, mt, rt = sums
    offset = f0**2 * mm + 2.0 * f0 * mr + rr
    return dd, scale * (f0 * dm + dr), scale**2 * offset, dt, scale * (f0 * mt + rt)


def _metal(sums: Tensor, scale: float = 1.0) -> _Products:
    """Of albedo · mirror + scale · rim."""
    _, _, _, mm, mr, rr, _, mt, rt = sums
    return mm, scale * mr, scale**2 * rr, mt, scale * rt


def _better(one: Fit | None, other: Fit) -> Fit:
    if one is None:
        return other
    wins = other.error < one.error
    pairs = ((one.error, other.error), (one.albedo, other.albedo), (one.roughness, other.roughness))
    return Fit(*(torch.where(wins, new, old) for old, new in pairs))
