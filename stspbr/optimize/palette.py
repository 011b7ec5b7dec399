"""The few colours of an object: points of like albedo and metallic, wherever they are."""

from __future__ import annotations

import torch
from torch import Tensor

_LIFT = 0.03  # of albedo before its logarithm: black is not infinitely far from nearly black
_METAL = 2.0  # distance of metal from non-metal, in radii
_DRAWN = 4000
_ROUNDS = 8
_MOST = 32
_LEAST = 0.005  # share of the points below which a colour is given up


@torch.no_grad()
def palette(albedo: Tensor, metallic: Tensor, radius: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Group N points by colour: DP-means (Kulis & Jordan 2012) in the logarithm of albedo, with medians.

    Args:
        albedo: ``[N, 3]`` linear; metallic: ``[N, 1]``; N ≥ 1.
        radius: largest distance of a point from its colour; 0.6 is a factor of 1.4 in each channel.
        generator: draws the points that the colours are looked for in.

    Returns:
        ``[N]`` int64, the group of each point; ``[G, 3]``, the groups' albedos, at most 32.
    """
    every = torch.cat([(albedo + _LIFT).log(), _METAL * radius * metallic], dim=1)
    drawn = every
    if len(every) > _DRAWN:
        drawn = every[torch.randperm(len(every), generator=generator, device=every.device)[:_DRAWN]]
    centres = drawn.median(dim=0, keepdim=True).values
    for _ in range(_ROUNDS):
        nearest, owner = _nearest(drawn, centres)
        while float(nearest.max()) > radius and len(centres) < _MOST:
            centres = torch.cat([centres, drawn[nearest.argmax()][None]])
            nearest, owner = _nearest(drawn, centres)
        groups = [drawn[owner == number] for number in range(len(centres))]
        centres = torch.stack([group.median(dim=0).values for group in groups if len(group)])
    counts = torch.bincount(_nearest(drawn, centres)[1], minlength=len(centres))
    centres = centres[counts >= min(_LEAST * len(drawn), int(counts.max()))]
    return _nearest(every, centres)[1], (centres[:, :3].exp() - _LIFT).clamp(0.0, 1.0)


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest centre and its number, ``[N]`` each."""
    squares = sum(((points[:, k : k + 1] - centres[:, k]) ** 2 for k in range(points.shape[1])), points.new_zeros(()))
    nearest, owner = squares.min(dim=1)
    return nearest.sqrt(), owner
