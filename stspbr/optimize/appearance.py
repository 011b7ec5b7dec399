"""Where the reconstruction takes its material from: the fields, or texture maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from stspbr.fields.materials import MaterialFields
from stspbr.optimize.losses import smoothness
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term
from stspbr.recipe import LossSettings
from stspbr.render.backend import RasterBackend
from stspbr.render.gbuffer import GBuffer
from stspbr.texture.tangents import shading_normals


@dataclass
class ShadingInputs:
    """What ``shade`` wants at the N covered pixels; ``normal`` is the unit shading normal in object space."""

    normal: Tensor
    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    occlusion: Tensor | None


class Appearance(Protocol):
    """What the reconstruction asks of a material."""

    def groups(self) -> dict[str, list[Tensor]]:
        """Parameters by group: appearance and reflectance, or joint."""

    def evaluate(self, gbuffer: GBuffer, progress: float) -> ShadingInputs:
        """The material at the covered pixels."""

    def smoothness(
        self, gbuffer: GBuffer, inputs: ShadingInputs, losses: LossSettings, progress: float, generator: torch.Generator
    ) -> list[Term]:
        """Terms that keep each map smooth, each driving its own group."""

    def constrain(self) -> None:
        """Bring the parameters back into their ranges."""


class FieldAppearance(nn.Module):
    """Material from the networks; normal offsets take part once ``progress`` reaches ``normals_from``."""

    SUBSET = 8  # smoothness is estimated on one in so many covered pixels: the fields dominate a step's time

    def __init__(self, fields: MaterialFields, normals_from: float) -> None:
        super().__init__()
        self.fields = fields
        self.normals_from = normals_from

    def groups(self) -> dict[str, list[Tensor]]:
        return self.fields.groups()

    def evaluate(self, gbuffer: GBuffer, progress: float) -> ShadingInputs:
        values = self.fields(gbuffer.position)
        normal = gbuffer.normal
        if progress >= self.normals_from:
            normal = nn.functional.normalize(normal + values.normal_offset, dim=1)
        return ShadingInputs(normal, values.albedo, values.roughness, values.metallic, values.occlusion)

    def smoothness(
        self, gbuffer: GBuffer, inputs: ShadingInputs, losses: LossSettings, progress: float, generator: torch.Generator
    ) -> list[Term]:
        count = len(gbuffer.covered) // self.SUBSET
        if count == 0:
            return []
        device = gbuffer.position.device
        subset = torch.randint(len(gbuffer.covered), (count,), generator=generator, device=device)
        points = gbuffer.position.detach().index_select(0, subset)
        extent = float((self.fields.box[1] - self.fields.box[0]).max())
        noise = torch.randn(points.shape, generator=generator, device=device) * (losses.smoothness_distance * extent)
        ramp = min(1.0, progress / losses.smoothness_ramp)
        albedo, offset = self.fields.appearance_at(points + noise)
        reflectance = self.fields.reflectance_at(points + noise)
        here = torch.cat([x for x in (inputs.roughness, inputs.metallic, inputs.occlusion) if x is not None], dim=1)
        terms = [
            Term(
                "albedo_smooth",
                ramp * losses.albedo_smoothness * smoothness(inputs.albedo.index_select(0, subset), albedo),
                STRICT_A,
                closed=True,
            ),
            Term(
                "reflectance_smooth",
                ramp * losses.reflectance_smoothness * smoothness(here.index_select(0, subset), reflectance),
                STRICT_B,
                closed=True,
            ),
        ]
        if progress >= self.normals_from:
            _, offset_here = self.fields.appearance_at(points)
            value = smoothness(offset_here, offset) + 0.1 * offset.abs().mean()
            terms.append(Term("normal_smooth", ramp * losses.normal_smoothness * value, STRICT_A, closed=True))
        return [term for term in terms if term.value.requires_grad]

    def constrain(self) -> None:
        """Nothing to do: the outputs are bounded by sigmoids."""


class TextureAppearance(nn.Module):
    """Material from trainable maps over the mesh's UVs.

    Args:
        albedo: ``[R, R, 3]``; reflectance ``[R, R, 2 or 3]`` roughness, metallic (and occlusion);
        normal ``[R, R, 3]`` tangent space, or None for a mesh without a normal map.
        roughness_range: bounds that hold after every step.
        learn_normal: whether the normal map is refined with the others, or stays as it is.
        joint: the maps form one group ``joint`` (the baseline) instead of two.
    """

    JITTER_TEXELS = 2.0

    def __init__(
        self,
        albedo: Tensor,
        reflectance: Tensor,
        normal: Tensor | None,
        *,
        roughness_range: tuple[float, float],
        joint: bool,
        backend: RasterBackend,
        learn_normal: bool = True,
    ) -> None:
        super().__init__()
        self.albedo = nn.Parameter(albedo[None].clone().contiguous())
        self.reflectance = nn.Parameter(reflectance[None].clone().contiguous())
        self.normal = None if normal is None else nn.Parameter(normal[None].clone().contiguous(), learn_normal)
        self.roughness_range = roughness_range
        self.joint = joint
        self._texture = backend.texture

    def groups(self) -> dict[str, list[Tensor]]:
        a = [self.albedo, self.normal] if self._learns_normal else [self.albedo]
        return {"joint": [*a, self.reflectance]} if self.joint else {"appearance": a, "reflectance": [self.reflectance]}

    def evaluate(self, gbuffer: GBuffer, progress: float) -> ShadingInputs:
        reflectance = self._sample(self.reflectance, gbuffer.uv.detach(), gbuffer.uv_da)
        normal = gbuffer.normal
        if self.normal is not None:
            mapped = self._sample(self.normal, gbuffer.uv, gbuffer.uv_da)
            normal = shading_normals(normal, gbuffer.tangent, mapped)
        return ShadingInputs(
            normal,
            self._sample(self.albedo, gbuffer.uv, gbuffer.uv_da),
            reflectance[:, :1],
            reflectance[:, 1:2],
            reflectance[:, 2:3] if reflectance.shape[1] > 2 else None,
        )

    def smoothness(
        self, gbuffer: GBuffer, inputs: ShadingInputs, losses: LossSettings, progress: float, generator: torch.Generator
    ) -> list[Term]:
        uv = gbuffer.uv.detach()
        texel = 1.0 / self.albedo.shape[1]
        noise = torch.randn(uv.shape, generator=generator, device=uv.device) * (self.JITTER_TEXELS * texel)
        ramp = min(1.0, progress / losses.smoothness_ramp)
        albedo = self._sample(self.albedo, uv + noise, gbuffer.uv_da)
        reflectance = self._sample(self.reflectance, uv + noise, gbuffer.uv_da)
        here = torch.cat([x for x in (inputs.roughness, inputs.metallic, inputs.occlusion) if x is not None], dim=1)
        terms = [
            Term(
                "albedo_smooth",
                ramp * losses.albedo_smoothness * smoothness(inputs.albedo, albedo),
                STRICT_A,
                closed=True,
            ),
            Term(
                "reflectance_smooth",
                ramp * losses.reflectance_smoothness * smoothness(here, reflectance),
                STRICT_B,
                closed=True,
            ),
        ]
        if self._learns_normal:
            # one look-up for both: its mips and its texels' gradients are made once
            both = self._sample(self.normal, torch.cat([uv, uv + noise]), gbuffer.uv_da.repeat(2, 1))
            value = smoothness(*both.split(len(uv)))
            terms.append(Term("normal_smooth", ramp * losses.normal_smoothness * value, STRICT_A, closed=True))
        return terms

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp every map to its range and renormalise the normals (z > 0)."""
        self.albedo.clamp_(0.0, 1.0)
        self.reflectance[..., :1].clamp_(*self.roughness_range)
        self.reflectance[..., 1:].clamp_(0.0, 1.0)
        if self._learns_normal:
            self.normal[..., 2:].clamp_(min=0.05)
            self.normal.copy_(nn.functional.normalize(self.normal, dim=-1))

    @property
    def _learns_normal(self) -> bool:
        return self.normal is not None and self.normal.requires_grad

    def _sample(self, texture: Tensor, uv: Tensor, uv_da: Tensor) -> Tensor:
        out = self._texture(
            texture,
            uv[None, None].contiguous(),
            uv_da.detach()[None, None].contiguous(),
            filter_mode="linear-mipmap-linear",
            boundary_mode="wrap",
        )
        return out[0, 0]
