"""The scale that a learned light shares with albedo, asked of all views at once.

A brighter light over a darker albedo changes only the highlights of non-metals, whose strength is known (F0 = 0.04).
While normals, shape and light are not exact yet, the highlights that are rendered lie beside the photographed ones, and
whatever is fitted to both comes out too weak: the light too dark, albedo too bright. A scale that has settled then
follows late, since roughness, albedo and scale move only together. So every cell's best roughness, albedo and kind are
looked for under each of several scales, and the scale under which the cells are explained best on the whole is taken.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.cell_fits import errors_under_scales
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.observations import Cells, observe
from stspbr.settings import LightScaleSettings

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_FURTHEST, _STEPS = math.log(1.5), 15  # of one answer, either way, and how many scales are tried
_NOISE = 1e-3  # of tonemapped radiance: no cell is explained better than this
_SETTLED = 0.05  # a smaller change is the last
_STAY = 0.02  # of (ln scale)² in mean log squared error: matte and metal surfaces hardly tell the scale


@torch.no_grad()
def rescale_light(problem: Reconstruction, settings: LightScaleSettings) -> str:
    """Give a learned light the scale that explains the highlights best, and albedo its inverse.

    Args:
        problem: within the box [−1, 1]³; its appearance consists of maps, whose albedo is in units of the light, or of
            networks, whose albedo the light's common scale compensates: without one, nothing is changed.

    Returns:
        A summary in one line.
    """
    light, maps = problem.light, problem.appearance
    assert isinstance(light, LearnedLight)
    whole = 1.0
    if not isinstance(maps, TextureAppearance) and light.albedo_factor() is None:
        return "light: albedo has no common scale with it"
    for _ in range(settings.answers):
        scale = _best_scale(problem, light, settings.observations)
        if scale is None:
            return "light: no point is seen"
        _brighten(problem, light, scale)
        whole *= scale
        if abs(scale - 1.0) < _SETTLED:
            break
    return f"light: {100.0 * (whole - 1.0):+.1f} % explains the highlights best"


def _best_scale(problem: Reconstruction, light: LearnedLight, observations: int) -> float | None:
    """The scale of the light that explains the views best; None if nothing is seen."""
    seen = observe(problem, observations)
    if len(seen) == 0:
        return None
    transport = None if problem.transport is None else problem.transport.transport
    grid = torch.linspace(-_FURTHEST, _FURTHEST, _STEPS, dtype=torch.float64)
    errors = errors_under_scales(
        grid.exp().tolist(), seen, Cells(seen.position), light.prefiltered(), problem.backend.texture, transport
    )
    return math.exp(best_log_scale(grid, errors))


def _brighten(problem: Reconstruction, light: LearnedLight, scale: float) -> None:
    """Multiply the light by ``scale``, and albedo by its inverse."""
    maps = problem.appearance
    radiance = scale * light.cube.radiance.detach()
    if isinstance(maps, TextureAppearance):
        light.cube.set_radiance(radiance, light.cube.log_scale)
        maps.scale_albedo(1.0 / scale)
    else:
        light.set_radiance(radiance, torch.full_like(light.cube.log_scale, 1.0 / scale))
    if light.flash is not None:
        light.flash.brighten(torch.full_like(light.cube.log_scale, math.log(scale)))
    if problem.transport is not None:
        problem.transport.transport.refresh(problem.geometry.surface(), problem.material)


def best_log_scale(grid: Tensor, errors: Tensor) -> float:
    """The logarithm of the scale under which cells are explained best.

    Cells count by the logarithm of their squared error: one that nothing explains does not decide.

    Args:
        grid: ``[S]`` evenly spaced logarithms of scales, 0 in their middle; S ≥ 3.
        errors: ``[U, S]`` root mean square errors of U ≥ 1 cells under each of them.
    """
    errors = errors.double().cpu()
    noise = max(_NOISE, float(errors.min(dim=1).values.quantile(0.1)))
    score = (errors.square() + noise**2).log().mean(dim=0) + _STAY * grid.square()
    lowest = int(score.argmin().clamp(1, len(score) - 2))
    before, here, after = score[lowest - 1 : lowest + 2].tolist()
    bend = before - 2.0 * here + after  # > 0 about a minimum; at the range's end the nearest end is taken
    shift = 0.5 * (before - after) / bend if bend > 0.0 else math.copysign(1.0, before - after)
    return float(grid[lowest] + min(max(shift, -1.0), 1.0) * (grid[1] - grid[0]))
