"""Numba kernels: measures of triangles, and how a changing mesh asks its source."""

from __future__ import annotations

import numpy as np

from stspbr.geometry.closest_kernels import closest
from stspbr.kernel_cache import kernel


@kernel
def quality(a, b, c):
    """4√3 · area / sum of squared edges: 1 for an equilateral triangle, 0 for one without area."""
    nx, ny, nz = normal(a, b, c)
    total = squared_length(a, b) + squared_length(b, c) + squared_length(c, a)
    return 2.0 * np.sqrt(3.0) * np.sqrt(nx * nx + ny * ny + nz * nz) / total if total > 0.0 else 0.0


@kernel
def normal(a, b, c):
    """Cross product of a triangle's edges."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@kernel
def squared_length(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2


@kernel
def cosine(first, second):
    x = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    y = first[0] ** 2 + first[1] ** 2 + first[2] ** 2
    z = second[0] ** 2 + second[1] ** 2 + second[2] ** 2
    return x / np.sqrt(y * z) if y > 0.0 and z > 0.0 else -1.0


@kernel
def project(tree, point):
    """The source's closest point to ``point`` (in place), and the target length there."""
    f, _, w0, w1, w2 = closest(tree, point)
    i, j, k = tree.faces[f, 0], tree.faces[f, 1], tree.faces[f, 2]
    for a in range(3):
        point[a] = w0 * tree.points[i, a] + w1 * tree.points[j, a] + w2 * tree.points[k, a]
    return w0 * tree.values[i, 0] + w1 * tree.values[j, 0] + w2 * tree.values[k, 0]


@kernel
def far(tree, a, b, c, squared):
    """Whether a triangle's centre is farther from the source than the root of ``squared``."""
    point = np.empty(3)
    for x in range(3):
        point[x] = (a[x] + b[x] + c[x]) / 3.0
    return closest(tree, point)[1] > squared
