"""What is seen of an object with fixed materials, as an affine function of the light, and the transpose of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stspbr.optimize.cell_fits import pieces
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.observations import Observations
from stspbr.render.footprint import blurred
from stspbr.render.light_response import LightResponse
from stspbr.transport.transport import Transport

_DIFFUSE_SHARE = 1e-3  # of the diffuse look-up in the scaling: it sees all texels, but decides about none


class LightImage:
    """The observations as an affine function of the light, with fixed materials ``[M, 5]``.

    What hides light and what is sent on are taken as they are under ``radiance``.
    """

    def __init__(
        self,
        light: LearnedLight,
        seen: Observations,
        material: Tensor,
        radiance: Tensor,
        *,
        texture: Callable[..., Tensor],
        transport: Transport | None = None,
    ) -> None:
        """
        Args:
            material: ``[M, 5]`` albedo in units of the light, roughness, metallic.
            radiance: ``[6, N, N, 3]`` the light under which the surroundings are found.
            texture: a raster backend's; transport: what the object does to the light, if it is on.
        """
        self._light, self._seen = light, seen
        filtered = light.filtered(radiance)
        self._parts: list[LightResponse] = []
        self._materials: list[tuple[Tensor, Tensor, Tensor | None]] = []
        start = 0
        for part in pieces(self._seen):
            own = material[start : start + len(part)]
            start += len(part)
            rotation = (part.rotations, part.view)
            around = None
            if transport is not None:
                around = transport.around(part.places, *rotation, filtered)
            self._parts.append(
                LightResponse.of(
                    part.normal, part.to_eye, blurred(own[:, 3:4], part.bend), len(filtered.specular),
                    texture=texture, light_rotation=rotation, surroundings=around,
                )
            )  # fmt: skip
            self._materials.append((own[:, :3], own[:, 4:5], part.occlusion))
        self._gains = [part.gains(*own) for part, own in zip(self._parts, self._materials, strict=True)]

    def linear(self, radiance: Tensor, sharp: bool = False) -> Tensor:
        """``[M, 3]``: what is seen of a light, without ``rest``; ``sharp``: nearly without the diffuse look-up."""
        light = self._light.filtered(radiance)
        pairs = zip(self._parts, self._gains, strict=True)
        return torch.cat([_seen_of(part.found(light), gains, sharp) for part, gains in pairs])

    def rest(self) -> Tensor:
        """``[M, 3]``: what comes from the object itself."""
        pairs = zip(self._parts, self._gains, strict=True)
        return torch.cat([part.radiance(gains, torch.zeros_like(gains)) for part, gains in pairs])

    def radiance(self, radiance: Tensor) -> Tensor:
        """``[M, 3]``: all that is seen."""
        return self.linear(radiance) + self.rest()

    def by_albedo(self, radiance: Tensor) -> Tensor:
        """``[M, 3]``: the change of what is seen per relative change of albedo."""
        light = self._light.filtered(radiance)
        pairs = zip(self._parts, self._materials, strict=True)
        slopes = [part.radiance(part.gains_by_albedo(*own), part.found(light)) for part, own in pairs]
        return torch.cat([slope * own[0] for slope, own in zip(slopes, self._materials, strict=True)])

    @torch.enable_grad()
    def adjoint(self, values: Tensor, sharp: bool = False) -> Tensor:
        """``[6, N, N, 3]``: the transpose of ``linear``."""
        base = torch.zeros_like(self._light.cube.log_radiance, requires_grad=True)
        light = self._light.filtered(base)
        levels = [*light.specular, light.diffuse]
        leaves = [level.detach().requires_grad_() for level in levels]
        copy = replace(light, specular=leaves[:-1], diffuse=leaves[-1])
        start = 0
        for part, gains in zip(self._parts, self._gains, strict=True):
            own = values[start : start + gains.shape[1]]
            start += gains.shape[1]
            (_seen_of(part.found(copy), gains, sharp) * own).sum().backward()
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        return torch.autograd.grad(levels, base, grads)[0]


def _seen_of(found: Tensor, gains: Tensor, sharp: bool) -> Tensor:
    seen = found * gains
    return seen[:-1].sum(0) + (_DIFFUSE_SHARE * seen[-1] if sharp else seen[-1])
