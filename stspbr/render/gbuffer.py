"""The G-buffer: the surface at each covered pixel, and the conversion of pixel lists to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.fields.material_values import MaterialValues
from stspbr.geometry.normals import vertex_normals
from stspbr.geometry.tangents import shading_normals
from stspbr.render.footprint import blurred, normal_bend
from stspbr.render.material_maps import material_pixels, sample_maps
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Camera, Corners, Mesh

_CHANNELS = ("rgb", "albedo", "roughness", "metallic", "normal")


@dataclass
class Surface:
    """A mesh as tensors, each corner attribute with its own index (see ``scene.Mesh``).

    Attributes:
        positions: ``[V, 3]`` object space.
        faces: ``[F, 3]`` int32.
        normals: ``[N, 3]`` unit, object space.
        uvs: ``[T, 2]``; or None.
        tangents: ``[M, 4]``; or None.
        normal_maps: one ``[1, H, W, 3]`` per material, tangent space, part of the shape itself (needs UVs and tangents;
            a 1×1 map (0, 0, 1) bends nothing); or None.
        face_material: ``[F]`` int64 into ``normal_maps``; or None (all 0).
    """

    positions: Tensor
    faces: Tensor
    normals: Corners[Tensor]
    uvs: Corners[Tensor] | None = None
    tangents: Corners[Tensor] | None = None
    normal_maps: list[Tensor] | None = None
    face_material: Tensor | None = None

    @classmethod
    def of(cls, mesh: Mesh, device: torch.device) -> Surface:
        """A mesh as tensors on ``device``; smooth normals if it has none.

        Raises:
            StspbrError: no faces, or faces with indices beyond the vertices.
        """
        if len(mesh.faces) == 0:
            raise StspbrError("the mesh is empty: it has no faces to render")
        if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.positions):
            raise StspbrError(
                f"the mesh's faces have indices beyond its {len(mesh.positions)} vertices: export it again"
            )
        points = corner_tensors(Corners(mesh.positions, mesh.faces), device)
        own = {name: corner_tensors(corners, device) for name, corners in mesh.attributes()}
        normals = own.get("normals") or Corners(vertex_normals(points.values, points.index), points.index)
        return cls(points.values, points.index, normals, own.get("uvs"), own.get("tangents"))


def corner_tensors(corners: Corners[np.ndarray], device: torch.device) -> Corners[Tensor]:
    """Values in float32 and indices in int32 on ``device``."""
    values = torch.as_tensor(corners.values, dtype=torch.float32, device=device)
    return Corners(values, torch.as_tensor(corners.index, dtype=torch.int32, device=device))


@dataclass
class ViewBatch:
    """Cameras of one batch, in object space.

    Attributes:
        clip_from_object: ``[B, 4, 4]``.
        eye: ``[B, 3]`` the cameras' centres in object space.
        object_rotation: ``[B, 3, 3]`` object to world, for looking up the light.
        resolution: (height, width).
        projection, camera_from_object: ``[B, 4, 4]`` the factors of ``clip_from_object``, for whoever needs them apart.
    """

    clip_from_object: Tensor
    eye: Tensor
    object_rotation: Tensor
    resolution: tuple[int, int]
    projection: Tensor | None = None
    camera_from_object: Tensor | None = None

    @classmethod
    def of(cls, cameras: Sequence[Camera], poses: Sequence[np.ndarray], device: torch.device) -> ViewBatch:
        """Cameras of one size, each with the object's pose ``[4, 4]`` object to world."""
        pairs = [(camera, np.asarray(pose, np.float64)) for camera, pose in zip(cameras, poses, strict=True)]
        clip = [camera.clip_from_object(pose) for camera, pose in pairs]
        eyes = [(np.linalg.inv(pose) @ np.append(camera.position, 1.0))[:3] for camera, pose in pairs]
        factors = [camera.clip_from_camera for camera in cameras], [c.world_to_camera @ pose for c, pose in pairs]
        rows = (clip, eyes, [pose[:3, :3] for _, pose in pairs], *factors)
        clips, eye, rotation, projection, from_object = (
            torch.as_tensor(np.stack(row).astype(np.float32), device=device) for row in rows
        )
        return cls(clips, eye, rotation, (cameras[0].height, cameras[0].width), projection, from_object)

    @property
    def pixels(self) -> int:
        """Of one view."""
        return self.resolution[0] * self.resolution[1]

    def select(self, index: Tensor) -> ViewBatch:
        """The cameras ``index`` ``[K]`` int64."""
        clip, eye, rotation = (
            values.index_select(0, index) for values in (self.clip_from_object, self.eye, self.object_rotation)
        )
        factors = (
            None if own is None else own.index_select(0, index) for own in (self.projection, self.camera_from_object)
        )
        return ViewBatch(clip, eye, rotation, self.resolution, *factors)


@dataclass
class GBuffer:
    """The rasterised surface; lists are over the N covered pixels of all views.

    Attributes:
        rast: ``[B, H, W, 4]``; clip: ``[B, V, 4]``; faces: ``[F, 3]``.
        covered: ``[N]`` int64 index into the ``B·H·W`` pixels, ascending.
        view: ``[N]`` int64, which view of the batch each belongs to.
        triangle: ``[N]`` int64.
        position: ``[N, 3]`` object space.
        normal: ``[N, 3]`` unit, object space: the smooth normal, bent by the surface's normal maps, if any.
        to_eye: ``[N, 3]`` unit, from the surface to the camera, object space.
        tangent: ``[N, 4]`` interpolated, or None. uv: ``[N, 2]``, uv_da ``[N, 4]`` per pixel, or None.
        object_rotation: ``[B, 3, 3]``.
        bend: ``[N, 1]`` how much the smooth normal turns within a pixel, see ``footprint``; or None: no camera.
        eye: ``[B, 3]`` the cameras' centres, axes: ``[B, 3, 3]`` their axes (right, up, back) as columns, object space;
            or None: no camera.
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
    bend: Tensor | None = None
    eye: Tensor | None = None
    axes: Tensor | None = None

    def blurred(self, roughness: Tensor) -> Tensor:
        """``[N, 1]``: ``roughness`` as the pixels show it; see ``footprint.blurred``."""
        return blurred(roughness, self.bend)

    def facing(self) -> Tensor:
        """``[N, 1]``: 1 where the front of a triangle is seen, −1 where its back is; 1 if no camera sees it."""
        if self.bend is None:
            return torch.ones_like(self.position[:, :1])
        corner = self.faces.long().index_select(0, self.triangle)
        clip = self.clip.detach()[self.view[:, None], corner][..., [0, 1, 3]]
        # the homogeneous area, which has the right sign even where a corner lies behind the camera
        area = (torch.linalg.cross(clip[:, 0], clip[:, 1]) * clip[:, 2]).sum(1, keepdim=True)
        return torch.where(area > 0, -1.0, 1.0)  # the raster has its rows upside down

    def barycentric(self) -> Tensor:
        """``[N, 2]``: the weights of the second and the third corner of each pixel's triangle, without gradients."""
        first, second = self.rast.detach().reshape(-1, 4).index_select(0, self.covered)[:, :2].unbind(1)
        return torch.stack([second, 1.0 - first - second], dim=1)

    def image(self, values: Tensor, opacity: Tensor | None = None) -> Tensor:
        """``[B, H, W, C + 1]``: per-pixel ``values`` ``[N, C]`` over black with coverage, not antialiased.

        Args:
            opacity: ``[N, 1]`` in [0, 1] that multiplies both; None: 1.
        """
        batch, height, width, _ = self.rast.shape
        with_alpha = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
        with_alpha = with_alpha if opacity is None else with_alpha * opacity
        flat = torch.zeros(batch * height * width, with_alpha.shape[1], dtype=values.dtype, device=values.device)
        return flat.index_copy(0, self.covered, with_alpha).reshape(batch, height, width, -1)

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """``uv`` and ``uv_da``; StspbrError if the surface has no UVs."""
        if self.uv is None or self.uv_da is None:
            raise StspbrError("the mesh has no uvs")
        return self.uv, self.uv_da

    def bent(self, normal_map: Tensor) -> Tensor:
        """``[N, 3]``: the normals bent by tangent-space ones ``[N, 3]``; StspbrError if the surface has no tangents."""
        if self.tangent is None:
            raise StspbrError("the mesh has no tangents")
        return shading_normals(self.normal, self.tangent, normal_map)


def render_gbuffer(surface: Surface, views: ViewBatch, backend: RasterBackend, behind: Tensor | None = None) -> GBuffer:
    """Rasterise ``surface`` from ``views`` and interpolate its attributes at the covered pixels only.

    Args:
        behind: ``rast`` of the layer in front, for the one behind it; None: the foremost layer.
    """
    clip = _clip_positions(surface, views)
    layer = {} if behind is None else {"behind": behind}
    rast, rast_db = backend.rasterize(clip, surface.faces, views.resolution, **layer)

    pixels = rast.shape[1] * rast.shape[2]
    flat = rast.reshape(-1, 4)
    ids = flat[:, 3].detach()
    covered = torch.nonzero(ids > 0).squeeze(1)
    listed = torch.index_select(flat, 0, covered)[None, None].contiguous()

    def at_pixels(corners: Corners[Tensor]) -> Tensor:
        return backend.interpolate(corners.values[None].contiguous(), listed, corners.index)[0][0, 0]

    view = torch.div(covered, pixels, rounding_mode="floor")
    position = at_pixels(Corners(surface.positions, surface.faces))
    normal = torch.nn.functional.normalize(at_pixels(surface.normals), dim=1)
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
        eye=views.eye,
    )
    if views.camera_from_object is not None:
        out.axes = views.camera_from_object[:, :3, :3].transpose(1, 2)
    listed_db = torch.index_select(rast_db.reshape(-1, 4), 0, covered)[None, None].contiguous()
    out.bend = normal_bend(surface.normals, listed, listed_db, backend)
    if surface.uvs is not None:
        uv, uv_da = backend.interpolate(
            surface.uvs.values[None].contiguous(),
            listed,
            surface.uvs.index,
            rast_db=listed_db,
            diff_attributes="all",
        )
        out.uv, out.uv_da = uv[0, 0], uv_da[0, 0]
    if surface.tangents is not None:
        out.tangent = at_pixels(surface.tangents)
    if surface.normal_maps is not None:
        owned = material_pixels(out.triangle, surface.face_material, len(surface.normal_maps))
        out.normal = out.bent(sample_maps(surface.normal_maps, owned, *out.coordinates(), backend.texture))
    return out


def coverage_image(surface: Surface, views: ViewBatch, backend: RasterBackend) -> Tensor:
    """The antialiased coverage ``[B, H, W, 1]`` of ``surface`` alone, as ``compose`` appends it."""
    clip = _clip_positions(surface, views)
    rast, _ = backend.rasterize(clip.detach(), surface.faces, views.resolution)
    return backend.antialias((rast[..., 3:] > 0).float(), rast, clip, surface.faces)


def _clip_positions(surface: Surface, views: ViewBatch) -> Tensor:
    """``[B, V, 4]`` homogeneous clip coordinates of the vertices."""
    ones = torch.ones_like(surface.positions[:, :1])
    homogeneous = torch.cat([surface.positions, ones], dim=1)
    return torch.matmul(homogeneous, views.clip_from_object.transpose(1, 2)).contiguous()


@torch.no_grad()
def surface_points(surface: Surface, triangle: Tensor, barycentric: Tensor, backend: RasterBackend) -> GBuffer:
    """The G-buffer of chosen places, so that a material can be read there; no camera sees them.

    Args:
        triangle: ``[N]`` int64; barycentric: ``[N, 2]`` weights of its second and third corner. Maps are read as wide
            as the triangle.
    """
    second, third = barycentric.unbind(1)
    zero = torch.zeros_like(second)
    rast = torch.stack([1.0 - second - third, second, zero, triangle + 1.0], dim=1)[None, None].contiguous()

    def at_places(corners: Corners[Tensor]) -> Tensor:
        return backend.interpolate(corners.values[None].contiguous(), rast, corners.index)[0][0, 0]

    places = torch.arange(len(triangle), device=triangle.device)
    normal = torch.nn.functional.normalize(at_places(surface.normals), dim=1)
    out = GBuffer(
        rast=rast,
        clip=rast,
        faces=surface.faces,
        covered=places,
        view=torch.zeros_like(places),
        triangle=triangle,
        position=at_places(Corners(surface.positions, surface.faces)),
        normal=normal,
        to_eye=normal,
        object_rotation=torch.eye(3, device=triangle.device)[None],
        tangent=None if surface.tangents is None else at_places(surface.tangents),
    )
    if surface.uvs is not None:
        corner = surface.uvs.values[surface.uvs.index.long()].index_select(0, triangle)
        across = torch.stack([corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]], dim=2)
        out.uv, out.uv_da = at_places(surface.uvs), across.reshape(-1, 4)
    return out


def compose(gbuffer: GBuffer, values: Tensor, backend: RasterBackend) -> Tensor:
    """Images of per-pixel ``values`` ``[N, C]`` over black, with coverage appended and silhouettes antialiased.

    Returns:
        ``[B, H, W, C + 1]``: values premultiplied by coverage, then the coverage in [0, 1].
    """
    return backend.antialias(gbuffer.image(values), gbuffer.rast, gbuffer.clip, gbuffer.faces)


def compose_channels(
    gbuffer: GBuffer, rgb: Tensor, material: MaterialValues, backend: RasterBackend
) -> dict[str, Tensor]:
    """``compose`` of radiance ``[N, 3]`` and its material: rgb, albedo, roughness, metallic, normal and alpha."""
    return named_channels(compose(gbuffer, channels(rgb, material), backend))


def channels(rgb: Tensor, material: MaterialValues) -> Tensor:
    """``[N, 11]``: radiance, then the material's channels in the order of ``named_channels``."""
    return torch.cat([rgb, *(getattr(material, name) for name in _CHANNELS[1:])], dim=1)


def named_channels(image: Tensor) -> dict[str, Tensor]:
    """The parts of an image ``[B, H, W, 12]`` of ``channels`` with alpha: rgb, albedo, …, normal and alpha."""
    return dict(zip([*_CHANNELS, "alpha"], image.split([3, 3, 1, 1, 3, 1], dim=3), strict=True))
