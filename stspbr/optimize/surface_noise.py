"""Noise that is attached to a surface: every view shows the same grains at the same places.

What a prior makes of fresh noise is another pattern at every step, and the mean of patterns is none. Noise that stays,
behind which the level falls from step to step, is one sample's path through the levels, seen from all sides.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stspbr.render.display import area_filtered
from stspbr.render.gbuffer import GBuffer

_GRAINS = 1 << 14
_PRIMES = (73856093, 19349663, 83492791)  # of a hash of cells (Teschner et al. 2003)


class SurfaceNoise:
    """Standard normal noise of cells of space, as views of a surface show it.

    Args:
        sphere: centre ``[3]`` and radius of the ball around the surface.
        side: of the pictures in pixels; a cell is about a pixel.
    """

    def __init__(self, sphere: tuple[np.ndarray, float], side: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.grains = torch.randn((_GRAINS, 3), generator=generator).to(device)
        self.centre, self.cell, self.side = sphere[0], 2.0 * sphere[1] / side, side

    @torch.no_grad()
    def seen(self, gbuffer: GBuffer, generator: torch.Generator) -> Tensor:
        """``[B, side, side, 3]`` of about unit variance; off the surface it is fresh."""
        position = gbuffer.position
        place = ((position - position.new_tensor(self.centre)) / self.cell).floor().long()
        first, second, third = (place[:, axis] * prime for axis, prime in enumerate(_PRIMES))
        grains = self.grains.index_select(0, (first ^ second ^ third) % _GRAINS)
        image = area_filtered(gbuffer.image(grains), self.side)
        values, mask = image[..., :3], image[..., 3:]
        inside = values[mask[..., 0] > 0.999]
        spread = inside.std().clamp(min=0.1) if len(inside) > 1 else values.new_tensor(1.0)
        fresh = torch.randn(values.shape, generator=generator, device=values.device)
        return values / spread + (1.0 - mask.square()).clamp(min=0.0).sqrt() * fresh
