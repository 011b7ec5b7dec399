"""The sources of the reconstruction's material: the fields, or texture maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from stspbr.fields.material_values import METALLIC, ROUGHNESS, MaterialValues
from stspbr.fields.materials import MaterialFields
from stspbr.optimize.distributed import Span
from stspbr.optimize.losses import smoothness
from stspbr.optimize.map_adam import Visited
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term, scaled
from stspbr.render.gbuffer import GBuffer
from stspbr.render.layers import OPACITY_WIDTH
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.raster_backend import RasterBackend
from stspbr.settings import LossSettings


class Appearance(Protocol):
    """The interface of a material to the reconstruction."""

    def groups(self) -> dict[str, list[Tensor]]:
        """Parameters by group: appearance and reflectance, or joint."""

    def maps(self) -> list[Tensor]:
        """Those parameters that are maps of texels."""

    def evaluate(self, gbuffer: GBuffer, progress: float) -> MaterialValues:
        """The material at the N covered pixels."""

    def sees_through(self, progress: float) -> bool:
        """Whether ``evaluate`` gives an opacity, so that what is behind the surface is rendered too."""

    def smoothness(
        self,
        gbuffer: GBuffer,
        inputs: MaterialValues,
        losses: LossSettings,
        progress: float,
        generator: torch.Generator,
        span: Span | None = None,
    ) -> list[Term]:
        """Terms that keep each map smooth, each driving its own group.

        Args:
            span: the pixels' place among those of all ranks, which all draw the same numbers; None: the only rank.
        """

    def visited(self, gbuffer: GBuffer | None, losses: Tensor | None) -> list[Visited]:
        """What a step saw of each map; empty without maps.

        Args:
            losses: ``[N, 1]`` of the covered pixels, constant; None, with the G-buffer: this rank saw nothing.
        """

    def constrain(self) -> None:
        """Bring the parameters back into their ranges."""


class FieldAppearance(nn.Module):
    """Material from the networks.

    Args:
        normals_from, opacity_from: the progress from which on normal offsets and opacity are used.
    """

    SUBSET = 8  # smoothness is estimated on one in eight covered pixels: the fields dominate a step's time

    def __init__(self, fields: MaterialFields, normals_from: float, opacity_from: float = 0.0) -> None:
        super().__init__()
        self.fields = fields
        self.normals_from, self.opacity_from = normals_from, opacity_from

    def groups(self) -> dict[str, list[Tensor]]:
        return self.fields.groups()

    def maps(self) -> list[Tensor]:
        return []

    def evaluate(self, gbuffer: GBuffer, progress: float) -> MaterialValues:
        values = self.fields(gbuffer.position)
        normal = gbuffer.normal
        if progress >= self.normals_from:
            normal = nn.functional.normalize(normal + values.normal, dim=1)
        if not self.sees_through(progress):
            return replace(values, normal=normal, opacity=None)
        return replace(values, normal=normal * gbuffer.facing())

    def sees_through(self, progress: float) -> bool:
        return self.fields.settings.cut_outs and progress >= self.opacity_from

    def smoothness(
        self,
        gbuffer: GBuffer,
        inputs: MaterialValues,
        losses: LossSettings,
        progress: float,
        generator: torch.Generator,
        span: Span | None = None,
    ) -> list[Term]:
        span = span or Span(0, len(gbuffer.covered), len(gbuffer.covered))
        count = span.total // self.SUBSET
        if count == 0:
            return []
        device = gbuffer.position.device
        subset = torch.randint(span.total, (count,), generator=generator, device=device)
        noise = torch.randn((count, 3), generator=generator, device=device)
        noise = noise * (losses.smoothness_distance * self.fields.extent)
        if (own := span.own(subset)) is not None:
            subset, noise = subset.index_select(0, own) - span.start, noise.index_select(0, own)
            if len(own) == 0:
                return []
        points = gbuffer.position.detach().index_select(0, subset)
        ramp = min(1.0, progress / losses.smoothness_ramp)
        albedo, offset = self.fields.appearance_at(points + noise)
        reflectance = self.fields.reflectance_at(points + noise)
        here = [values.index_select(0, subset) for values in (inputs.albedo, inputs.reflectance)]
        terms = _smooth_terms(losses, ramp, here, [albedo, reflectance])
        if inputs.opacity is not None:
            terms += _opacity_terms(losses, progress, inputs.opacity.index_select(0, subset))
        if progress >= self.normals_from:
            _, offset_here = self.fields.appearance_at(points)
            value = smoothness(offset_here, offset) + 0.1 * offset.abs().mean()
            terms.append(Term("normal_smooth", ramp * losses.normal_smoothness * value, STRICT_A, closed=True))
        return scaled([term for term in terms if term.value.requires_grad], len(subset) / count)

    def visited(self, gbuffer: GBuffer | None, losses: Tensor | None) -> list[Visited]:
        return []

    def constrain(self) -> None:
        """Nothing to do: the outputs are bounded by sigmoids."""


@dataclass
class MaterialMaps:
    """Maps of one material, each over its own layout.

    Attributes:
        albedo: ``[H, W, 3]`` linear; reflectance: ``[H, W, 2|3]`` roughness, metallic (and occlusion).
        normal: ``[H, W, 3]`` tangent space; or None.
        opacity: ``[H, W, 1]`` in [0, 1]; or None: opaque.
    """

    albedo: Tensor
    reflectance: Tensor
    normal: Tensor | None
    opacity: Tensor | None = None


class TextureAppearance(nn.Module):
    """Material from trainable maps over the mesh's UVs; outside the unit square the maps repeat.

    Args:
        maps: one set per material; all with two, or all with three channels of reflectance.
        roughness_range: bounds, enforced after every step.
        joint: the maps form one group ``joint`` (the baseline) instead of two.
        face_material: ``[F]`` int64 into ``maps``; None for one material.
        learn_normal: whether the normal maps are refined too.

    Attributes:
        cutoff: opacities are 1 from here on and 0 below; None: as they are.
    """

    JITTER_TEXELS = 2.0  # of neighbours that are to be alike, and one pixel more: a look-up blurs the map over a pixel

    materials: Sequence[_TrainableMaps]
    _texel: Tensor
    _flat: Tensor

    def __init__(
        self,
        maps: Sequence[MaterialMaps],
        *,
        roughness_range: tuple[float, float],
        joint: bool,
        backend: RasterBackend,
        face_material: Tensor | None = None,
        learn_normal: bool = True,
    ) -> None:
        super().__init__()
        modules = nn.ModuleList(_TrainableMaps(own, learn_normal) for own in maps)
        self.materials = modules  # type: ignore[assignment]  # torch does not type the items of a ModuleList
        self.roughness_range = roughness_range
        self.joint = joint
        self._texture = backend.texture
        self._face_material = face_material
        self._bends = any(own.normal is not None for own in maps)
        self._learns_normal = self._bends and learn_normal
        self._cuts = any(own.opacity is not None for own in maps)
        self.cutoff: float | None = None
        sides = torch.tensor([(own.albedo.shape[1], own.albedo.shape[0]) for own in maps], dtype=torch.float32)
        self.register_buffer("_texel", 1.0 / sides, persistent=False)
        self.register_buffer("_flat", torch.tensor([[[[0.0, 0.0, 1.0]]]]), persistent=False)

    def groups(self) -> dict[str, list[Tensor]]:
        a: list[Tensor] = [own.albedo for own in self.materials]
        if self._learns_normal:
            a += [own.normal for own in self.materials if own.normal is not None]
        a += [own.opacity for own in self.materials if own.opacity is not None]
        b: list[Tensor] = [own.reflectance for own in self.materials]
        return {"joint": [*a, *b]} if self.joint else {"appearance": a, "reflectance": b}

    def maps(self) -> list[Tensor]:
        return [parameter for parameters in self.groups().values() for parameter in parameters]

    def evaluate(self, gbuffer: GBuffer, progress: float) -> MaterialValues:
        pixels, (uv, uv_da) = self._pixels(gbuffer), gbuffer.coordinates()
        reflectance = self._sample("reflectance", pixels, uv.detach(), uv_da)
        normal = gbuffer.bent(self._sample("normal", pixels, uv, uv_da)) if self._bends else gbuffer.normal
        albedo = self._sample("albedo", pixels, uv, uv_da)
        if not self._cuts:
            return MaterialValues.of(albedo, reflectance, normal)
        opacity = self._sample("opacity", pixels, uv.detach(), OPACITY_WIDTH * uv_da)
        if self.cutoff is not None:
            opacity = (opacity >= self.cutoff).float()
        return MaterialValues.of(albedo, reflectance, normal * gbuffer.facing(), opacity)

    def sees_through(self, progress: float) -> bool:
        return self._cuts

    def smoothness(
        self,
        gbuffer: GBuffer,
        inputs: MaterialValues,
        losses: LossSettings,
        progress: float,
        generator: torch.Generator,
        span: Span | None = None,
    ) -> list[Term]:
        uv, uv_da = (value.detach() for value in gbuffer.coordinates())
        pixels = self._pixels(gbuffer)
        span = span or Span(0, len(uv), len(uv))
        noise = torch.randn((span.total, 2), generator=generator, device=uv.device)
        noise = noise[span.start : span.start + span.count]
        noise = noise * self._jitter(gbuffer) + (uv_da.reshape(-1, 2, 2) * noise[:, None]).sum(dim=-1)
        ramp = min(1.0, progress / losses.smoothness_ramp)
        albedo = self._sample("albedo", pixels, uv + noise, uv_da)
        reflectance = self._sample("reflectance", pixels, uv + noise, uv_da)
        terms = _smooth_terms(losses, ramp, [inputs.albedo, inputs.reflectance], [albedo, reflectance])
        if inputs.opacity is not None:
            terms += _opacity_terms(losses, progress, inputs.opacity)
        if self._learns_normal:
            # one look-up for both, which computes mips and texel gradients once
            twice = None if pixels is None else [torch.cat([own, own + len(uv)]) for own in pixels]
            both = self._sample("normal", twice, torch.cat([uv, uv + noise]), uv_da.repeat(2, 1))
            value = smoothness(*both.split(len(uv)))
            terms.append(Term("normal_smooth", ramp * losses.normal_smoothness * value, STRICT_A, closed=True))
        return scaled([term for term in terms if term.value.requires_grad], span.fraction)

    def visited(self, gbuffer: GBuffer | None, losses: Tensor | None) -> list[Visited]:
        found = [Visited(*own.read_together()) for own in self.materials]
        if gbuffer is not None and losses is not None:
            uv, uv_da = (value.detach() for value in gbuffer.coordinates())
            read = sample_maps([own.loss for own in found], self._pixels(gbuffer), uv, uv_da, self._texture)
            (read * losses).sum().backward()
        return found

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp every map to its range and renormalise the normals (z > 0)."""
        for own in self.materials:
            own.albedo.clamp_(0.0, 1.0)
            own.reflectance[..., ROUGHNESS].clamp_(*self.roughness_range)
            own.reflectance[..., ROUGHNESS.stop :].clamp_(0.0, 1.0)
            if own.opacity is not None:
                own.opacity.clamp_(0.0, 1.0)
            if self._learns_normal and own.normal is not None:
                own.normal[..., 2:].clamp_(min=0.05)
                own.normal.copy_(nn.functional.normalize(own.normal, dim=-1))

    @torch.no_grad()
    def scale_albedo(self, factor: float) -> None:
        """Multiply the albedo of all maps, and keep it in [0, 1]."""
        for own in self.materials:
            own.albedo.mul_(factor).clamp_(0.0, 1.0)

    def owner_of(self, triangle: Tensor) -> Tensor:
        """``[N]`` int64: the material of each of the triangles ``[N]``."""
        if self._face_material is None:
            return torch.zeros_like(triangle)
        return self._face_material.index_select(0, triangle)

    def plain_maps(self) -> list[Tensor]:
        """Albedo ``[H, W, 3]``, roughness and metallic ``[H, W, 1]`` of each material that has faces, in this order."""
        found = []
        for own in self._used():
            reflectance = own.reflectance[0]
            found += [own.albedo[0], reflectance[..., ROUGHNESS], reflectance[..., METALLIC]]
        return found

    def normal_maps(self) -> list[Tensor | None]:
        """The normal map ``[H, W, 3]`` of each material that has faces; None if it is not learned."""
        learned = [own.normal if self._learns_normal else None for own in self._used()]
        return [None if own is None else own[0] for own in learned]

    def _used(self) -> list[_TrainableMaps]:
        used = range(len(self.materials)) if self._face_material is None else self._face_material.unique().tolist()
        return [self.materials[k] for k in used]

    def _pixels(self, gbuffer: GBuffer) -> list[Tensor] | None:
        return material_pixels(gbuffer.triangle, self._face_material, len(self.materials))

    def _jitter(self, gbuffer: GBuffer) -> Tensor:
        """``[1 or N, 2]``: the deviation of a jittered look-up in UV; in texels it is the same for every material."""
        texel = self.JITTER_TEXELS * self._texel
        if self._face_material is None:
            return texel[:1]
        return texel.index_select(0, self._face_material.index_select(0, gbuffer.triangle))

    def _sample(self, name: str, pixels: list[Tensor] | None, uv: Tensor, uv_da: Tensor) -> Tensor:
        maps = [getattr(own, name) for own in self.materials]
        if name == "normal":
            maps = [self._flat if own is None else own for own in maps]
        if name == "opacity":
            maps = [self._flat[..., 2:] if own is None else own for own in maps]
        return sample_maps(maps, pixels, uv, uv_da.detach(), self._texture)


def _smooth_terms(losses: LossSettings, ramp: float, here: Sequence[Tensor], jittered: Sequence[Tensor]) -> list[Term]:
    """Smoothness of albedo ``[N, 3]`` and reflectance ``[N, 2|3]``, in this order in both lists."""
    a, b = (smoothness(*pair) for pair in zip(here, jittered, strict=True))
    return [
        Term("albedo_smooth", ramp * losses.albedo_smoothness * a, STRICT_A, closed=True),
        Term("reflectance_smooth", ramp * losses.reflectance_smoothness * b, STRICT_B, closed=True),
    ]


def _opacity_terms(losses: LossSettings, progress: float, opacity: Tensor) -> list[Term]:
    """Opacity is drawn to 0 or 1, the stronger the later."""
    if losses.opacity_binary == 0:
        return []
    value = progress * losses.opacity_binary * (opacity * (1.0 - opacity)).mean()
    return [Term("opacity_binary", value, STRICT_A, closed=True)]


class _TrainableMaps(nn.Module):
    """The maps ``[1, H, W, C]`` of one material; ``normal`` and ``opacity`` are None if it has none."""

    def __init__(self, maps: MaterialMaps, learn_normal: bool) -> None:
        super().__init__()
        self.albedo = nn.Parameter(maps.albedo[None].clone().contiguous())
        self.reflectance = nn.Parameter(maps.reflectance[None].clone().contiguous())
        normal, opacity = maps.normal, maps.opacity
        self.normal = None if normal is None else nn.Parameter(normal[None].clone().contiguous(), learn_normal)
        self.opacity = None if opacity is None else nn.Parameter(opacity[None].clone().contiguous())

    def read_together(self) -> tuple[list[Tensor], Tensor]:
        """The learned maps of the albedo's size, and a map ``[1, H, W, 1]`` of zeros, to be differentiated by."""
        own = (self.albedo, self.reflectance, self.normal, self.opacity)
        alike: list[Tensor] = [
            one for one in own if one is not None and one.requires_grad and one.shape[:3] == self.albedo.shape[:3]
        ]
        return alike, torch.zeros_like(self.albedo[..., :1], requires_grad=True)
