"""How sure the maps are: the posterior of every texel, given all that the training views saw of it.

Pixel i shows the texels u with the weights w_iu of its texture filter, which sum to 1. Its residual r_i and Jacobian
J_i are in the tonemapped space of the loss. Its noise σ_i is that of its view or of the surface there, whichever is
larger, and that of the shading; c_i is the weight that a robust loss leaves it. A texel's precision is
Λ_u = Λ₀ + Σ_i w_iu c_i J_iᵀJ_i / σ_i². Geometry, normals and light are held. Radiance is closed in albedo and metallic,
given three lobes; roughness takes a central difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.cell_fits import lobes_of
from stspbr.optimize.losses import tonemap, tonemap_slope
from stspbr.optimize.observations import Observations, joined, looks
from stspbr.optimize.posterior import WIDTH, Jacobian, covariance, error_variances, variances
from stspbr.render.brdf import DIELECTRIC_F0
from stspbr.render.light import PrefilteredLight
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.shading_error import expected_error
from stspbr.transport.transport import Transport

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

NUDGE = 0.02
"""Of roughness, for the central difference."""
LEAST_NOISE = 1e-3
"""Of tonemapped radiance: no photograph is believed beyond it."""
FINEST = 2048
"""Longest side of maps of information; of larger maps, blocks of texels are taken for one."""
OF_MEAN = math.sqrt(0.5 * math.pi)
"""The standard deviation of a Gaussian, in means of its absolute values."""
_FACING = 0.25  # N·V from which a residual tells the view's noise, not the outline's
_ROBUST = 1.345  # residuals in σ, above which a pixel's weight falls (Huber 1964)
_ROWS = 1 << 18  # texels that are inverted at a time


@dataclass
class Reads:
    """Where N pixels read the maps.

    Attributes:
        uv: ``[N, 2]``; uv_da: ``[N, 4]`` per pixel; owner: ``[N]`` int64, whose maps.
        texture: the backend's texture function.
    """

    uv: Tensor
    uv_da: Tensor
    owner: Tensor
    texture: Callable[..., Tensor]

    @classmethod
    def joined(cls, parts: Sequence[Reads]) -> Reads:
        """The pixels of ``parts``, in their order."""
        uv, uv_da, owner = (torch.cat([getattr(own, name) for own in parts]) for name in ("uv", "uv_da", "owner"))
        return cls(uv, uv_da, owner, parts[0].texture)

    def at(self, places: Tensor) -> Reads:
        """The pixels at ``places``."""
        return Reads(self.uv[places], self.uv_da[places], self.owner[places], self.texture)

    def lookup(self, maps: Sequence[Tensor]) -> Tensor:
        """``[N, C]``: what each pixel reads of maps ``[H, W, C]``, one per material."""
        return self._sample([own[None].contiguous() for own in maps])

    def collected(self, values: Tensor, sides: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Sums ``[H, W, C]`` per texel of ``values [N, C]``, each with the weight of its pixel's filter: Σ_i w_iu v_i.

        It is the transpose of ``lookup``, exactly: ``lookup(x)`` times ``values``, summed over the pixels, is the
        result times ``x``, summed over the texels.
        """
        with torch.enable_grad():
            maps = [values.new_zeros(1, *side, values.shape[1]).requires_grad_() for side in sides]
            grads = torch.autograd.grad(self._sample(maps), maps, values, allow_unused=True)
        return [torch.zeros_like(own)[0] if grad is None else grad[0] for own, grad in zip(maps, grads, strict=True)]

    def _sample(self, maps: Sequence[Tensor]) -> Tensor:
        count = len(maps)
        pixels = material_pixels(self.owner, torch.arange(count, device=self.owner.device), count)
        return sample_maps(maps, pixels, self.uv, self.uv_da, self.texture)


@dataclass
class Evidence:
    """What N pixels say about the maps.

    Attributes:
        seen: the pixels' observations; material: ``[N, 5]`` albedo, roughness, metallic as each shows them.
        reads: where they read the maps; pixel: ``[N]`` int64, the row-major number within the view.
        value: ``[N, 3]`` linear radiance as rendered.
        jacobian: in tonemapped radiance; residual: ``[N, 3]`` photograph minus render, tonemapped.
        weight: ``[N, 1]``: c/σ², times the number of pixels for which each stands.
        noise: ``[V]`` of each view, in tonemapped radiance.
        stands: ``[N, 1]`` number of pixels for which each stands.
    """

    seen: Observations
    material: Tensor
    reads: Reads
    pixel: Tensor
    value: Tensor
    jacobian: Jacobian
    residual: Tensor
    weight: Tensor
    noise: Tensor
    stands: Tensor

    def information(self) -> Tensor:
        """``[N, 12]`` packed, see ``posterior``."""
        return self.jacobian.information(self.weight)

    def pull(self) -> Tensor:
        """``[N, 5]``: Jᵀ r c/σ², the force of each pixel on the parameters of what it shows."""
        return self.jacobian.transposed(self.weight * self.residual)


@torch.no_grad()
def gather(problem: Reconstruction, limit: int) -> Evidence:
    """The evidence of the training views about the maps of ``problem``, whose appearance is a ``TextureAppearance``.

    Args:
        limit: about how many pixels at most; of more, a random subset stands for all, with wider footprints.

    Raises:
        StspbrError: no training view shows the surface.
    """
    appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
    parts, rows = [], []
    for look in looks(problem, limit, apart=True):
        own, gbuffer = look.pixels, look.gbuffer
        uv, uv_da = (value.index_select(0, own) for value in gbuffer.coordinates())
        values = torch.cat([look.material.albedo, look.material.roughness, look.material.metallic], dim=1)
        area = gbuffer.rast.shape[1] * gbuffer.rast.shape[2]
        stands = torch.full_like(uv[:, :1], 1.0 / look.share)
        # a pixel that stands for its neighbours reads as wide as they do together
        wider = look.share**-0.5 / problem.views.sample_step
        owner = appearance.owner_of(gbuffer.triangle.index_select(0, own))
        parts.append(look.seen)
        covered = gbuffer.covered.index_select(0, own) % area
        rows.append((values.index_select(0, own), uv, uv_da * wider, stands, owner, covered))
    seen = joined(parts, problem)
    if len(seen) == 0:
        raise StspbrError("no training view shows the surface: nothing can be said about the maps; check the poses")
    material, uv, uv_da, stands, owner, pixel = (torch.cat(list(own)) for own in zip(*rows, strict=True))
    reads = Reads(uv, uv_da, owner, problem.backend.texture)
    transport = None if problem.transport is None else problem.transport.transport
    jacobian, value = jacobian_of(seen, material, problem.light.prefiltered(), problem.backend.texture, transport)
    residual = tonemap(seen.radiance) - tonemap(value)
    around = partial(surface_noise, reads, sides=map_sides(appearance))
    noise, weight = pixel_weights(seen, material, value, residual, len(problem.views), around)
    return Evidence(seen, material, reads, pixel, value, jacobian, residual, stands * weight, noise, stands)


def pixel_weights(
    seen: Observations,
    material: Tensor,
    value: Tensor,
    residual: Tensor,
    views: int,
    around: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The noise ``[V]`` of each view, and the weight ``[N, 1]`` c/σ² of each pixel.

    Args:
        material: ``[N, 5]``; value: ``[N, 3]`` linear radiance as rendered; residual: ``[N, 3]``, tonemapped.
        views: number of views; around: of the residuals' sizes ``[N, 1]``, the noise of the surface at each pixel.
    """
    size = residual.square().mean(1, keepdim=True).sqrt()
    facing = (seen.normal * seen.to_eye).sum(1, keepdim=True)
    noise = view_noise(residual, seen.view, facing[:, 0] > _FACING, views)
    shading = expected_error(material[:, 3:4], facing) * (tonemap_slope(value) * value).mean(1, keepdim=True)
    usual = torch.maximum(noise.index_select(0, seen.view)[:, None], around(size))
    deviation = (usual.square() + shading.square()).sqrt()
    robust = (_ROBUST * deviation / size.clamp(min=1e-9)).clamp(max=1.0)
    return noise, robust / deviation.square()


def surface_noise(reads: Reads, size: Tensor, sides: Sequence[tuple[int, int]]) -> Tensor:
    """``[N, 1]``: the noise of the surface that each pixel shows, from all residuals there.

    Where shadows, shape or normals are wrong, no material explains all views: their disagreement is noise.

    Args:
        size: ``[N, 1]`` of the residuals, in tonemapped radiance; sides: of the maps.
    """
    found = reads.collected(torch.cat([torch.ones_like(size), size], dim=1), sides)
    means = [own[..., 1:] / own[..., :1].clamp(min=1e-9) for own in found]
    return OF_MEAN * reads.lookup(means)


@torch.no_grad()
def jacobian_of(
    seen: Observations,
    material: Tensor,
    light: PrefilteredLight,
    texture: Callable[..., Tensor],
    transport: Transport | None = None,
) -> tuple[Jacobian, Tensor]:
    """Derivatives of tonemapped radiance, and the linear radiance ``[N, 3]`` itself, of what ``seen`` shows.

    Args:
        material: ``[N, 5]`` albedo in units of the light, roughness, metallic.
    """
    albedo, roughness, metallic = material[:, :3], material[:, 3:4], material[:, 4:5]
    lobes = lobes_of(seen, seen.normal, roughness, light, texture, transport)
    value = mixed_radiance(lobes, albedo, metallic)
    low, high = (roughness - NUDGE).clamp(min=0.0), (roughness + NUDGE).clamp(max=1.0)
    ends = [
        tonemap(mixed_radiance(lobes_of(seen, seen.normal, end, light, texture, transport), albedo, metallic))
        for end in (low, high)
    ]
    diffuse, mirror, _ = lobes
    lambert = diffuse / (1.0 - DIELECTRIC_F0)  # of a white surface, before what the highlight takes
    f0 = DIELECTRIC_F0 + metallic * (albedo - DIELECTRIC_F0)
    by_albedo = (1.0 - metallic) * lambert * (1.0 - f0 - albedo * metallic) + metallic * mirror
    by_metallic = (albedo - DIELECTRIC_F0) * (mirror - albedo * (1.0 - metallic) * lambert)
    by_metallic = by_metallic - albedo * lambert * (1.0 - f0)
    slope = tonemap_slope(value)
    return Jacobian(slope * by_albedo, (ends[1] - ends[0]) / (high - low), slope * by_metallic), value


def mixed_radiance(lobes: Sequence[Tensor] | Tensor, albedo: Tensor, metallic: Tensor) -> Tensor:
    """``[N, 3]`` linear radiance of a material from its diffuse, mirror and rim ``[N, 3]``, see ``lobes_of``."""
    diffuse, mirror, rim = lobes
    f0 = DIELECTRIC_F0 + metallic * (albedo - DIELECTRIC_F0)
    return albedo * (1.0 - metallic) * (1.0 - f0) * diffuse / (1.0 - DIELECTRIC_F0) + f0 * mirror + rim


def view_noise(residual: Tensor, view: Tensor, told: Tensor, count: int) -> Tensor:
    """``[count]``: the noise of each view, 1.48 times the median absolute deviation of its residuals.

    Args:
        residual: ``[N, 3]``; view: ``[N]`` int64; told: ``[N]`` bool, the pixels that tell it. A view with fewer than
            50 of them has the noise of all.
    """

    def deviation(values: Tensor) -> Tensor:
        flat = values.reshape(-1)
        return 1.48 * (flat - flat.median()).abs().median()

    usual = deviation(residual[told] if bool(told.any()) else residual)
    out = usual.repeat(count)
    for number in range(count):
        own = residual[told & (view == number)]
        if len(own) >= 50:
            out[number] = deviation(own)
    return out.clamp(min=LEAST_NOISE)


def map_sides(appearance: TextureAppearance) -> list[tuple[int, int]]:
    """Height and width of each material's maps of information: those of its maps, halved while a side is too long."""
    out = []
    for own in appearance.materials:
        height, width = max(own.albedo.shape[1:3], own.reflectance.shape[1:3])
        while max(height, width) > FINEST and height % 2 == 0 and width % 2 == 0:
            height, width = height // 2, width // 2
        out.append((height, width))
    return out


def information_maps(problem: Reconstruction, evidence: Evidence) -> list[Tensor]:
    """``[H, W, 12]`` per material: what the photographs say of each texel, packed; see ``posterior``."""
    appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
    return evidence.reads.collected(evidence.information(), map_sides(appearance))


@torch.no_grad()
def light_gain_std(evidence: Evidence, information: Sequence[Tensor]) -> Tensor:
    """``[3]``: the posterior std of a gain of the light per colour, relative, if it were learned with the maps.

    The gains' precision, less what the texels' own parameters could take over: Λ_gg − Σ_u H_uᵀ Σ_u H_u. Each texel has
    a prior of its own; the more texels there are, the less their albedo can follow the light together.
    """
    slope = tonemap_slope(evidence.value) * evidence.value  # by the logarithm of the gain
    own, weight = evidence.jacobian, evidence.weight
    mixed = torch.cat([weight * slope * part for part in (own.albedo, own.roughness, own.metallic)], dim=1)
    precision = torch.diag((weight * slope.square()).double().sum(0))
    sides = [(packed.shape[0], packed.shape[1]) for packed in information]
    for packed, found in zip(information, evidence.reads.collected(mixed, sides), strict=True):
        pairs = zip(packed.reshape(-1, WIDTH).split(_ROWS), found.reshape(-1, 9).split(_ROWS), strict=True)
        for rows, couplings in pairs:
            albedo, roughness, metallic = couplings.double().split(3, dim=1)
            h = torch.cat([torch.diag_embed(albedo), roughness[:, None], metallic[:, None]], dim=1)  # [T, 5, 3]
            precision = precision - (h.transpose(1, 2) @ (covariance(rows) @ h)).sum(0)
    return torch.linalg.inv(precision).diagonal().clamp(min=0.0).sqrt()


def std_maps(information: Tensor) -> Tensor:
    """``[H, W, 5]``: the posterior's standard deviations, of ``[H, W, 12]``."""
    flat = information.reshape(-1, WIDTH)
    parts = [variances(rows).sqrt().float() for rows in flat.split(_ROWS)]
    return torch.cat(parts).reshape(*information.shape[:-1], 5)


def error_std_maps(information: Tensor, metallic: Tensor) -> Tensor:
    """``[H, W, 5]``: expected errors of the maps, wrong kinds included; see ``posterior.error_variances``.

    Args:
        information: ``[H, W, 12]``; metallic: ``[H', W', 1]`` in [0, 1], as it was fitted, of whole multiples of H, W.
    """
    height, width = information.shape[:2]
    rows, columns = (torch.arange(n, device=information.device) for n in (height, width))
    own = metallic[rows * metallic.shape[0] // height][:, columns * metallic.shape[1] // width].reshape(-1, 1)
    pairs = zip(information.reshape(-1, WIDTH).split(_ROWS), own.split(_ROWS), strict=True)
    parts = [error_variances(packed, m.clamp(0.0, 1.0)).sqrt().float() for packed, m in pairs]
    return torch.cat(parts).reshape(height, width, 5)
