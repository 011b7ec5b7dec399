"""Maps over a layout: the fields evaluated at its texels, and normals moved from one tangent frame to another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.fields.materials import MaterialFields
from stspbr.geometry.tangents import shading_normals, to_tangent_space
from stspbr.optimize.appearance import MaterialMaps
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Corners, Mesh
from stspbr.texture.atlas import TexelMap, mean_of_groups
from stspbr.texture.dilate import dilate

_ONE_POINT = 1e-5  # in the normalised box: nearer points are one point

CHUNK = 1 << 18
"""Texels per evaluation of the fields, to bound memory."""


@torch.no_grad()
def bake_fields(
    fields: MaterialFields, mesh: Mesh, texels: TexelMap, with_normals: bool, shape_normals: Tensor | None = None
) -> tuple[MaterialMaps, dict[str, float]]:
    """Evaluate the fields at every covered texel and dilate the result over the rest of the maps.

    A texel that several parts of the surface share gets their mean.

    Args:
        with_normals: whether the fields' normal offsets are used.
        shape_normals: ``[N, 3]`` object-space unit normals at the texels, from the shape's own normal map. None: the
            mesh's smooth normals; the result then has a normal map only ``with_normals``.

    Returns:
        The maps, and the cost of sharing: ``shared`` texels as a fraction of those with a covered centre, and the
        RMS deviation of the sharing parts from their mean in ``albedo``, ``roughness`` and ``metallic``.
    """
    positions = at_texels(texels, Corners(mesh.positions, mesh.faces))
    values = [fields(part) for part in positions.split(CHUNK)]
    albedo = torch.cat([v.albedo for v in values])
    reflectance = torch.cat([v.reflectance for v in values])
    normal = None
    if with_normals or shape_normals is not None:
        smooth, tangent = _frame(mesh, texels)
        bent = smooth if shape_normals is None else shape_normals
        if with_normals:
            bent = _unit(bent + torch.cat([v.normal for v in values]))
        normal = _front(to_tangent_space(smooth, tangent, bent))
    see_through = values[0].opacity is not None
    maps = MaterialMaps(
        spread(albedo, texels),
        spread(reflectance, texels),
        None if normal is None else _unit(spread(normal, texels)),
        spread(torch.cat([v.opacity for v in values if v.opacity is not None]), texels) if see_through else None,
    )
    return maps, _sharing(texels, positions, albedo, reflectance)


@torch.no_grad()
def learned_offsets(fields: MaterialFields, points: np.ndarray, device: torch.device) -> np.ndarray:
    """``[N, 3]`` float64: what the fields add to the unit smooth normal at ``points [N, 3]``."""
    values = [fields(part).normal for part in torch.as_tensor(points, dtype=torch.float32, device=device).split(CHUNK)]
    return torch.cat(values).cpu().numpy().astype(np.float64)


@torch.no_grad()
def shape_normals(given: Mesh, normal_map: np.ndarray, texels: TexelMap, backend: RasterBackend) -> Tensor:
    """``[N, 3]`` object-space normals at the texels of a layout, from the given mesh's own UVs and normal map.

    Args:
        given: has UVs, normals and tangents; its faces are those of the layout, in the same order.
        normal_map: ``[H, W, 3]`` tangent space.
    """
    smooth, tangent = _frame(given, texels)
    uv = at_texels(texels, given.required("uvs"))
    image = torch.as_tensor(normal_map, dtype=torch.float32, device=uv.device)[None].contiguous()
    mapped = backend.texture(image, uv[None, None].contiguous(), filter_mode="linear", boundary_mode="wrap")[0, 0]
    return shading_normals(smooth, tangent, mapped)


def reexpress(normal_map: Tensor, before: Mesh, after: Mesh, texels: TexelMap) -> Tensor:
    """A tangent-space normal map ``[R, R, 3]`` converted to another mesh with the same topology and UVs."""
    flat = normal_map.reshape(-1, 3)
    # the refinement shaded with the refined mesh's normals and the old tangents
    moved, tangent = _frame(after, texels)[0], _frame(before, texels)[1]
    object_normals = shading_normals(moved, tangent, flat.index_select(0, texels.texel))
    values = _front(to_tangent_space(*_frame(after, texels), object_normals))
    return flat.index_copy(0, texels.texel, values).reshape(normal_map.shape)


def spread(values: Tensor, texels: TexelMap) -> Tensor:
    """``values`` ``[N, C]`` of the covered texels as a whole map ``[R, R, C]``, dilated outside of the charts."""
    image = texels.scatter(values.detach()).cpu().numpy()
    out = dilate(image, texels.mask.cpu().numpy())
    return torch.as_tensor(np.ascontiguousarray(out), device=values.device)


def dilated(maps: Tensor, texels: TexelMap) -> np.ndarray:
    """Maps ``[H, W, C]``, their covered texels dilated over the rest."""
    flat = maps.reshape(-1, maps.shape[-1])
    return spread(flat.index_select(0, texels.texel), texels).cpu().numpy()


def at_texels(texels: TexelMap, corners: Corners[np.ndarray]) -> Tensor:
    """``[N, C]``: a corner attribute at the covered texels."""
    device = texels.texel.device
    return texels.interpolate(*(torch.as_tensor(part, device=device) for part in (corners.values, corners.index)))


def _sharing(texels: TexelMap, positions: Tensor, albedo: Tensor, reflectance: Tensor) -> dict[str, float]:
    """As ``bake_fields`` returns it; a texel on the edge between two faces is not shared."""
    names, values = ("albedo", "roughness", "metallic"), (albedo, reflectance[:, ROUGHNESS], reflectance[:, METALLIC])
    texel, group, count = torch.unique_consecutive(texels.texel, return_inverse=True, return_counts=True)
    if int(count.max()) == 1:
        return {"shared": 0.0, **dict.fromkeys(names, 0.0)}

    def deviation(rows: Tensor) -> Tensor:
        return (rows - mean_of_groups(rows, group, len(texel)).index_select(0, group)).square().mean(dim=1)

    apart = torch.zeros(len(texel), dtype=torch.bool, device=texel.device)
    apart[group[deviation(positions) > _ONE_POINT**2]] = True
    rows = apart.index_select(0, group)
    found = [float(deviation(v)[rows].mean().sqrt()) if bool(rows.any()) else 0.0 for v in values]
    covered = len(torch.unique_consecutive(texels.texel[texels.inside]))
    return {"shared": int(apart.sum()) / max(covered, 1), **dict(zip(names, found, strict=True))}


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _front(normals: Tensor) -> Tensor:
    """Unit tangent-space normals with z ≥ 0.05: none may point into the surface."""
    return _unit(torch.cat([normals[..., :2], normals[..., 2:].clamp(min=0.05)], dim=-1))


def _frame(mesh: Mesh, texels: TexelMap) -> tuple[Tensor, Tensor]:
    """Unit smooth normals ``[N, 3]`` and tangents ``[N, 4]`` at the texels."""
    normal = _unit(at_texels(texels, mesh.required("normals")))
    return normal, at_texels(texels, mesh.required("tangents"))
