"""What points of a surface see: which directions are open, and where the blocked ones end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.render.rays.backend import ray_scene
from stspbr.render.rays.protocol import RayScene
from stspbr.transport.bins import DirectionBins
from stspbr.transport.points import CachePoints, cache_points

LONGEST_EDGE = 0.02  # of the diagonal
OFFSET = 1e-4  # of the diagonal, along the normal, so that a ray leaves its own surface
_TANGENT, _ALIKE = 0.25, 0.9  # cosines: of a ray with its normal, and of that with the normal where it ends
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
    """
    diagonal = float((positions.amax(0) - positions.amin(0)).norm())
    longest = LONGEST_EDGE * diagonal
    points = cache_points(positions, faces, normals, normal_faces, longest)
    scene, offset = ray_scene(positions, faces, backend), OFFSET * diagonal
    ways = bins.directions
    cosine = (points.normal @ ways.T).clamp(min=0.0)
    open_weights = cosine / math.pi
    corners = positions[faces.long()]
    sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    face_normals = torch.nn.functional.normalize(torch.linalg.cross(*sides), dim=1)
    blocked, parts = torch.zeros_like(open_weights, dtype=torch.bool), []
    for start in range(0, len(cosine), _CHUNK):
        point, way = torch.nonzero(cosine[start : start + _CHUNK] > 0).unbind(1)
        point = point + start
        origin = (points.position + offset * points.normal).index_select(0, point)
        rays = ways.index_select(0, way)
        hits = scene.closest(origin, rays)
        facing = face_normals.index_select(0, hits.triangle.clamp(min=0))
        # a smooth convex surface of flat triangles does not shade itself along its own tangents
        tangent = (cosine[point, way] < _TANGENT) & (hits.distance < 2 * longest)
        tangent &= (facing * points.normal.index_select(0, point)).sum(1) > _ALIKE
        near = torch.nonzero(tangent).squeeze(1)
        corners_of, shares = points.corners(hits.triangle[near], hits.barycentric[near])
        smooth = (points.normal[corners_of] * shares[..., None]).sum(1)
        tangent[near] = (smooth * rays[near]).sum(1) > 0  # in a hollow it would face the ray
        found = torch.nonzero(hits.found & ~tangent).squeeze(1)
        point, way, triangle, facing = point[found], way[found], hits.triangle[found], facing[found]
        blocked[point, way] = True
        front = (facing * ways.index_select(0, way)).sum(1) < 0
        parts.append((point[front], way[front], triangle[front], hits.barycentric[found][front]))
    point, way, triangle, barycentric = (torch.cat(values) for values in zip(*parts, strict=True))
    return VisibilityCache(
        points, bins, scene, offset, open_weights, torch.where(blocked, 0.0, open_weights), blocked.any(1),
        point, way, open_weights[point, way] * bins.solid_angle[way], *points.corners(triangle, barycentric),
    )  # fmt: skip
