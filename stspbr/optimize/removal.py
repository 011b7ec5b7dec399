"""How the maps would change without some of the views: the fit once more, on a linear model of the pictures.

What data is worth to a fit that has not converged is no matter of its optimum: what counts is what they did on the way
(Hara, Nitanda and Maehara 2019; Bae et al. 2024). So the way is gone again, twice, with all views and without some:
from the maps that the fit began with, by the same loop, rates and draws of views, towards photographs that are linear
in the maps, with the derivatives and residuals of today's maps. A step then costs a few look-ups and no rendering. The
maps' difference is the answer; what the linear model does wrong on both ways cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stspbr.optimize.confidence import Evidence, map_sides
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.losses import metal_prior, smoothness
from stspbr.optimize.posterior import Jacobian
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.optimize.views import batch_ids, step_generator
from stspbr.settings import OptimizeSettings

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

PIXELS = 300_000
"""About how many pixels are fitted; of more, a random subset stands for all."""
_A, _B = slice(0, 3), slice(3, 5)
_FOOTPRINT = 1.0  # texels, as the middle pixel is wide: finer maps are halved until it is no wider


def without_views(
    problem: Reconstruction, evidence: Evidence, start: Sequence[Tensor], views: Sequence[int]
) -> list[Tensor]:
    """``[H, W, 5]`` per material: how albedo, roughness and metallic of each texel would change without ``views``.

    Geometry, normals, light and cameras are held. Of the image losses ``logl1`` and ``logl2`` are known; others count
    as ``logl1``.

    Args:
        problem: whose appearance is a ``TextureAppearance``; evidence: of its maps as they are.
        start: ``[H, W, 5]`` per material, of any size: the maps that the fit began with.
        views: their numbers.
    """
    model = _Model.of(problem, evidence)
    began = [_sized(own, side) for own, side in zip(start, model.maps.sides, strict=True)]
    first = model.fitted(began, frozenset())
    second = model.fitted(began, frozenset(views))
    changes = ((two - one).permute(2, 0, 1)[None] for one, two in zip(first, second, strict=True))
    resized = torch.nn.functional.interpolate
    return [
        resized(change, size=side, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).contiguous()
        for change, side in zip(changes, map_sides(problem.appearance), strict=True)  # type: ignore[arg-type]
    ]


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
class _Pixels:
    """The n pixels of one view.

    Attributes:
        uv: ``[n, 2]``; uv_da: ``[n, 4]``; owner: ``[n]``, whose maps; taps: see ``_Maps.taps``.
        jacobian: of the tonemapped radiance; goal: ``[n, 3]``, what J times a pixel's material would best be.
    """

    uv: Tensor
    uv_da: Tensor
    owner: Tensor
    taps: tuple[Tensor, Tensor]
    jacobian: Jacobian
    goal: Tensor


class _Maps:
    """The places of several materials' texels in one list.

    Args:
        sides: height and width of each material's maps.
    """

    def __init__(self, sides: Sequence[tuple[int, int]], device: torch.device) -> None:
        self.sides = list(sides)
        sizes = [height * width for height, width in sides]
        self._first = torch.tensor([sum(sizes[:k]) for k in range(len(sizes))], device=device)
        self._side = torch.tensor([(width, height) for height, width in sides], device=device)

    def taps(self, uv: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """``[n, 4]`` rows of the list, and their weights: bilinear, repeated outside the unit square."""
        side = self._side[owner]
        place = uv * side - 0.5
        low = place.floor()
        share, low = place - low, low.long()
        rows, weights = [], []
        for x, y in ((0, 0), (0, 1), (1, 0), (1, 1)):
            column, row = (low[:, 0] + x) % side[:, 0], (low[:, 1] + y) % side[:, 1]
            rows.append(self._first[owner] + row * side[:, 0] + column)
            weights.append((share[:, 0] if x else 1 - share[:, 0]) * (share[:, 1] if y else 1 - share[:, 1]))
        return torch.stack(rows, dim=1), torch.stack(weights, dim=1)


@dataclass
class _Model:
    """Photographs that are linear in the maps.

    Attributes:
        views: the pixels of each; maps: where the texels are.
        texel: ``[K, 2]`` in uv, of the maps that were fitted; jitter: of the smoothness, in these texels.
        settings: of the fit; seed: of its draws; joint: all maps are of one group; roughness_range: their limits.
    """

    views: list[_Pixels]
    maps: _Maps
    texel: Tensor
    jitter: float
    settings: OptimizeSettings
    seed: int
    joint: bool
    roughness_range: tuple[float, float]

    @classmethod
    def of(cls, problem: Reconstruction, evidence: Evidence) -> _Model:
        appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
        reads, device = evidence.reads, evidence.reads.uv.device
        today = [
            torch.cat([own.albedo[0], own.reflectance[0, ..., :2]], dim=-1).detach() for own in appearance.materials
        ]
        sides = [
            _coarse((own.shape[0], own.shape[1]), reads.uv_da[reads.owner == number])
            for number, own in enumerate(today)
        ]
        maps = _Maps(sides, device)
        values = torch.cat([_sized(own, side).reshape(-1, 5) for own, side in zip(today, sides, strict=True)])
        keep = torch.arange(len(reads.uv), device=device)
        if len(keep) > PIXELS:
            chance = torch.rand(len(keep), generator=step_generator(0, problem.seed, device), device=device)
            keep = keep[chance < PIXELS / len(keep)]
        views = []
        for number in range(len(problem.views)):
            at = keep[evidence.seen.view[keep] == number]
            taps, jacobian = maps.taps(reads.uv[at], reads.owner[at]), evidence.jacobian.at(at)
            goal = evidence.residual[at] + jacobian.applied(_read(values, *taps))
            views.append(_Pixels(reads.uv[at], reads.uv_da[at], reads.owner[at], taps, jacobian, goal))
        texel = reads.uv.new_tensor([(1.0 / own.shape[1], 1.0 / own.shape[0]) for own in today])
        return cls(
            views, maps, texel, appearance.JITTER_TEXELS, problem.settings, problem.seed, appearance.joint,
            appearance.roughness_range,
        )  # fmt: skip

    def fitted(self, start: Sequence[Tensor], left_out: frozenset[int]) -> list[Tensor]:
        """``[H, W, 5]`` per material: where the fit goes from ``start`` without the views that are ``left_out``."""
        kept = [k for k, own in enumerate(self.views) if k not in left_out and len(own.uv)]
        if not kept:
            return list(start)
        fit = _Fit(self, start, kept)
        settings = self.settings.model_copy(update={"preview_every": self.settings.iterations + 1})
        optimize(fit, settings, reporter=SilentReporter(), checkpoints=None, resume=False, device=self.texel.device)
        return [torch.cat(both, dim=-1)[0].detach() for both in zip(fit.albedo, fit.reflectance, strict=True)]


class _Fit:
    """The problem of ``optimize``: the maps of a ``_Model`` from ``start``, by the views that are ``kept``."""

    share, visited = 1.0, ()

    def __init__(self, model: _Model, start: Sequence[Tensor], kept: list[int]) -> None:
        self.model, self._kept = model, kept
        self.albedo = [own[None, ..., :3].clone().requires_grad_() for own in start]
        self.reflectance = [own[None, ..., 3:].clone().requires_grad_() for own in start]

    def groups(self) -> dict[str, list[Tensor]]:
        if self.model.joint:
            return {"joint": self.maps()}
        return {"appearance": list(self.albedo), "reflectance": list(self.reflectance)}

    def maps(self) -> list[Tensor]:
        return [*self.albedo, *self.reflectance]

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        model = self.model
        losses = model.settings.losses
        drawn = batch_ids(step, len(model.views), model.settings.batch, model.seed)
        ids = [k for k in drawn if k in self._kept] or [self._kept[step % len(self._kept)]]
        with watch.part("pixels"):
            seen = [model.views[k] for k in ids]
            uv, uv_da, owner = (torch.cat([getattr(own, name) for own in seen]) for name in ("uv", "uv_da", "owner"))
            noise = torch.randn(uv.shape, generator=step_generator(step, model.seed, uv.device), device=uv.device)
            shift = model.jitter * model.texel[owner] * noise + (uv_da.reshape(-1, 2, 2) * noise[:, None]).sum(-1)
            whole = [torch.cat(both, dim=-1).reshape(-1, 5) for both in zip(self.albedo, self.reflectance, strict=True)]
            values = torch.cat(whole)
            here = _read(values, *(torch.cat(parts) for parts in zip(*(own.taps for own in seen), strict=True)))
            beside = _read(values, *model.maps.taps(uv + shift, owner))
            pairs = zip(seen, here.split([len(own.uv) for own in seen]), strict=True)
            left = torch.cat([own.goal - own.jacobian.applied(material) for own, material in pairs])
        ramp, both = min(1.0, progress / losses.smoothness_ramp), STRICT_A | STRICT_B
        smooth = [
            ramp * weight * smoothness(here[:, own], beside[:, own])
            for weight, own in ((losses.albedo_smoothness, _A), (losses.reflectance_smoothness, _B))
        ]
        prior = losses.metal_prior_weight * metal_prior(here[:, 4:], here[:, :3], losses.metal_prior)
        terms = [Term("A_smooth", smooth[0], STRICT_A, closed=True), Term("B_smooth", smooth[1], both, closed=True)]
        terms.append(Term("metal_prior", prior, both, closed=True))
        if model.joint:
            return [Term("image", _image_loss(left, losses.joint), both), *terms]
        if losses.appearance == losses.reflectance:  # one backward pass
            return [Term("image", _image_loss(left, losses.appearance), both), *terms]
        images = (("A", losses.appearance, STRICT_A), ("B", losses.reflectance, STRICT_B))
        return [*(Term(name, _image_loss(left, own), drives) for name, own, drives in images), *terms]

    @torch.no_grad()
    def constrain(self) -> None:
        for albedo, reflectance in zip(self.albedo, self.reflectance, strict=True):
            albedo.clamp_(0.0, 1.0)
            reflectance[..., :1].clamp_(*self.model.roughness_range)
            reflectance[..., 1:].clamp_(0.0, 1.0)

    def preview(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {}  # there are no checkpoints

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None: ...


def _read(values: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """``[n, C]``: weighted sums of the rows of ``values [T, C]``; ``rows``, ``weights [n, 4]``."""
    return (values.index_select(0, rows.reshape(-1)).view(*rows.shape, -1) * weights[..., None]).sum(1)


def _image_loss(residual: Tensor, entries: Mapping[str, float]) -> Tensor:
    """The mean over ``residual [n, 3]`` of its losses by name."""
    squared = entries.get("logl2", 0.0)
    absolute = sum(entries.values()) - squared
    return absolute * residual.abs().mean() + squared * residual.square().mean()


def _coarse(side: tuple[int, int], uv_da: Tensor) -> tuple[int, int]:
    """``side`` (height, width), halved while the middle pixel is wider than ``_FOOTPRINT`` texels."""
    height, width = side
    if len(uv_da) == 0:
        return side
    u, v = uv_da.reshape(-1, 2, 2).unbind(1)
    wide = float((u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).abs().median()) ** 0.5
    while height % 2 == 0 and width % 2 == 0 and wide * (height * width) ** 0.5 > _FOOTPRINT:
        height, width = height // 2, width // 2
    return height, width


def _sized(values: Tensor, side: tuple[int, int]) -> Tensor:
    """``[H, W, C]`` of ``side`` from ``values`` of another size: means of blocks."""
    resized = torch.nn.functional.adaptive_avg_pool2d(values.permute(2, 0, 1)[None], side)
    return resized[0].permute(1, 2, 0).contiguous()
