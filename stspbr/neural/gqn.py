"""The recurrent generator with latents of generative query networks (Eslami et al., Science 2018)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from stspbr.neural.encoders import tiled
from stspbr.settings.scene_model import GeneratorSettings

_KERNEL = 5
_DEVIATION = (2.0, 0.7)  # of the picture, at the start and after ``deviation_steps``
_SCALE = 25.0  # by which, times the picture's side, the summed loss is divided
_LEAST = 1e-5  # deviation of a latent


class GQN(nn.Module):
    """A picture drawn in several recurrent steps, each with a random latent.

    The two layers that give the latents' distributions are the same in all steps, as the published number of
    parameters tells.

    Args:
        settings: of the generator; vector_dim: channels of the vectors that it reads; pose_dim: numbers of a pose.
    """

    def __init__(self, settings: GeneratorSettings, vector_dim: int, pose_dim: int) -> None:
        super().__init__()
        self.options = options = settings.settings
        h, z, scale = options.state_dim, options.latent_dim, options.downscaling
        buffers, out = settings.query_channels, settings.output_channels
        cell = _LSTM if options.cell_type == "LSTM" else _GRU
        own = 1 if options.weight_sharing else options.core_count
        condition = vector_dim + pose_dim
        self.shrink = nn.Conv2d(buffers, buffers, scale, stride=scale, bias=False) if buffers else None
        self.inference = nn.ModuleList(cell(h + out + condition, h) for _ in range(own))
        self.generation = nn.ModuleList(cell(condition + z + buffers, h) for _ in range(own))
        self.prior = nn.Conv2d(h, 2 * z, _KERNEL, padding=_KERNEL // 2)
        self.posterior = nn.Conv2d(h, 2 * z, _KERNEL, padding=_KERNEL // 2)
        samplers = 1 if options.upscale_sharing else options.core_count
        self.grow = nn.ModuleList(nn.ConvTranspose2d(h, h, scale, stride=scale, bias=False) for _ in range(samplers))
        self.last = nn.Conv2d(h, out, 1)

    def forward(
        self, buffers: Tensor, pose: Tensor, vector: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """A picture with latents of the prior; ``generator`` draws them, None: each is its mean."""
        return self._draw(buffers, pose, vector, None, generator)[0]

    def loss(
        self, buffers: Tensor, pose: Tensor, vector: Tensor, radiance: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The picture, and the two parts of the negative evidence bound: ``kl`` and ``likelihood``."""
        truth = torch.log1p(radiance)
        canvas, divergence = self._draw(buffers, pose, vector, truth, generator)
        first, last = _DEVIATION
        deviation = first + (last - first) * min(1.0, step / self.options.deviation_steps)
        square = 0.5 * ((truth - canvas) / deviation).square() + math.log(deviation * math.sqrt(2.0 * math.pi))
        scale = 1.0 / (_SCALE * canvas.shape[-1] * len(canvas))
        return canvas, {"kl": divergence * scale, "likelihood": square.sum() * scale}

    def _draw(
        self, buffers: Tensor, pose: Tensor, vector: Tensor, truth: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        options = self.options
        side = buffers.shape[-1] // options.downscaling
        small = self.shrink(buffers) if self.shrink is not None else buffers[:, :, :side, :side]
        condition = torch.cat([tiled(pose, small), tiled(vector, small)], dim=1)
        seen = None if truth is None else functional.interpolate(truth, size=small.shape[-2:], mode="nearest")
        empty = small.new_zeros(len(small), options.state_dim, *small.shape[-2:])
        inference: tuple[Tensor, ...] = (empty, empty)
        generation: tuple[Tensor, ...] = (empty, empty)
        canvas = small.new_zeros(())
        divergence = small.new_zeros(())
        for core in range(options.core_count):
            mean, deviation = _normal(self.prior(generation[0]))
            if seen is not None:
                inputs = torch.cat([generation[0], seen, condition], dim=1)
                inference = self.inference[core % len(self.inference)](inputs, inference)
                found, spread = _normal(self.posterior(inference[0]))
                divergence = divergence + _divergence(found, spread, mean, deviation)
                mean, deviation = found, spread
            noise = torch.zeros_like(mean)
            if generator is not None:
                noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
            latent = mean + deviation * noise
            inputs = torch.cat([condition, latent, small], dim=1)
            generation = self.generation[core % len(self.generation)](inputs, generation)
            canvas = canvas + self.grow[core % len(self.grow)](generation[0])
        return self.last(canvas), divergence


class _LSTM(nn.Module):
    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + state, 4 * state, _KERNEL, padding=_KERNEL // 2)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, memory = state
        forget, entry, out, new = self.gates(torch.cat([hidden, x], dim=1)).chunk(4, dim=1)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(entry) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(memory), memory


class _GRU(nn.Module):
    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + state, 2 * state, _KERNEL, padding=_KERNEL // 2)
        self.new = nn.Conv2d(inputs + state, state, _KERNEL, padding=_KERNEL // 2)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = state[0]
        reset, update = torch.sigmoid(self.gates(torch.cat([hidden, x], dim=1))).chunk(2, dim=1)
        new = torch.tanh(self.new(torch.cat([reset * hidden, x], dim=1)))
        return (update * hidden + (1.0 - update) * new,)


def _normal(values: Tensor) -> tuple[Tensor, Tensor]:
    mean, spread = values.chunk(2, dim=1)
    return mean, functional.softplus(spread) + _LEAST


def _divergence(mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two normal distributions, summed over all elements."""
    ratio = (deviation / prior_deviation).square()
    shift = ((mean - prior_mean) / prior_deviation).square()
    return 0.5 * (ratio + shift - 1.0 - ratio.log()).sum()
