"""Render a textured asset: what a capture is made with, and how an exported file is looked at again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.geometry.normals import vertex_normals
from stspbr.render.backend import RasterBackend
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import shade
from stspbr.scene import Asset, Material, Mesh
from stspbr.texture.tangents import compute_tangents, shading_normals


def mesh_surface(mesh: Mesh, device: torch.device) -> Surface:
    """A mesh as tensors; smooth normals where it has none."""
    positions = torch.as_tensor(mesh.positions, dtype=torch.float32, device=device)
    faces = torch.as_tensor(mesh.faces, dtype=torch.int32, device=device)
    if len(faces) == 0:
        raise StspbrError("the mesh is empty: it has no faces to render")

    def attribute(values: np.ndarray | None, index: np.ndarray | None) -> tuple[Tensor | None, Tensor | None]:
        if values is None:
            return None, None
        return (
            torch.as_tensor(values, dtype=torch.float32, device=device),
            torch.as_tensor(index, dtype=torch.int32, device=device),
        )

    normals, normal_faces = attribute(mesh.normals, mesh.normal_faces)
    if normals is None:
        normals, normal_faces = vertex_normals(positions, faces), faces
    uvs, uv_faces = attribute(mesh.uvs, mesh.uv_faces)
    tangents, tangent_faces = attribute(mesh.tangents, mesh.tangent_faces)
    return Surface(positions, faces, normals, normal_faces, uvs, uv_faces, tangents, tangent_faces)


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
        self.surface = mesh_surface(mesh, device)
        if mesh.tangents is None and any(m.normal is not None for m in asset.materials):
            normals = self.surface.normals.cpu().numpy(), self.surface.normal_faces.cpu().numpy()
            tangents, index = compute_tangents(mesh.positions, mesh.faces, mesh.uvs, mesh.uv_faces, *normals)
            self.surface.tangents = torch.as_tensor(tangents, device=device)
            self.surface.tangent_faces = torch.as_tensor(index, dtype=torch.int32, device=device)
        self.materials = [_TexturedMaterial(m, backend, device) for m in asset.materials]
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
        if len(self.materials) == 1:
            return self.materials[0].sample(gbuffer, None)
        owner = self.face_material.index_select(0, gbuffer.triangle)
        out = gbuffer.position.new_zeros(len(owner), 9)
        for number, material in enumerate(self.materials):
            chosen = torch.nonzero(owner == number).squeeze(1)
            out.index_copy_(0, chosen, material.sample(gbuffer, chosen))
        return out


def _side(material: Material) -> int:
    """The longest side of the material's maps in texels; 1 where all are constants."""
    maps = (material.albedo, material.roughness, material.metallic, material.occlusion)
    return max(side for m in maps if m is not None for side in m.shape[:2])


class _TexturedMaterial:
    def __init__(self, material: Material, backend: RasterBackend, device: torch.device) -> None:
        def tensor(values: np.ndarray | None) -> Tensor | None:
            return None if values is None else torch.as_tensor(values, dtype=torch.float32, device=device)[None]

        self.maps = [
            tensor(m)
            for m in (material.albedo, material.roughness, material.metallic, material.normal, material.occlusion)
        ]
        self.backend = backend

    def sample(self, gbuffer: GBuffer, chosen: Tensor | None) -> Tensor:
        """The nine channels at the pixels ``chosen`` of the G-buffer's list (None: all)."""

        def pick(values: Tensor) -> Tensor:
            return values if chosen is None else values.index_select(0, chosen)

        normal = pick(gbuffer.normal)
        count = len(normal)

        def lookup(texture: Tensor) -> Tensor:
            if texture.shape[1] == texture.shape[2] == 1:
                return texture.reshape(1, -1).expand(count, -1)
            return self.backend.texture(
                texture,
                pick(gbuffer.uv)[None, None].contiguous(),
                pick(gbuffer.uv_da)[None, None].contiguous(),
                filter_mode="linear-mipmap-linear",
                boundary_mode="wrap",
            )[0, 0]

        albedo, roughness, metallic, normal_map, occlusion = self.maps
        if normal_map is not None:
            normal = shading_normals(normal, pick(gbuffer.tangent), lookup(normal_map))
        open_sky = torch.ones_like(normal[:, :1])
        return torch.cat(
            [
                lookup(albedo),
                lookup(roughness),
                lookup(metallic),
                normal,
                open_sky if occlusion is None else lookup(occlusion),
            ],
            dim=1,
        )
