"""The material at points, and the order of its channels in a tensor of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALBEDO, NORMAL, OPACITY = slice(0, 3), slice(3, 6), slice(6, 7)
"""Channels of appearance, the output of network A; opacity may be absent."""
ROUGHNESS, METALLIC, OCCLUSION = slice(0, 1), slice(1, 2), slice(2, 3)
"""Channels of reflectance, the output of network B, and of its maps; occlusion may be absent."""


@dataclass
class MaterialValues:
    """Material at N points.

    Attributes:
        albedo: ``[N, 3]`` linear in [0, 1].
        roughness, metallic: ``[N, 1]`` in [0, 1], roughness perceptual.
        normal: ``[N, 3]`` object space: the unit shading normal; from the networks, the offset to add to the unit
            smooth normal.
        occlusion: ``[N, 1]``, 1 = open; or None.
        opacity: ``[N, 1]`` in [0, 1]; or None: opaque.
    """

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    normal: Tensor
    occlusion: Tensor | None = None
    opacity: Tensor | None = None

    @classmethod
    def of(cls, albedo: Tensor, reflectance: Tensor, normal: Tensor, opacity: Tensor | None = None) -> MaterialValues:
        """From ``reflectance`` ``[N, 2 or 3]``."""
        occlusion = reflectance[:, OCCLUSION] if reflectance.shape[1] > OCCLUSION.start else None
        return cls(albedo, reflectance[:, ROUGHNESS], reflectance[:, METALLIC], normal, occlusion, opacity)

    @property
    def reflectance(self) -> Tensor:
        """``[N, 2 or 3]`` roughness, metallic (and occlusion)."""
        parts = (self.roughness, self.metallic, self.occlusion)
        return torch.cat([part for part in parts if part is not None], dim=1)
