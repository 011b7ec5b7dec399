"""The G-buffer: what is seen at each covered pixel, and the way back from pixel lists to images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.geometry.tangents import shading_normals
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.raster_backend import RasterBackend


@dataclass
class Surface:
    """A mesh as tensors, each corner attribute with its own index (see ``scene.Mesh``).

    Attributes:
        positions: ``[V, 3]`` object space.
        faces: ``[F, 3]`` int32.
        normals: ``[N, 3]`` unit, object space; ``normal_faces`` ``[F, 3]`` int32.
        uvs: ``[T, 2]``; ``uv_faces`` ``[F, 3]`` int32; or None.
        tangents: ``[M, 4]``; ``tangent_faces`` ``[F, 3]`` int32; or None.
        normal_maps: one ``[1, H, W, 3]`` a material, tangent space, part of the shape itself (needs UVs and tangents;
            a 1×1 map (0, 0, 1) bends nothing); or None.
        face_material: ``[F]`` int64 into ``normal_maps``; or None (all 0).
    """

    positions: Tensor
    faces: Tensor
    normals: Tensor
    normal_faces: Tensor
    uvs: Tensor | None = None
    uv_faces: Tensor | None = None
    tangents: Tensor | None = None
    tangent_faces: Tensor | None = None
    normal_maps: list[Tensor] | None = None
    face_material: Tensor | None = None


@dataclass
class ViewBatch:
    """Cameras of one batch, in object space.

    Attributes:
        clip_from_object: ``[B, 4, 4]``.
        eye: ``[B, 3]`` the cameras' centres in object space.
        object_rotation: ``[B, 3, 3]`` object to world, by which the light is looked up.
        resolution: (height, width).
    """

    clip_from_object: Tensor
    eye: Tensor
    object_rotation: Tensor
    resolution: tuple[int, int]


@dataclass
class GBuffer:
    """What the raster operations found; lists are over the N covered pixels of all views.

    Attributes:
        rast: ``[B, H, W, 4]``; clip: ``[B, V, 4]``; faces: ``[F, 3]``.
        covered: ``[N]`` int64 index into the ``B·H·W`` pixels, ascending.
        view: ``[N]`` int64, which view of the batch each belongs to.
        triangle: ``[N]`` int64.
        position: ``[N, 3]`` object space.
        normal: ``[N, 3]`` unit, object space: the smooth normal, bent by the surface's normal maps where it has some.
        to_eye: ``[N, 3]`` unit, from the surface to the camera, object space.
        tangent: ``[N, 4]`` interpolated, or None. uv: ``[N, 2]``, uv_da ``[N, 4]`` per pixel, or None.
        object_rotation: ``[B, 3, 3]``.
    """

    rast: Tensor
    clip: Tensor
    faces: Tensor
    covered: Tensor
    view: Tensor
    triangle: Tensor
    position: Tensor
    normal: Tensor
    to_eye: Tensor
    object_rotation: Tensor
    tangent: Tensor | None = None
    uv: Tensor | None = None
    uv_da: Tensor | None = None


def render_gbuffer(surface: Surface, views: ViewBatch, backend: RasterBackend) -> GBuffer:
    """Rasterise ``surface`` from ``views`` and interpolate its attributes at the covered pixels only."""
    ones = torch.ones_like(surface.positions[:, :1])
    homogeneous = torch.cat([surface.positions, ones], dim=1)
    clip = torch.matmul(homogeneous, views.clip_from_object.transpose(1, 2)).contiguous()
    rast, rast_db = backend.rasterize(clip, surface.faces, views.resolution)

    pixels = rast.shape[1] * rast.shape[2]
    flat = rast.reshape(-1, 4)
    ids = flat[:, 3].detach()
    covered = torch.nonzero(ids > 0).squeeze(1)
    listed = torch.index_select(flat, 0, covered)[None, None].contiguous()

    def at_pixels(values: Tensor, faces: Tensor) -> Tensor:
        return backend.interpolate(values[None].contiguous(), listed, faces)[0][0, 0]

    view = torch.div(covered, pixels, rounding_mode="floor")
    position = at_pixels(surface.positions, surface.faces)
    normal = torch.nn.functional.normalize(at_pixels(surface.normals, surface.normal_faces), dim=1)
    to_eye = torch.nn.functional.normalize(torch.index_select(views.eye, 0, view) - position, dim=1)
    out = GBuffer(
        rast=rast,
        clip=clip,
        faces=surface.faces,
        covered=covered,
        view=view,
        triangle=torch.index_select(ids, 0, covered).to(torch.int64) - 1,
        position=position,
        normal=normal,
        to_eye=to_eye,
        object_rotation=views.object_rotation,
    )
    if surface.uvs is not None:
        listed_db = torch.index_select(rast_db.reshape(-1, 4), 0, covered)[None, None].contiguous()
        uv, uv_da = backend.interpolate(
            surface.uvs[None].contiguous(), listed, surface.uv_faces, rast_db=listed_db, diff_attributes="all"
        )
        out.uv, out.uv_da = uv[0, 0], uv_da[0, 0]
    if surface.tangents is not None:
        out.tangent = at_pixels(surface.tangents, surface.tangent_faces)
    if surface.normal_maps is not None:
        pixels = material_pixels(out.triangle, surface.face_material, len(surface.normal_maps))
        mapped = sample_maps(surface.normal_maps, pixels, out.uv, out.uv_da, backend.texture)
        out.normal = shading_normals(out.normal, out.tangent, mapped)
    return out


def compose(gbuffer: GBuffer, values: Tensor, backend: RasterBackend) -> Tensor:
    """Images of per-pixel ``values`` ``[N, C]`` over black, with coverage appended and silhouettes antialiased.

    Returns:
        ``[B, H, W, C + 1]``: values premultiplied by coverage, then the coverage in [0, 1].
    """
    batch, height, width, _ = gbuffer.rast.shape
    with_alpha = torch.cat([values, torch.ones_like(values[:, :1])], dim=1)
    flat = torch.zeros(batch * height * width, with_alpha.shape[1], dtype=values.dtype, device=values.device)
    image = flat.index_copy(0, gbuffer.covered, with_alpha).reshape(batch, height, width, -1)
    return backend.antialias(image, gbuffer.rast, gbuffer.clip, gbuffer.faces)
