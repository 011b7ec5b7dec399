"""Parts that are of one material all over: what a prior says is said of the part, not of a texel.

A prior's errors differ with the light that a place gets. Texels that follow it each for itself keep that difference, as
light in their albedo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.fields.material_values import METALLIC
from stspbr.optimize.appearance import TextureAppearance


@dataclass(frozen=True)
class EvenPart:
    """One part.

    Attributes:
        materials: numbers of its maps; texels: the covered ones ``[N]`` (row · W + column) of each.
        roughness: whether roughness is even, too; albedo and metallic are.
    """

    materials: Sequence[int]
    texels: Sequence[Tensor]
    roughness: bool

    @torch.no_grad()
    def hold(self, appearance: TextureAppearance) -> None:
        """Give every texel the mean of the part's covered ones."""
        maps = [appearance.materials[number] for number in self.materials]
        covered = zip(maps, self.texels, strict=True)
        values = [
            torch.cat([own.albedo[0].flatten(0, 1)[texel], own.reflectance[0].flatten(0, 1)[texel]], dim=1)
            for own, texel in covered
        ]
        albedo, reflectance = torch.cat(values).double().mean(0).float().split([3, 2])
        for own in maps:
            own.albedo.copy_(albedo.expand_as(own.albedo))
            if self.roughness:
                own.reflectance.copy_(reflectance.expand_as(own.reflectance))
            else:
                own.reflectance[..., METALLIC] = reflectance[METALLIC]
