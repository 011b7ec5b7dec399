"""A small lamp close to the object: what it sends to a point, and the three weights with which the point sends it on.

The metallic-roughness BRDF (``brdf``) of one direction is affine in the same three kinds that the lobes of a distant
light have: specular by F0, specular by 1, diffuse. A lamp is therefore one more look-up of ``shading``; its light falls
off with the square of the distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.render.brdf import fresnel_weight, ggx_distribution, smith_visibility

if TYPE_CHECKING:
    from stspbr.render.gbuffer import GBuffer

_NARROWEST = 0.03  # roughness: a lamp has a size, and no highlight is narrower than its image


@dataclass(frozen=True)
class CameraLamp:
    """A lamp on the camera, as a finished stage describes it.

    Attributes:
        intensity: ``[3]`` linear, irradiance at distance 1; offset: ``[3]`` from the lens: right, up and back; both in
            the units of the world that it is used in.
    """

    intensity: Tensor
    offset: Tensor

    @classmethod
    def of(cls, facts: Mapping[str, Sequence[float]] | None, device: torch.device) -> CameraLamp | None:
        """From ``flash`` of a stage's ``metrics.json``, in the capture's units; None: there is none."""
        if facts is None:
            return None
        return cls(*(torch.tensor(facts[name], dtype=torch.float32, device=device) for name in ("intensity", "offset")))

    def seen_from(self, gbuffer: GBuffer) -> Tensor:
        """``[N, 3]`` from the points of ``gbuffer`` to the lamp of the camera that shows each, object space."""
        return to_camera_lamp(gbuffer, self.offset)


def to_camera_lamp(gbuffer: GBuffer, offset: Tensor) -> Tensor:
    """``[N, 3]`` from the points of ``gbuffer`` to a lamp at ``offset`` ``[3]`` from the lens, object space.

    Raises:
        ValueError: the G-buffer does not know its cameras.
    """
    if gbuffer.eye is None or gbuffer.axes is None:
        raise ValueError("a lamp on the camera needs the cameras of the G-buffer")
    lamp = gbuffer.eye + (gbuffer.axes @ offset[:, None])[..., 0]
    return lamp.index_select(0, gbuffer.view) - gbuffer.position


def lamp_look_up(
    normals: Tensor, view: Tensor, roughness: Tensor, to_lamp: Tensor, intensity: Tensor
) -> tuple[Tensor, Tensor]:
    """Light and weights of N points lit by a lamp; differentiable in everything.

    Args:
        normals, view: ``[N, 3]`` unit; view points to the camera.
        roughness: ``[N, 1]`` perceptual, in [0, 1].
        to_lamp: ``[N, 3]`` from the point to the lamp, in units of length.
        intensity: ``[3]`` linear, so that the irradiance of a surface that faces the lamp is intensity / distance².

    Returns:
        ``found [N, 3]`` that irradiance, and ``weights [N, 3]``: with F0 the base reflectance, radiance is
        found · (F0 · w₀ + w₁ + albedo · (1 − metallic) · (1 − F0) · w₂).
    """
    distance2 = to_lamp.square().sum(-1, keepdim=True).clamp_min(1e-8)
    light = to_lamp * distance2.rsqrt()
    half = torch.nn.functional.normalize(view + light, dim=-1)
    n_dot_l = (normals * light).sum(-1, keepdim=True)
    n_dot_v = (normals * view).sum(-1, keepdim=True)
    n_dot_h = (normals * half).sum(-1, keepdim=True)
    weight = fresnel_weight((view * half).sum(-1, keepdim=True))
    cosine = n_dot_l.clamp_min(0.0)
    alpha = roughness.clamp_min(_NARROWEST).square()
    # as in ``shade``, what faces away from the camera is shaded as at grazing incidence
    visible = smith_visibility(n_dot_v.clamp_min(1e-3), n_dot_l.clamp_min(1e-6), alpha)
    specular = ggx_distribution(n_dot_h, alpha) * visible * cosine
    weights = [(1.0 - weight) * specular, weight * specular, (1.0 - weight) * cosine / math.pi]
    return intensity / distance2, torch.cat(weights, dim=-1)


def joined(found: Tensor, weights: Tensor, lamp: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Look-ups ``[K, N, 3]`` and their weights ``[N, 3·(K + 1)]`` with a lamp's as the last look-up."""
    light, own = lamp
    count = found.shape[0]
    kinds = weights.reshape(len(weights), 3, count + 1)
    wider = torch.cat([kinds[..., :count], own[..., None], kinds[..., count:]], dim=2)
    return torch.cat([found, light[None]]), wider.reshape(len(weights), -1)
