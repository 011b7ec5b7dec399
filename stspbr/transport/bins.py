"""A sphere cut into cells: one direction per cell, in which its light arrives."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from stspbr.render.cube_pyramid import texel_directions
from stspbr.render.light import PrefilteredLight

DIRECTIONS = 256

_SIDE = 64  # of the level whose texels are shared out among the cells


@dataclass
class DirectionBins:
    """B directions in object space, and which part of the sphere each stands for.

    Attributes:
        directions: ``[B, 3]`` unit.
        solid_angle: ``[B]`` steradians of the cells, the places that are nearest to each direction.
    """

    directions: Tensor
    solid_angle: Tensor
    _kept: dict[tuple[int, bytes], Tensor] = field(default_factory=dict, repr=False)

    def flux(self, light: PrefilteredLight, rotations: Tensor) -> Tensor:
        """``[R, B, 3]``: radiance times solid angle of each cell, of an object turned by ``rotations [R, 3, 3]``.

        Differentiable in the light.
        """
        level = _level(light)
        size = level.shape[1]
        texels = level.reshape(-1, 3) * _areas(size, level.device)[:, None]
        out = []
        for rotation in rotations:
            zero = texels.new_zeros(len(self.directions), 3)
            out.append(zero.index_add(0, self._cells(size, rotation), texels))
        return torch.stack(out)

    def _cells(self, size: int, rotation: Tensor) -> Tensor:
        """``[6 n²]`` int64: the cell of each texel of a cube in the world; kept, since poses come again."""
        turn = rotation.cpu().numpy()
        key = size, turn.tobytes()
        if key not in self._kept:
            ways, _ = _texels(size)
            _, cell = cKDTree(self.directions.cpu().numpy()).query(ways @ turn)  # world to object: the transpose
            self._kept[key] = torch.from_numpy(cell).to(self.directions.device)
        return self._kept[key]


@functools.lru_cache(maxsize=4)
def direction_bins(device: torch.device | None = None) -> DirectionBins:
    """The cells of a spherical Fibonacci set (Keinert et al. 2015), on a device; None: the CPU."""
    if device is None:
        return _with_cells(_fibonacci(DIRECTIONS))
    own = direction_bins()
    return own if device.type == "cpu" else DirectionBins(own.directions.to(device), own.solid_angle.to(device))


def _fibonacci(count: int) -> np.ndarray:
    number = np.arange(count) + 0.5
    y = 1.0 - 2.0 * number / count
    angle = number * math.pi * (3.0 - math.sqrt(5.0))
    ring = np.sqrt(1.0 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)


def _with_cells(directions: np.ndarray) -> DirectionBins:
    ways, areas = _texels(_SIDE)
    _, cell = cKDTree(directions).query(ways)
    angle = np.bincount(cell, weights=areas.double().numpy(), minlength=len(directions))
    kept = angle > 0
    return DirectionBins(
        torch.from_numpy(directions[kept].astype(np.float32)), torch.from_numpy(angle[kept].astype(np.float32))
    )


def _level(light: PrefilteredLight) -> Tensor:
    """The finest level ``[6, n, n, 3]`` with at most ``_SIDE`` texels a side: its kernel is narrower than a cell."""
    return next((mip for mip in light.specular if mip.shape[1] <= _SIDE), light.specular[-1])


@functools.lru_cache(maxsize=4)
def _texels(size: int) -> tuple[np.ndarray, Tensor]:
    """Directions ``[6 n², 3]`` and solid angles ``[6 n²]`` of a cube's texels."""
    ways = texel_directions(size).reshape(-1, 3).double().numpy()
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(steps, steps)
    weight = (1 + x * x + y * y) ** -1.5
    areas = np.tile(weight.ravel(), 6)
    return ways, torch.from_numpy((areas * (4 * math.pi / areas.sum())).astype(np.float32))


@functools.lru_cache(maxsize=4)
def _areas(size: int, device: torch.device) -> Tensor:
    """The solid angles of ``_texels`` on a device."""
    return _texels(size)[1].to(device)
