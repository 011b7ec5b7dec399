"""The pyramid of means over a cube map's faces: its cells, their directions and their solid angles."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

ROOT = 4
"""Face size of the coarsest level."""


def cells_of(fine: int) -> np.ndarray:
    """First cell of each level of a pyramid over ``[6, fine, fine]``, and at the end the number of cells; int64."""
    sizes = [6 * n * n for n in level_sizes(fine)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def pyramid(base: Tensor) -> Tensor:
    """Cells ``[count, C]`` of a base ``[6, N, N, C]`` and its means over 2×2, weighted by solid angle, finest first.

    Without these weights, a lamp near a corner of the cube would be wrong by a third.
    """
    size, channels = base.shape[1], base.shape[3]
    levels = [base]
    area = _solid_angles_on(size, base.device, base.dtype)
    flux = base * area[..., None]
    while size > ROOT:
        size //= 2
        area = area.view(size, 2, size, 2).sum((1, 3))
        flux = flux.view(6, size, 2, size, 2, channels).sum((2, 4))
        levels.append(flux / area[..., None])
    return torch.cat([level.reshape(-1, channels) for level in levels])


def cell_areas(fine: int) -> Tensor:
    """Solid angles ``[count]`` of the cells of a pyramid, float64."""
    return torch.cat([solid_angles(n).reshape(-1).repeat(6) for n in level_sizes(fine)])


def solid_angles(size: int) -> Tensor:
    """Exact solid angles ``[size, size]`` of the texels of a cube's face, float64."""
    edge = torch.linspace(-1, 1, size + 1, dtype=torch.float64)
    s, t = edge[None], edge[:, None]
    corner = torch.atan2(s * t, (s * s + t * t + 1).sqrt())
    return corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]


def texel_directions(size: int) -> Tensor:
    """Unit directions ``[6, size, size, 3]`` of a cube's texels, float64, OpenGL's faces."""
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    t, s = torch.meshgrid(middle, middle, indexing="ij")
    one = torch.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.nn.functional.normalize(torch.stack([torch.stack(face, -1) for face in faces]), dim=-1)


def level_sizes(fine: int) -> list[int]:
    """Face sizes of the levels of a pyramid over ``[6, fine, fine]``, finest first."""
    sizes = [fine]
    while sizes[-1] > ROOT:
        sizes.append(sizes[-1] // 2)
    return sizes


@functools.lru_cache(maxsize=16)
def _solid_angles_on(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``solid_angles`` on a device; cached."""
    return solid_angles(size).to(device, dtype)
