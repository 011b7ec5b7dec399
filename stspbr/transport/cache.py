"""What points of a surface see: which directions are open, and where the blocked ones end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.render.rays.backend import ray_scene
from stspbr.render.rays.protocol import RayScene
from stspbr.transport.bins import DirectionBins
from stspbr.transport.points import CachePoints, arrays, cache_points

LONGEST_EDGE = 0.02  # of the diagonal
OFFSET = 1e-4  # of the diagonal, along the normal, so that a ray leaves its own surface
_TANGENT, _ALIKE = (
    np.float32(0.25),
    np.float32(0.9),
)  # cosines: of a ray with its normal, and of that with the normal where it ends
_CHUNK = 4096  # points whose rays are cast at a time


@dataclass
class VisibilityCache:
    """Visibility of a mesh from its own points; all in object space, without gradients.

    Attributes:
        points: the P points; bins: the B directions that were tried.
        scene: the mesh for further rays; offset: how far a ray's origin is moved off the surface.
        open_weights: ``[P, B]`` clamped cosine of each direction with the normal, over π.
        seen_weights: ``[P, B]`` the same where the direction is open, else 0.
        enclosed: ``[P]`` bool, whether any direction above the horizon is blocked.
        hit_point: ``[M]`` int64, the point of each blocked direction that ends on the front of a triangle;
            hit_direction: ``[M]`` int64 into the directions; hit_weight: ``[M]`` its cosine weight times the
            solid angle of its cell.
        hit_corners: ``[M, 3]`` int64, points about the hit, and hit_shares: ``[M, 3]`` their weights.
    """

    points: CachePoints
    bins: DirectionBins
    scene: RayScene
    offset: float
    open_weights: Tensor
    seen_weights: Tensor
    enclosed: Tensor
    hit_point: Tensor
    hit_direction: Tensor
    hit_weight: Tensor
    hit_corners: Tensor
    hit_shares: Tensor

    def occlusion(self) -> Tensor:
        """``[P]``: the cosine-weighted share of directions that are open, glTF's occlusion (1 = open)."""
        angle = self.bins.solid_angle
        return (self.seen_weights @ angle) / (self.open_weights @ angle).clamp(min=1e-12)


@torch.no_grad()
def visibility(
    positions: Tensor, faces: Tensor, normals: Tensor, normal_faces: Tensor, bins: DirectionBins, backend: str = "auto"
) -> VisibilityCache:
    """Cast a ray from each point of a mesh in every direction above its horizon.

    Args:
        positions: ``[V, 3]`` object space; faces: ``[F, 3]``, counter-clockwise from outside.
        normals: ``[N, 3]`` unit; normal_faces: ``[F, 3]``.
        bins: the directions.
        backend: of the rays; see ``ray_scene``.

    Raises:
        StspbrError: the mesh is not on the CPU.
    """
    from stspbr.transport.point_kernels import judge_hits, rise

    if positions.device.type != "cpu":
        raise StspbrError(f"transport on {positions.device} is not supported: use --device cpu, or transport.mode=off")
    diagonal = float((positions.amax(0) - positions.amin(0)).norm())
    longest = LONGEST_EDGE * diagonal
    points = cache_points(positions, faces, normals, normal_faces, longest)
    scene, offset = ray_scene(positions, faces, backend), OFFSET * diagonal
    ways = bins.directions
    cosine = (points.normal @ ways.T).clamp(min=0.0)
    open_weights = cosine / math.pi
    seen_weights = open_weights.clone()
    corners = positions[faces.long()].float()
    sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    facing = torch.nn.functional.normalize(torch.linalg.cross(*sides), dim=1)
    parts = []
    for start in range(0, len(cosine), _CHUNK):
        some = slice(start, start + _CHUNK)
        ends = (cosine[some] > 0).sum(1).cumsum(0)
        count = int(ends[-1])
        point, way = torch.empty(2, count, dtype=torch.int64)
        origins, rays = torch.empty(2, count, 3)
        rise(
            *arrays(cosine[some], points.position[some], points.normal[some], ways), np.float32(offset),
            *arrays(ends, point, way, origins, rays),
        )  # fmt: skip
        hits = scene.closest(origins, rays)
        front = torch.empty(count, dtype=torch.bool)
        judge_hits(
            *arrays(hits.triangle, hits.distance, hits.barycentric, point, way, rays, cosine[some]),
            *arrays(points.normal[some], facing), np.float32(2 * longest), _TANGENT, _ALIKE, points.normal.numpy(),
            *points.grid(), *arrays(seen_weights[some], front),
        )  # fmt: skip
        kept = torch.nonzero(front).squeeze(1)
        parts.append((point[kept] + start, way[kept], hits.triangle[kept], hits.barycentric[kept]))
    point, way, triangle, barycentric = (torch.cat(values) for values in zip(*parts, strict=True))
    return VisibilityCache(
        points, bins, scene, offset, open_weights, seen_weights, (seen_weights != open_weights).any(1), point, way,
        open_weights[point, way] * bins.solid_angle[way], *points.corners(triangle, barycentric),
    )  # fmt: skip
