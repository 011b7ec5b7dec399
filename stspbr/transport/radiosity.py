"""Irradiance of the cached points: distant light that reaches them, and light that the object sends on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.fields.material_values import MaterialValues
from stspbr.kernel_dispatch import usable
from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import shade_parts
from stspbr.transport.cache import VisibilityCache
from stspbr.transport.neighbours import CopiesAround
from stspbr.transport.points import arrays, mixed

_BRIGHTEST = 0.95  # of albedo inside the cache: light must not grow between two white walls
_RATIO = (1e-3, 4.0)  # floor of open light, as a share of its mean over channels; the largest ratio
_LIMITS = tuple(map(np.float32, _RATIO))
_SLABS = 4  # partial sums of gradients, whatever the number of threads


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
        if usable("auto", self.open, self.total, shares, what="irradiance"):
            return _AtPlaces.apply(self.open, self.total, rotation, corners, shares)
        return self.at_twin(rotation, corners, shares)

    def at_twin(self, rotation: Tensor, corners: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """``at`` in plain torch, for any float type and device."""
        places = (rotation[:, None] * self.open.shape[1] + corners).reshape(-1)

        def between(values: Tensor) -> Tensor:
            rows = values.reshape(-1, 3).index_select(0, places).view(-1, 3, 3)
            return (rows * shares[..., None]).sum(1)

        total, open_ = between(self.total), between(self.open)
        floor = _RATIO[0] * open_.detach().mean(1, keepdim=True).clamp(min=1e-12)
        return total, (total / torch.maximum(open_, floor)).clamp(0.0, _RATIO[1])


class _AtPlaces(torch.autograd.Function):
    @staticmethod
    def forward(ctx, open_, total, rotation, corners, shares):
        from stspbr.transport.point_kernels import ratio_forward

        inputs = [values.contiguous() for values in (open_, total, rotation, corners, shares)]
        arriving, ratio = shares.new_empty(2, len(corners), 3)
        ratio_forward(*arrays(*inputs), *_LIMITS, *arrays(arriving, ratio))
        ctx.save_for_backward(*inputs)
        return arriving, ratio

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_arriving, grad_ratio):
        from stspbr.transport.point_kernels import ratio_backward

        inputs = ctx.saved_tensors
        slabs = inputs[0].new_empty(2, _SLABS, *inputs[0].shape)
        ratio_backward(*arrays(*inputs), *_LIMITS, *arrays(grad_arriving, grad_ratio, *slabs))
        return *slabs.sum(1), None, None, None


class Radiosity:
    """Exchange of light between the points of one cache, whose materials are constant.

    The diffuse part is a Jacobi iteration of the radiosity equation (Goral et al. 1984) over the blocked directions;
    what the hit surface mirrors is looked up once in the light, dimmed by how much of it the hit itself sees.

    Args:
        copies: the object's copies around it; they send on what arrives at them directly.

    Attributes:
        lit: what arrives directly at copies that have sent some on, by their number.
    """

    def __init__(
        self, cache: VisibilityCache, material: MaterialValues, sweeps: int = 3, copies: CopiesAround | None = None
    ) -> None:
        self.cache, self.material, self.sweeps, self.copies = cache, material, sweeps, copies
        self.lit: dict[int, Irradiance] = {}
        count = len(cache.points.position)
        rows = np.repeat(cache.hit_point.cpu().numpy(), 3)
        values = (cache.hit_weight[:, None] * cache.hit_shares).reshape(-1).cpu().numpy()
        self._exchange = scipy.sparse.csr_matrix(
            (values, (rows, cache.hit_corners.reshape(-1).cpu().numpy())), shape=(count, count)
        )
        albedo = material.albedo.clamp(max=_BRIGHTEST)
        self._moved: Tensor | None = None  # the exchange on a GPU
        self._table = torch.cat([cache.points.normal, material.albedo, material.roughness, material.metallic], dim=1)
        self._diffuse = albedo * (1 - material.metallic) * (1 - 0.04)

    def arriving(self, light: PrefilteredLight, rotations: Tensor, number: int | None = None) -> tuple[Tensor, Tensor]:
        """Irradiance over π ``[R, P, 3]`` of the light alone: if nothing blocked it, and past what blocks it.

        Args:
            rotations: ``[R, 3, 3]`` object to world. Differentiable in the light.
            number: of the copy that they are of; None: each is the one with the nearest rotation.
        """
        flux = self.cache.bins.flux(light, rotations)
        open_ = torch.matmul(self.cache.open_weights, flux)
        if self.copies is None:
            return open_, torch.matmul(self.cache.seen_weights, flux)
        return open_, torch.stack(
            [self.seen_weights(turn, number) @ own for turn, own in zip(rotations, flux, strict=True)]
        )

    def seen_weights(self, rotation: Tensor, number: int | None = None) -> Tensor:
        """``[P, B]`` as the cache has them, of copy ``number``, or the one that ``rotation [3, 3]`` is nearest to."""
        if self.copies is None:
            return self.cache.seen_weights
        return self.copies.at(self.copies.number(rotation) if number is None else number).seen_weights

    def enclosed(self, rotations: Tensor, rotation: Tensor, corners: Tensor) -> Tensor:
        """``[N]`` bool: whether anything is in the way of light to places between points ``corners [N, 3]``.

        Args:
            rotations: ``[R, 3, 3]``; rotation: ``[N]`` int64 into them.
        """
        if self.copies is None:
            return self.cache.enclosed.index_select(0, corners.reshape(-1)).view(-1, 3).any(1)
        every = torch.stack([self.copies.at(self.copies.number(turn)).enclosed for turn in rotations])
        return every.reshape(-1)[(rotation[:, None] * every.shape[1] + corners).reshape(-1)].view(-1, 3).any(1)

    @torch.no_grad()
    def bounced(
        self, light: PrefilteredLight, rotation: Tensor, texture: Callable[..., Tensor], most_hits: int | None = None
    ) -> Tensor:
        """Irradiance over π ``[P, 3]`` that the object sends on to itself, turned by ``rotation [3, 3]``.

        Args:
            most_hits: of more hits, evenly drawn ones are asked for what they mirror, which is the dear part.
        """
        open_, direct = (part[0] for part in self.arriving(light, rotation[None]))
        sent = (
            torch.zeros_like(direct) if self.copies is None else self._from_copies(light, rotation, texture, most_hits)
        )
        bounced = self.exchanged(direct, sent)
        for _ in range(2):  # what is mirrored depends on what arrives, a little
            irradiance = Irradiance(open_[None], (direct + bounced)[None])
            mirrored = self._mirrored(light, rotation, texture, irradiance, most_hits)
            bounced = self.exchanged(direct, mirrored if self.copies is None else mirrored + sent)
        return bounced

    @torch.no_grad()
    def sent_by(
        self,
        owner: int,
        corners: Tensor,
        shares: Tensor,
        view: Tensor,
        light: PrefilteredLight,
        texture: Callable[..., Tensor],
    ) -> Tensor:
        """Radiance ``[N, 3]`` that leaves places of copy ``owner`` towards ``view [N, 3]``, in that copy's space.

        What it sends on diffusely is that of the first ``light`` that was asked for; see ``lit``.
        """
        assert self.copies is not None
        turn = self.copies.rotation(owner)[None].to(view.dtype)
        if owner not in self.lit:
            self.lit[owner] = Irradiance(*self.arriving(light, turn, owner))
        turned = turn, torch.zeros(len(view), dtype=torch.int64)
        parts = self.leaving(corners, shares, view, light, turned, texture, self.lit[owner])
        return sum(parts, torch.zeros_like(view))

    def _from_copies(
        self, light: PrefilteredLight, rotation: Tensor, texture: Callable[..., Tensor], most_hits: int | None
    ) -> Tensor:
        """Irradiance over π ``[P, 3]`` that other copies send to the one that is turned by ``rotation``."""
        assert self.copies is not None
        number = self.copies.number(rotation)
        found = self.copies.at(number)
        step = 1 if most_hits is None else -(-len(found.point) // most_hits)
        rows = torch.arange(len(found.point))[step // 2 :: max(step, 1)]
        out = torch.zeros_like(self.cache.points.position)
        for owner in found.owner[rows].unique().tolist():
            own = rows[found.owner[rows] == owner]
            turn, _ = self.copies.neighbours.into(number, owner)
            view = -self.cache.bins.directions[found.direction[own]] @ turn.T
            value = self.sent_by(owner, found.corners[own], found.shares[own], view, light, texture)
            out.index_add_(0, found.point[own], value * (step * found.weight[own])[:, None])
        return out

    def _mirrored(
        self,
        light: PrefilteredLight,
        rotation: Tensor,
        texture: Callable[..., Tensor],
        irradiance: Irradiance,
        most_hits: int | None,
    ) -> Tensor:
        """Irradiance over π ``[P, 3]`` by what the hit surfaces mirror of the light."""
        cache = self.cache
        step = 1 if most_hits is None else -(-len(cache.hit_point) // most_hits)
        rows = slice(step // 2, None, max(step, 1))
        point = cache.hit_point[rows]
        view = -cache.bins.directions.index_select(0, cache.hit_direction[rows])
        _, specular = self.leaving(
            cache.hit_corners[rows], cache.hit_shares[rows], view, light,
            (rotation[None], torch.zeros_like(point)), texture, irradiance,
        )  # fmt: skip
        out = torch.zeros_like(irradiance.total[0])
        return out.index_add_(0, point, specular * (step * cache.hit_weight[rows])[:, None])

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

        table = mixed(self._table.to(shares.dtype), corners, shares)
        normal, albedo, roughness, metallic = table.split([3, 3, 1, 1], dim=1)
        normal = torch.nn.functional.normalize(normal, dim=1)
        total, ratio = irradiance.at(light_rotation[1], corners, shares)
        dimmed = ratio.mean(1, keepdim=True).clamp(max=1.0)

        def enclosed(found: Tensor, around: Tensor, directions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
            return found * dimmed, total

        return shade_parts(
            normal, view, albedo, roughness, metallic, light, texture=texture, light_rotation=light_rotation,
            surroundings=enclosed,
        )  # fmt: skip

    def exchanged(self, direct: Tensor, mirrored: Tensor) -> Tensor:
        """``[P, 3]``: ``mirrored``, and what ``direct`` and it bring after one diffuse bounce or more."""
        bounced = mirrored
        for _ in range(self.sweeps):
            bounced = mirrored + self._times_exchange(self._diffuse * (direct + bounced))
        return bounced.float()

    def _times_exchange(self, values: Tensor) -> Tensor:
        """What points with the radiosity ``values [P, 3]`` send each other."""
        if values.device.type == "cpu":
            return torch.from_numpy(self._exchange @ values.numpy())
        if self._moved is None:
            matrix = self._exchange
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors beta
                self._moved = torch.sparse_csr_tensor(
                    torch.from_numpy(matrix.indptr).long(), torch.from_numpy(matrix.indices).long(),
                    torch.from_numpy(matrix.data), size=matrix.shape, dtype=values.dtype,
                ).to(values.device)  # fmt: skip
        return self._moved @ values
