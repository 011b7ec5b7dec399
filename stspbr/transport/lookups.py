"""Visible look-ups: a ray along each look-up of the shading; a blocked one takes what leaves the place it hits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.kernel_dispatch import usable
from stspbr.render.light import PrefilteredLight
from stspbr.transport.points import arrays
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
        enclosed = self.radiosity.enclosed(self.rotations, self.rotation, self.corners)
        if self.strength <= 0 or not bool(enclosed.any()):
            return found, around
        _, ratio = self.irradiance.at(self.rotation, self.corners, self.shares)
        dimmed = around * (1.0 + self.strength * (ratio - 1.0))
        around = torch.where(enclosed[:, None], dimmed, around)
        return self._cast(found, directions.detach(), weights.detach(), enclosed), around

    @torch.no_grad()
    def _blocked(self, directions: Tensor, weights: Tensor, enclosed: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Which look-ups (number, pixel) are blocked, and the radiance ``[M, 3]`` that comes from there instead."""
        if usable("auto", directions, self.origin, self.rotations, what="look-ups"):
            number, pixel, origins, ways = self._rays(directions, weights, enclosed)
        else:
            number, pixel, origins, ways = self._rays_twin(directions, weights, enclosed)
        hits = self.radiosity.cache.scene.closest(origins, ways)
        below = (ways * self.outward.index_select(0, pixel)).sum(1) <= 0  # the surface itself is in the way
        away, sent = self._from_copies(origins, ways, pixel, ~(hits.found | below))
        blocked = torch.nonzero(hits.found | below).squeeze(1)
        elsewhere = number[away], pixel[away]
        number, pixel = number[blocked], pixel[blocked]
        front = torch.nonzero((hits.found & ~below)[blocked]).squeeze(1)
        reached = blocked[front]
        corners, shares = self.radiosity.cache.points.corners(hits.triangle[reached], hits.barycentric[reached])
        diffuse, specular = self.radiosity.leaving(
            corners, shares.to(ways.dtype), -ways[reached], self.light, (self.rotations, self.rotation[pixel[front]]),
            self.texture, self.irradiance,
        )  # fmt: skip
        value = ways.new_zeros(len(blocked), 3)
        value[front] = diffuse + specular
        if len(away) == 0:
            return (number, pixel), value
        return (torch.cat([number, elsewhere[0]]), torch.cat([pixel, elsewhere[1]])), torch.cat([value, sent])

    def _from_copies(self, origins: Tensor, ways: Tensor, pixel: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Which rays other copies are in the way of, ``[M]`` int64, and the radiance ``[M, 3]`` from there."""
        copies = self.radiosity.copies
        rows, values = [pixel.new_zeros(0)], [ways.new_zeros(0, 3)]
        for index, rotation in enumerate(self.rotations) if copies is not None else ():
            assert copies is not None
            own = torch.nonzero(free & (self.rotation.index_select(0, pixel) == index)).squeeze(1)
            number = copies.number(rotation)
            hits = copies.closest(number, origins[own].float(), ways[own].float())
            met = torch.nonzero(hits.owner >= 0).squeeze(1)
            value = ways.new_zeros(len(met), 3)
            front = copies.fronts(number, hits, ways[own].float())[met]
            for owner in hits.owner[met].unique().tolist():
                some = torch.nonzero(front & (hits.owner[met] == owner)).squeeze(1)
                turn, _ = copies.neighbours.into(number, owner)
                places = met[some]
                corners, shares = self.radiosity.cache.points.corners(hits.triangle[places], hits.barycentric[places])
                view = -(ways[own[places]] @ turn.T.to(ways.dtype))
                value[some] = self.radiosity.sent_by(
                    owner, corners, shares.to(ways.dtype), view, self.light, self.texture
                )
            rows.append(own[met])
            values.append(value)
        return torch.cat(rows), torch.cat(values)

    def _rays(self, directions: Tensor, weights: Tensor, enclosed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Look-up and pixel of each ray, origins ``[M, 3]`` and unit directions ``[M, 3]`` in object space."""
        from stspbr.transport.point_kernels import block_count, count_rays, gather_rays

        directions, weights, negligible = directions.contiguous(), weights.contiguous(), np.float32(_NEGLIGIBLE)
        ends = np.empty(block_count(len(enclosed)), np.int64)
        count_rays(*arrays(weights, enclosed), len(directions), negligible, ends)
        ends = np.cumsum(ends)
        number, pixel = self.rotation.new_empty(2, ends[-1])
        origins, ways = directions.new_empty(2, ends[-1], 3)
        gather_rays(
            *arrays(directions, weights, enclosed, self.rotations, self.rotation, self.origin), negligible, ends,
            *arrays(number, pixel, origins, ways),
        )  # fmt: skip
        return number, pixel, origins, ways

    def _rays_twin(
        self, directions: Tensor, weights: Tensor, enclosed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``_rays`` in plain torch, for any float type and device."""
        lookups, pixels = len(directions), torch.nonzero(enclosed).squeeze(1)
        # A and B of the look-ups: what a mirror and what Fresnel's rim see of each
        share = weights[pixels][:, : 2 * (lookups + 1)].view(-1, 2, lookups + 1).sum(1)
        share = share[:, :lookups] / share.sum(1, keepdim=True).clamp(min=1e-12)
        row, number = torch.nonzero(share > _NEGLIGIBLE).unbind(1)
        pixel = pixels[row]
        turn = self.rotations.to(directions.dtype).index_select(0, self.rotation.index_select(0, pixel))
        ways = torch.nn.functional.normalize((directions[number, pixel][:, None] @ turn)[:, 0], dim=1)
        return number, pixel, self.origin.index_select(0, pixel), ways

    def _cast(self, found: Tensor, directions: Tensor, weights: Tensor, enclosed: Tensor) -> Tensor:
        places, value = self._blocked(directions, weights, enclosed)
        if self.strength < 1.0:
            value = self.strength * value + (1.0 - self.strength) * found[places]
        return found.index_put(places, value)
