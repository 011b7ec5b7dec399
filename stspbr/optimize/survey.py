"""The survey: a search for the points that are metal according to the views, because the gradient does not find them.

A rough metal and a darker, smoother half metal look nearly alike: a fit that starts as a dielectric stays there, with
tens of times the error of the metal. But for given geometry, light and roughness, the radiance of a pure metal and of
a pure dielectric is affine in albedo, and the best albedo is a linear least-squares fit to all observations of a
point. So both kinds are tried at several roughnesses in every small cell of the surface. If one explains the views
clearly better, the networks are trained towards it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.fields.materials import MaterialFields
from stspbr.optimize.lights import in_units_of
from stspbr.optimize.losses import metal_likeness, tonemap_slope
from stspbr.optimize.observations import Cells, Observations, observe
from stspbr.optimize.views import step_generator
from stspbr.render.footprint import blurred
from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import pure_responses
from stspbr.settings import SurveySettings
from stspbr.transport.transport import Transport

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

ROUGHNESSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
PURE = 0.03
"""Distance of a decided point's metallic from 0 or 1: the gradient of its sigmoid does not vanish there."""
DECIDED = 0.1
"""A point whose metallic is within this of 0 or 1 counts as decided by network B and is not surveyed."""
DOUBT = 0.3
"""Metallic above which a point that looks dielectric is changed; below, network B is already close and more precise."""
LEAST_VIEWS = 8
"""Views in which a cell or its neighbours must be visible: from few sides, a metal explains a shadow equally well."""
_DARK = 0.01  # radiance below which the tonemap is so steep that the noise of black pixels would decide
_EQUAL = 1e-3  # of tonemapped radiance: two fits with errors below this are equally good
_LESSON = 4096  # points per training step
_CHUNK = 1 << 16


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
class Verdicts:
    """The decision on N points: ``material`` ``[N, 5]`` albedo, roughness, metallic; ``changed`` ``[N]`` bool."""

    material: Tensor
    changed: Tensor


def survey(problem: Reconstruction, fields: MaterialFields, settings: SurveySettings) -> str:
    """Decide the points about which network B is undecided, and train ``fields`` accordingly.

    Args:
        problem: within the box [−1, 1]³; its appearance consists of ``fields``.

    Returns:
        A summary in one line.
    """
    seen = observe(problem, settings.observations)
    known = _values(fields, seen.position)
    metallic = known[:, 4]
    places = torch.nonzero((metallic > DECIDED) & (metallic < 1.0 - DECIDED)).squeeze(1)
    if len(places) == 0:
        return "survey: no point is undecided"
    asked = seen.at(places)
    cells = Cells(asked.position)
    with torch.no_grad():
        light = problem.light.prefiltered()
        own = torch.cat([in_units_of(problem.light, known[:, :3]), known[:, 3:5]], dim=1)[places]
    transport = None if problem.transport is None else problem.transport.transport
    dielectric, metal = fit_cells(asked, cells, light, problem.backend.texture, transport)
    prior = problem.settings.losses.metal_prior == "dielectric-first"
    enough = cells.distinct(asked.view) >= LEAST_VIEWS
    verdicts = decide(own, cells, enough, dielectric, metal, settings.margin, prior)
    changed = places[verdicts.changed]
    if len(changed):
        material = verdicts.material[verdicts.changed]
        if (factor := problem.light.albedo_factor()) is not None:
            material[:, :3] = (material[:, :3] / factor.detach()).clamp(max=1.0)
        known[changed, :5] = material
        teach(fields, seen.position, known, changed, settings.steps, problem.seed)
    metals = int((verdicts.material[verdicts.changed, 4] > 0.5).sum())
    share = [f"{100 * count / len(seen):.1f} %" for count in (len(places), metals, len(changed) - metals)]
    return f"survey: {share[0]} of the visible surface was undecided; {share[1]} is metal now, {share[2]} dielectric"


@torch.no_grad()
def fit_cells(
    seen: Observations,
    cells: Cells,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> tuple[Fit, Fit]:
    """The best pure dielectric and the best pure metal of every cell: a search over roughness, exact in albedo.

    Residuals are weighted by the tonemap's slope at the photographed radiance: to first order they are those of the
    loss logl2. They are summed over the observations of a cell and its neighbours, in double precision.

    Args:
        texture: the backend's texture function.
        transport: what hides light from the observations; None: nothing.
    """
    weight = tonemap_slope(seen.radiance.clamp(min=_DARK)).square().double()
    count = cells.pooled(weight.new_ones(len(seen), 1))
    best: dict[str, Fit] = {}
    for roughness in ROUGHNESSES:
        for kind, slope, offset in _responses(seen, roughness, light, texture, transport):
            rest = seen.radiance.double() - offset
            sums = cells.pooled(torch.cat([weight * slope**2, weight * slope * rest, weight * rest**2], dim=1))
            slopes, mixed, rests = sums.split(3, dim=1)
            albedo = (mixed / slopes.clamp(min=1e-12)).clamp(0.0, 1.0)
            squares = (rests - 2 * albedo * mixed + albedo**2 * slopes).clamp(min=0.0)
            error = (squares.mean(dim=1, keepdim=True) / count).sqrt()
            found = Fit(error.float(), albedo.float(), torch.full_like(error, roughness).float())
            best[kind] = _better(best[kind], found) if kind in best else found
    return best["dielectric"], best["metal"]


def decide(
    own: Tensor, cells: Cells, enough: Tensor, dielectric: Fit, metal: Fit, margin: float, prior: bool
) -> Verdicts:
    """The material of each point: its cell's better fit if that is clearly better, else its ``own``.

    Args:
        own: ``[N, 5]`` albedo, roughness, metallic of the networks.
        enough: ``[U, 1]`` bool: whether enough views see the cell.
        margin: a kind wins if its error is below this share of the other's.
        prior: dielectric first: no metal reflects less than a third, so a darker one must be better by as much.
    """
    errors = dielectric.error + _EQUAL, metal.error + _EQUAL
    bound = margin * metal_likeness(metal.albedo) if prior else margin
    is_metal = enough & (errors[1] < bound * errors[0])
    is_dielectric = enough & (errors[0] < margin * errors[1])

    def of_points(values: Tensor) -> Tensor:
        return values.index_select(0, cells.owner)

    def taught(fit: Fit, metallic: float) -> Tensor:
        return of_points(torch.cat([fit.albedo, fit.roughness, torch.full_like(fit.roughness, metallic)], dim=1))

    to_metal = of_points(is_metal)
    to_dielectric = of_points(is_dielectric) & (own[:, 4:] > DOUBT)
    material = torch.where(to_metal, taught(metal, 1.0 - PURE), own)
    material = torch.where(to_dielectric, taught(dielectric, PURE), material)
    return Verdicts(material, (to_metal | to_dielectric)[:, 0])


def teach(fields: MaterialFields, points: Tensor, target: Tensor, changed: Tensor, steps: int, seed: int) -> None:
    """Fit the networks to the outputs ``target`` (in the order of ``_values``) at ``points`` ``[N, 3]``.

    Args:
        changed: ``[M]`` indices of points that are a quarter of each step's, however few they are.
    """
    optimizer = torch.optim.Adam([p for p in fields.parameters() if p.requires_grad], eps=1e-15, fused=True)
    device = points.device
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 if step < 0.6 * steps else 0.003
        generator = step_generator(step, seed, device)
        drawn = torch.randint(len(points), (3 * _LESSON // 4,), generator=generator, device=device)
        hot = torch.randint(len(changed), (_LESSON // 4,), generator=generator, device=device)
        ids = torch.cat([drawn, changed.index_select(0, hot)])
        optimizer.zero_grad()
        (_outputs(fields, points.index_select(0, ids)) - target.index_select(0, ids)).abs().mean().backward()
        optimizer.step()
    optimizer.zero_grad()


def _responses(
    seen: Observations,
    roughness: float,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None,
) -> tuple[tuple[str, Tensor, Tensor], ...]:
    """(kind, slope, offset) of both kinds at all observations, in double precision, occlusion included."""
    parts = []
    for start in range(0, len(seen), _CHUNK):
        part = seen.at(slice(start, start + _CHUNK))
        level = blurred(torch.full_like(part.position[:, :1], roughness), part.bend)
        rotation = (part.rotations, part.view)
        around = None if transport is None else transport.around(part.places, *rotation, light)
        both = pure_responses(
            part.normal, part.to_eye, level, light, texture=texture, light_rotation=rotation, surroundings=around
        )
        open_ = 1.0 if part.occlusion is None else part.occlusion
        parts.append([value.double() * open_ for response in both for value in response])
    slope, offset, metal_slope, metal_offset = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return ("dielectric", slope, offset), ("metal", metal_slope, metal_offset)


def _better(one: Fit, other: Fit) -> Fit:
    wins = other.error < one.error
    pairs = ((one.error, other.error), (one.albedo, other.albedo), (one.roughness, other.roughness))
    return Fit(*(torch.where(wins, new, old) for old, new in pairs))


def _outputs(fields: MaterialFields, points: Tensor) -> Tensor:
    """``[N, 8 or 9]`` albedo, roughness, metallic, normal offset (and occlusion)."""
    values = fields(points)
    columns = (values.albedo, values.roughness, values.metallic, values.normal, values.occlusion)
    return torch.cat([column for column in columns if column is not None], dim=1)


@torch.no_grad()
def _values(fields: MaterialFields, points: Tensor) -> Tensor:
    """``_outputs`` without gradients, in pieces that fit into memory."""
    return torch.cat([_outputs(fields, piece) for piece in points.split(_CHUNK)])
