"""The material at points, and the order of its channels where several lie in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALBEDO, NORMAL = slice(0, 3), slice(3, 6)
"""Channels of appearance: what network A gives."""
ROUGHNESS, METALLIC, OCCLUSION = slice(0, 1), slice(1, 2), slice(2, 3)
"""Channels of reflectance: what network B gives, and its maps; occlusion may be absent."""


@dataclass
class MaterialValues:
    """Material at N points.

    Attributes:
        albedo: ``[N, 3]`` linear in [0, 1].
        roughness, metallic: ``[N, 1]``.
        normal: ``[N, 3]`` object space: the unit shading normal; from the networks, the offset that is to be added to
            the unit smooth normal.
        occlusion: ``[N, 1]``, 1 = open; or None.
    """

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    normal: Tensor
    occlusion: Tensor | None = None

    @classmethod
    def of(cls, albedo: Tensor, reflectance: Tensor, normal: Tensor) -> MaterialValues:
        """From ``reflectance`` ``[N, 2 or 3]``."""
        occlusion = reflectance[:, OCCLUSION] if reflectance.shape[1] > OCCLUSION.start else None
        return cls(albedo, reflectance[:, ROUGHNESS], reflectance[:, METALLIC], normal, occlusion)

    @property
    def reflectance(self) -> Tensor:
        """``[N, 2 or 3]`` roughness, metallic (and occlusion)."""
        parts = (self.roughness, self.metallic, self.occlusion)
        return torch.cat([part for part in parts if part is not None], dim=1)
