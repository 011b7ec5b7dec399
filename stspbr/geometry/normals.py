"""Normals of a triangle mesh, differentiable and the same bits every time."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.scene import Corners, Mesh

_TINY = 1e-20  # squared length without a direction; its power −3/2, which backward takes, must fit into float32


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """``[..., C]`` unit vectors; a vector without length stays zero and gets zero gradient, never NaN."""
    squared = (vectors * vectors).sum(dim=-1, keepdim=True)
    usable = squared > _TINY
    return vectors * torch.where(usable, torch.rsqrt(torch.where(usable, squared, 1.0)), 0.0)


def face_cross_products(positions: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """``[F, 3]`` normals of ``faces [F, 3]`` with twice their area as length, outward for counter-clockwise faces."""
    index = faces.long()
    a, b, c = (torch.index_select(positions, 0, index[:, k]) for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(positions: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Area-weighted smooth normals.

    Args:
        positions: ``[V, 3]`` float32.
        faces: ``[F, 3]`` int32, counter-clockwise from outside.

    Returns:
        ``[V, 3]`` unit normals, differentiable. A vertex whose faces cancel or that has none gets +Z, so that
        every normal is a direction.
    """
    crosses, index = face_cross_products(positions, faces), faces.long()
    total = torch.zeros_like(positions)
    for k in range(3):
        total = total.index_add(0, index[:, k], crosses)
    normals = normalize(total)
    missing = (normals.detach() == 0).all(dim=1, keepdim=True)
    up = torch.eye(3, dtype=positions.dtype, device=positions.device)[2]  # made there: a copy would wait for the GPU
    return torch.where(missing, up, normals)


def mesh_normals(mesh: Mesh) -> Corners[np.ndarray]:
    """The mesh's own normals, or ``vertex_normals`` if it has none."""
    if mesh.normals is not None:
        return mesh.normals
    smooth = vertex_normals(torch.as_tensor(mesh.positions), torch.as_tensor(mesh.faces))
    return Corners(smooth.numpy(), mesh.faces)
