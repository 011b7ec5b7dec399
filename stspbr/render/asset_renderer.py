"""Render a textured asset, for captures and to view exported files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.fields.material_values import MaterialValues
from stspbr.geometry.tangents import with_frames
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, compose_channels, render_gbuffer
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
        self.face_material = torch.as_tensor(np.asarray(mesh.material_of, np.int64), device=device)

    @torch.no_grad()
    def render(self, views: ViewBatch, light: PrefilteredLight, around: Around | None = None) -> dict[str, Tensor]:
        """Images ``[B, H, W, C]`` over black: rgb, alpha, albedo, roughness, metallic, normal (object space).

        Args:
            around: what hides light from the pixels, and sends it on; None: nothing.
        """
        gbuffer = render_gbuffer(self.surface, views, self.backend)
        material = self.material(gbuffer)
        rgb = shade(
            material.normal,
            gbuffer.to_eye,
            material.albedo,
            material.roughness,
            material.metallic,
            light,
            texture=self.backend.texture,
            light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=material.occlusion,
            surroundings=None if around is None else around(self.surface, gbuffer, light),
        )
        return compose_channels(gbuffer, rgb, material, self.backend)

    def material(self, gbuffer: GBuffer) -> MaterialValues:
        """The maps at a G-buffer's places."""
        pixels = material_pixels(gbuffer.triangle, self.face_material, len(self.materials))
        if gbuffer.uv is None:  # every map is a constant
            uv, uv_da = (gbuffer.position.new_zeros(len(gbuffer.covered), channels) for channels in (2, 4))
        else:
            uv, uv_da = gbuffer.coordinates()

        def lookup(name: str) -> Tensor:
            return sample_maps([maps[name] for maps in self.materials], pixels, uv, uv_da, self.backend.texture)

        normal = gbuffer.bent(lookup("normal")) if self.normal_mapped else gbuffer.normal
        return MaterialValues(lookup("albedo"), lookup("roughness"), lookup("metallic"), normal, lookup("occlusion"))


def _side(material: Material) -> int:
    """The longest side of the material's maps in texels; 1 if all are constants."""
    maps = (material.albedo, material.roughness, material.metallic, material.occlusion)
    return max(side for m in maps if m is not None for side in m.shape[:2])


def _maps(material: Material, device: torch.device) -> dict[str, Tensor]:
    """The material's maps ``[1, H, W, C]``; neutral constants for missing ones."""
    occlusion = np.ones((1, 1, 1)) if material.occlusion is None else material.occlusion
    normal = np.array([[[0.0, 0.0, 1.0]]]) if material.normal is None else material.normal
    maps = {"albedo": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
    maps |= {"normal": normal, "occlusion": occlusion}
    return {k: torch.as_tensor(v, dtype=torch.float32, device=device)[None].contiguous() for k, v in maps.items()}
