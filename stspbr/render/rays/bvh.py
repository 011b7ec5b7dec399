"""The embedded ray backend: our own bounding volume hierarchy on the CPU."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stspbr.render.rays import bvh_kernels as kernels
from stspbr.render.rays.protocol import Hits


class BvhScene:
    """A ``RayScene`` by Numba kernels; deterministic: of hits at one distance the lower triangle counts."""

    def __init__(self, positions: Tensor, faces: Tensor) -> None:
        triangles = positions.detach().float().numpy()[faces.detach().numpy().reshape(-1, 3)]
        if len(triangles) == 0:
            triangles = np.zeros((1, 3, 3), np.float32)  # without an area, so that nothing hits it
        low, high = (np.ascontiguousarray(edge(triangles, axis=1)) for edge in (np.min, np.max))
        count = len(triangles)
        order = np.arange(count)
        node_low, node_high = np.empty((2, 2 * count + 1, 3), np.float32)
        left, first, held = np.zeros((3, 2 * count + 1), np.int64)
        size = kernels.build_binary(low, high, order, node_low, node_high, left, first, held)
        boxes, children = np.empty((size, 2, 3, 4), np.float32), np.empty((size, 4), np.int32)
        size = kernels.merge_levels(node_low, node_high, left, first, held, boxes, children)
        sides = [triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]]
        corners = np.ascontiguousarray(np.concatenate(sides, axis=1)[order])
        self._arrays = boxes[:size].copy(), children[:size].copy(), corners, order

    def closest(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Hits:
        count = len(origins)
        hits = Hits(torch.empty(count, dtype=torch.int64), torch.empty(count), torch.empty(count, 2))
        out = hits.triangle.numpy(), hits.distance.numpy(), hits.barycentric.numpy()
        kernels.closest(*_rays(origins, directions), np.float32(limit), *self._arrays, *out)
        return hits

    def occluded(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Tensor:
        out = torch.empty(len(origins), dtype=torch.bool)
        kernels.occluded(*_rays(origins, directions), np.float32(limit), *self._arrays, out.numpy())
        return out


def _rays(origins: Tensor, directions: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return origins.detach().float().contiguous().numpy(), directions.detach().float().contiguous().numpy()
