"""The survey on pictures that a prior expects: roughness and metallic by search, as on photographs.

Where a highlight is missing, no gradient brings it back: roughness that has gone wrong stays wrong. What the prior
expects behind much noise has the highlight, and the best pure dielectric and the best pure metal of each cell of the
surface are a search over roughness, exact in albedo (see ``cell_fits``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.optimize.cell_fits import fit_cells
from stspbr.optimize.distill import Distillation
from stspbr.optimize.observations import Cells, Observations
from stspbr.optimize.texture_views import Look
from stspbr.optimize.views import step_generator
from stspbr.priors.lit_views import LitViews, draw_views
from stspbr.render.display import radiance_of
from stspbr.render.gbuffer import GBuffer, render_gbuffer
from stspbr.render.prefilter import PrefilteredLight

VIEWS = 16
LEVEL = 400
"""Of the noise behind which the prior is asked."""
_INSIDE = 0.999  # coverage of pixels that show nothing but the surface
GRID = (0.07, 0.13, 0.2, 0.28, 0.37, 0.47, 0.6, 0.75)  # roughnesses that are tried besides


Expect = Callable[[Look, Tensor, Sequence[int], torch.Generator], Tensor]


@dataclass
class Answer:
    """Pictures that the prior expects: the views, the part that each is about, its pixels ``[B, H, W]``."""

    look: Look
    parts: list[int]
    mask: Tensor
    expected: Tensor


@torch.no_grad()
def survey_pictures(
    problem: Distillation, places: Sequence[tuple[Tensor, Tensor]], one_material: Sequence[bool], step: int
) -> str:
    """Ask the prior for ``VIEWS`` pictures, search them, and write into the maps what explains them better.

    The search is per pixel, but pictures are means over pixels, which blur highlights. So what it finds, and some
    roughnesses besides, is rendered as the pictures are, and the nearest to them is taken; the maps as they are
    compete, too.

    Args:
        places: of each material's maps, the covered texels ``[N]`` (row · W + column) and their ``[N, 3]`` points.
        one_material: of each part, whether its prompt names one material all over; the maps of others stay as they are.

    Returns:
        A summary in one line.
    """
    seen, part, answers = observed(problem, step, _expect(problem))
    if len(seen) == 0:
        return "survey: no point is seen"
    cells = Cells(torch.zeros_like(seen.position), part)
    fits = fit_cells(seen, cells, problem.views.lights[_light_of(problem, step)], problem.views.backend.texture)
    metal = fits.metal.error < fits.dielectric.error
    roughness = torch.where(metal, fits.metal.roughness, fits.dielectric.roughness)
    albedo = torch.where(metal, fits.metal.albedo, fits.dielectric.albedo).clamp(0.0, 1.0)
    as_they_are = _maps(problem)
    candidates = [as_they_are]
    for value in (None, *GRID):
        tried = roughness if value is None else torch.full_like(roughness, value)
        _write(problem, places, one_material, cells, (albedo, tried, metal), as_they_are)
        candidates.append(_maps(problem))
    errors = []
    for candidate in candidates:
        _restore(problem, candidate)
        errors.append(_distances(problem, answers))
    best = torch.stack(errors).argmin(0)  # of each part
    for number, own in enumerate(problem.part_of.tolist()):
        for values, found in zip(_tensors(problem, number), candidates[int(best[own])][number], strict=True):
            values.copy_(found)
    problem.fill_gutters()
    kept = int((best == 0).sum())
    kinds = [float(own.reflectance[..., METALLIC].mean()) for own in problem.appearance.materials]
    rough = [float(own.reflectance[..., ROUGHNESS].mean()) for own in problem.appearance.materials]
    words = ", ".join(f"metallic {m:.2f} roughness {r:.2f}" for m, r in zip(kinds, rough, strict=True))
    return f"survey: {kept} of {len(best)} part(s) stay as they are; {words}"


def _tensors(problem: Distillation, number: int) -> tuple[Tensor, Tensor]:
    own = problem.appearance.materials[number]
    return own.albedo.data, own.reflectance.data


def _maps(problem: Distillation) -> list[tuple[Tensor, ...]]:
    """Copies of the maps of every material."""
    count = len(problem.appearance.materials)
    return [tuple(values.clone() for values in _tensors(problem, number)) for number in range(count)]


def _restore(problem: Distillation, maps: list[tuple[Tensor, ...]]) -> None:
    for number, found in enumerate(maps):
        for values, copy in zip(_tensors(problem, number), found, strict=True):
            values.copy_(copy)


def _write(
    problem: Distillation,
    places: Sequence[tuple[Tensor, Tensor]],
    one_material: Sequence[bool],
    cells: Cells,
    found: tuple[Tensor, Tensor, Tensor],
    start: list[tuple[Tensor, ...]],
) -> None:
    """Albedo, roughness and kind ``found`` of each part of one material, into the maps."""
    _restore(problem, start)
    albedo, roughness, metal = found
    low, high = problem.appearance.roughness_range
    for number, (texel, position) in enumerate(places):
        if not one_material[int(problem.part_of[number])]:
            continue
        cell = cells.find(torch.zeros_like(position), problem.part_of[number].expand(len(texel)))
        chosen, cell = texel[cell >= 0], cell[cell >= 0]
        colour, reflectance = (values[0].flatten(0, 1) for values in _tensors(problem, number))
        colour[chosen] = albedo[cell]
        reflectance[chosen] = torch.cat([roughness[cell].clamp(low, high), metal[cell].float()], dim=1)


def _distances(problem: Distillation, answers: Sequence[Answer]) -> Tensor:
    """``[P]``: of each part, the mean squared distance of the maps' pictures to the expected ones."""
    sums = torch.zeros(len(problem.conditions), 2, dtype=torch.float64)
    for answer in answers:
        picture = problem.views.picture(answer.look, problem.appearance)
        error = (picture - answer.expected).square().mean(3) * answer.mask
        for view, part in enumerate(answer.parts):
            sums[part] += torch.stack([error[view].sum(), answer.mask[view].sum()]).double().cpu()
    return sums[:, 0] / sums[:, 1].clamp(min=1e-9)


def _light_of(problem: Distillation, step: int) -> int:
    """Every survey has another light."""
    return (7 * problem.number + step) % len(problem.views.lights)


def _expect(problem: Distillation) -> Expect:
    """What the prior expects of the parts' captions behind ``LEVEL``."""
    return lambda look, picture, parts, generator: problem.expected(look, picture, parts, LEVEL, 1.0, 150, generator)


def observed(
    problem: Distillation, step: int, expect: Expect, parts: Sequence[int] | None = None
) -> tuple[Observations, Tensor, list[Answer]]:
    """What the prior expects to be seen of the surface, the part ``[N]`` of each observation, and the pictures.

    Args:
        expect: what is expected of a look at the maps' picture, by the parts of its views.
        parts: of the views of each batch; None: they take turns.
    """
    number, views = _light_of(problem, step), problem.views
    batches = max(1, VIEWS // problem.batch)
    parts_of_views: list[Tensor] = []
    answers: list[Answer] = []
    pieces: list[dict[str, Tensor]] = []
    for batch in range(batches):
        look, small = drawn(problem, [step, 1000 + batch], [views.lights[number]])
        asked = parts or [(batch * problem.batch + view) % len(problem.conditions) for view in range(problem.batch)]
        generator = step_generator(step, problem.seed * 8 + 4 + batch, problem.part_of.device)
        picture = views.picture(look, problem.appearance)
        found = expect(look, picture, asked, generator).clamp(-1.0, 1.0)
        gbuffer, shown, own, chosen = pixels_of(problem, look, small, asked)
        display = 0.5 * (found.reshape(-1, 3).index_select(0, gbuffer.covered) + 1.0)
        mask = gbuffer.image(own[:, None].float())[..., 0]
        answers.append(Answer(look, list(asked), mask, 0.5 * (found + 1.0)))
        pieces.append(_piece(gbuffer, display, small.exposure, chosen, batch * problem.batch, views.sphere))
        pieces[-1]["rotation"] = small.rotation
        parts_of_views.append(shown.index_select(0, chosen))
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    rotations = joined.pop("rotation")
    names = ("position", "normal", "to_eye", "view")
    position, normal, to_eye, view = (joined[name] for name in names)
    seen = Observations(position, normal, to_eye, view, rotations, joined["radiance"], None, bend=joined["bend"])
    return seen, torch.cat(parts_of_views), answers


def drawn(problem: Distillation, key: Sequence[int], lights: list[PrefilteredLight]) -> tuple[Look, LitViews]:
    """A look at the surface under ``lights``, and the same views at half its size, which is that of the pictures."""
    views = problem.views
    large, small = (
        draw_views(
            np.random.default_rng([problem.seed, problem.number, *key]), problem.batch, scale * views.side, len(lights),
            views.sphere, problem.part_of.device,
        )
        for scale in (2, 1)
    )  # fmt: skip
    return Look(large, render_gbuffer(views.surface, large.views, views.backend), lights), small


def pixels_of(
    problem: Distillation, look: Look, small: LitViews, asked: Sequence[int]
) -> tuple[GBuffer, Tensor, Tensor, Tensor]:
    """The G-buffer of ``small``, the part ``[N]`` that each of its pixels shows, whether that is the one of ``asked``
    for its view ``[N]``, and which of these show nothing else ``[M]``."""
    views = problem.views
    gbuffer = render_gbuffer(views.surface, small.views, views.backend)
    inside = views.coverage(look).flatten().index_select(0, gbuffer.covered) > _INSIDE
    shown = problem.part_of.index_select(0, problem.appearance.owner_of(gbuffer.triangle))
    own = shown == torch.tensor(asked, device=gbuffer.view.device).index_select(0, gbuffer.view)
    return gbuffer, shown, own, torch.nonzero(inside & own).squeeze(1)


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
