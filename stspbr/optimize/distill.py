"""Score distillation of maps: random views are pulled towards what a prior of pictures expects behind noise.

DreamFusion's loss (Poole et al. 2022, eq. 3) in the form of CasTex (Aliev, Baranchuk, Struminsky 2026): the expected
picture is clamped to the range of pictures, which bounds every target at high guidance, and the loss is
½ √(ā (1 − ā)) ‖x − x̂₀‖², summed over pixels, divided by the views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.material_values import METALLIC
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.even_parts import EvenPart
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.optimize.surface_noise import SurfaceNoise
from stspbr.optimize.texture_views import Look, TextureViews
from stspbr.optimize.views import step_generator
from stspbr.priors.protocol import Condition, PriorStage
from stspbr.priors.small import enlarged, noised
from stspbr.render.display import area_filtered

T_MIN, T_MAX = (300.0, 200.0), (980.0, 500.0)
"""Lowest and highest noise level of 1000 at the first and the last step; in between they follow the square root."""
LOW_LEVEL = (400.0, 150.0)
"""Noise of the coarser picture that a finer stage is shown, at the first and the last step."""
_PATH = (950.0, 250.0)
"""Noise level at the first and the last step where a pattern is sought."""
_FILL_EVERY = 50  # steps between two fillings of the texels around charts
_BINARY_FROM = 0.7
_GUARD = (0.01, 0.98)  # albedo outside is what colours run away to
_STEEPEST = 0.5  # of a learned normal's x and y


def path_level(progress: float) -> int:
    """The noise level where a pattern is sought, at ``progress`` in [0, 1] of the steps."""
    return int(_PATH[0] + (_PATH[1] - _PATH[0]) * progress)


@dataclass(frozen=True)
class Weights:
    """Of the terms beside distillation, as ``TextureSettings`` has them."""

    metallic_smoothness: float
    metallic_binary: float
    normal_flatness: float
    saturation: float


class Distillation:
    """One resolution of a prior against one set of maps, as a problem of the one loop.

    Args:
        views: of the surface at this resolution.
        conditions: of the parts: each gives the captions for a batch of view words.
        part_of: ``[M]`` int64, the part of each of the maps' materials.
        guidance: at the first and the last step; the second holds from the middle on.
        coarse: the frozen maps that the stage's ``low`` picture shows; coarse_side: of that picture.
        texels: fills a map ``[H, W, C]`` around its charts, one per material; None: maps are left as they are.
        number: of the resolution, for its random numbers.
        even: the parts that are of one material all over.
        pattern: whether a pattern is sought: noise stays on the surface, and its level falls (see ``surface_noise``).
    """

    share, visited = 1.0, ()

    def __init__(
        self,
        views: TextureViews,
        appearance: TextureAppearance,
        stage: PriorStage,
        conditions: Sequence[Callable[[Sequence[str]], Condition]],
        part_of: Tensor,
        *,
        guidance: tuple[float, float],
        weights: Weights,
        batch: int,
        seed: int,
        number: int = 0,
        clamp: bool = True,
        coarse: TextureAppearance | None = None,
        coarse_side: int = 0,
        fill: Sequence[Callable[[Tensor], Tensor]] | None = None,
        even: Sequence[EvenPart] = (),
        pattern: bool = False,
    ) -> None:
        self.views, self.appearance, self.stage = views, appearance, stage
        self.conditions, self.part_of, self.guidance, self.weights = conditions, part_of, guidance, weights
        self.batch, self.seed, self.number, self.clamp = batch, seed, number, clamp
        self.coarse, self.coarse_side, self.fill, self.even = coarse, coarse_side, fill, even
        self.attached = SurfaceNoise(views.sphere, stage.side, seed, part_of.device) if pattern else None
        self.skipped = torch.zeros((), dtype=torch.int64)
        self._done = torch.zeros((), dtype=torch.int64)

    def groups(self) -> dict[str, list[Tensor]]:
        return self.appearance.groups()

    def maps(self) -> list[Tensor]:
        return self.appearance.maps()

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        rng = np.random.default_rng([self.seed, self.number, step])
        with watch.part("render"):
            look = self.views.draw(rng, self.batch, progress)
            own, parts = self._own_pixels(look, step)
            picture = self.views.picture(look, self.appearance, own)
        with watch.part("prior"):
            x, target, weight = self._target(look, picture, parts, step, progress)
        distilled = weight * (x - target).square().sum() / self.batch
        drives = STRICT_A | STRICT_B
        return [Term("distill", distilled, drives), *self._regularizers(look, progress)]

    def expected(self, look: Look, picture: Tensor, parts: Sequence[int], t: int, guidance: float, level: int,
                 generator: torch.Generator, noise: Tensor | None = None,
                 condition: Condition | None = None) -> Tensor:  # fmt: skip
        """``[B, side, side, 3]`` in about [−1, 1]: what the prior expects behind ``noise`` (fresh) of level ``t``.

        Args:
            condition: captions in the place of those of ``parts``.
        """
        with torch.no_grad():
            x = 2.0 * picture.detach() - 1.0
            if noise is None:
                noise = torch.randn(x.shape, generator=generator, device=x.device)
            x_t = noised(x, self.stage.alphas_bar[t].to(x.device), noise)
            extra = self.views.extra(look, self.stage.uses)
            if "low" in self.stage.uses:
                assert self.coarse is not None
                small = area_filtered(2.0 * self.views.picture(look, self.coarse) - 1.0, self.coarse_side)
                low = enlarged(small, self.stage.side)
                more = torch.randn(low.shape, generator=generator, device=x.device)
                extra.low, extra.level = self.stage.noised_low(low, level, more), level
            asked = self._condition(look, parts) if condition is None else condition
            return self.stage.x0(x_t, t, asked, guidance, extra)

    def _target(
        self, look: Look, picture: Tensor, parts: Sequence[int], step: int, progress: float
    ) -> tuple[Tensor, Tensor, float]:
        """``picture`` in [−1, 1], what it is pulled towards, and the weight of the step's noise level."""
        generator = step_generator(step, self.seed * 8 + self.number, picture.device)
        fall = progress**0.5
        low, high = (first + (last - first) * fall for first, last in (T_MIN, T_MAX))
        t = int(low + (high - low) * float(torch.rand((), generator=generator, device=picture.device)))
        noise = None
        if self.attached is not None:
            t = path_level(progress)
            noise = self.attached.seen(look.gbuffer, generator)
        guidance = self.guidance[0] if progress < 0.5 else self.guidance[1]
        level = int(LOW_LEVEL[0] + (LOW_LEVEL[1] - LOW_LEVEL[0]) * progress)
        x = 2.0 * picture - 1.0
        target = self.expected(look, picture, parts, t, guidance, level, generator, noise)
        if not bool(torch.isfinite(target).all()):  # half precision overflows at times: such a step is left out
            self.skipped += 1
            return x, x.detach(), 0.0
        if self.clamp:
            target = target.clamp(-1.0, 1.0)
        signal = float(self.stage.alphas_bar[t])
        return x, target, 0.5 * (signal * (1.0 - signal)) ** 0.5

    def _own_pixels(self, look: Look, step: int) -> tuple[Tensor | None, list[int]]:
        """The part that each view distils, and the pixels that show it; the other parts are shown as they are."""
        count = len(self.conditions)
        parts = [(step + view) % count for view in range(self.batch)]
        if count == 1:
            return None, parts
        wanted = torch.tensor(parts, device=self.part_of.device).index_select(0, look.gbuffer.view)
        shown = self.part_of.index_select(0, self.appearance.owner_of(look.gbuffer.triangle))
        return shown == wanted, parts

    def _condition(self, look: Look, parts: Sequence[int]) -> Condition:
        words = look.lit.words
        rows = [self.conditions[part]([word]) for part, word in zip(parts, words, strict=True)]
        return Condition(torch.cat([row.text for row in rows]), torch.cat([row.empty for row in rows]))

    def _regularizers(self, look: Look, progress: float) -> list[Term]:
        """Terms in units of the distilled one: per covered channel of a view."""
        covered = 3.0 * len(look.gbuffer.covered) / self.batch * (self.stage.side / look.gbuffer.rast.shape[1]) ** 2
        weights, terms = self.weights, []
        late = max(0.0, progress - _BINARY_FROM) / (1.0 - _BINARY_FROM)
        for name, weight, value, drives in (
            ("metallic_smooth", weights.metallic_smoothness, self._variation, STRICT_B),
            ("metallic_binary", weights.metallic_binary * late, self._undecided, STRICT_B),
            ("saturation", weights.saturation, self._runaway, STRICT_A),
            ("normal_flat", weights.normal_flatness, self._slopes, STRICT_A),
        ):
            if weight > 0 and (found := value()) is not None:
                terms.append(Term(name, weight * covered * found, drives, closed=True))
        return [term for term in terms if term.value.requires_grad]

    def _variation(self) -> Tensor:
        maps = [own.reflectance[0, ..., METALLIC] for own in self.appearance.materials]
        steps = [
            (m[1:] - m[:-1]).abs().mean() + (m[:, 1:] - m[:, :-1]).abs().mean() for m in maps if min(m.shape[:2]) > 1
        ]
        return torch.stack(steps).mean() if steps else maps[0].sum() * 0.0

    def _undecided(self) -> Tensor:
        maps = [own.reflectance[..., METALLIC] for own in self.appearance.materials]
        return torch.stack([(4.0 * m * (1.0 - m)).mean() for m in maps]).mean()

    def _runaway(self) -> Tensor:
        low, high = _GUARD
        maps = [own.albedo for own in self.appearance.materials]
        return torch.stack([((low - a).clamp(min=0) + (a - high).clamp(min=0)).mean() for a in maps]).mean()

    def _slopes(self) -> Tensor | None:
        maps = [own.normal for own in self.appearance.materials if own.normal is not None and own.normal.requires_grad]
        return torch.stack([m[..., :2].square().mean() for m in maps]).mean() if maps else None

    @torch.no_grad()
    def constrain(self) -> None:
        self.appearance.constrain()
        for part in self.even:
            part.hold(self.appearance)
        self._done += 1
        for own in self.appearance.materials:
            if own.normal is not None and own.normal.requires_grad:
                own.normal[..., :2].clamp_(-_STEEPEST, _STEEPEST)
                own.normal[..., 2:].clamp_(min=0.5)
        if int(self._done) % _FILL_EVERY == 0:
            self.fill_gutters()

    @torch.no_grad()
    def fill_gutters(self) -> None:
        """Texels around the charts become like their neighbours inside, so that mips and look-ups mix nothing in."""
        if self.fill is None or not self.appearance.maps():
            return
        for own, fill in zip(self.appearance.materials, self.fill, strict=True):
            for values in (own.albedo, own.reflectance):
                values[0].copy_(fill(values[0]))

    @torch.no_grad()
    def preview(self) -> dict[str, Any]:
        """Four views of the maps under the first lights, the same ones every time."""
        look = self.views.draw(np.random.default_rng([self.seed, 77]), 4)
        return {"views": torch.cat(list(self.views.picture(look, self.appearance)), dim=1).clamp(0.0, 1.0)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        out = {"maps": self.appearance.state_dict(), "counts": {"skipped": self.skipped, "done": self._done}}
        return out if self.coarse is None else out | {"coarse": self.coarse.state_dict()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.appearance.load_state_dict(state["maps"])
        self.skipped.copy_(state["counts"]["skipped"])
        self._done.copy_(state["counts"]["done"])
        if self.coarse is not None:
            self.coarse.load_state_dict(state["coarse"])
