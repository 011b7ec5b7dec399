"""Rays by Intel's Embree through ``embreex`` (x86 wheels; ``pip install 'stspbr[rays]'``)."""

from __future__ import annotations

import math

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene as _Scene
from torch import Tensor

from stspbr.render.rays.protocol import Hits


class EmbreeScene:
    """A ``RayScene``; Embree's own rule decides between hits at one distance."""

    def __init__(self, positions: Tensor, faces: Tensor) -> None:
        self._scene = _Scene(robust=True) if len(faces) else None
        if self._scene is not None:
            corners = positions.detach().float().numpy()[faces.detach().numpy()]
            TriangleMesh(self._scene, np.ascontiguousarray(corners))

    def closest(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Hits:
        count = len(origins)
        if self._scene is None or count == 0:
            return Hits(torch.full((count,), -1), torch.full((count,), math.inf), torch.zeros(count, 2))
        rays = [np.ascontiguousarray(rows.detach().float().numpy()) for rows in (origins, directions)]
        limits = np.full(count, min(limit, 1e37), np.float32)
        found = self._scene.run(*rays, dists=limits, query="INTERSECT", output=True)
        triangle = torch.from_numpy(found["primID"].astype(np.int64))
        hit = triangle >= 0
        barycentric = torch.from_numpy(np.stack([found["u"], found["v"]], axis=1))
        distance = torch.from_numpy(np.asarray(found["tfar"], np.float32))
        return Hits(triangle, torch.where(hit, distance, math.inf), torch.where(hit[:, None], barycentric, 0.0))

    def occluded(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Tensor:
        return self.closest(origins, directions, limit).found
