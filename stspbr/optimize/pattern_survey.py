"""The survey of parts that two materials share: what each of them is, and which of them shows where.

While a pattern is sought, no step says of a texel which material it is: what a prior expects there differs from view to
view, and the mean of a metal and a paint is neither. So each material is found as if it were all over the part, from
what the prior expects of its words alone, and every place is given to the one that the expected pictures look like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.optimize.cell_fits import fit_cells
from stspbr.optimize.distill import Distillation, path_level
from stspbr.optimize.observations import Cells, Observations
from stspbr.optimize.picture_survey import GRID, Answer, drawn, observed, pixels_of
from stspbr.optimize.texture_views import Look
from stspbr.optimize.views import step_generator
from stspbr.priors.protocol import Condition

VIEWS = 32
"""Whose pictures say where the materials show."""
ALONE_LEVELS = (980, 500)
"""Of the noise behind which a material is asked for alone: first so much that the maps as they are say nothing, then
less, with a picture of what was found: behind much noise metals are expected too dark."""

Alone = tuple[Callable[[Sequence[str]], Condition], Callable[[Sequence[str]], Condition]]
"""The captions of a part's two materials, each alone, for view words."""


@dataclass(frozen=True)
class Found:
    """One material: albedo ``[3]`` linear, roughness, metallic."""

    albedo: Tensor
    roughness: float
    metallic: float

    def values(self) -> tuple[Tensor, float, float]:
        return self.albedo, self.roughness, self.metallic


@torch.no_grad()
def survey_pattern(
    problem: Distillation,
    places: Sequence[tuple[Tensor, Tensor]],
    alone: Sequence[Alone | None],
    step: int,
    progress: float,
) -> str:
    """Write into the maps of every part with two materials the one that shows at each place.

    Args:
        places: of each material's maps, the covered texels ``[N]`` (row · W + column) and their ``[N, 3]`` points.
        alone: of each part; None: it has one material, and its maps are left as they are.
        progress: of the steps, in [0, 1].

    Returns:
        A summary in one line.
    """
    pairs: dict[int, tuple[Found, Found]] = {}
    for number, both in enumerate(alone):
        if both is not None:
            first, second = (_all_over(problem, number, words, step) for words in both)
            if first is not None and second is not None:
                pairs[number] = first, second
    if not pairs:
        return "pattern: no point is seen"
    position, part, evidence = _looked_at(problem, pairs, step, progress)
    if len(position) == 0:
        return "pattern: no point is seen"
    cells = Cells(position, part)
    sums = evidence.new_zeros(cells.count, 1).index_add_(0, cells.owner, evidence[:, None])
    centre, radius = problem.views.sphere
    shares = []
    for number, (texel, point) in enumerate(places):
        owner = int(problem.part_of[number])
        if owner not in pairs:
            continue
        where = (point - point.new_tensor(centre)) / radius
        for_second, weight = cells.interpolated(sums, where, problem.part_of[number].expand(len(texel)))
        texel, shows = texel[weight > 0], for_second[weight > 0] > 0
        own = problem.appearance.materials[number]
        one, two = (found.albedo.new_tensor([*found.albedo, found.roughness, found.metallic]) for found in pairs[owner])
        low, high = problem.appearance.roughness_range
        values = torch.where(shows, two, one)
        own.albedo.data[0].flatten(0, 1)[texel] = values[:, :3]
        own.reflectance.data[0].flatten(0, 1)[texel] = torch.cat([values[:, 3:4].clamp(low, high), values[:, 4:]], 1)
        shares.append(f"{100 * float(shows.float().mean()):.0f} %")
    problem.fill_gutters()
    return f"pattern: the second material shows on {', '.join(shares)} of its part"


def _all_over(problem: Distillation, part: int, words: Callable[[Sequence[str]], Condition], step: int) -> Found | None:
    """The uniform material that explains best what the prior expects of ``words`` alone; None: the part is not seen."""
    best: Found | None = None
    for level in ALONE_LEVELS:

        def expect(
            look: Look, picture: Tensor, parts: Sequence[int], generator: torch.Generator,
            level: int = level, so_far: Found | None = best,
        ) -> Tensor:  # fmt: skip
            shown = picture if so_far is None else problem.views.uniform(look, *so_far.values())
            return problem.expected(look, shown, parts, level, 1.0, 0, generator, condition=words(look.lit.words))

        seen, _, answers = observed(problem, step, expect, parts=[part] * problem.batch)
        if len(seen) == 0:
            return None
        best = _uniform(problem, seen, answers)
    return best


def _uniform(problem: Distillation, seen: Observations, answers: Sequence[Answer]) -> Found:
    """The uniform material whose pictures are nearest to the answers: the best of its kind, by some roughnesses."""
    everywhere = Cells(torch.zeros_like(seen.position))
    fits = fit_cells(seen, everywhere, answers[0].look.lights[0], problem.views.backend.texture)
    metal = bool(fits.metal.error < fits.dielectric.error)
    fit = fits.metal if metal else fits.dielectric
    tried = [Found(fit.albedo[0].clamp(0.0, 1.0), value, float(metal)) for value in (float(fit.roughness), *GRID)]

    def distance(found: Found) -> float:
        errors = [
            ((problem.views.uniform(one.look, *found.values()) - one.expected).square() * one.mask[..., None]).sum()
            for one in answers
        ]
        return float(torch.stack(errors).sum())

    return min(tried, key=distance)


def _looked_at(
    problem: Distillation, pairs: dict[int, tuple[Found, Found]], step: int, progress: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``[N, 3]`` in the unit ball, their parts, and by how much each looks more like its second material."""
    views, device = problem.views, problem.part_of.device
    owners = sorted(pairs)
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in range(max(1, VIEWS // problem.batch)):
        look, small = drawn(problem, [step, 2000 + batch], views.lights)
        parts = [owners[(batch * problem.batch + view) % len(owners)] for view in range(problem.batch)]
        generator = step_generator(step, problem.seed * 8 + 5 + batch, device)
        noise = None if problem.attached is None else problem.attached.seen(look.gbuffer, generator)
        picture = views.picture(look, problem.appearance)
        expected = problem.expected(look, picture, parts, path_level(progress), 1.0, 150, generator, noise)
        expected = 0.5 * (expected.clamp(-1.0, 1.0) + 1.0)
        ratio = expected.new_zeros(expected.shape[:3])
        wanted = torch.tensor(parts, device=device)
        for owner, (one, two) in pairs.items():
            off = [(views.uniform(look, *found.values()) - expected).square().sum(3) for found in (one, two)]
            ratio = torch.where((wanted == owner)[:, None, None], off[0] - off[1], ratio)
        gbuffer, shown, _, chosen = pixels_of(problem, look, small, parts)
        position = gbuffer.position.index_select(0, chosen)
        position = (position - position.new_tensor(views.sphere[0])) / views.sphere[1]
        evidence = ratio.flatten().index_select(0, gbuffer.covered).index_select(0, chosen)
        pieces.append((position, shown.index_select(0, chosen), evidence))
    position, part, evidence = (torch.cat(values) for values in zip(*pieces, strict=True))
    return position, part, evidence
