"""What points of a surface see: which directions are open, and where the blocked ones end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.kernel_dispatch import usable
from stspbr.render.rays.backend import ray_scene
from stspbr.render.rays.protocol import Hits, RayScene
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
        bins: the directions, on the mesh's device.
        backend: of the rays; see ``ray_scene``.
    """
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
    cast = _cast if usable("auto", cosine, what="visibility") else _cast_twin
    parts = []
    for start in range(0, len(cosine), _CHUNK):
        some = slice(start, start + _CHUNK)
        point, way, hits, front = cast(
            points, some, ways, cosine[some], scene, offset, facing, 2 * longest, seen_weights[some]
        )  # fmt: skip
        kept = torch.nonzero(front).squeeze(1)
        parts.append((point[kept] + start, way[kept], hits.triangle[kept], hits.barycentric[kept]))
    point, way, triangle, barycentric = (torch.cat(values) for values in zip(*parts, strict=True))
    return VisibilityCache(
        points, bins, scene, offset, open_weights, seen_weights, (seen_weights != open_weights).any(1), point, way,
        open_weights[point, way] * bins.solid_angle[way], *points.corners(triangle, barycentric),
    )  # fmt: skip


_Found = tuple[Tensor, Tensor, Hits, Tensor]
"""Of each ray its point, its direction, its hit, and whether that is on the outside of a triangle."""


def _cast(
    points: CachePoints, some: slice, ways: Tensor, cosine: Tensor, scene: RayScene, offset: float, facing: Tensor,
    near: float, seen: Tensor,
) -> _Found:  # fmt: skip
    """Cast the rays of some points, and clear ``seen [P, B]`` where they are blocked.

    Args:
        cosine: ``[P, B]`` of the directions ``ways [B, 3]`` with the points' normals, 0 where no ray is cast.
        facing: ``[F, 3]`` unit normals of triangles; near: see ``point_kernels.judge_hits``.
    """
    from stspbr.transport.point_kernels import judge_hits, rise

    ends = (cosine > 0).sum(1).cumsum(0)
    count = int(ends[-1])
    point, way = torch.empty(2, count, dtype=torch.int64)
    origins, rays = torch.empty(2, count, 3)
    rise(
        *arrays(cosine, points.position[some], points.normal[some], ways), np.float32(offset),
        *arrays(ends, point, way, origins, rays),
    )  # fmt: skip
    hits = scene.closest(origins, rays)
    front = torch.empty(count, dtype=torch.bool)
    judge_hits(
        *arrays(hits.triangle, hits.distance, hits.barycentric, point, way, rays, cosine),
        *arrays(points.normal[some], facing), np.float32(near), _TANGENT, _ALIKE, points.normal.numpy(),
        *points.grid(), *arrays(seen, front),
    )  # fmt: skip
    return point, way, hits, front


def _cast_twin(
    points: CachePoints, some: slice, ways: Tensor, cosine: Tensor, scene: RayScene, offset: float, facing: Tensor,
    near: float, seen: Tensor,
) -> _Found:  # fmt: skip
    """``_cast`` in plain torch, for any device."""
    point, way = torch.nonzero(cosine > 0).unbind(1)
    normal = points.normal[some].index_select(0, point)
    origins, rays = points.position[some].index_select(0, point) + offset * normal, ways.index_select(0, way)
    hits = scene.closest(origins, rays)
    triangle = hits.triangle.clamp(min=0)
    outward = facing.index_select(0, triangle)
    corners, shares = points.corners(triangle, hits.barycentric)
    smooth = (points.normal.index_select(0, corners.reshape(-1)).view(-1, 3, 3) * shares[..., None]).sum(1)
    own = (cosine[point, way] < float(_TANGENT)) & (hits.distance < near) & ((smooth * rays).sum(1) > 0)
    own &= (outward * normal).sum(1) > float(_ALIKE)
    blocked = hits.found & ~own
    seen[point, way] = torch.where(blocked, 0.0, seen[point, way])
    return point, way, hits, blocked & ((outward * rays).sum(1) < 0)
