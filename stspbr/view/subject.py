"""What a viewer draws: a surface with its material, whatever stage it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.material_values import MaterialValues
from stspbr.render.asset_renderer import Around, AssetRenderer
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.lamp import CameraLamp
from stspbr.render.layers import compose_layers, layers_of
from stspbr.render.light import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import shade
from stspbr.scene import EnvironmentLight
from stspbr.scene.camera_rig import bounding_sphere

CHANNELS = ("shaded", "albedo", "roughness", "metallic", "normal", "occlusion")
"""The channels that every subject can have, in the order of a viewer's list."""
CONFIDENCE = "confidence: "
"""What the names of further channels begin with."""


@dataclass
class Subject:
    """A surface that can be drawn in several channels.

    Attributes:
        surface: positions in the units of the capture's world.
        material: reads the material at a G-buffer's places, as ``AssetRenderer.material``.
        backend, device: of the raster operations.
        light: the light that belongs to it; None: it has none. lamp: on the cameras, beside that light.
        opacity: ``[N, 1]`` at a G-buffer's places; None: nothing is seen through.
        maps: further scalar channels by name, ``[N, 1]`` in [0, 1] at a G-buffer's places.
        around: what gives shadows and bounces; None: there are none.
        occluded: whether there is an occlusion to show.
    """

    surface: Surface
    material: Callable[[GBuffer], MaterialValues]
    backend: RasterBackend
    device: torch.device
    light: EnvironmentLight | None = None
    opacity: Callable[[GBuffer], Tensor] | None = None
    maps: Mapping[str, Callable[[GBuffer], Tensor]] = field(default_factory=dict)
    around: Callable[[], Around] | None = None
    occluded: bool = False
    lamp: CameraLamp | None = None

    @classmethod
    def of(cls, renderer: AssetRenderer, light: EnvironmentLight | None, occluded: bool) -> Subject:
        """What a renderer of an asset renders."""
        return cls(
            renderer.surface, renderer.material, renderer.backend, renderer.surface.positions.device, light,
            renderer.opacity if renderer.see_through else None, occluded=occluded,
        )  # fmt: skip

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of its channels."""
        own = [name for name in CHANNELS if name != "occlusion" or self.occluded]
        return (*own, *(CONFIDENCE + name for name in self.maps))

    def sphere(self) -> tuple[np.ndarray, float]:
        """Centre ``[3]`` and radius of a ball around the surface."""
        return bounding_sphere(self.surface.positions.detach().cpu().numpy())

    @torch.no_grad()
    def draw(
        self,
        views: ViewBatch,
        channel: str,
        light: PrefilteredLight | None,
        transport: bool = False,
        with_lamp: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """One channel of a batch of one view.

        Args:
            channel: one of ``channels``; light: for the channel ``shaded``.
            transport: whether the object shadows and lights itself; see-through ones do not.
            with_lamp: whether the camera carries the subject's lamp, if it has one.

        Returns:
            ``[H, W, C + 1]`` premultiplied by the coverage, which is last, with 3 or 1 channels (linear radiance or
            albedo; scalars; normals of object space as (n + 1) / 2); and ``[H, W]`` the distance along the line of
            sight in world units where the surface is, infinite elsewhere.
        """
        around = None
        if channel == "shaded" and transport and self.opacity is None and self.around is not None:
            around = self.around()
        lamp = self.lamp if with_lamp and light is not None else None
        if light is not None:
            light = replace(light, lamp=None if lamp is None else lamp.intensity)

        def values(gbuffer: GBuffer) -> Tensor:
            return self._values(gbuffer, channel, light, around, lamp)

        if self.opacity is None:
            gbuffer = render_gbuffer(self.surface, views, self.backend)
            image = compose(gbuffer, values(gbuffer), self.backend)
            return image[0], _depth(gbuffer)
        layers = list(layers_of(self.surface, views, self.backend, self.opacity))
        image = compose_layers(layers, [values(layer.gbuffer) for layer in layers], self.backend)
        return image[0], _depth(layers[0].gbuffer)

    def _values(
        self,
        gbuffer: GBuffer,
        channel: str,
        light: PrefilteredLight | None,
        around: Around | None,
        lamp: CameraLamp | None,
    ) -> Tensor:
        if channel.startswith(CONFIDENCE):
            return self.maps[channel.removeprefix(CONFIDENCE)](gbuffer)
        material = self.material(gbuffer)
        if channel == "normal":
            return 0.5 * (material.normal + 1.0)
        if channel != "shaded":
            found = getattr(material, channel)
            return torch.ones_like(material.roughness) if found is None else found
        assert light is not None
        return shade(
            material.normal, gbuffer.to_eye, material.albedo, gbuffer.blurred(material.roughness), material.metallic,
            light, texture=self.backend.texture, light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=material.occlusion,
            surroundings=None if around is None else around(self.surface, gbuffer, light),
            to_lamp=None if lamp is None else lamp.seen_from(gbuffer),
        )  # fmt: skip


def _depth(gbuffer: GBuffer) -> Tensor:
    """``[H, W]``: w of clip space, which is the distance along −Z of the camera."""
    corner = gbuffer.faces.long().index_select(0, gbuffer.triangle)
    own = gbuffer.clip[gbuffer.view[:, None], corner][..., 3]
    second, third = gbuffer.barycentric().unbind(1)
    weights = torch.stack([1.0 - second - third, second, third], dim=1)
    out = torch.full((gbuffer.rast[0, ..., 0].numel(),), float("inf"), device=own.device)
    return out.index_copy(0, gbuffer.covered, (own * weights).sum(1)).reshape(gbuffer.rast.shape[1:3])
