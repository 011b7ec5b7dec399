"""The metallic-roughness BRDF of glTF 2.0 (appendix B, the simplified form) in plain torch, any dtype and device.

With ``α = roughness²``, ``h`` the half vector and ``Fc = (1 − v·h)^5``:
``f = (1 − F)·c_diff/π + F·D·V``, ``c_diff = albedo·(1 − metallic)``, ``F0 = lerp(0.04, albedo, metallic)``,
``F = F0 + (1 − F0)·Fc``; ``D`` is GGX and ``V`` the height-correlated Smith visibility.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DIELECTRIC_F0 = 0.04


def fresnel_weight(v_dot_h: torch.Tensor) -> torch.Tensor:
    """Schlick's ``(1 − v·h)^5``, any shape; the cosine is clamped to [0, 1]."""
    return (1.0 - v_dot_h.clamp(0.0, 1.0)) ** 5


def ggx_distribution(n_dot_h: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """GGX normal distribution ``D`` per steradian (Walter et al. 2007, eq. 33); zero for ``n·h ≤ 0``."""
    a2 = alpha * alpha
    # sin² + α²·cos², because 1 − (1 − α²)·cos² loses every digit at low roughness in float32
    cos2 = n_dot_h * n_dot_h
    denominator = (1.0 - cos2).clamp_min(0.0) + a2 * cos2
    return (n_dot_h > 0) * a2 / (math.pi * denominator * denominator).clamp_min(1e-30)


def smith_visibility(n_dot_v: torch.Tensor, n_dot_l: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Height-correlated Smith masking-shadowing over ``4·(n·v)·(n·l)`` (Heitz 2014, eq. 99); cosines positive."""
    a2 = alpha * alpha
    out = n_dot_l * ((1.0 - a2) * n_dot_v * n_dot_v + a2).sqrt()
    back = n_dot_v * ((1.0 - a2) * n_dot_l * n_dot_l + a2).sqrt()
    return 0.5 / (out + back).clamp_min(1e-12)


def base_reflectance(albedo: torch.Tensor, metallic: torch.Tensor) -> torch.Tensor:
    """``F0`` [..., 3] of linear albedo [..., 3] and metallic [..., 1]."""
    return DIELECTRIC_F0 * (1.0 - metallic) + albedo * metallic


def evaluate(
    normals: torch.Tensor,
    view: torch.Tensor,
    light: torch.Tensor,
    albedo: torch.Tensor,
    roughness: torch.Tensor,
    metallic: torch.Tensor,
) -> torch.Tensor:
    """BRDF value times ``n·l``, [..., 3], in 1/sr.

    Args:
        normals, view, light: unit directions [..., 3]; view and light point away from the surface. Directions below
            the horizon of ``normals`` give zero.
        albedo: linear colour [..., 3] in [0, 1].
        roughness, metallic: [..., 1] in [0, 1], roughness perceptual.
    """
    import torch

    half = torch.nn.functional.normalize(view + light, dim=-1)
    n_dot_l = (normals * light).sum(-1, keepdim=True)
    n_dot_v = (normals * view).sum(-1, keepdim=True)
    n_dot_h = (normals * half).sum(-1, keepdim=True)
    v_dot_h = (view * half).sum(-1, keepdim=True)
    lit = (n_dot_l > 0) & (n_dot_v > 0)
    alpha = roughness * roughness
    f0 = base_reflectance(albedo, metallic)
    fresnel = f0 + (1.0 - f0) * fresnel_weight(v_dot_h)
    specular = fresnel * ggx_distribution(n_dot_h, alpha)
    specular = specular * smith_visibility(n_dot_v.clamp_min(1e-6), n_dot_l.clamp_min(1e-6), alpha)
    diffuse = (1.0 - fresnel) * albedo * (1.0 - metallic) / math.pi
    return lit * (diffuse + specular) * n_dot_l
