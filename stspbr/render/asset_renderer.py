"""Render a textured asset, for captures and to view exported files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.fields.material_values import MaterialValues
from stspbr.geometry.tangents import with_frames
from stspbr.render.gbuffer import (
    GBuffer,
    Surface,
    ViewBatch,
    channels,
    compose_channels,
    named_channels,
    render_gbuffer,
)
from stspbr.render.lamp import CameraLamp
from stspbr.render.layers import OPACITY_WIDTH, compose_layers, layers_of
from stspbr.render.light import PrefilteredLight
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import Surroundings, shade
from stspbr.scene import Asset, Material

Around = Callable[[Surface, GBuffer, PrefilteredLight], Surroundings | None]
"""What gives the surroundings of the pixels of a view of a surface."""


class AssetRenderer:
    """Renders an asset with the same raster operations and the same shading as the training.

    Args:
        asset: one or several materials; a normal map needs UVs, and tangents are computed if missing.
        backend, device: of the raster operations.

    Raises:
        StspbrError: textures without UVs, an empty mesh, or faces with indices beyond the vertices.
    """

    def __init__(self, asset: Asset, backend: RasterBackend, device: torch.device) -> None:
        mesh = asset.mesh
        textured = any(m.normal is not None or _side(m) > 1 for m in asset.materials)
        if mesh.uvs is None and textured:
            raise StspbrError(f"{asset.name}: it has textures but no UV coordinates; unwrap the mesh")
        self.backend = backend
        self.normal_mapped = any(m.normal is not None for m in asset.materials)
        if mesh.tangents is None and self.normal_mapped:
            mesh = with_frames(mesh)
        self.surface = Surface.of(mesh, device)
        self.materials = [_maps(material, device) for material in asset.materials]
        self._cutoffs = [-1.0 if material.cutoff is None else material.cutoff for material in asset.materials]
        self.see_through = any(material.opacity is not None for material in asset.materials)
        self.face_material = torch.as_tensor(np.asarray(mesh.material_of, np.int64), device=device)

    @torch.no_grad()
    def render(
        self,
        views: ViewBatch,
        light: PrefilteredLight,
        around: Around | None = None,
        lamp: CameraLamp | None = None,
    ) -> dict[str, Tensor]:
        """Images ``[B, H, W, C]`` over black: rgb, alpha, albedo, roughness, metallic, normal (object space).

        Args:
            around: what hides light from the pixels, and sends it on; None: nothing.
            lamp: on the cameras, beside ``light``.
        """
        light = replace(light, lamp=None if lamp is None else lamp.intensity)
        if not self.see_through:
            gbuffer = render_gbuffer(self.surface, views, self.backend)
            return compose_channels(gbuffer, *self._shaded(gbuffer, light, around, lamp), self.backend)
        layers = list(layers_of(self.surface, views, self.backend, self.opacity))
        values = [channels(*self._shaded(layer.gbuffer, light, around, lamp)) for layer in layers]
        return named_channels(compose_layers(layers, values, self.backend))

    def _shaded(
        self, gbuffer: GBuffer, light: PrefilteredLight, around: Around | None, lamp: CameraLamp | None
    ) -> tuple[Tensor, MaterialValues]:
        material = self.material(gbuffer)
        rgb = shade(
            material.normal,
            gbuffer.to_eye,
            material.albedo,
            gbuffer.blurred(material.roughness),
            material.metallic,
            light,
            texture=self.backend.texture,
            light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=material.occlusion,
            surroundings=None if around is None else around(self.surface, gbuffer, light),
            to_lamp=None if lamp is None else lamp.seen_from(gbuffer),
        )
        return rgb, material

    def material(self, gbuffer: GBuffer) -> MaterialValues:
        """The maps at a G-buffer's places."""
        lookup = self._lookup(gbuffer)
        normal = gbuffer.bent(lookup("normal")) if self.normal_mapped else gbuffer.normal
        if self.see_through:  # a cut-out is lit from the side that is seen
            normal = normal * gbuffer.facing()
        return MaterialValues(lookup("albedo"), lookup("roughness"), lookup("metallic"), normal, lookup("occlusion"))

    def opacity(self, gbuffer: GBuffer) -> Tensor:
        """``[N, 1]`` at a layer's pixels; a mask's is 0 or 1."""
        found = self._lookup(gbuffer, OPACITY_WIDTH)("opacity")
        cutoff = found.new_tensor(self._cutoffs)[self.face_material.index_select(0, gbuffer.triangle), None]
        return torch.where(cutoff < 0, found, (found >= cutoff).float())

    def _lookup(self, gbuffer: GBuffer, width: float = 1.0) -> Callable[[str], Tensor]:
        """What reads a map by its name at a G-buffer's places, over ``width`` pixels."""
        pixels = material_pixels(gbuffer.triangle, self.face_material, len(self.materials))
        if gbuffer.uv is None:  # every map is a constant
            uv, uv_da = (gbuffer.position.new_zeros(len(gbuffer.covered), count) for count in (2, 4))
        else:
            uv, uv_da = gbuffer.coordinates()

        def lookup(name: str) -> Tensor:
            maps = [own[name] for own in self.materials]
            return sample_maps(maps, pixels, uv, width * uv_da, self.backend.texture)

        return lookup


def _side(material: Material) -> int:
    """The longest side of the material's maps in texels; 1 if all are constants."""
    maps = (material.albedo, material.roughness, material.metallic, material.occlusion, material.opacity)
    return max(side for m in maps if m is not None for side in m.shape[:2])


def _maps(material: Material, device: torch.device) -> dict[str, Tensor]:
    """The material's maps ``[1, H, W, C]``; neutral constants for missing ones."""
    occlusion = np.ones((1, 1, 1)) if material.occlusion is None else material.occlusion
    normal = np.array([[[0.0, 0.0, 1.0]]]) if material.normal is None else material.normal
    maps = {"albedo": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
    opacity = np.ones((1, 1, 1)) if material.opacity is None else material.opacity
    maps |= {"normal": normal, "occlusion": occlusion, "opacity": opacity}
    return {k: torch.as_tensor(v, dtype=torch.float32, device=device)[None].contiguous() for k, v in maps.items()}
