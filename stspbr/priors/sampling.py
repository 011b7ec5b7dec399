"""Pictures out of noise: DDIM (Song et al. 2021) with a prior's first stage, to see what it has learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stspbr.priors.lit_views import condition_images, draw_views
from stspbr.priors.pictures import Studio
from stspbr.priors.protocol import Condition, Extra, PriorStage
from stspbr.priors.small import SmallPrior
from stspbr.render.gbuffer import render_gbuffer


@torch.no_grad()
def ddim(
    stage: PriorStage, condition: Condition, extra: Extra, noise: Tensor, steps: int = 30, guidance: float = 1.0
) -> Tensor:
    """``[B, side, side, 3]`` in [−1, 1]: pictures from ``noise`` of that shape, without further randomness (η = 0)."""
    levels = torch.linspace(len(stage.alphas_bar) - 1, 0, steps).round().long().tolist()
    x = noise
    for here, after in zip(levels, [*levels[1:], None], strict=True):
        clean = stage.x0(x, here, condition, guidance, extra).clamp(-1.0, 1.0)
        if after is None:
            return clean
        signal, following = float(stage.alphas_bar[here]), float(stage.alphas_bar[after])
        epsilon = (x - signal**0.5 * clean) / (1.0 - signal) ** 0.5
        x = following**0.5 * clean + (1.0 - following) ** 0.5 * epsilon
    return x


@torch.no_grad()
def sample(
    prior: SmallPrior, prompts: Sequence[str], studio: Studio, seed: int, guidance: float = 1.0
) -> tuple[Tensor, Extra]:
    """Pictures ``[B, side, side, 3]`` in [0, 1] of the studio's first shape, one per prompt, and what was shown."""
    stage = prior.stages[0]
    rng = np.random.default_rng([seed, 5])
    lit = draw_views(rng, len(prompts), 2 * stage.side, len(studio.lights), studio.spheres[0], studio.device)
    gbuffer = render_gbuffer(studio.surfaces[0], lit.views, studio.backend)
    extra = Extra(*condition_images(gbuffer, lit, studio.lights, studio.backend.texture, stage.side))
    generator = torch.Generator(device=studio.device).manual_seed(seed)
    noise = torch.randn((len(prompts), stage.side, stage.side, 3), generator=generator, device=studio.device)
    found = ddim(stage, prior.encode(prompts, lit.words), extra, noise, guidance=guidance)
    return 0.5 * (found + 1.0), extra
