"""Visible look-ups: a ray along each look-up of the shading; a blocked one takes what leaves the place it hits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.render.light import PrefilteredLight
from stspbr.transport.radiosity import Irradiance, Radiosity

_NEGLIGIBLE = 0.05  # share of a pixel's specular weight below which a look-up is not cast


@dataclass
class VisibleLookups:
    """The surroundings of N pixels, as ``shade`` takes them.

    Pixels between points that see no part of the object are left as they are, bit for bit.

    Attributes:
        radiosity, irradiance: of the object.
        light: for what the hits mirror; texture: the backend's.
        rotations: ``[R, 3, 3]`` object to world, those of the irradiance; rotation: ``[N]`` int64 into them.
        origin: ``[N, 3]`` where rays start; outward: ``[N, 3]`` unit normals of the triangles there.
        corners, shares: ``[N, 3]``, the points about each pixel and their weights.
        strength: 0: all is open; 1: what the rays find.
    """

    radiosity: Radiosity
    irradiance: Irradiance
    light: PrefilteredLight
    texture: Callable[..., Tensor]
    rotations: Tensor
    rotation: Tensor
    origin: Tensor
    outward: Tensor
    corners: Tensor
    shares: Tensor
    strength: float = 1.0

    def __call__(self, found: Tensor, around: Tensor, directions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """``found [K, N, 3]`` and ``around [N, 3]`` with what is hidden replaced by what hides it."""
        enclosed = self.radiosity.cache.enclosed.index_select(0, self.corners.reshape(-1)).view(-1, 3).any(1)
        pixels = torch.nonzero(enclosed).squeeze(1)
        if len(pixels) == 0 or self.strength <= 0:
            return found, around
        _, ratio = self.irradiance.at(self.rotation[pixels], self.corners[pixels], self.shares[pixels])
        ratio = 1.0 + self.strength * (ratio - 1.0)
        around = around.index_copy(0, pixels, around.index_select(0, pixels) * ratio)
        return self._cast(found, directions.detach(), weights.detach(), pixels), around

    @torch.no_grad()
    def _blocked(
        self, directions: Tensor, weights: Tensor, pixels: Tensor, lookups: int
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Which look-ups (number, pixel) are blocked, and the radiance ``[M, 3]`` that comes from there instead."""
        # A and B of the look-ups: what a mirror and what Fresnel's rim see of each
        share = weights[pixels][:, : 2 * (lookups + 1)].view(-1, 2, lookups + 1).sum(1)
        share = share[:, :lookups] / share.sum(1, keepdim=True).clamp(min=1e-12)
        number, row = torch.nonzero((share > _NEGLIGIBLE).T).unbind(1)
        pixel = pixels[row]
        turn = self.rotations.index_select(0, self.rotation.index_select(0, pixel))
        ways = torch.nn.functional.normalize((directions[number, pixel][:, None] @ turn)[:, 0], dim=1)
        hits = self.radiosity.cache.scene.closest(self.origin.index_select(0, pixel), ways)
        below = (ways * self.outward.index_select(0, pixel)).sum(1) <= 0  # the surface itself is in the way
        value = ways.new_zeros(len(ways), 3)
        reached = torch.nonzero(hits.found & ~below).squeeze(1)
        corners, shares = self.radiosity.cache.points.corners(hits.triangle[reached], hits.barycentric[reached])
        turned = (self.rotations, self.rotation[pixel[reached]])
        diffuse, specular = self.radiosity.leaving(
            corners, shares, -ways[reached], self.light, turned, self.texture, self.irradiance
        )
        value[reached] = diffuse + specular
        blocked = torch.nonzero(hits.found | below).squeeze(1)
        return (number[blocked], pixel[blocked]), value[blocked]

    def _cast(self, found: Tensor, directions: Tensor, weights: Tensor, pixels: Tensor) -> Tensor:
        places, value = self._blocked(directions, weights, pixels, len(found))
        if self.strength < 1.0:
            value = self.strength * value + (1.0 - self.strength) * found[places]
        return found.index_put(places, value)
