"""Render a textured asset: what a capture is made with, and how an exported file is looked at again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.geometry.tangents import shading_normals, with_frames
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.light import PrefilteredLight
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import shade
from stspbr.scene import Asset, Material


class AssetRenderer:
    """Renders an asset with the same raster operations and the same shading as the training.

    Args:
        asset: one or several materials; a normal map needs UVs, and tangents are made where there are none.
        backend, device: raster operations and where.
    """

    def __init__(self, asset: Asset, backend: RasterBackend, device: torch.device) -> None:
        mesh = asset.mesh
        textured = any(m.normal is not None or _side(m) > 1 for m in asset.materials)
        if mesh.uvs is None and textured:
            raise StspbrError(f"{asset.name}: it has textures but no UV coordinates")
        self.backend = backend
        self.normal_mapped = any(m.normal is not None for m in asset.materials)
        if mesh.tangents is None and self.normal_mapped:
            mesh = with_frames(mesh)
        self.surface = Surface.of(mesh, device)
        self.materials = [_maps(material, device) for material in asset.materials]
        index = np.zeros(len(mesh.faces), np.int64) if mesh.face_material is None else mesh.face_material
        self.face_material = torch.as_tensor(np.asarray(index, np.int64), device=device)

    @torch.no_grad()
    def render(self, views: ViewBatch, light: PrefilteredLight) -> dict[str, Tensor]:
        """Images ``[B, H, W, C]`` over black: rgb, alpha, albedo, roughness, metallic, normal (object space)."""
        gbuffer = render_gbuffer(self.surface, views, self.backend)
        values = self._material(gbuffer)
        normal = values[:, 5:8]
        rgb = shade(
            normal,
            gbuffer.to_eye,
            values[:, :3],
            values[:, 3:4],
            values[:, 4:5],
            light,
            texture=self.backend.texture,
            light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=values[:, 8:9],
        )
        image = compose(gbuffer, torch.cat([rgb, values[:, :8]], dim=1), self.backend)
        names = {"rgb": 3, "albedo": 3, "roughness": 1, "metallic": 1, "normal": 3, "alpha": 1}
        return dict(zip(names, image.split(list(names.values()), dim=3), strict=True))

    def _material(self, gbuffer: GBuffer) -> Tensor:
        """``[N, 9]``: albedo, roughness, metallic, shading normal, occlusion."""
        pixels = material_pixels(gbuffer.triangle, self.face_material, len(self.materials))
        uv, uv_da = gbuffer.uv, gbuffer.uv_da
        if uv is None:  # then every map is a constant
            uv, uv_da = gbuffer.position.new_zeros(len(gbuffer.covered), 2), gbuffer.position.new_zeros(1, 4)
            uv_da = uv_da.expand(len(uv), 4)

        def lookup(name: str) -> Tensor:
            return sample_maps([maps[name] for maps in self.materials], pixels, uv, uv_da, self.backend.texture)

        normal = gbuffer.normal
        if self.normal_mapped:
            normal = shading_normals(normal, gbuffer.tangent, lookup("normal"))
        before = [lookup(name) for name in ("albedo", "roughness", "metallic")]
        return torch.cat([*before, normal, lookup("occlusion")], dim=1)


def _side(material: Material) -> int:
    """The longest side of the material's maps in texels; 1 where all are constants."""
    maps = (material.albedo, material.roughness, material.metallic, material.occlusion)
    return max(side for m in maps if m is not None for side in m.shape[:2])


def _maps(material: Material, device: torch.device) -> dict[str, Tensor]:
    """The material's maps ``[1, H, W, C]``; for those that it lacks, constants that change nothing."""
    occlusion = np.ones((1, 1, 1)) if material.occlusion is None else material.occlusion
    normal = np.array([[[0.0, 0.0, 1.0]]]) if material.normal is None else material.normal
    maps = {"albedo": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
    maps |= {"normal": normal, "occlusion": occlusion}
    return {k: torch.as_tensor(v, dtype=torch.float32, device=device)[None].contiguous() for k, v in maps.items()}
