"""Generators without memory: a network per pixel and a U-Net. Both predict log(1 + radiance)."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from stspbr.neural.encoders import tiled
from stspbr.settings.scene_model import GeneratorSettings

_SLOPE = 0.01  # of leaky rectifiers


class PixelNetwork(nn.Module):
    """The same small network at every pixel, whatever the picture's side; it sees no neighbours.

    Args:
        settings: of the generator; vector_dim: channels of the vectors that it reads; pose_dim: numbers of a pose.
    """

    def __init__(self, settings: GeneratorSettings, vector_dim: int, pose_dim: int) -> None:
        super().__init__()
        self.options = options = settings.settings
        buffers, width = settings.query_channels, options.hidden_units
        repeated = options.propagate_buffers * buffers + options.propagate_representation * vector_dim
        repeated += options.propagate_viewpoint * pose_dim
        self.first = nn.Conv2d(buffers + pose_dim + vector_dim, width, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width + repeated, width, 1) for _ in range(options.layers))
        self.last = nn.Conv2d(width, settings.output_channels, 1)

    def forward(self, buffers: Tensor, pose: Tensor, vector: Tensor) -> Tensor:
        """``[B, x, H, W]``, ``[B, 16]`` and ``[B, r, h, w]`` to ``[B, out, H, W]``."""
        options, (count, _, *side) = self.options, buffers.shape
        pixels = buffers.permute(0, 2, 3, 1).flatten(1, 2)
        # a vector that is the same at every pixel is multiplied once per picture
        whole = vector.shape[-2:] == (1, 1)
        spread = None if whole else tiled(vector, buffers).permute(0, 2, 3, 1).flatten(1, 2)
        seen = vector.flatten(1) if whole else spread
        repeated = (
            pixels if options.propagate_buffers else None,
            seen if options.propagate_representation else None,
            pose if options.propagate_viewpoint else None,
        )
        hidden = functional.leaky_relu(_mixed(self.first, pixels, pose, seen), _SLOPE)
        for layer in self.layers:
            hidden = functional.leaky_relu(_mixed(layer, hidden, *repeated), _SLOPE)
        out = _mixed(self.last, hidden).unflatten(1, side).permute(0, 3, 1, 2).reshape(count, -1, *side)
        return functional.relu(out) if options.end_relu else out


def _mixed(layer: nn.Module, *parts: Tensor | None) -> Tensor:
    """A convolution of 1 × 1 of the parts' concatenation, ``[B, P, C]`` per pixel or ``[B, C]`` per picture."""
    assert isinstance(layer, nn.Conv2d)
    weights, out, at = layer.weight.flatten(1), layer.bias, 0
    for part in parts[::-1]:  # those per picture come last: they are added before anything is as large as a picture
        if part is None:
            continue
        end = weights.shape[1] - at
        at += part.shape[-1]
        made = functional.linear(part, weights[:, end - part.shape[-1] : end])
        made = made[:, None] if made.ndim == 2 else made
        out = made if out is None else out + made
    assert out is not None
    return out


class UNet(nn.Module):
    """An encoder-decoder with skips; vector and pose join at every level on the way down."""

    def __init__(self, settings: GeneratorSettings, vector_dim: int, pose_dim: int) -> None:
        super().__init__()
        self.options = settings.settings
        widths, condition = self.options.widths, vector_dim + pose_dim
        before = [settings.query_channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(x + condition, width) for x, width in zip(before, widths, strict=True))
        upwards = list(reversed(widths))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(x, width, 4, stride=2, padding=1) for x, width in zip(upwards, upwards[1:], strict=False)
        )
        self.up = nn.ModuleList(_block(2 * width, width) for width in upwards[1:])
        self.last = nn.Conv2d(widths[0], settings.output_channels, 1)

    def forward(self, buffers: Tensor, pose: Tensor, vector: Tensor) -> Tensor:
        """See :meth:`PixelNetwork.forward`; the side is a multiple of 2 to the number of levels less one."""
        skips, hidden = [], buffers
        for level, block in enumerate(self.down):
            hidden = functional.max_pool2d(hidden, 2) if level else hidden
            hidden = block(torch.cat([hidden, tiled(vector, hidden), tiled(pose, hidden)], dim=1))
            skips.append(hidden)
        skips.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            hidden = block(torch.cat([grow(hidden), skips.pop()], dim=1))
        out = self.last(hidden)
        return functional.relu(out) if self.options.end_relu else out


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
    )
