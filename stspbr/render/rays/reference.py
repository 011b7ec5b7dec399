"""The meaning of a ray backend, slow and obvious: every ray against every triangle, in double precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stspbr.render.rays.protocol import Hits

_PAIRS = 4_000_000  # rays × triangles at a time


class BruteForceScene:
    """A ``RayScene`` by the Möller–Trumbore test (1997) of all pairs; for tests."""

    def __init__(self, positions: Tensor, faces: Tensor) -> None:
        corners = positions.detach().double()[faces.long()]
        self._origin = corners[:, 0]
        self._sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]

    def closest(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Hits:
        if len(self._origin) == 0 or len(origins) == 0:
            count = len(origins)
            miss = torch.full((count,), -1, dtype=torch.int64)
            return Hits(miss, torch.full((count,), math.inf), torch.zeros(count, 2))
        rows = max(1, _PAIRS // len(self._origin))
        parts = [
            self._some(o, d, limit)
            for o, d in zip(origins.double().split(rows), directions.double().split(rows), strict=True)
        ]
        return Hits(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def occluded(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Tensor:
        return self.closest(origins, directions, limit).found

    def _some(self, origins: Tensor, directions: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
        one, other = self._sides
        d = directions[:, None]
        p = torch.linalg.cross(d, other[None])
        det = (one * p).sum(-1)
        inverse = torch.where(det == 0, math.nan, 1.0 / det)
        start = origins[:, None] - self._origin
        u = (start * p).sum(-1) * inverse
        q = torch.linalg.cross(start, one[None])
        v = (d * q).sum(-1) * inverse
        t = (other * q).sum(-1) * inverse
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t <= limit)
        distance, triangle = torch.where(inside, t, math.inf).min(dim=1)
        found = torch.isfinite(distance)
        row = torch.arange(len(origins))
        barycentric = torch.stack([u[row, triangle], v[row, triangle]], dim=1)
        barycentric = torch.where(found[:, None], barycentric, 0.0)
        return torch.where(found, triangle, -1), distance.float(), barycentric.float()
