"""The survey on pictures that a prior expects: roughness and metallic by search, as on photographs.

Where a highlight is missing, no gradient brings it back: roughness that has gone wrong stays wrong. What the prior
expects behind much noise has the highlight, and the best pure dielectric and the best pure metal of each cell of the
surface are a search over roughness, exact in albedo (see ``cell_fits``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.material_values import METALLIC
from stspbr.optimize.cell_fits import fit_cells
from stspbr.optimize.distill import Distillation
from stspbr.optimize.observations import Cells, Observations
from stspbr.optimize.texture_views import Look
from stspbr.optimize.views import step_generator
from stspbr.priors.lit_views import draw_views
from stspbr.render.display import radiance_of
from stspbr.render.gbuffer import GBuffer, render_gbuffer

VIEWS = 16
LEVEL = 400
"""Of the noise behind which the prior is asked."""
_INSIDE = 0.999  # coverage of pixels that show nothing but the surface
_BRIGHTEST = 0.98  # display values beyond this say little


@torch.no_grad()
def survey_pictures(
    problem: Distillation, places: Sequence[tuple[Tensor, Tensor]], one_material: Sequence[bool], step: int
) -> str:
    """Ask the prior for ``VIEWS`` pictures, search them, and write what was found into the maps.

    Args:
        places: of each material's maps, the covered texels ``[N]`` (row · W + column) and their ``[N, 3]`` points.
        one_material: of each part, whether its prompt names one material all over, which then is one cell.

    Returns:
        A summary in one line.
    """
    seen, part = _observed(problem, step)
    if len(seen) == 0:
        return "survey: no point is seen"
    single = torch.tensor([float(flag) for flag in one_material], device=part.device)
    points = torch.where(single.index_select(0, part)[:, None] > 0, torch.zeros_like(seen.position), seen.position)
    cells = Cells(points, part)
    light = problem.views.lights[_light_of(problem, step)]
    fits = fit_cells(seen, cells, light, problem.views.backend.texture)
    metal = fits.metal.error < fits.dielectric.error
    roughness = torch.where(metal, fits.metal.roughness, fits.dielectric.roughness)
    albedo = torch.where(metal, fits.metal.albedo, fits.dielectric.albedo).clamp(0.0, 1.0)
    metals = total = 0
    centre, radius = problem.views.sphere
    for number, (texel, position) in enumerate(places):
        own_part = problem.part_of[number].expand(len(texel))
        where = (position - position.new_tensor(centre)) / radius
        if one_material[int(problem.part_of[number])]:
            where = torch.zeros_like(where)
        cell = cells.find(where, own_part)
        texel, cell = texel[cell >= 0], cell[cell >= 0]
        own = problem.appearance.materials[number]
        reflectance, colour = own.reflectance[0].flatten(0, 1), own.albedo[0].flatten(0, 1)
        found, kind = roughness[cell], metal[cell].float()
        turned = (reflectance[texel][:, METALLIC] - kind).abs() > 0.5
        colour[texel] = torch.where(turned, albedo[cell], colour[texel])
        low, high = problem.appearance.roughness_range
        reflectance[texel] = torch.cat([found.clamp(low, high), kind], dim=1)
        own.reflectance[0].copy_(reflectance.view_as(own.reflectance[0]))
        own.albedo[0].copy_(colour.view_as(own.albedo[0]))
        metals, total = metals + int(kind.sum()), total + len(texel)
    problem.fill_gutters()
    return f"survey: {100 * metals / max(total, 1):.0f} % of the texels are metal"


def _light_of(problem: Distillation, step: int) -> int:
    """Every survey has another light."""
    return (7 * problem.number + step) % len(problem.views.lights)


def _observed(problem: Distillation, step: int) -> tuple[Observations, Tensor]:
    """What the prior expects to be seen of the surface, and the part ``[N]`` of each observation."""
    number, views = _light_of(problem, step), problem.views
    batches = max(1, VIEWS // problem.batch)
    parts_of_views: list[Tensor] = []
    pieces: list[dict[str, Tensor]] = []
    for batch in range(batches):
        key = [problem.seed, problem.number, step, 1000 + batch]
        size = views.side
        large, small = (
            draw_views(np.random.default_rng(key), problem.batch, scale * size, 1, views.sphere, problem.part_of.device)
            for scale in (2, 1)
        )
        look = Look(large, render_gbuffer(views.surface, large.views, views.backend), [views.lights[number]])
        parts = [(batch * problem.batch + view) % len(problem.conditions) for view in range(problem.batch)]
        generator = step_generator(step, problem.seed * 8 + 4 + batch, problem.part_of.device)
        picture = views.picture(look, problem.appearance)
        found = problem.expected(look, picture, parts, LEVEL, 1.0, 150, generator).clamp(-1.0, 1.0)
        gbuffer = render_gbuffer(views.surface, small.views, views.backend)
        inside = views.coverage(look).flatten().index_select(0, gbuffer.covered) > _INSIDE
        display = 0.5 * (found.reshape(-1, 3).index_select(0, gbuffer.covered) + 1.0)
        wanted = torch.tensor(parts, device=gbuffer.view.device).index_select(0, gbuffer.view)
        shown = problem.part_of.index_select(0, problem.appearance.owner_of(gbuffer.triangle))
        chosen = torch.nonzero(inside & (display.amax(1) < _BRIGHTEST) & (shown == wanted)).squeeze(1)
        pieces.append(_piece(gbuffer, display, small.exposure, chosen, batch * problem.batch, views.sphere))
        pieces[-1]["rotation"] = small.rotation
        parts_of_views.append(shown.index_select(0, chosen))
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    rotations = joined.pop("rotation")
    return Observations(rotations=rotations, occlusion=None, **joined), torch.cat(parts_of_views)


def _piece(
    gbuffer: GBuffer, display: Tensor, exposure: Tensor, chosen: Tensor, first: int, sphere: tuple[np.ndarray, float]
) -> dict[str, Tensor]:
    """The lists of ``Observations`` for the pixels ``chosen``; positions within the unit ball."""
    view = gbuffer.view.index_select(0, chosen)
    position = gbuffer.position.index_select(0, chosen)
    assert gbuffer.bend is not None
    return {
        "position": (position - position.new_tensor(sphere[0])) / sphere[1],
        "normal": gbuffer.normal.index_select(0, chosen),
        "to_eye": gbuffer.to_eye.index_select(0, chosen),
        "view": view + first,
        "radiance": radiance_of(display.index_select(0, chosen)) / exposure.index_select(0, view)[:, None],
        "bend": gbuffer.bend.index_select(0, chosen),
    }
