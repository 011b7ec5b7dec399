"""From where one more photograph would tell most: the expected drop of the maps' variance, direction by direction.

For points of the surface the light that they would send towards each direction is known, and so is how it depends on
their material: the information that a photograph would add follows without the photograph. The directions are chosen
one after the other, each given those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.confidence import Evidence, jacobian_of
from stspbr.optimize.losses import tonemap_slope
from stspbr.optimize.observations import Observations
from stspbr.optimize.posterior import CHANNELS, PRIOR_STD, variances
from stspbr.render.gbuffer import surface_points
from stspbr.render.rays.backend import ray_scene
from stspbr.render.shading_error import expected_error
from stspbr.scene.directions import sphere_directions
from stspbr.texture.atlas import TexelMap

if TYPE_CHECKING:
    from stspbr.optimize.appearance import TextureAppearance
    from stspbr.optimize.reconstruction import Reconstruction

DIRECTIONS = 200
POINTS = 1500
_GRAZING = 0.15  # N·V below which a photograph says little
_OFF = 1e-3  # of a ray's start from the surface, in the box [−1, 1]³


@dataclass(frozen=True)
class Photo:
    """A photograph to take.

    Attributes:
        direction: ``[3]`` unit, from the object towards the camera, object space.
        drop: by how much it lowers the mean variance of the channels, as a fraction of the prior's variance.
        left: that mean variance afterwards.
    """

    direction: np.ndarray
    drop: float
    left: float


@dataclass
class Sites:
    """P points of the surface at texels.

    Attributes:
        seen: as observations, whose ``to_eye`` and ``view`` do not matter; material: ``[P, 5]``.
        outward: ``[P, 3]`` unit normals of the triangles.
        area: ``[P]`` under the texel of each, in the box's units; share: ``[P]`` of the surface that each stands for.
        information: ``[P, 12]``.
    """

    seen: Observations
    material: Tensor
    outward: Tensor
    area: Tensor
    share: Tensor
    information: Tensor


def texel_areas(problem: Reconstruction, texels: TexelMap) -> Tensor:
    """``[N]``: the surface's area under each texel, in the problem's units."""
    surface = problem.geometry.surface()
    face = texels.triangle.long()

    def area(corners: Tensor) -> Tensor:
        one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        if corners.shape[2] == 2:
            return (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).abs()
        return torch.linalg.cross(one, two).norm(dim=1)

    assert surface.uvs is not None
    solid = area(surface.positions.detach()[surface.faces.long()[face]])
    flat = area(surface.uvs.values[surface.uvs.index.long()[face]]) * texels.resolution[0] * texels.resolution[1]
    return torch.where(flat > 1e-12, solid / flat.clamp(min=1e-12), torch.zeros_like(solid))


@torch.no_grad()
def sites(
    problem: Reconstruction,
    evidence: Evidence,
    information: Sequence[Tensor],
    texels: Sequence[TexelMap | None],
    chosen: Sequence[Tensor] | None = None,
    count: int = POINTS,
) -> Sites:
    """At most ``count`` points, spread over the surface by area.

    Args:
        information: ``[H, W, 12]`` per material; texels: of the same sizes.
        chosen: ``[H, W]`` bool per material, the only texels to take; None: all.
    """
    appearance: TextureAppearance = problem.appearance  # type: ignore[assignment]
    surface, found = problem.geometry.surface(), []
    bends = _mean_bends(evidence, information)
    for number, (own, packed, bend) in enumerate(zip(texels, information, bends, strict=True)):
        if own is None:
            continue
        keep = slice(None) if chosen is None else chosen[number].reshape(-1)[own.texel]
        area = texel_areas(problem, own)
        columns = (own.triangle.long(), own.barycentric, area, packed.reshape(-1, 12)[own.texel])
        found.append([column[keep] for column in (*columns, bend.reshape(-1, 1)[own.texel])])
    triangle, barycentric, area, packed, bend = (torch.cat(list(own)) for own in zip(*found, strict=True))
    steps = area.cumsum(0)
    if len(area) > count:  # systematic by area: the same points every time
        wanted = (torch.arange(count, device=area.device) + 0.5) * (steps[-1] / count)
        index = torch.searchsorted(steps, wanted).clamp(max=len(area) - 1)
        share = torch.full((count,), 1.0 / count, device=area.device)
    else:
        index = torch.arange(len(area), device=area.device)
        share = area / steps[-1].clamp(min=1e-20)
    gbuffer = surface_points(surface, triangle[index], barycentric[index][:, 1:], problem.backend)
    gbuffer.uv_da = torch.zeros_like(gbuffer.uv_da)  # type: ignore[arg-type]
    values = appearance.evaluate(gbuffer, 1.0)
    corners = surface.positions[surface.faces.long()[triangle[index]]]
    outward = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    transport = None if problem.transport is None else problem.transport.transport
    view = torch.zeros_like(index)
    seen = Observations(
        gbuffer.position, values.normal, values.normal, view, problem.views.cameras.object_rotation[:1],
        torch.zeros_like(values.albedo), values.occlusion,
        None if transport is None else transport.places(surface, gbuffer), bend[index],
    )  # fmt: skip
    material = torch.cat([values.albedo, values.roughness, values.metallic], dim=1)
    return Sites(
        seen, material, torch.nn.functional.normalize(outward, dim=1), area[index], share, packed[index].double()
    )


@torch.no_grad()
def next_photos(
    problem: Reconstruction,
    evidence: Evidence,
    points: Sites,
    channels: Sequence[str] = tuple(CHANNELS),
    count: int = 5,
    rays: str = "auto",
) -> list[Photo]:
    """The ``count`` photographs that together would lower the variance of ``channels`` most, the best first.

    They are taken for photographs like those that there are: from the median distance, with the first camera's pixels
    and the median noise, under the same light, with the object posed as in the first view.
    """
    directions, added, seen_by = _added(problem, evidence, points, rays)
    weights = points.information.new_zeros(5)
    for name in channels:
        own = list(CHANNELS[name])
        weights[own] = points.information.new_tensor([PRIOR_STD[k] for k in own]).pow(-2) / (len(own) * len(channels))
    share = points.share.double()

    def spread(information: Tensor) -> Tensor:
        return variances(information) @ weights

    information, out = points.information, []
    free = torch.ones(len(directions), dtype=torch.bool, device=share.device)
    floor = None if problem.transport is None else problem.transport.transport.ground
    if floor is not None:  # nobody stands under the floor
        up = problem.views.cameras.object_rotation[0].T @ directions.new_tensor([0.0, 1.0, 0.0])
        free &= directions @ up > 0
    for _ in range(count):
        before = spread(information)
        after = spread(information[seen_by[0]] + added)
        drop = share.new_zeros(len(directions))
        drop.index_add_(0, seen_by[1], share[seen_by[0]] * (before[seen_by[0]] - after))
        best = int(torch.where(free, drop, -1.0).argmax())
        rows = seen_by[1] == best
        information = information.index_add(0, seen_by[0][rows], added[rows])
        left = float((share * spread(information)).sum())
        out.append(Photo(directions[best].cpu().numpy().astype(np.float64), float(drop[best]), left))
        free[best] = False
    return out


def _added(
    problem: Reconstruction, evidence: Evidence, points: Sites, rays: str
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Directions ``[D, 3]``; the information ``[K, 12]`` of the K pairs of a point and a direction from which it is
    seen; and the pairs' points and directions ``[K]`` int64."""
    views, seen = problem.views, points.seen
    directions = torch.as_tensor(sphere_directions(DIRECTIONS), dtype=torch.float32, device=seen.normal.device)
    centre = 0.5 * (seen.position.amin(0) + seen.position.amax(0))
    distance = (views.cameras.eye - centre).norm(dim=1).median()
    to_eye = centre + distance * directions[None] - seen.position[:, None]
    depth = to_eye.norm(dim=2, keepdim=True)
    to_eye = to_eye / depth
    front = ((to_eye * seen.normal[:, None]).sum(2) > _GRAZING) & ((to_eye * points.outward[:, None]).sum(2) > 0)
    point, direction = torch.nonzero(front).unbind(1)
    surface = problem.geometry.surface()
    start = seen.position[point] + _OFF * points.outward[point]
    scene = ray_scene(surface.positions.detach().cpu(), surface.faces.cpu(), rays)
    open_ = ~scene.occluded(start.cpu().contiguous(), to_eye[point, direction].cpu().contiguous()).to(start.device)
    point, direction = point[open_], direction[open_]
    looks = seen.at(point)
    looks.to_eye = to_eye[point, direction]
    transport = None if problem.transport is None else problem.transport.transport
    light = problem.light.prefiltered()
    jacobian, value = jacobian_of(looks, points.material[point], light, problem.backend.texture, transport)
    camera = views.camera(0)
    facing = (looks.normal * looks.to_eye).sum(1, keepdim=True)
    cosine = (points.outward[point] * looks.to_eye).sum(1, keepdim=True)
    pixels = points.area[point, None] * cosine * camera.fx * camera.fy / depth[point, direction].square()
    shading = expected_error(points.material[point, 3:4], facing) * (tonemap_slope(value) * value).mean(1, keepdim=True)
    variance = evidence.noise.median().square() + shading.square()
    return directions, jacobian.information(pixels / variance).double(), (point, direction)


def _mean_bends(evidence: Evidence, information: Sequence[Tensor]) -> list[Tensor]:
    """``[H, W, 1]`` per material: by how much normals turn within the pixels that show a texel; the usual if unseen."""
    own = evidence.seen.bend
    bend = torch.zeros_like(evidence.weight) if own is None else own
    sides = [(packed.shape[0], packed.shape[1]) for packed in information]
    values = torch.cat([torch.ones_like(bend), bend], dim=1)
    found = evidence.reads.collected(values, sides)
    return [torch.where(v[..., :1] > 0, v[..., 1:] / v[..., :1].clamp(min=1e-12), bend.median()) for v in found]
