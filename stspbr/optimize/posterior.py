"""The posterior of a texel's albedo, roughness and metallic, in closed form.

The five parameters θ of a texel are Gaussian: a prior about today's value, and the photographs' information, a sum over
pixels of q JᵀJ. A colour channel's radiance depends on that channel's albedo alone, so that the three albedos have no
information in common: of the 15 numbers of such a matrix three are zero, and its inverse is a Schur complement of 2×2.

Parameters are in the order of ``PARAMETERS`` everywhere; information is packed as ``[..., 12]``, see ``WIDTH``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PARAMETERS = ("albedo.r", "albedo.g", "albedo.b", "roughness", "metallic")
CHANNELS: Mapping[str, tuple[int, ...]] = {"albedo": (0, 1, 2), "roughness": (3,), "metallic": (4,)}
"""The parameters of each channel."""
PRIOR_STD = (0.3, 0.3, 0.3, 0.3, 0.5)
"""Standard deviation of each parameter before any photograph."""
WIDTH = 12
"""Numbers of a packed matrix: albedo², albedo·roughness, albedo·metallic (three each), roughness², both, metallic²."""


@dataclass
class Jacobian:
    """Derivatives ``[N, 3]`` of the three colour channels of N pixels: by the own albedo, by roughness, by metallic."""

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor

    def information(self, weight: Tensor) -> Tensor:
        """``[N, 12]``: weight · JᵀJ, packed; ``weight [N, 1]``, or ``[N, 3]`` per colour channel."""
        a, r, m = self.albedo, self.roughness, self.metallic
        both = [(weight * one * two).sum(1, keepdim=True) for one, two in ((r, r), (r, m), (m, m))]
        return torch.cat([weight * a * a, weight * a * r, weight * a * m, *both], dim=1)

    def transposed(self, values: Tensor) -> Tensor:
        """``[N, 5]``: Jᵀ of ``values [N, 3]``."""
        sums = [(own * values).sum(1, keepdim=True) for own in (self.roughness, self.metallic)]
        return torch.cat([self.albedo * values, *sums], dim=1)

    def double(self) -> Jacobian:
        """The same in double precision."""
        return Jacobian(self.albedo.double(), self.roughness.double(), self.metallic.double())

    def at(self, places: Tensor) -> Jacobian:
        """The pixels at ``places``."""
        return Jacobian(self.albedo[places], self.roughness[places], self.metallic[places])


def prior(like: Tensor) -> Tensor:
    """``[12]``: the prior's precision, packed, of the type and on the device of ``like``."""
    precision = like.new_tensor(PRIOR_STD).pow(-2)
    zero = torch.zeros_like(precision)
    return torch.cat([precision[:3], zero[:3], zero[:3], precision[3:4], zero[:1], precision[4:]])


def matrix(packed: Tensor) -> Tensor:
    """``[..., 5, 5]`` of ``packed [..., 12]``."""
    out = packed.new_zeros(*packed.shape[:-1], 5, 5)
    for k in range(3):
        out[..., k, k] = packed[..., k]
        out[..., k, 3] = out[..., 3, k] = packed[..., 3 + k]
        out[..., k, 4] = out[..., 4, k] = packed[..., 6 + k]
    out[..., 3, 3], out[..., 4, 4] = packed[..., 9], packed[..., 11]
    out[..., 3, 4] = out[..., 4, 3] = packed[..., 10]
    return out


def variances(information: Tensor) -> Tensor:
    """``[..., 5]``: the diagonal of the posterior's covariance, in double precision.

    Args:
        information: ``[..., 12]`` of the photographs alone; the prior is added here.
    """
    schur = _Schur.of(information)
    inner = schur.inner
    slope_r, slope_m = schur.slope
    coupled = (inner[0] * slope_r + 2 * inner[1] * slope_m) * slope_r + inner[2] * slope_m.square()
    return torch.cat([1.0 / schur.albedo + coupled, inner[0], inner[2]], dim=-1)


def covariance(information: Tensor) -> Tensor:
    """``[..., 5, 5]``: the posterior's covariance, in double precision; see ``variances``."""
    schur = _Schur.of(information)
    rr, rm, mm = schur.inner
    slope_r, slope_m = schur.slope
    out = information.new_zeros(*information.shape[:-1], 5, 5, dtype=torch.float64)
    out[..., 3, 3], out[..., 4, 4] = rr[..., 0], mm[..., 0]
    out[..., 3, 4] = out[..., 4, 3] = rm[..., 0]
    by_r, by_m = -(slope_r * rr + slope_m * rm), -(slope_r * rm + slope_m * mm)
    out[..., :3, 3] = out[..., 3, :3] = by_r
    out[..., :3, 4] = out[..., 4, :3] = by_m
    out[..., :3, :3] = -(slope_r[..., None] * by_r[..., None, :] + slope_m[..., None] * by_m[..., None, :])
    out[..., :3, :3] += torch.diag_embed(1.0 / schur.albedo)
    return out


def error_variances(information: Tensor, metallic: Tensor) -> Tensor:
    """``[..., 5]``: the mean squared error of each parameter if every material is a metal or none, double precision.

    The Gaussian about a fit knows no other optimum. But what a surface is made of has metallic 0 or 1, and the Gaussian
    says how likely either is: p ∝ exp(−(k − m)² (1/Σ_mm − 1/σ₀²) / 2), what the photographs say alone. To the error of
    the likely kind, the Gaussian cut off at 0 and 1, comes that of the other one, Σ_k p_k (k − m)²; albedo and
    roughness follow metallic as Σ has it. No parameter is off by more than the prior says.

    Args:
        information: ``[..., 12]`` of the photographs alone; metallic: ``[..., 1]`` in [0, 1], as it was fitted.
    """
    found, m = covariance(information), metallic.double()
    own = found.diagonal(dim1=-2, dim2=-1)
    square = own[..., 4:].clamp(min=1e-12)
    deviation = square.sqrt()
    usual = PRIOR_STD[4] ** 2
    chance = torch.sigmoid((m - 0.5) * (1.0 / square - 1.0 / usual).clamp(min=0.0))  # of metal
    error = chance * (1.0 - m).square() + (1.0 - chance) * m.square()
    error = (error + square * _cut_off(-m / deviation, (1.0 - m) / deviation)).clamp(max=usual)
    slope = found[..., 4] / square
    out = own + slope.square() * (error - square)
    return torch.minimum(torch.cat([out[..., :4], error], dim=-1), out.new_tensor(PRIOR_STD).square())


def _cut_off(low: Tensor, high: Tensor) -> Tensor:
    """The second moment about 0 of a standard Gaussian that is cut off at ``low`` ≤ 0 and ``high`` ≥ 0."""

    def density(x: Tensor) -> Tensor:
        return torch.exp(-0.5 * x.square()) / math.sqrt(2.0 * math.pi)

    inside = torch.special.ndtr(high) - torch.special.ndtr(low)
    return 1.0 - (high * density(high) - low * density(low)) / inside


def prior_shares(information: Tensor) -> Tensor:
    """``[..., 5]`` in [0, 1]: the prior's share in the variance of each parameter, (Σ Λ₀ Σ)_cc / Σ_cc."""
    found = covariance(information)
    precision = found.new_tensor(PRIOR_STD).pow(-2)
    return (found.square() * precision).sum(-1) / found.diagonal(dim1=-2, dim2=-1)


def quadratic(packed: Tensor, vector: Tensor) -> Tensor:
    """``[...]``: vᵀ M v of ``packed [..., 12]`` matrices and vectors ``[..., 5]``."""
    return (packed * outer(vector)).sum(-1)


def outer(vector: Tensor) -> Tensor:
    """``[..., 12]``: the numbers whose product with a packed M sums to vᵀ M v."""
    a, r, m = vector[..., :3], vector[..., 3:4], vector[..., 4:]
    return torch.cat([a * a, 2 * a * r, 2 * a * m, r * r, 2 * r * m, m * m], dim=-1)


@dataclass
class _Schur:
    """Precision of the albedo ``[..., 3]``, its couplings over it, and the inverse of what is left: rr, rm, mm."""

    albedo: Tensor
    slope: tuple[Tensor, Tensor]
    inner: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, information: Tensor) -> _Schur:
        total = information.double() + prior(information.new_zeros((), dtype=torch.float64))
        albedo, by_r, by_m = total[..., :3], total[..., 3:6], total[..., 6:9]
        slope_r, slope_m = by_r / albedo, by_m / albedo
        rr = total[..., 9:10] - (slope_r * by_r).sum(-1, keepdim=True)
        rm = total[..., 10:11] - (slope_r * by_m).sum(-1, keepdim=True)
        mm = total[..., 11:12] - (slope_m * by_m).sum(-1, keepdim=True)
        determinant = rr * mm - rm * rm
        return cls(albedo, (slope_r, slope_m), (mm / determinant, -rm / determinant, rr / determinant))
