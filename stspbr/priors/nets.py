"""The nets of the small cascade: U-Nets without attention that say what a surface is made of, pixel by pixel.

Every uniform material is a sum of what a net is shown under the same light: white paint, white metals and black gloss.
The sum holds for radiance, not for its display values, where whatever is bright is white. So a net predicts the sum's
coefficients, adds radiances, and applies the display curve to them. There are no norms over the
picture, so that crops and whole pictures are treated alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stspbr.priors.lit_views import GEOMETRY, REFERENCES
from stspbr.priors.mixes import MIX
from stspbr.priors.protocol import signal_at
from stspbr.render.display import display_curve, radiance_of

_LEVEL_WAVES = 16
_OWN_VARIANCE = 0.01  # expected of the mixed picture before training, and of a coarser one beside its noise
_LOW_VARIANCE = 0.01
_LEAST_MASK = 1e-2
_MOST_EVIDENCE = 4.0  # of one pixel for one of two materials, as a log-likelihood ratio


class Mixer(nn.Module):
    """A U-Net with FiLM (Perez et al. 2018) by text, noise level, and the noise level of the coarser picture.

    The words of each of the two materials give its mix of references, and so its picture. The U-Net sees both
    pictures beside the noisy one, and the evidence of every pixel for the second. It says how much of the second
    shows, what is to be changed in the mix, and how far the result, the noisy picture and the coarser one are to be
    believed. These are averaged by their precisions, which begin at those that the noise levels give (as in the
    preconditioning of Karras et al. 2022).

    A net without light is shown no reference. It guesses them from normals and the noisy picture, and there is no
    evidence for either material but what it sees.

    Args:
        channels: of its resolutions, finest first.
        words: V, of the vocabulary.
        low: whether it is shown a coarser picture; light: whether it is shown the references.
        width: of the condition's vector.
    """

    def __init__(self, channels: tuple[int, ...], words: int, low: bool, light: bool = True, width: int = 96) -> None:
        super().__init__()
        self.channels, self.words, self.low, self.light = channels, words, low, light
        given = 3 + GEOMETRY + (REFERENCES + 6 + 1 if light else 0) + ((4 if light else 3) if low else 0)
        self.text = nn.Linear(2 * words, width, bias=False)
        self.noise = nn.Linear(2 * _LEVEL_WAVES * (2 if low else 1), width)
        self.join = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.first = nn.Conv2d(given, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(c, c, width) for c in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(channels, channels[1:], strict=False))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(channels, channels[1:], strict=False))
        self.up = nn.ModuleList(_Block(2 * c, c, width) for c in channels[:-1])
        # change of the mix, cover, background, log precisions, guessed references
        self.sizes = [MIX, 1, 3, 3 if low else 2, 0 if light else REFERENCES]
        self.last = nn.Conv2d(channels[0], sum(self.sizes), 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        words: Tensor,
        geometry: Tensor,
        light: Tensor | None,
        low: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """``[B, 3, H, W]``: the picture in about [−1, 1] that is expected behind ``x_t`` ``[B, 3, H, W]``.

        Args:
            t, level: ``[B]`` of the noise, in [0, 1); words: ``[B, 2, V + MIX]``, see ``mixes.encoded``.
            geometry, light: ``[B, GEOMETRY or REFERENCES, H, W]``, see ``lit_views``; a net without light reads none.
            low: the coarser picture ``[B, 3, H, W]`` with noise of ``level``.
        """
        mask = geometry[:, 3:4]
        words, known = words.split([self.words, MIX], dim=2)
        mixes = known.unflatten(2, (3, REFERENCES))
        observed, variance = [_unscaled(x_t, t)], [_variance(t)]
        levels = [_waves(t)]
        if low is not None:
            assert level is not None
            observed, variance = [*observed, _unscaled(low, level)], [*variance, _variance(level) + _LOW_VARIANCE]
            levels.append(_waves(level))
        shown, evidence, radiance = [x_t, geometry], [], None
        if self.light:
            assert light is not None
            radiance = radiance_of(light / mask.clamp(min=_LEAST_MASK))  # ``light`` fades out at the outline
            painted = display_curve(torch.einsum("bmck,bkhw->bmchw", mixes, radiance))
            evidence = [
                _evidence(seen, painted, spread + _OWN_VARIANCE)
                for seen, spread in zip(observed, variance, strict=True)
            ]
            shown += [light, painted.flatten(1, 2), *evidence]
        condition = self.join(self.text(words.flatten(1)) + self.noise(torch.cat(levels, dim=1)))
        shown += [low] if low is not None else []
        h, kept = self.first(torch.cat(shown, dim=1)), []
        for number, block in enumerate(self.down):
            h = block(h, condition)
            if number < len(self.shrink):
                kept.append(h)
                h = self.shrink[number](h)
        for number in reversed(range(len(self.up))):
            h = nn.functional.interpolate(self.grow[number](h), scale_factor=2.0, mode="nearest")
            h = self.up[number](torch.cat([h, kept[number]], dim=1), condition)
        change, cover, behind, precision, guessed = self.last(h).split(self.sizes, dim=1)
        if radiance is None:
            radiance = nn.functional.softplus(guessed)

        second = words[:, 1].amax(1)[:, None, None, None]  # whether there is one
        cover = (second * torch.sigmoid(cover + sum(evidence)))[:, None]
        mix = mixes[:, 0, :, :, None, None] * (1.0 - cover) + mixes[:, 1, :, :, None, None] * cover
        mix = mix + change.unflatten(1, (3, REFERENCES))
        surface = display_curve((mix * radiance[:, None]).sum(2))
        picture = mask * surface + (1.0 - mask) * torch.sigmoid(behind)

        found = torch.stack([2.0 * picture - 1.0, *observed], dim=1)
        spread = torch.cat([torch.full_like(variance[0], _OWN_VARIANCE), *variance], dim=1)
        share = torch.softmax(precision - spread.log(), dim=1)
        return (share[:, :, None] * found).sum(1)


def _unscaled(x_t: Tensor, t: Tensor) -> Tensor:
    """``x_t`` as a picture with noise of ``_variance``."""
    return x_t / signal_at(t).sqrt()[:, None, None, None]


def _variance(t: Tensor) -> Tensor:
    """``[B, 1, 1, 1]``: σ² = (1 − ā) / ā of noise levels ``[B]``."""
    signal = signal_at(t)[:, None, None, None]
    return (1.0 - signal) / signal


def _evidence(seen: Tensor, painted: Tensor, variance: Tensor) -> Tensor:
    """``[B, 1, H, W]``: the log-likelihood ratio of each pixel for the second of two pictures, bounded softly.

    Args:
        seen: ``[B, 3, H, W]`` in [−1, 1] with noise of ``variance``; painted: ``[B, 2, 3, H, W]`` in [0, 1].
    """
    one, two = (2.0 * painted - 1.0).unbind(1)
    ratio = ((two - one) * (2.0 * seen - one - two)).sum(1, keepdim=True) / (2.0 * variance)
    return _MOST_EVIDENCE * torch.tanh(ratio / _MOST_EVIDENCE)


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
