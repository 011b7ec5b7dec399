"""Smoothness of a mesh of fixed topology: umbrella Laplacian and a barrier against folds."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.geometry.normals import face_cross_products, normalize, vertex_normals
from stspbr.geometry.topology import half_edges


class UniformLaplacian(torch.nn.Module):
    """The uniform umbrella operator of a mesh: ``δ_i = x_i − mean of x over the neighbours of i``.

    Args:
        faces: ``[F, 3]`` integers.
        vertex_count: V. A vertex without neighbours has ``δ = 0``.
    """

    _vertex: torch.Tensor
    _neighbour: torch.Tensor
    _weight: torch.Tensor
    _used: torch.Tensor

    def __init__(self, faces: np.ndarray | torch.Tensor, vertex_count: int) -> None:
        super().__init__()
        faces = np.asarray(faces.detach().cpu() if isinstance(faces, torch.Tensor) else faces)
        start, end = half_edges(faces)
        keys = np.concatenate([start * vertex_count + end, end * vertex_count + start])
        keys = np.unique(keys[np.concatenate([start, end]) != np.concatenate([end, start])])
        vertex, neighbour = keys // vertex_count, keys % vertex_count
        degree = np.bincount(vertex, minlength=vertex_count)
        self.register_buffer("_vertex", torch.from_numpy(vertex), persistent=False)
        self.register_buffer("_neighbour", torch.from_numpy(neighbour), persistent=False)
        weight = (1.0 / np.maximum(degree, 1)).astype(np.float32)[:, None]
        self.register_buffer("_weight", torch.from_numpy(weight), persistent=False)
        self.register_buffer("_used", torch.from_numpy((degree > 0).astype(np.float32)[:, None]), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``[V, C]`` umbrella vectors of ``values [V, C]``."""
        neighbours = torch.index_select(values, 0, self._neighbour)
        mean = torch.zeros_like(values).index_add(0, self._vertex, neighbours) * self._weight.to(values.dtype)
        return values * self._used.to(values.dtype) - mean


def laplacian_loss(laplacian: UniformLaplacian, values: torch.Tensor) -> torch.Tensor:
    """Mean of the squared components of the umbrella vectors (scalar, units of ``values`` squared).

    *Relative*: give it the displacements, so that the shape one starts from costs nothing. *Absolute*: give it
    the positions, so that the mesh itself becomes smooth.
    """
    return laplacian(values).square().mean()


class FoldBarrier(torch.nn.Module):
    """Keeps the faces of a mesh of fixed topology from turning over.

    A face's *signed area* is its area seen along the smooth normal of the shape it began as. It costs nothing while
    it stays above ``keep`` of what it was, and in proportion to what is missing below: a sliver's cost is bounded,
    unlike that of the angle of its normal.

    Args:
        positions: ``[V, 3]``, faces: ``[F, 3]``: the mesh as it begins.
        keep: fraction of the signed area that is free.
    """

    _faces: torch.Tensor
    _normals: torch.Tensor
    _least: torch.Tensor
    _mean: torch.Tensor

    def __init__(self, positions: torch.Tensor, faces: torch.Tensor, keep: float = 0.2) -> None:
        super().__init__()
        smooth, index = vertex_normals(positions, faces), faces.long()
        a, b, c = (torch.index_select(smooth, 0, index[:, k]) for k in range(3))
        normals = normalize(a + b + c)
        areas = (face_cross_products(positions, faces) * normals).sum(dim=1).clamp_min(0.0)
        self.register_buffer("_faces", faces, persistent=False)
        self.register_buffer("_normals", normals, persistent=False)
        self.register_buffer("_least", keep * areas, persistent=False)
        self.register_buffer("_mean", areas.mean().clamp_min(1e-30), persistent=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Mean of what the faces' signed areas at ``positions [V, 3]`` lack, in mean areas; a scalar."""
        areas = (face_cross_products(positions, self._faces) * self._normals).sum(dim=1)
        return (self._least - areas).clamp_min(0.0).mean() / self._mean
