"""The points of a mesh at which transport is kept, and how a place on the surface reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.kernel_dispatch import usable

_BUDGET = 40_000
_MOST_SEGMENTS = 64


@dataclass
class CachePoints:
    """P points of a mesh, and the small triangles between them.

    Triangle ``f`` is cut into ``segments[f]²`` equal parts, whose corners are points; points that coincide in place and
    normal are one.

    Attributes:
        position, normal: ``[P, 3]`` float32; normals are unit.
        triangle: ``[P]`` int64, one of the triangles that a point lies on; barycentric: ``[P, 2]`` its place there.
        segments: ``[F]`` int64; first: ``[F]`` int64, where the triangle's points start in ``index``.
        index: ``[I]`` int64 into the points: of each triangle row by row, by the weight of its second corner.
    """

    position: Tensor
    normal: Tensor
    triangle: Tensor
    barycentric: Tensor
    segments: Tensor
    first: Tensor
    index: Tensor

    def corners(self, triangle: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``[N, 3]`` int64 about places on the surface, and their weights ``[N, 3]``, which sum to 1.

        Args:
            triangle: ``[N]`` int64; barycentric: ``[N, 2]``, the weights of its second and third corner.
        """
        if not usable("auto", barycentric, what="points"):
            return self.corners_twin(triangle, barycentric)
        from stspbr.transport.point_kernels import corners_forward

        points = triangle.new_empty(len(triangle), 3)
        weights = barycentric.new_empty(len(triangle), 3)
        corners_forward(*arrays(triangle, barycentric), *self.grid(), *arrays(points, weights))
        return points, weights

    def grid(self) -> tuple[np.ndarray, ...]:
        """``segments``, ``first`` and ``index`` for kernels."""
        return arrays(self.segments, self.first, self.index)

    def corners_twin(self, triangle: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor]:
        """``corners`` in plain torch, for any float type and device."""
        segments = self.segments.index_select(0, triangle)
        scaled = barycentric.clamp(0.0, 1.0) * segments[:, None]
        cell = torch.minimum(scaled.floor(), segments[:, None] - 1.0)
        # rounding must not leave the triangle: a cell beyond the diagonal goes back to it
        cell[:, 1] = torch.minimum(cell[:, 1], segments - 1.0 - cell[:, 0])
        part = (scaled - cell).clamp(0.0, 1.0)
        i, j = cell.long().unbind(1)
        u, v = part.unbind(1)
        upper = (u + v > 1.0) & (i + j < segments - 1)
        over = (u + v).clamp(min=1.0)
        u, v = torch.where(upper, u, u / over), torch.where(upper, v, v / over)
        places = torch.stack([
            torch.where(upper, _place(i + 1, j + 1, segments), _place(i, j, segments)),
            _place(i + 1, j, segments),
            _place(i, j + 1, segments),
        ], dim=1)  # fmt: skip
        weights = torch.stack([
            torch.where(upper, u + v - 1.0, 1.0 - u - v), torch.where(upper, 1.0 - v, u), torch.where(upper, 1.0 - u, v)
        ], dim=1)  # fmt: skip
        start = self.first.index_select(0, triangle)
        return self.index.index_select(0, (start[:, None] + places).reshape(-1)).view(-1, 3), weights


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Contiguous arrays of CPU tensors, without a copy if they are contiguous."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def mixed(values: Tensor, corners: Tensor, shares: Tensor) -> Tensor:
    """``values [P, C]`` at places between points: ``[N, C]``, without gradients.

    Args:
        corners: ``[N, 3]`` int64; shares: ``[N, 3]`` their weights.
    """
    if not usable("auto", values, shares, what="points"):
        rows = values.index_select(0, corners.reshape(-1)).view(len(corners), 3, -1)
        return (rows * shares[..., None]).sum(1).detach()
    from stspbr.transport.point_kernels import mix

    out = values.new_empty(len(corners), values.shape[1])
    mix(*arrays(values, corners, shares, out))
    return out


def _place(i: Tensor, j: Tensor, segments: Tensor) -> Tensor:
    """Where the point at column ``j`` of row ``i`` stands among its triangle's: row ``i`` has ``segments + 1 − i``."""
    return i * (segments + 1) - torch.div(i * (i - 1), 2, rounding_mode="floor") + j


def cache_points(
    positions: Tensor, faces: Tensor, normals: Tensor, normal_faces: Tensor, longest_edge: float
) -> CachePoints:
    """Points of a mesh so dense that edges between them are at most ``longest_edge`` long.

    Of a mesh that would get too many points the densest parts stay as they are and the limit is raised.

    Args:
        positions: ``[V, 3]``, whose device is that of the points; faces: ``[F, 3]``; normals: ``[N, 3]`` unit,
            normal_faces: ``[F, 3]`` into them.
        longest_edge: in the units of positions.
    """
    place, facing = positions.detach().cpu().numpy(), normals.detach().cpu().numpy()
    corners, bends = faces.cpu().numpy().astype(np.int64), normal_faces.cpu().numpy().astype(np.int64)
    sides = place[corners[:, [1, 2, 0]]] - place[corners]
    longest = np.linalg.norm(sides, axis=-1).max(axis=1, initial=0.0)
    while True:
        segments = np.clip(np.ceil(longest / longest_edge), 1, _MOST_SEGMENTS).astype(np.int64)
        if (segments**2).sum() / 2 <= max(_BUDGET, 0.6 * len(corners)):
            break
        longest_edge *= 1.2
    rows = (segments + 1) * (segments + 2) // 2
    first = np.concatenate([[0], np.cumsum(rows)[:-1]]) if len(rows) else np.zeros(0, np.int64)
    owner, second, third = _grid(segments)
    weights = np.stack([1.0 - second - third, second, third], axis=1).astype(np.float32)
    whole = np.argmax(weights, axis=1)
    at_corner = weights[np.arange(len(owner)), whole] == 1.0
    points = (weights[..., None] * place[corners[owner]]).sum(axis=1, dtype=np.float32)
    normal = (weights[..., None] * facing[bends[owner]]).sum(axis=1, dtype=np.float32)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    # points within a triangle are its own; those at corners are shared by index, those on edges by place
    key = np.full((len(owner), 6), -1, np.int64)
    key[at_corner, 0] = corners[owner, whole][at_corner]
    key[at_corner, 1] = bends[owner, whole][at_corner]
    unit = max(float(longest_edge), 1e-12) * 1e-3
    between = ~at_corner
    key[between, :3] = np.rint(points[between] / unit).astype(np.int64)
    key[between, 3:] = np.rint(normal[between] * 1e3).astype(np.int64) + 4096
    kept, index = _distinct(key)
    found = points[kept], normal[kept], owner[kept], weights[kept, 1:], segments, first, index
    return CachePoints(*(torch.from_numpy(part).to(positions.device) for part in found))


def _grid(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangle, second and third weight of every point of every triangle, in the order of ``CachePoints.index``."""
    patterns = {}
    for n in np.unique(segments):
        i, j = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
        inside = i + j <= n
        patterns[n] = (i[inside] / n, j[inside] / n)
    owner = np.repeat(np.arange(len(segments)), (segments + 1) * (segments + 2) // 2)
    rows = [patterns[n] for n in segments]
    return owner, np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def _distinct(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct row of ``key``, in order of appearance, and the number of each row among them."""
    packed = np.ascontiguousarray(key).view([("", key.dtype)] * key.shape[1]).ravel()
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]
