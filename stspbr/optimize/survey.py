"""The survey: a search for the points that are metal according to the views, because the gradient does not find them.

A rough metal and a darker, smoother half metal look nearly alike, and so do a dark metal and black gloss: a fit that
starts as a dielectric stays there, with tens of times the error of the metal. Where albedo is near 0, the reflectance
0.04 (1 − m) + albedo · m only falls with metallic m, so that the gradient even drives m to 0. But for given geometry,
light and roughness, the radiance of a pure metal and of a pure dielectric is affine in albedo, and the best albedo is a
linear least-squares fit to all observations of a point. So both kinds are tried in every small cell of the surface,
whatever the networks hold it to be. ``evidence`` says which kind it is; the networks are trained towards it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.colour import luminance_of
from stspbr.fields.materials import MaterialFields
from stspbr.optimize.cell_fits import Fit, Fits, errors_of, fit_cells, independent_looks
from stspbr.optimize.cell_refits import refit_cells
from stspbr.optimize.evidence import CLEAR, SHADES, confidence, is_clear, log_likelihood_ratio, log_odds_against
from stspbr.optimize.lights import in_units_of
from stspbr.optimize.observations import Cells, Observations, observe
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.optimize.survey_visits import drawn_by, metallic_std, reaching
from stspbr.optimize.views import step_generator
from stspbr.settings import SurveySettings

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

PURE = 0.03
"""Distance of a decided point's metallic from 0 or 1: the gradient of its sigmoid does not vanish there."""
DECIDED = 0.1
"""A point whose metallic is within this of 0 or 1 counts as decided by network B: it is asked in a large cell first."""
HALF = 0.2
"""Metallic this far from 0 and 1 is half metal; nearer, network B is already close and more precise than the survey."""
LEAST_VIEWS = 8
"""Views in which a cell or its neighbours must be visible: from few sides, a metal explains a shadow equally well."""
_FIRST, _AGAIN = 100_000, 150_000  # observations of the question to all cells, and of that to the doubtful ones
_EQUAL = 1e-3  # of tonemapped radiance: two fits with errors below this are equally good
_WHISPER = math.log(2.0)  # log odds below which the prior has no opinion
_NO_WORSE = 1.5  # error of a metal that turns over paint, in errors of what the networks say point by point
_LOUDEST = 3.0 * math.log(CLEAR)  # largest log likelihood ratio of one cell
_LESSON = 4096  # points per training step
_CHUNK = 1 << 16


@dataclass
class Answer:
    """What the views say about U cells.

    Attributes:
        cells, fits: the cells, and their best materials.
        own_error: ``[U, 1]`` of what the networks say, as the errors of ``fits``.
        looks: ``[U, 1]`` independent looks; 0 if too few views see the cell.
    """

    cells: Cells
    fits: Fits
    own_error: Tensor
    looks: Tensor

    @property
    def noise(self) -> float:
        """The error of the best explained tenth of the cells, which no cell is believed to beat; but at least 0.001."""
        better = torch.minimum(self.fits.lenient, self.fits.metal.error)[self.looks > 0]
        return max(_EQUAL, float(better.quantile(0.1))) if len(better) else _EQUAL

    def ratio(self) -> Tensor:
        """``[U, 1]`` log likelihood ratio of metal against non-metal, the mean over a cell and its neighbours.

        One cell's is limited before, so that none speaks for all of its neighbours.
        """
        own = log_likelihood_ratio(self.fits.lenient, self.fits.metal.error, self.noise, self.looks)
        heard = (self.looks > 0).to(own.dtype)
        return heard * self.cells.smoothed(own.clamp(-_LOUDEST, _LOUDEST), heard)

    def beaten(self) -> Tensor:
        """``[U, 1]`` bool: whether what the networks say explains the views clearly better than both pure kinds.

        It may vary within a cell, which the kinds do not.
        """
        best = torch.minimum(self.fits.dielectric.error, self.fits.metal.error)
        return self._better(best, self.own_error)

    def neither(self) -> Tensor:
        """``[U, 1]`` bool: whether ``beaten``, and the best mixture of the kinds clearly beats both, too."""
        return self.beaten() & self._better(self.fits.pure, self.fits.mixed)

    def _better(self, pure: Tensor, other: Tensor) -> Tensor:
        ratio = log_likelihood_ratio(pure, other, self.noise, self.looks)
        return is_clear(ratio) & (ratio > 0)


@dataclass
class Verdicts:
    """The decision on N points: ``material`` ``[N, 5]`` albedo, roughness, metallic; ``changed`` ``[N]`` bool."""

    material: Tensor
    changed: Tensor


def survey(problem: Reconstruction, fields: MaterialFields, settings: SurveySettings) -> str:
    """Ask every cell of the surface what it is, and train ``fields`` accordingly.

    All cells are asked first; those that network B has not decided, and those that the answer contradicts or leaves
    open, are asked again, in smaller cells if there are fewer, whose normals may be off. With ``visits="std"`` so are
    those whose metallic the views leave open, and of too many the least known are drawn most (``survey_visits``).

    Args:
        problem: within the box [−1, 1]³; its appearance consists of ``fields``.

    Returns:
        A summary in one line.
    """
    seen = observe(problem, settings.observations)
    if len(seen) == 0:
        return "survey: no point is seen"
    known = field_values(fields, seen.position)
    own = _in_light_units(problem, known)
    shades, odds = _shade_of(own), problem.settings.losses.metal_prior
    sample = _sample(len(seen), _FIRST, problem.seed, own.device)
    answer = _ask(problem, seen.at(sample), own[sample], turned=False)
    owner = answer.cells.find(seen.position, shades)
    doubted = _doubted(own, owner, answer, odds)
    if settings.visits == "std":
        known_to = metallic_std(problem, seen.at(sample), own[sample], answer.cells)
        std = torch.where(owner >= 0, known_to.index_select(0, owner.clamp(min=0)), PRIOR_STD[4])
        doubted |= reaching(own[:, 4], std)
    places = torch.nonzero(doubted).squeeze(1)
    changed = places
    if len(places):
        if settings.visits == "std":
            again = places[drawn_by(std[places], _AGAIN, problem.seed)]
        else:
            again = places[_sample(len(places), _AGAIN, problem.seed, own.device)]
        answer = _ask(problem, seen.at(again), own[again], turned=True)
        owner = answer.cells.find(seen.position[places], shades[places])
        places, owner = places[owner >= 0], owner[owner >= 0]
        verdicts = decide(own[places], owner, answer, odds, settings.half == "mixture")
        changed = places[verdicts.changed]
    metals = 0
    if len(changed):
        material = verdicts.material[verdicts.changed]
        metals = int((material[:, 4] > 0.5).sum())
        if (factor := problem.light.albedo_factor()) is not None:
            material[:, :3] = (material[:, :3] / factor.detach()).clamp(max=1.0)
        known[changed, :5] = material
        teach(fields, seen.position, known, changed, settings.steps, problem.seed)
    share = [f"{100 * count / len(seen):.1f} %" for count in (len(places), metals, len(changed) - metals)]
    return f"survey: all cells asked, {share[0]} twice; {share[1]} is metal now, {share[2]} dielectric"


def record(problem: Reconstruction, fields: MaterialFields, settings: SurveySettings) -> dict[str, Tensor]:
    """What the views say about every cell of the surface as it is now.

    Returns:
        By name, one row per cell: ``position`` ``[U, 3]`` in the box [−1, 1]³, ``log_likelihood_ratio`` ``[U]`` of
        metal against non-metal, ``confidence`` ``[U]`` in [0, 1) of the likelier one without a prior, ``clear`` ``[U]``
        bool (False: undecided, the prior speaks), ``metallic`` ``[U]`` of the networks, and ``share`` ``[U]`` of all
        observations, which is 1 in total.
    """
    seen = observe(problem, settings.observations)
    if len(seen) == 0:
        return {}
    known = field_values(fields, seen.position)
    own = _in_light_units(problem, known)
    sample = _sample(len(seen), _FIRST, problem.seed, own.device)
    answer = _ask(problem, seen.at(sample), own[sample], turned=True)
    cells = answer.cells
    columns = torch.cat([torch.ones_like(own[sample, :1]), own[sample, 4:], seen.position[sample]], dim=1)
    sums = columns.new_zeros(cells.count, 5).index_add_(0, cells.owner, columns)
    mean = sums[:, 1:] / sums[:, :1]
    ratio = answer.ratio()[:, 0]
    return {
        "position": mean[:, 1:],
        "log_likelihood_ratio": ratio,
        "confidence": confidence(ratio),
        "clear": is_clear(ratio),
        "metallic": mean[:, 0],
        "share": sums[:, 0] / len(sample),
    }


def shares(cells: dict[str, Tensor]) -> dict[str, float]:
    """Shares of the observed surface by what the images say of it, from a ``record``; 1 in total."""
    metal, clear = cells["log_likelihood_ratio"] > 0, cells["clear"]
    parts = {"metal": clear & metal, "dielectric": clear & ~metal, "undecided": ~clear}
    return {"cells": len(clear)} | {name: float(cells["share"][part].sum()) for name, part in parts.items()}


def decide(own: Tensor, owner: Tensor, answer: Answer, odds: float, mixtures: bool = False) -> Verdicts:
    """The material of each point: the kind that evidence and prior favour, or its ``own`` where that is as good.

    A half metal becomes the likelier pure kind unless it explains the views clearly better than both. With ``mixtures``
    a mixture of the kinds must do so, too, else the networks only follow what varies within the cell: then it becomes
    a non-metal where the prior says so, and never a metal. A pure point is turned over only by clear evidence, or by
    the prior if the views do not favour metal: an earlier answer may have been clear.

    Args:
        own: ``[N, 5]`` albedo, roughness, metallic of the networks; owner: ``[N]`` int64, the cell of each.
        odds: ``metal_prior``; mixtures: ``SurveySettings.half`` is ``mixture``.
    """
    fits, ratio, prior = answer.fits, answer.ratio(), log_odds_against(answer.fits.metal.albedo, odds)
    leaning = ratio - prior

    def of_points(values: Tensor) -> Tensor:
        return values.index_select(0, owner)

    def taught(fit: Fit, metallic: float) -> Tensor:
        return of_points(torch.cat([fit.albedo, fit.roughness, torch.full_like(fit.roughness, metallic)], dim=1))

    metallic = own[:, 4:]
    half = (metallic > HALF) & (metallic < 1.0 - HALF)
    certain, prior_speaks = is_clear(ratio), prior > _WHISPER
    free = half & ~of_points(answer.beaten())
    varied = half & of_points(answer.beaten() & ~answer.neither() & prior_speaks) & mixtures
    heard = (answer.looks > 0) | prior_speaks
    no_worse = fits.metal.error <= _NO_WORSE * answer.own_error
    to_metal = of_points(leaning > 0) & (free | (of_points(certain & no_worse) & (metallic <= HALF)))
    turned = of_points((certain | prior_speaks) & (ratio <= 0)) & (metallic >= 1.0 - HALF)
    to_dielectric = of_points((leaning < 0) & heard) & (free | varied | turned)
    material = torch.where(to_metal, taught(fits.metal, 1.0 - PURE), own)
    material = torch.where(to_dielectric, taught(fits.dielectric, PURE), material)
    return Verdicts(material, (to_metal | to_dielectric)[:, 0])


def teach(fields: MaterialFields, points: Tensor, target: Tensor, changed: Tensor, steps: int, seed: int) -> None:
    """Fit the networks to the outputs ``target`` (in the order of ``field_values``) at ``points`` ``[N, 3]``.

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


def _doubted(own: Tensor, owner: Tensor, answer: Answer, odds: float) -> Tensor:
    """``[N]`` bool: the points that B has not decided, that the answer contradicts or leaves open, or that it lacks."""
    ratio = answer.ratio()
    leaning = (ratio - log_odds_against(answer.fits.metal.albedo, odds))[:, 0]
    place, metallic = owner.clamp(min=0), own[:, 4]
    leaning, clear = leaning.index_select(0, place), is_clear(ratio[:, 0]).index_select(0, place)
    against = ((leaning > 0) & (metallic < 0.5)) | ((leaning < 0) & (metallic > 0.5))
    undecided = (metallic - 0.5).abs() < 0.5 - DECIDED
    return against | ~clear | undecided | (owner < 0)


def _sample(count: int, most: int, seed: int, device: torch.device) -> Tensor:
    """Indices below ``count``, in order: all, or about ``most`` at random."""
    if count <= most:
        return torch.arange(count, device=device)
    chance = torch.rand(count, generator=step_generator(1, seed, device), device=device)
    return torch.nonzero(chance < most / count).squeeze(1)


def _shade_of(own: Tensor) -> Tensor:
    """``[N]`` int64, 0 to 2: how bright the networks' albedo is; a cell does not reach across a border of shades."""
    luminance = luminance_of(own[:, :3])
    return torch.bucketize(luminance, luminance.new_tensor(SHADES))


@torch.no_grad()
def _in_light_units(problem: Reconstruction, known: Tensor) -> Tensor:
    """``[N, 5]`` albedo in units of the light, roughness, metallic."""
    return torch.cat([in_units_of(problem.light, known[:, :3]), known[:, 3:5]], dim=1)


@torch.no_grad()
def _ask(problem: Reconstruction, seen: Observations, own: Tensor, turned: bool) -> Answer:
    """Ask the cells of ``seen``, of one colour each; ``turned``: their normals may be off a little."""
    cells = Cells(seen.position, _shade_of(own))
    transport = None if problem.transport is None else problem.transport.transport
    how = (seen, cells, problem.light.prefiltered(), problem.backend.texture, transport)
    own_error, errors = errors_of(own, *how)
    enough = cells.distinct(seen.view) >= LEAST_VIEWS
    looks = torch.where(enough, independent_looks(seen, cells, errors), torch.zeros_like(own_error))
    fits = fit_cells(*how)
    return Answer(cells, refit_cells(fits, *how) if turned else fits, own_error, looks)


def _outputs(fields: MaterialFields, points: Tensor) -> Tensor:
    """``[N, 8 or 9]`` albedo, roughness, metallic, normal offset (and occlusion)."""
    values = fields(points)
    columns = (values.albedo, values.roughness, values.metallic, values.normal, values.occlusion)
    return torch.cat([column for column in columns if column is not None], dim=1)


@torch.no_grad()
def field_values(fields: MaterialFields, points: Tensor) -> Tensor:
    """``_outputs`` without gradients, in pieces that fit into memory."""
    return torch.cat([_outputs(fields, piece) for piece in points.split(_CHUNK)])
