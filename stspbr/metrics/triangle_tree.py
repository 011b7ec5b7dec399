"""A bounding-volume tree over triangles (libigl): closest points, and whether a segment is blocked."""

from __future__ import annotations

import numpy as np


class TriangleTree:
    """The tree of a mesh: ``positions`` ``[V, 3]``, finite, and ``faces`` ``[F, 3]`` with F ≥ 1."""

    def __init__(self, positions: np.ndarray, faces: np.ndarray):
        from igl import AABB

        positions = np.asarray(positions, np.float64)
        # libigl takes rays with |determinant| < 1e-6 as parallel to a face: the tree holds a mesh some 2⁴⁰ large
        self._scale = 2.0 ** (40 - np.frexp(max(np.ptp(positions, axis=0).max(), 1e-200))[1])
        self._mesh = positions * self._scale, np.asarray(faces, np.int64)
        self._tree = AABB()
        self._tree.init(*self._mesh)

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closest points on the triangles.

        Args:
            points: ``[P, 3]``.

        Returns:
            ``(face [P] int64, barycentrics [P, 3] of its corners, distance [P])``, float64; of several triangles at
            one distance, the first that the tree comes to, which is always the same. A face whose corners are on one
            line up to rounding may be overlooked: in a surface, its neighbours have the same edges.
        """
        positions, faces = self._mesh
        squared, face, found = self._tree.squared_distance(positions, faces, np.asarray(points) * self._scale)
        return face, _barycentrics(found, positions[faces[face]]), np.sqrt(squared) / self._scale

    def blocked(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Whether anything lies between ``origins`` and ``targets``, both ``[P, 3]``: ``[P]`` bool."""
        start, way = np.asarray(origins) * self._scale, (np.asarray(targets) - origins) * self._scale
        # libigl's ``min_t`` bounds a ray from above, in units of its direction
        return self._tree.intersect_ray_first(*self._mesh, start, way, 1.0)[0] >= 0


def _barycentrics(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """``[P, 3]`` weights, not negative and of sum 1, of points on the triangles ``[P, 3, 3]``, with or without area.

    Measured along the longest edge and across it, which stays exact for needles.
    """
    row, first = np.arange(len(points)), ((np.roll(corners, -1, axis=1) - corners) ** 2).sum(-1).argmax(1)
    order = (first[:, None] + np.arange(3)) % 3
    start, end, apex = (corners[row, order[:, k]] for k in range(3))
    edge = end - start
    length = np.maximum((edge**2).sum(-1), 1e-300)
    along = [((x - start) * edge).sum(-1) / length for x in (points, apex)]
    across = [x - start - s[:, None] * edge for x, s in zip((points, apex), along, strict=True)]
    third = np.clip((across[0] * across[1]).sum(-1) / np.maximum((across[1] ** 2).sum(-1), 1e-300), 0.0, 1.0)
    second = np.clip(along[0] - third * along[1], 0.0, 1.0 - third)
    weights = np.empty((len(points), 3))
    weights[row[:, None], order] = np.stack([np.maximum(1.0 - second - third, 0.0), second, third], axis=-1)
    return weights
