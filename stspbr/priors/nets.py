"""The nets of the small cascade: U-Nets without attention, whose last layer mixes what they are shown.

Given white paint and white metals under the same light, a picture is nearly one mix of them at every pixel. So the
output is a sum of the inputs with coefficients of each pixel, which a few convolutions predict from text and level.
There are no norms over the picture, so that crops and whole pictures are treated alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stspbr.priors.lit_views import GEOMETRY, REFERENCES

_LEVEL_WAVES = 16


class Mixer(nn.Module):
    """A U-Net with FiLM (Perez et al. 2018) by text, noise level, and the noise level of the coarser picture.

    Args:
        channels: of its resolutions, finest first.
        words: V, of the vocabulary.
        low: whether it is shown a coarser picture.
        width: of the condition's vector.
    """

    def __init__(self, channels: tuple[int, ...], words: int, low: bool, width: int = 96) -> None:
        super().__init__()
        self.channels, self.words, self.low = channels, words, low
        given = 3 + GEOMETRY + REFERENCES + (3 if low else 0)
        self.text = nn.Linear(2 * words, width, bias=False)
        self.noise = nn.Linear(2 * _LEVEL_WAVES * (2 if low else 1), width)
        self.join = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.first = nn.Conv2d(given, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(c, c, width) for c in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(channels, channels[1:], strict=False))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(channels, channels[1:], strict=False))
        self.up = nn.ModuleList(_Block(2 * c, c, width) for c in channels[:-1])
        self.mixed = REFERENCES + 1 + (1 if low else 0)  # white references, one, and the coarser picture
        self.last = nn.Conv2d(channels[0], 3 * (self.mixed + 1), 1)
        # what text and level alone say of the mix: most of it for one material
        self.whole = nn.Linear(width, 3 * (self.mixed + 1))
        for layer in (self.last, self.whole):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        words: Tensor,
        geometry: Tensor,
        light: Tensor,
        low: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """``[B, 3, H, W]``: −v of ``x_t`` ``[B, 3, H, W]``.

        Args:
            t, level: ``[B]`` of the noise, in [0, 1); words: ``[B, 2, V]``; geometry, light: ``[B, 4, H, W]``.
        """
        levels = [_waves(t)] + ([_waves(level)] if level is not None else [])
        condition = self.join(self.text(words.flatten(1)) + self.noise(torch.cat(levels, dim=1)))
        shown = [x_t, geometry, light] + ([low] if low is not None else [])
        h, kept = self.first(torch.cat(shown, dim=1)), []
        for number, block in enumerate(self.down):
            h = block(h, condition)
            if number < len(self.shrink):
                kept.append(h)
                h = self.shrink[number](h)
        for number in reversed(range(len(self.up))):
            h = nn.functional.interpolate(self.grow[number](h), scale_factor=2.0, mode="nearest")
            h = self.up[number](torch.cat([h, kept[number]], dim=1), condition)
        weights = (self.last(h) + self.whole(condition)[:, :, None, None]).unflatten(1, (self.mixed + 1, 3))
        grey = torch.cat([light, torch.ones_like(light[:, :1])], dim=1)[:, :, None]
        coloured = [x_t] + ([low] if low is not None else [])
        sources = [grey.expand(-1, -1, 3, -1, -1), torch.stack(coloured, dim=1)]
        return (weights * torch.cat(sources, dim=1)).sum(1)


class _Block(nn.Module):
    """Two convolutions with a scale and a shift from the condition between them, and a shortcut."""

    def __init__(self, given: int, out: int, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(given, out, 3, padding=1)
        self.film = nn.Linear(width, 2 * out)
        self.two = nn.Conv2d(out, out, 3, padding=1)
        self.short: nn.Module = nn.Identity() if given == out else nn.Conv2d(given, out, 1)
        nn.init.zeros_(self.two.weight)  # without norms, a block starts as its shortcut
        nn.init.zeros_(self.two.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.one(nn.functional.silu(x))
        return self.short(x) + self.two(nn.functional.silu(h * (1.0 + scale) + shift))


def _waves(level: Tensor) -> Tensor:
    """``[B, 2·_LEVEL_WAVES]``: sines and cosines of levels in [0, 1)."""
    rate = 2.0 ** torch.linspace(0.0, 7.0, _LEVEL_WAVES, device=level.device)
    angle = level[:, None] * rate * torch.pi
    return torch.cat([angle.sin(), angle.cos()], dim=1)
