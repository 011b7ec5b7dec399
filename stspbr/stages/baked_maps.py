"""Maps over an atlas: the fields evaluated at its texels, and normals carried from one tangent frame to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.materials import MaterialFields
from stspbr.render.backend import RasterBackend
from stspbr.scene import Mesh
from stspbr.texture.atlas import TexelMap
from stspbr.texture.dilate import dilate
from stspbr.texture.tangents import shading_normals, to_tangent_space

CHUNK = 1 << 18
"""Texels that the fields are evaluated at in one go, to bound memory."""


@dataclass
class BakedMaps:
    """Maps over the atlas: albedo ``[R, R, 3]``, reflectance ``[R, R, 2|3]``, tangent-space normal ``[R, R, 3]``."""

    albedo: Tensor
    reflectance: Tensor
    normal: Tensor | None


@torch.no_grad()
def bake_fields(
    fields: MaterialFields, mesh: Mesh, texels: TexelMap, with_normals: bool, shape_normals: Tensor | None = None
) -> BakedMaps:
    """Evaluate the fields at every covered texel and dilate the result over the rest of the maps.

    Args:
        with_normals: whether the fields' normal offsets count.
        shape_normals: ``[N, 3]`` object-space unit normals at the texels, of a shape that has a normal map; None
            takes the mesh's smooth ones, and then there is a map only ``with_normals``.
    """
    positions = at_texels(texels, mesh.positions, mesh.faces)
    values = [fields(part) for part in positions.split(CHUNK)]
    albedo = torch.cat([v.albedo for v in values])
    parts = [torch.cat([v.roughness for v in values]), torch.cat([v.metallic for v in values])]
    if values[0].occlusion is not None:
        parts.append(torch.cat([v.occlusion for v in values]))
    normal = None
    if with_normals or shape_normals is not None:
        smooth, tangent = _frame(mesh, texels)
        bent = smooth if shape_normals is None else shape_normals
        if with_normals:
            bent = _unit(bent + torch.cat([v.normal_offset for v in values]))
        normal = _front(to_tangent_space(smooth, tangent, bent))
    return BakedMaps(
        spread(albedo, texels),
        spread(torch.cat(parts, dim=1), texels),
        None if normal is None else _unit(spread(normal, texels)),
    )


@torch.no_grad()
def shape_normals(given: Mesh, normal_map: np.ndarray, texels: TexelMap, backend: RasterBackend) -> Tensor:
    """``[N, 3]`` object-space normals at the texels of a new atlas, from a given mesh's own UVs and normal map.

    Args:
        given: with UVs, normals and tangents; the atlas has the same faces in the same order.
        normal_map: ``[R, R, 3]`` tangent space.
    """
    smooth, tangent = _frame(given, texels)
    uv = at_texels(texels, given.uvs, given.uv_faces)
    image = torch.as_tensor(normal_map, dtype=torch.float32, device=uv.device)[None].contiguous()
    mapped = backend.texture(image, uv[None, None].contiguous(), filter_mode="linear", boundary_mode="wrap")[0, 0]
    return shading_normals(smooth, tangent, mapped)


def reexpress(normal_map: Tensor, before: Mesh, after: Mesh, texels: TexelMap) -> Tensor:
    """A tangent-space normal map ``[R, R, 3]`` of one mesh as that of another with the same topology and UVs."""
    flat = normal_map.reshape(-1, 3)
    # the shading before used the refined mesh's normals with the old tangents
    moved, tangent = _frame(after, texels)[0], _frame(before, texels)[1]
    object_normals = shading_normals(moved, tangent, flat.index_select(0, texels.texel))
    values = _front(to_tangent_space(*_frame(after, texels), object_normals))
    return flat.index_copy(0, texels.texel, values).reshape(normal_map.shape)


def spread(values: Tensor, texels: TexelMap) -> Tensor:
    """Covered texels' ``values`` ``[N, C]`` as a whole map ``[R, R, C]``, dilated where no chart is."""
    image = texels.scatter(values.detach()).cpu().numpy()
    out = dilate(image, texels.mask.cpu().numpy())
    return torch.as_tensor(np.ascontiguousarray(out), device=values.device)


def at_texels(texels: TexelMap, attributes: np.ndarray, faces: np.ndarray) -> Tensor:
    """``[N, C]``: corner attributes at the covered texels."""
    device = texels.texel.device
    return texels.interpolate(torch.as_tensor(attributes, device=device), torch.as_tensor(faces, device=device))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _front(normals: Tensor) -> Tensor:
    """Unit tangent-space normals with z ≥ 0.05: a map cannot look into its own surface."""
    return _unit(torch.cat([normals[..., :2], normals[..., 2:].clamp(min=0.05)], dim=-1))


def _frame(mesh: Mesh, texels: TexelMap) -> tuple[Tensor, Tensor]:
    """Unit smooth normals ``[N, 3]`` and tangents ``[N, 4]`` at the texels."""
    normal = _unit(at_texels(texels, mesh.normals, mesh.normal_faces))
    return normal, at_texels(texels, mesh.tangents, mesh.tangent_faces)
