"""Meshes from patches, each in its own rectangle of the UV square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.scene.mesh import Corners, Mesh

_GUTTER = 4  # texels around a chart that its maps cover too


@dataclass(frozen=True)
class Chart:
    """A rectangle of the UV square with its own lengths.

    Attributes:
        corner: ``(u, v)`` of its upper left corner.
        size: ``(width, height)`` in units of the object.
        scale: UV units per unit of the object, along u and v.
    """

    corner: tuple[float, float]
    size: tuple[float, float]
    scale: tuple[float, float]

    def uvs(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """``[..., 2]`` of points at ``x`` to the right and ``y`` down from the chart's corner."""
        return np.stack([self.corner[0] + self.scale[0] * x, self.corner[1] + self.scale[1] * y], axis=-1)

    def texels(self, resolution: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Rows and columns of the chart and its gutter in a square map, and x and y of their centres ``[R, C]``.

        In the gutter, x and y are those of the nearest point of the chart.
        """
        places, lengths = [], []
        for axis in (1, 0):
            stop = self.corner[axis] + self.scale[axis] * self.size[axis]
            first = max(0, int(np.floor(self.corner[axis] * resolution)) - _GUTTER)
            last = min(resolution, int(np.ceil(stop * resolution)) + _GUTTER)
            centres = (np.arange(first, last) + 0.5) / resolution
            places.append(slice(first, last))
            lengths.append(np.clip((centres - self.corner[axis]) / self.scale[axis], 0.0, self.size[axis]))
        y, x = np.meshgrid(*lengths, indexing="ij")
        return (places[0], places[1]), x, y


@dataclass(frozen=True)
class Patch:
    """A grid of points: rows go down in the image, columns to the right, seen from outside.

    Attributes:
        points, normals, tangents: ``[R, C, 3]``; normals and tangents (along u) of unit length.
        uvs: ``[R, C, 2]``.
    """

    points: np.ndarray
    normals: np.ndarray
    tangents: np.ndarray
    uvs: np.ndarray

    @classmethod
    def flat(cls, points: np.ndarray, uvs: np.ndarray, right: np.ndarray) -> Patch:
        """A plane patch ``[R, C, 3]`` whose chart is a true copy of it; ``right [3]`` is the direction of u."""
        normal = np.cross(points[-1, 0] - points[0, 0], right)
        normals, tangents = (np.broadcast_to(v / np.linalg.norm(v), points.shape) for v in (normal, right))
        return cls(points, normals, tangents, uvs)


def welded(patches: Sequence[Patch]) -> Mesh:
    """The mesh of all patches; points that coincide are one, attributes stay each patch's own."""
    faces, start = [], 0
    for patch in patches:
        rows, columns = patch.points.shape[:2]
        index = start + np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
        faces.append(np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3))
        start += rows * columns
    corner = np.concatenate(faces).astype(np.int32)
    points, normals, tangents, uvs = (
        np.concatenate([getattr(patch, name).reshape(-1, width) for patch in patches])
        for name, width in (("points", 3), ("normals", 3), ("tangents", 3), ("uvs", 2))
    )
    _, first, place = np.unique(np.round(points, 7) + 0.0, axis=0, return_index=True, return_inverse=True)
    f32 = np.float32
    return Mesh(
        points[first].astype(f32),
        place.reshape(-1).astype(np.int32)[corner],
        Corners(uvs.astype(f32), corner),
        Corners(normals.astype(f32), corner),
        Corners(np.concatenate([tangents, np.ones((len(tangents), 1))], axis=1).astype(f32), corner),
    )
