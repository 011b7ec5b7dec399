"""How long edges may be: from the curvature of a surface, as a budget of faces allows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags

from stspbr.geometry.topology import half_edges, inner_edges

_ROUNDS = 4  # of averaging the curvature over neighbours: what is smaller is noise of the cells
_GRADING = 0.35  # by so much per unit of distance the target length may grow
_EQUILATERAL = np.sqrt(3.0) / 4.0


def largest_curvature(positions: np.ndarray, faces: np.ndarray, rounds: int = _ROUNDS) -> np.ndarray:
    """``[V]`` larger principal curvature in absolute value, 1 / unit.

    Each edge bends the surface by its dihedral angle across its direction (Cohen-Steiner and Morvan 2003). The tensors
    are averaged over neighbours ``rounds`` times before eigenvalues are taken, so that steps to and fro cancel.
    """
    points = np.asarray(positions, np.float64)
    index = np.asarray(faces, np.int64)
    crosses = np.cross(points[index[:, 1]] - points[index[:, 0]], points[index[:, 2]] - points[index[:, 0]])
    doubled = np.linalg.norm(crosses, axis=1)
    normals = crosses / np.maximum(doubled, 1e-300)[:, None]
    left, right, start, end = inner_edges(index, len(points))
    along = points[end] - points[start]
    length = np.linalg.norm(along, axis=1)
    along = along / np.maximum(length, 1e-300)[:, None]
    sine = (np.cross(normals[left], normals[right]) * along).sum(axis=1)
    angle = np.arctan2(sine, (normals[left] * normals[right]).sum(axis=1))
    # the surface bends across the edge
    middle = normals[left] + normals[right]
    across = np.cross(along, middle / np.maximum(np.linalg.norm(middle, axis=1), 1e-300)[:, None])
    tensor = (angle * length)[:, None] * across[:, _PAIRS[0]] * across[:, _PAIRS[1]]
    total = np.zeros((len(points), 6))
    for column in range(6):
        half = 0.5 * tensor[:, column]
        total[:, column] = np.bincount(start, half, len(points)) + np.bincount(end, half, len(points))
    area = np.bincount(index.reshape(-1), np.repeat(doubled / 6.0, 3), len(points))
    average = _averaging(index, len(points))
    for _ in range(rounds):
        total, area = average @ total, average @ area
    full = total[:, _FULL].reshape(-1, 3, 3) / np.maximum(area, 1e-300)[:, None, None]
    return np.abs(np.linalg.eigvalsh(full)).max(axis=1)


def target_lengths(
    positions: np.ndarray, faces: np.ndarray, budget: int, shortest: float, flatter: float = 4.0
) -> tuple[np.ndarray, float]:
    """Target edge lengths with equal errors everywhere, so that about ``budget`` triangles cover the surface.

    An equilateral triangle of side L on a sphere of curvature κ is off by about κL²/6 (Dunyach et al. 2013, "Adaptive
    remeshing for real-time mesh deformation"): L = √(6ε/κ) for one error ε. Lengths grow by at most a third per length.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``.
        budget: of triangles.
        shortest: lower limit; flatter: upper limit, in lengths of an even mesh of the same budget.

    Returns:
        ``[V]`` lengths and the error ε.
    """
    points, index = np.asarray(positions, np.float64), np.asarray(faces, np.int64)
    curvature = largest_curvature(points, index)
    doubled = np.linalg.norm(
        np.cross(points[index[:, 1]] - points[index[:, 0]], points[index[:, 2]] - points[index[:, 0]]), axis=1
    )
    area = np.bincount(index.reshape(-1), np.repeat(doubled / 6.0, 3), len(points))
    even = np.sqrt(area.sum() / (_EQUILATERAL * budget))
    shortest = min(shortest, even)
    start, end = half_edges(index)
    step = np.linalg.norm(points[end] - points[start], axis=1)

    def lengths(error: float) -> np.ndarray:
        free = np.sqrt(6.0 * error / np.maximum(curvature, 6.0 * error / (flatter * even) ** 2))
        return _graded(np.clip(free, shortest, flatter * even), start, end, step)

    low, high = 1e-9 * even, even
    for _ in range(24):
        error = np.sqrt(low * high)
        if (area / (_EQUILATERAL * lengths(error) ** 2)).sum() > budget:
            low = error
        else:
            high = error
    return lengths(high), float(high)


_PAIRS = np.array([[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
_FULL = np.array([0, 3, 4, 3, 1, 5, 4, 5, 2])


def _averaging(faces: np.ndarray, vertices: int) -> csr_matrix:
    """The mean of a vertex's value and that of its neighbours, as a matrix ``[V, V]``."""
    start, end = half_edges(faces)
    ones = np.ones(len(start))
    links = coo_matrix((ones, (start, end)), shape=(vertices, vertices)).tocsr()
    links = links + links.T
    links.data[:] = 1.0
    degree = np.asarray(links.sum(axis=1)).reshape(-1)
    return csr_matrix(diags(np.full(vertices, 0.5)) + diags(0.5 / np.maximum(degree, 1)) @ links)


def _graded(lengths: np.ndarray, start: np.ndarray, end: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Lengths that grow by at most ``_GRADING`` per unit of distance along edges."""
    out = lengths.copy()
    for _ in range(200):
        before = out.copy()
        np.minimum.at(out, end, before[start] + _GRADING * step)
        np.minimum.at(out, start, before[end] + _GRADING * step)
        if np.array_equal(out, before):
            break
    return out
