"""Visible look-ups: a ray along each look-up of the shading; a blocked one takes what leaves the place it hits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.render.gbuffer import GBuffer
from stspbr.render.light import PrefilteredLight
from stspbr.transport.radiosity import Irradiance, Radiosity

_NEGLIGIBLE = 0.02  # share of a pixel's specular weight below which a look-up is not cast


@dataclass
class VisibleLookups:
    """The surroundings of the pixels of one G-buffer, as ``shade`` takes them.

    Pixels between points that see no part of the object are left as they are, bit for bit.

    Attributes:
        radiosity, irradiance: of the cache, the latter per view of the batch.
        light: for what the hits mirror; texture: the backend's.
        gbuffer: of the pixels; corners, shares: ``[N, 3]``, the cached points about each.
        face_normals: ``[F, 3]`` unit, of the G-buffer's mesh.
        strength: 0: all is open; 1: what the rays find.
    """

    radiosity: Radiosity
    irradiance: Irradiance
    light: PrefilteredLight
    texture: Callable[..., Tensor]
    gbuffer: GBuffer
    corners: Tensor
    shares: Tensor
    face_normals: Tensor
    strength: float = 1.0

    def __call__(self, found: Tensor, around: Tensor, directions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """``found [K, N, 3]`` and ``around [N, 3]`` with what is hidden replaced by what hides it."""
        cache = self.radiosity.cache
        enclosed = cache.enclosed.index_select(0, self.corners.reshape(-1)).view(-1, 3).any(1)
        pixels = torch.nonzero(enclosed).squeeze(1)
        if len(pixels) == 0 or self.strength <= 0:
            return found, around
        view = self.gbuffer.view.index_select(0, pixels)
        _, ratio = self.irradiance.at(view, self.corners[pixels], self.shares[pixels])
        ratio = 1.0 + self.strength * (ratio - 1.0)
        around = around.index_copy(0, pixels, around.index_select(0, pixels) * ratio)
        return self._cast(found, directions.detach(), weights.detach(), pixels, view, ratio.detach()), around

    def _cast(
        self, found: Tensor, directions: Tensor, weights: Tensor, pixels: Tensor, view: Tensor, ratio: Tensor
    ) -> Tensor:
        lookups = len(found)
        # A and B of the look-ups: what a mirror and what Fresnel's rim see of each
        share = weights[pixels][:, : 2 * (lookups + 1)].view(-1, 2, lookups + 1).sum(1)
        share = share[:, :lookups] / share.sum(1, keepdim=True).clamp(min=1e-12)
        k, row = torch.nonzero((share > _NEGLIGIBLE).T).unbind(1)
        pixel, owner = pixels[row], view[row]
        turn = self.gbuffer.object_rotation.index_select(0, owner)
        ways = torch.nn.functional.normalize((directions[k, pixel][:, None] @ turn)[:, 0], dim=1)
        outward = self.face_normals.index_select(0, self.gbuffer.triangle.index_select(0, pixel))
        cache = self.radiosity.cache
        origin = self.gbuffer.position.detach().index_select(0, pixel) + cache.offset * outward
        hits = cache.scene.closest(origin, ways)
        below = (ways * outward).sum(1) <= 0
        blocked = torch.nonzero(hits.found | below).squeeze(1)
        reached = torch.nonzero(hits.found & ~below).squeeze(1)
        corners, shares = cache.points.corners(hits.triangle[reached], hits.barycentric[reached])
        diffuse, specular = self.radiosity.leaving(
            corners, shares, -ways[reached], self.light, (self.gbuffer.object_rotation, owner[reached]), self.texture,
            self.irradiance,
        )  # fmt: skip
        value = found.new_zeros(len(ways), 3)
        value[reached] = diffuse + specular
        k, pixel = k[blocked], pixel[blocked]
        kept = found[k, pixel] * (1.0 - self.strength) if self.strength < 1 else 0.0
        return found.index_put((k, pixel), value[blocked] * self.strength + kept)
