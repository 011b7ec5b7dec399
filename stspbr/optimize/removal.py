"""How the maps would change without some of the views: the fit once more, on a model of the pictures.

What data is worth to a fit that has not converged is no matter of its optimum: what counts is what they did on the way
(Hara, Nitanda and Maehara 2019; Bae et al. 2024). So the way is gone again, twice, with all views and without some:
from the maps that the fit began with, by the same loop, rates and draws of views. Geometry, normals and light are held,
so that a pixel's radiance is a function of the material that it reads alone: exact in albedo and metallic, between
tabulated roughnesses in roughness. A step then costs two look-ups and no rendering. The maps' difference is the answer;
what the model does wrong on both ways cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stspbr.optimize.cell_fits import ROUGHNESSES, lobes_of
from stspbr.optimize.confidence import Evidence, Reads, map_sides, mixed_radiance
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.losses import metal_prior, smoothness, tonemap
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term, scaled
from stspbr.optimize.views import batch_ids, step_generator
from stspbr.settings import OptimizeSettings

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

PIXELS = 300_000
"""About how many pixels are fitted; of more, a random subset stands for all."""
_A, _B = slice(0, 3), slice(3, 5)


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
    first, second = model.fitted(start, frozenset()), model.fitted(start, frozenset(views))
    sides = map_sides(problem.appearance)  # type: ignore[arg-type]
    return [_sized(two - one, side) for one, two, side in zip(first, second, sides, strict=True)]


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
        reads: where they read the maps.
        curves: ``[n · K, 9]``: diffuse, mirror and rim at each of K roughnesses, pixel by pixel.
        target: ``[n, 3]``: the photograph, tonemapped.
    """

    reads: Reads
    curves: Tensor
    target: Tensor

    def residual(self, material: Tensor) -> Tensor:
        """``[n, 3]``: photograph less picture, tonemapped, of ``material [n, 5]``."""
        return self.target - tonemap(self._radiance(material))

    def _radiance(self, material: Tensor) -> Tensor:
        nodes = self.curves.new_tensor(ROUGHNESSES)
        albedo, roughness, metallic = material[:, :3], material[:, 3:4], material[:, 4:]
        upper = torch.searchsorted(nodes, roughness.detach().contiguous()).clamp(1, len(nodes) - 1)
        low, high = nodes[upper - 1], nodes[upper]
        share = ((roughness - low) / (high - low)).clamp(0.0, 1.0)
        row = torch.arange(len(material), device=upper.device) * len(nodes) + upper[:, 0]
        one, two = self.curves.index_select(0, row - 1), self.curves.index_select(0, row)
        diffuse, mirror, rim = (one + share * (two - one)).split(3, dim=1)
        return mixed_radiance((diffuse, mirror, rim), albedo, metallic)


@dataclass
class _Model:
    """The pictures as functions of the maps alone.

    Attributes:
        views: the pixels of each; texel: ``[K, 2]`` in uv; jitter: of the smoothness, in texels.
        settings: of the fit; seed: of its draws; joint: all maps are of one group; roughness_range: their limits.
    """

    views: list[_Pixels]
    texel: Tensor
    jitter: float
    settings: OptimizeSettings
    seed: int
    joint: bool
    roughness_range: tuple[float, float]

    @classmethod
    @torch.no_grad()
    def of(cls, problem: Reconstruction, evidence: Evidence) -> _Model:
        appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
        reads, device = evidence.reads, evidence.reads.uv.device
        keep = torch.arange(len(reads.uv), device=device)
        if len(keep) > PIXELS:
            chance = torch.rand(len(keep), generator=step_generator(0, problem.seed, device), device=device)
            keep = keep[chance < PIXELS / len(keep)]
        light, transport = problem.light.prefiltered(), problem.transport
        views = []
        for number in range(len(problem.views)):
            at = keep[evidence.seen.view[keep] == number]
            seen, material = evidence.seen.at(at), evidence.material[at]
            levels = [
                lobes_of(
                    seen, seen.normal, torch.full_like(material[:, :1], roughness), light, problem.backend.texture,
                    None if transport is None else transport.transport,
                )
                for roughness in ROUGHNESSES
            ]  # fmt: skip
            curves = torch.stack([level.permute(1, 0, 2).reshape(-1, 9) for level in levels], dim=1).reshape(-1, 9)
            own = _Pixels(reads.at(at), curves, torch.zeros_like(seen.radiance))
            # so that today's residuals are exact whatever is lost between two roughnesses
            own.target = evidence.residual[at] - own.residual(material)
            views.append(own)
        texel = reads.uv.new_tensor([(1.0 / o.albedo.shape[2], 1.0 / o.albedo.shape[1]) for o in appearance.materials])
        return cls(
            views, texel, appearance.JITTER_TEXELS, problem.settings, problem.seed, appearance.joint,
            appearance.roughness_range,
        )  # fmt: skip

    def fitted(self, start: Sequence[Tensor], left_out: frozenset[int]) -> list[Tensor]:
        """``[H, W, 5]`` per material: where the fit goes from ``start`` without the views that are ``left_out``."""
        kept = [k for k, own in enumerate(self.views) if k not in left_out and len(own.target)]
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
        ids = [k for k in drawn if k in self._kept]
        if not ids:
            ids = drawn = [self._kept[step % len(self._kept)]]
        # a view that is missing leaves the weight of the others as it is
        share = sum(len(model.views[k].target) for k in ids) / sum(len(model.views[k].target) for k in drawn)
        with watch.part("pixels"):
            seen = [model.views[k] for k in ids]
            reads = Reads.joined([own.reads for own in seen])
            noise = torch.randn(reads.uv.shape, generator=step_generator(step, model.seed, reads.uv.device))
            noise = noise.to(reads.uv)
            shift = model.jitter * model.texel[reads.owner] * noise
            shift = shift + (reads.uv_da.reshape(-1, 2, 2) * noise[:, None]).sum(-1)
            maps = [torch.cat(both, dim=-1) for both in zip(self.albedo, self.reflectance, strict=True)]
            both_places = Reads.joined([reads, replace(reads, uv=reads.uv + shift)])  # one look-up, one set of mips
            here, beside = both_places.lookup([own[0] for own in maps]).split(len(reads.uv))
            pairs = zip(seen, here.split([len(own.target) for own in seen]), strict=True)
            left = torch.cat([own.residual(material) for own, material in pairs])
        ramp, both = min(1.0, progress / losses.smoothness_ramp), STRICT_A | STRICT_B
        smooth = [
            ramp * weight * smoothness(here[:, own], beside[:, own])
            for weight, own in ((losses.albedo_smoothness, _A), (losses.reflectance_smoothness, _B))
        ]
        prior = losses.metal_prior_weight * metal_prior(here[:, 4:], here[:, :3], losses.metal_prior)
        terms = [Term("A_smooth", smooth[0], STRICT_A, closed=True), Term("B_smooth", smooth[1], both, closed=True)]
        terms.append(Term("metal_prior", prior, both, closed=True))
        if model.joint:
            terms.append(Term("image", _image_loss(left, losses.joint), both))
        elif losses.appearance == losses.reflectance:  # one backward pass
            terms.append(Term("image", _image_loss(left, losses.appearance), both))
        else:
            terms.append(Term("A", _image_loss(left, losses.appearance), STRICT_A))
            terms.append(Term("B", _image_loss(left, losses.reflectance), STRICT_B))
        return scaled(terms, share)

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


def _image_loss(residual: Tensor, entries: Mapping[str, float]) -> Tensor:
    """The mean over ``residual [n, 3]`` of its losses by name."""
    squared = entries.get("logl2", 0.0)
    absolute = sum(entries.values()) - squared
    return absolute * residual.abs().mean() + squared * residual.square().mean()


def _sized(values: Tensor, side: tuple[int, int]) -> Tensor:
    """``[H, W, C]`` of ``side`` from ``values`` of another size: means of blocks."""
    resized = torch.nn.functional.adaptive_avg_pool2d(values.permute(2, 0, 1)[None], side)
    return resized[0].permute(1, 2, 0).contiguous()
