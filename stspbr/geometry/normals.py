"""Normals of a triangle mesh, differentiable and bit-reproducible."""

from __future__ import annotations

import torch

from stspbr.scene.mesh import Corners

_TINY = 1e-20  # below this squared length: no direction; backward takes its power −3/2, which must fit into float32


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """``[..., C]`` unit vectors; a vector without length stays zero and gets zero gradient, never NaN."""
    squared = (vectors * vectors).sum(dim=-1, keepdim=True)
    usable = squared > _TINY
    return vectors * torch.where(usable, torch.rsqrt(torch.where(usable, squared, 1.0)), 0.0)


def face_cross_products(positions: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """``[F, 3]`` normals of ``faces [F, 3]``, twice the area long, outward for counter-clockwise faces."""
    index = faces.long()
    a, b, c = (torch.index_select(positions, 0, index[:, k]) for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(
    positions: torch.Tensor, faces: torch.Tensor, split: Corners[torch.Tensor] | None = None
) -> torch.Tensor:
    """Area-weighted smooth normals.

    Args:
        positions: ``[V, 3]`` float32.
        faces: ``[F, 3]`` int32, counter-clockwise from outside.
        split: normals whose index the result has, so that it is split where they are; None: one per vertex.

    Returns:
        ``[V, 3]`` unit normals, or as many as ``split`` has; differentiable. One without faces, or whose faces cancel,
        is +Z.
    """
    crosses, index = face_cross_products(positions, faces), (faces if split is None else split.index).long()
    count = len(positions if split is None else split.values)
    total = torch.zeros(count, 3, dtype=positions.dtype, device=positions.device)
    for k in range(3):
        total = total.index_add(0, index[:, k], crosses)
    normals = normalize(total)
    missing = (normals.detach() == 0).all(dim=1, keepdim=True)
    up = torch.eye(3, dtype=positions.dtype, device=positions.device)[2]  # created there: a copy waits for the GPU
    return torch.where(missing, up, normals)
