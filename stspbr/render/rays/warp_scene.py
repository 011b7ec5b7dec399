"""Rays by NVIDIA Warp: a ``wp.Mesh`` on the device of its positions, CUDA or the CPU.

Warp's test of a triangle is watertight (Woop et al. 2013), but its test of a box has no slack: of rays at the very
vertices of a closed ball about one in 250 slips through, of rays at its edges none. It takes hits in [0, limit); ours
lie in (0, limit], so a ray starts a little later: it does not hit the surface that it starts on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from stspbr.render.rays.protocol import Hits
from stspbr.warp_runtime import launch, on_torch_stream, warp_function, warp_kernel

_MISS = wp.constant(math.inf)
_STEP = wp.constant(2.0**-22)  # of the origin's largest coordinate: two to four units in its last place
_LEAST = wp.constant(1e-30)


class WarpScene:
    """A ``RayScene`` in single precision; rays and hits are on its device.

    Of hits at one distance the hierarchy decides, which is the same in every run on one kind of device.
    """

    def __init__(self, positions: Tensor, faces: Tensor) -> None:
        self._device = positions.device
        points, corners = positions.detach().to(torch.float32, copy=True).contiguous(), faces.detach().to(self._device)
        if len(corners) == 0:
            points, corners = points.new_zeros(1, 3), corners.new_zeros(1, 3)  # no area: nothing hits it
        self._kept = points, corners.reshape(-1).to(torch.int32, copy=True)  # a mesh does not own its arrays
        with on_torch_stream(self._device):
            self._mesh = wp.Mesh(wp.from_torch(points, dtype=wp.vec3), wp.from_torch(self._kept[1]))

    def closest(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Hits:
        triangle = torch.empty(len(origins), dtype=torch.int64, device=self._device)
        distance, barycentric = origins.new_empty(len(origins)), origins.new_empty(len(origins), 2)
        launch(_closest, len(origins), *self._rays(origins, directions, limit), triangle, distance, barycentric)
        return Hits(triangle, distance, barycentric)

    def occluded(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Tensor:
        out = torch.empty(len(origins), dtype=torch.bool, device=self._device)
        launch(_occluded, len(origins), *self._rays(origins, directions, limit), out)
        return out

    def _rays(self, origins: Tensor, directions: Tensor, limit: float) -> tuple[Any, ...]:
        beyond = np.nextafter(np.float32(limit), np.float32(np.inf))
        return self._mesh.id, origins.detach().contiguous(), directions.detach().contiguous(), float(beyond)


@warp_function
def _late(origin: wp.vec3, direction: wp.vec3):
    """How much later than at 0 a ray starts, in units of its direction's length."""
    return wp.max(_STEP * wp.max(wp.abs(origin)), _LEAST) / wp.max(wp.max(wp.abs(direction)), _LEAST)


@warp_kernel
def _closest(
    mesh: wp.uint64,
    origins: wp.array[wp.vec3],
    directions: wp.array[wp.vec3],
    beyond: float,
    triangle: wp.array[wp.int64],
    distance: wp.array[wp.float32],
    barycentric: wp.array[wp.vec2],
):
    """First hits nearer than ``beyond``."""
    r = wp.tid()
    late = _late(origins[r], directions[r])
    hit = wp.mesh_query_ray(mesh, origins[r] + late * directions[r], directions[r], beyond - late)
    if hit.result:
        triangle[r] = wp.int64(hit.face)
        distance[r] = late + hit.t
        barycentric[r] = wp.vec2(hit.v, 1.0 - hit.u - hit.v)
    else:
        triangle[r] = wp.int64(-1)
        distance[r] = _MISS
        barycentric[r] = wp.vec2(0.0, 0.0)


@warp_kernel
def _occluded(
    mesh: wp.uint64,
    origins: wp.array[wp.vec3],
    directions: wp.array[wp.vec3],
    beyond: float,
    out: wp.array[wp.bool],
):
    """Whether anything nearer than ``beyond`` is hit."""
    r = wp.tid()
    late = _late(origins[r], directions[r])
    out[r] = wp.mesh_query_ray_anyhit(mesh, origins[r] + late * directions[r], directions[r], beyond - late)
