"""Irradiance of the cached points: distant light that reaches them, and light that the object sends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import shade_parts
from stspbr.transport.cache import VisibilityCache

_BRIGHTEST = 0.95  # of albedo inside the cache: light must not grow between two white walls
_RATIO = (1e-3, 4.0)  # floor of open light, as a share of its mean over channels; the largest ratio


@dataclass
class PointMaterial:
    """Material of the P cached points, without gradients: albedo ``[P, 3]``, roughness, metallic ``[P, 1]``."""

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor


@dataclass
class Irradiance:
    """Irradiance over π of the cached points, per rotation of the object.

    Attributes:
        open: ``[R, P, 3]`` if nothing blocked the light; total: ``[R, P, 3]`` what arrives, bounces included.
    """

    open: Tensor
    total: Tensor

    def at(self, rotation: Tensor, corners: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Total irradiance over π and its ratio to the open one, both ``[N, 3]``, at places between the points.

        Args:
            rotation: ``[N]`` int64; corners: ``[N, 3]`` points; shares: ``[N, 3]`` their weights.
        """
        places = (rotation[:, None] * self.open.shape[1] + corners).reshape(-1)

        def mixed(values: Tensor) -> Tensor:
            rows = values.reshape(-1, 3).index_select(0, places).view(-1, 3, 3)
            return (rows * shares[..., None]).sum(1)

        total, open_ = mixed(self.total), mixed(self.open)
        floor = _RATIO[0] * open_.detach().mean(1, keepdim=True).clamp(min=1e-12)
        return total, (total / torch.maximum(open_, floor)).clamp(0.0, _RATIO[1])


class Radiosity:
    """Exchange of light between the points of one cache, whose materials are constant.

    The diffuse part is a Jacobi iteration of the radiosity equation (Goral et al. 1984) over the blocked directions;
    what the hit surface mirrors is looked up once in the light, dimmed by how much of it the hit itself sees.
    """

    def __init__(self, cache: VisibilityCache, material: PointMaterial, sweeps: int = 3) -> None:
        self.cache, self.material, self.sweeps = cache, material, sweeps
        count = len(cache.points.position)
        rows = np.repeat(cache.hit_point.numpy(), 3)
        values = (cache.hit_weight[:, None] * cache.hit_shares).reshape(-1).numpy()
        self._exchange = scipy.sparse.csr_matrix(
            (values, (rows, cache.hit_corners.reshape(-1).numpy())), shape=(count, count)
        )
        albedo = material.albedo.clamp(max=_BRIGHTEST)
        self._diffuse = (albedo * (1 - material.metallic) * (1 - 0.04)).numpy()

    def irradiance(self, light: PrefilteredLight, rotations: Tensor, mirrored: Tensor | None = None) -> Irradiance:
        """Irradiance under ``light``; differentiable in it as far as it arrives directly.

        Args:
            rotations: ``[R, 3, 3]`` object to world.
            mirrored: ``[R, P, 3]`` of ``mirrored``: what hits reflect at their surface; None: nothing.
        """
        flux = self.cache.bins.flux(light, rotations)
        open_ = torch.matmul(self.cache.open_weights, flux)
        direct = torch.matmul(self.cache.seen_weights, flux)
        start = direct.detach() if mirrored is None else direct.detach() + mirrored
        bounced = torch.stack([torch.from_numpy(self._bounces(part.numpy())) for part in start])
        if mirrored is not None:
            bounced = bounced + mirrored
        return Irradiance(open_, direct + bounced)

    @torch.no_grad()
    def mirrored(
        self, light: PrefilteredLight, rotations: Tensor, texture: Callable[..., Tensor], irradiance: Irradiance
    ) -> Tensor:
        """``[R, P, 3]``: irradiance over π by what the hit surfaces mirror of the light."""
        cache = self.cache
        view = -cache.bins.directions.index_select(0, cache.hit_direction)
        out = torch.zeros_like(irradiance.total)
        for number in range(len(rotations)):
            owner = torch.full_like(cache.hit_point, number)
            _, specular = self.leaving(
                cache.hit_corners, cache.hit_shares, view, light, (rotations, owner), texture, irradiance
            )
            out[number].index_add_(0, cache.hit_point, specular * cache.hit_weight[:, None])
        return out

    @torch.no_grad()
    def leaving(
        self,
        corners: Tensor,
        shares: Tensor,
        view: Tensor,
        light: PrefilteredLight,
        light_rotation: tuple[Tensor, Tensor],
        texture: Callable[..., Tensor],
        irradiance: Irradiance,
    ) -> tuple[Tensor, Tensor]:
        """Diffuse and specular radiance ``[N, 3]`` that leaves places between the points towards ``view [N, 3]``."""
        if len(view) == 0:
            return view.new_zeros(0, 3), view.new_zeros(0, 3)

        def mixed(values: Tensor) -> Tensor:
            rows = values.index_select(0, corners.reshape(-1)).view(len(corners), 3, -1)
            return (rows * shares[..., None]).sum(1)

        normal = torch.nn.functional.normalize(mixed(self.cache.points.normal), dim=1)
        total, ratio = irradiance.at(light_rotation[1], corners, shares)
        dimmed = ratio.mean(1, keepdim=True).clamp(max=1.0)

        def enclosed(found: Tensor, around: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
            return found * dimmed, total

        material = (mixed(values) for values in (self.material.albedo, self.material.roughness, self.material.metallic))
        return shade_parts(
            normal, view, *material, light, texture=texture, light_rotation=light_rotation, surroundings=enclosed,
        )  # fmt: skip

    def _bounces(self, direct: np.ndarray) -> np.ndarray:
        """``[P, 3]``: what arrives after one bounce or more of ``direct [P, 3]``."""
        bounced = np.zeros_like(direct)
        for _ in range(self.sweeps):
            bounced = self._exchange @ (self._diffuse * (direct + bounced))
        return bounced.astype(np.float32)
