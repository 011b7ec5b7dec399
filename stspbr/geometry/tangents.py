"""Tangent frames: how they are computed, and the one rule for shading with them.

glTF 2.0, §3.7.2.1: ``bitangent = cross(normal, tangent.xyz) · tangent.w``; the tangent runs along increasing u
and the bitangent *up* in the image, along decreasing v (glTF's v points down, normal maps are +Y up). Frames
after Mikkelsen 2008 (MikkTSpace): per vertex; the interpolated normal and tangent are used unchanged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from stspbr.geometry.normals import normalize
from stspbr.geometry.tangent_groups import group_corners
from stspbr.scene import Corners, Mesh
from stspbr.scene.attributes import mesh_normals

_SINGULAR = 1e-6  # a frame whose three axes span less volume than this counts as none


def compute_tangents(
    positions: np.ndarray, faces: np.ndarray, uvs: Corners[np.ndarray], normals: Corners[np.ndarray]
) -> Corners[np.ndarray]:
    """Tangents as MikkTSpace computes them (Mikkelsen 2008), so that maps baked by one tool shade alike in another.

    Corners count as one vertex if position, UV and normal have equal values, however they are indexed. Around a
    vertex, faces joined by an edge add up unless their images are mirrored against each other. Each adds its
    direction of increasing u, projected into the tangent plane and normalised, weighted by the corner's angle in
    that plane.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``.
        uvs: ``[T, 2]`` glTF convention.
        normals: ``[N, 3]`` unit.

    Returns:
        ``[M, 4]`` float32: unit, perpendicular to the normal; w = ±1. All corners of a face have the same w. A face
        without area in UV space adds nothing and joins a neighbour; a corner of such faces only gets any
        perpendicular.
    """
    points = np.asarray(positions, dtype=np.float64)[faces]
    coords = np.asarray(uvs.values, dtype=np.float64)[uvs.index]
    corner_normals = np.asarray(normals.values, dtype=np.float64)[normals.index]
    vertex = np.stack([_by_value(points), _by_value(coords), _by_value(corner_normals)], axis=-1).reshape(-1, 3)
    vertex = np.unique(vertex, axis=0, return_inverse=True)[1].reshape(-1, 3)
    direction, area = _face_tangents(points, coords)
    group, handedness = group_corners(vertex, area)

    along = _unit(_laid(direction[:, None, :], corner_normals))
    weighted = along * _corner_angles(points, corner_normals)[..., None]
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    total = np.stack([np.bincount(group, weights=weighted[..., k].reshape(-1)) for k in range(3)], axis=1)
    normal = corner_normals.reshape(-1, 3)[first]
    tangent = _unit(_laid(total, normal))
    lost = ~tangent.any(axis=1)
    tangent[lost] = _any_perpendicular(normal[lost])
    tangents = np.concatenate([tangent, handedness[first // 3, None]], axis=1).astype(np.float32)
    return Corners(tangents, group.reshape(-1, 3).astype(np.int32))


def with_frames(mesh: Mesh) -> Mesh:
    """``mesh`` (with UVs) with what a normal map needs: smooth normals and tangents are computed if missing.

    A corner whose tangent is a row of zeros has none.
    """
    own = mesh.tangents if mesh.normals is not None else None
    if own is not None:
        absent = ~np.any(own.values, axis=1, keepdims=True)[own.index, 0]
        if not absent.any():
            return mesh
    normals = mesh_normals(mesh)
    tangents = compute_tangents(mesh.positions, mesh.faces, mesh.required("uvs"), normals)
    if own is not None:
        index = np.where(absent, tangents.index + len(own.values), own.index).astype(np.int32)
        tangents = Corners(np.concatenate([own.values, tangents.values]), index)
    return replace(mesh, normals=normals, tangents=tangents)


def shading_normals(n: torch.Tensor, t: torch.Tensor, normal_map: torch.Tensor) -> torch.Tensor:
    """Shading normals from a tangent-space normal map and interpolated frames: the one rule of this package.

    ``normalize(x·t + y·w·cross(n, t) + z·n)`` with n normalised first and t as interpolated, neither normalised nor
    made perpendicular again, as MikkTSpace's bakers assume.

    Args:
        n: ``[N, 3]`` interpolated normals, of any length.
        t: ``[N, 4]`` interpolated tangents with handedness.
        normal_map: ``[N, 3]`` tangent-space normals (x, y, z), +Y up, of any length.

    Returns:
        ``[N, 3]`` unit normals in the space of ``n``; differentiable in all three.
    """
    n = normalize(n)
    tangent, bitangent = _frame(n, t)
    x, y, z = normal_map.split(1, dim=-1)
    return normalize(x * tangent + y * bitangent + z * n)


def to_tangent_space(n: torch.Tensor, t: torch.Tensor, object_normals: torch.Tensor) -> torch.Tensor:
    """Tangent-space normals that ``shading_normals`` turns back into ``object_normals``: its exact inverse.

    Solves the frame's 3×3 system at each point. A frame without volume (no tangent, or one along the normal) gives
    (0, 0, 1).

    Args:
        n: ``[N, 3]``, t: ``[N, 4]``: as for ``shading_normals``; object_normals: ``[N, 3]``.

    Returns:
        ``[N, 3]`` unit vectors; z is negative if the normal is below the interpolated one's horizon.
    """
    n = normalize(n)
    tangent, bitangent = _frame(n, t)
    normal_to = [torch.linalg.cross(*pair) for pair in ((bitangent, n), (n, tangent), (tangent, bitangent))]
    volume = (tangent * normal_to[0]).sum(dim=-1, keepdim=True)
    # the volume's sign matters; its size would change the length only
    rows = [(across * object_normals).sum(dim=-1, keepdim=True) for across in normal_to]
    solved = normalize(torch.cat(rows, dim=-1) * torch.sign(volume))
    flat = torch.tensor([0.0, 0.0, 1.0], dtype=n.dtype, device=n.device)
    return torch.where(volume.abs() > _SINGULAR, solved, flat)


def _frame(n: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    tangent = t[..., :3]
    return tangent, t[..., 3:4] * torch.linalg.cross(n, tangent)


def _face_tangents(points: np.ndarray, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit direction of increasing u ``[F, 3]`` (zero if there is none) and twice the area in UV space ``[F]``."""
    edge1, edge2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    du, dv = (np.stack([coords[:, k, c] - coords[:, 0, c] for k in (1, 2)], axis=1) for c in (0, 1))
    area = du[:, 0] * dv[:, 1] - dv[:, 0] * du[:, 1]
    return _unit((edge1 * dv[:, 1:2] - edge2 * dv[:, 0:1]) * np.sign(area)[:, None]), area


def _corner_angles(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """``[F, 3]`` radians between a corner's edges, projected into the plane of its normal."""
    forward = _unit(_laid(np.roll(points, -1, axis=1) - points, normals))
    backward = _unit(_laid(np.roll(points, 1, axis=1) - points, normals))
    return np.arccos(np.clip((forward * backward).sum(axis=-1), -1.0, 1.0))


def _laid(vectors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """``vectors`` without their part along unit ``normals``."""
    return vectors - normals * (vectors * normals).sum(axis=-1, keepdims=True)


def _by_value(corners: np.ndarray) -> np.ndarray:
    """``[F, 3]`` numbers of the distinct values among ``corners [F, 3, C]``."""
    flat = corners.reshape(-1, corners.shape[-1])
    return np.unique(flat, axis=0, return_inverse=True)[1].reshape(-1, 3)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors along the last axis; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-30, vectors / np.maximum(length, 1e-30), 0.0)


def _any_perpendicular(normals: np.ndarray) -> np.ndarray:
    axis = np.eye(3)[np.argmin(np.abs(normals), axis=1)]
    return _unit(axis - normals * (normals * axis).sum(axis=1, keepdims=True))
