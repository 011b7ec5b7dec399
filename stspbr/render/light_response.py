"""Shading as a linear function of the light: what is solved for when geometry and materials are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.render.brdf import base_reflectance
from stspbr.render.lobes import LobeTable, load_lobe_table
from stspbr.render.prefilter import PrefilteredLight
from stspbr.render.shading import Surroundings, look_up, plan


@dataclass
class LightResponse:
    """N surface points whose look-ups are planned: the radiance of ``shade`` is ``radiance(gains(…), light)``.

    Attributes:
        towards, levels, normal: where the light is looked up, see ``stspbr.render.shading.look_up``.
        weights: ``[N, 3·(K + 1)]`` of the look-ups.
        texture: the backend's texture function.
        open: ``[K + 1, N, 3]`` share of each look-up that arrives; hidden: ``[K + 1, N, 3]`` radiance that comes
            instead of the rest. None: nothing is in the way.
    """

    towards: Tensor
    levels: Tensor
    normal: Tensor
    weights: Tensor
    texture: Callable[..., Tensor]
    open: Tensor | None = None
    hidden: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        normals: Tensor,
        view: Tensor,
        roughness: Tensor,
        light_levels: int,
        *,
        texture: Callable[..., Tensor],
        light_rotation: tuple[Tensor, Tensor] | None = None,
        surroundings: Surroundings | None = None,
        table: LobeTable | None = None,
        backend: str = "auto",
    ) -> LightResponse:
        """Plan the look-ups of N points; the arguments are those of ``shade``.

        Args:
            light_levels: how many specular levels the light has.
            surroundings: taken as affine in the light with what they hide and send on as it is now.
        """
        table = table or load_lobe_table()
        directions, levels, weights = plan(normals, view, roughness, table, light_rotation, light_levels, backend)
        towards, normal = directions.split([table.lookups, 1])
        response = cls(towards, levels, normal, weights, texture)
        if surroundings is not None:
            none, one = torch.zeros_like(towards), torch.ones_like(towards)
            response.hidden, full = (
                torch.cat([found, around[None]])
                for found, around in (surroundings(v, v[0], towards, weights) for v in (none, one))
            )
            response.open = full - response.hidden
        return response

    def gains(self, albedo: Tensor, metallic: Tensor, occlusion: Tensor | None = None) -> Tensor:
        """``[K + 1, N, 3]``: radiance per arriving light of each look-up."""
        a, b, c = self._by_kind()
        f0 = base_reflectance(albedo, metallic)
        out = f0 * a + b + albedo * (1 - metallic) * (1 - f0) * c
        return out if occlusion is None else out * occlusion

    def gains_by_albedo(self, albedo: Tensor, metallic: Tensor, occlusion: Tensor | None = None) -> Tensor:
        """``[K + 1, N, 3]``: the derivative of ``gains`` by albedo."""
        a, _, c = self._by_kind()
        f0 = base_reflectance(albedo, metallic)
        out = metallic * a + (1 - metallic) * (1 - f0 - albedo * metallic) * c
        return out if occlusion is None else out * occlusion

    def found(self, light: PrefilteredLight) -> Tensor:
        """``[K + 1, N, 3]``: the part of the light that arrives, without what is ``hidden``; linear in the light."""
        found, around = look_up(self.towards, self.levels, self.normal, light, self.texture)
        found = torch.cat([found, around[None]])
        return found if self.open is None else found * self.open

    def radiance(self, gains: Tensor, found: Tensor) -> Tensor:
        """``[N, 3]``: what is seen of the arriving light ``found`` and of what hides the rest."""
        arriving = found if self.hidden is None else found + self.hidden
        return (gains * arriving).sum(0)

    def _by_kind(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights A, B and C of ``stspbr.render.lobes``, each ``[K + 1, N, 1]``."""
        a, b, c = self.weights.T.reshape(3, -1, self.weights.shape[0], 1)
        return a, b, c
