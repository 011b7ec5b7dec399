"""Numba kernels: a grid of the faces of a changing mesh, which tells whether a triangle would cut one of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stspbr.kernel_cache import kernel

_SPARE = 4096  # entries that are free at least before a face is put into the grid
_NEAR = 1e-7  # barycentrics and parameters may be outside by so much: what nearly cuts counts as cutting


class FaceGrid(NamedTuple):
    """Cells with linked lists of faces; an entry is valid while its stamp is the face's.

    Attributes:
        low: ``[3]`` corner; size: ``[1]`` side of a cell; shape: ``[3]`` cells.
        head: ``[cells]``; link, item, stamp: ``[entries]``; used: ``[1]`` entries.
        version, seen: ``[F']`` of the faces; mark: ``[1]`` of the last question.
    """

    low: np.ndarray
    size: np.ndarray
    shape: np.ndarray
    head: np.ndarray
    link: np.ndarray
    item: np.ndarray
    stamp: np.ndarray
    used: np.ndarray
    version: np.ndarray
    seen: np.ndarray
    mark: np.ndarray


def face_grid(low: np.ndarray, high: np.ndarray, size: float, room: int) -> FaceGrid:
    """An empty grid of cells with sides of about ``size`` (at most 96 along an axis) for ``room`` faces."""
    extent = np.maximum(high - low, 1e-12)
    size = max(size, float(extent.max()) / 96)
    shape = np.maximum(np.ceil(extent / size).astype(np.int64), 1)
    entries = 40 * room + 16 * _SPARE
    link, item, stamp = (np.empty(entries, np.int64) for _ in range(3))
    one = np.zeros(1, np.int64)
    version, seen = np.zeros(room, np.int64), np.zeros(room, np.int64)
    head = np.full(int(np.prod(shape)), -1, np.int64)
    return FaceGrid(
        np.asarray(low, np.float64), np.array([size]), shape, head, link, item, stamp, one, version, seen, one.copy()
    )


@kernel
def fill(grid, points, faces, count):
    """Put the first ``count`` faces into the emptied grid; a face without corners is gone."""
    grid.head[:] = -1
    grid.used[0] = 0
    for f in range(count):
        if faces[f, 0] >= 0:
            _insert(grid, f, points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]])


@kernel
def renew(grid, points, faces, count, f):
    """Face ``f`` has changed, or is gone."""
    grid.version[f] += 1
    if faces[f, 0] < 0:
        return
    if grid.used[0] + _SPARE > len(grid.item):
        fill(grid, points, faces, count)
    else:
        _insert(grid, f, points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]])


@kernel
def _insert(grid, f, a, b, c):
    x0, x1, y0, y1, z0, z1 = _cells(grid, a, b, c)
    nx, ny, nz, offset, reach = _plane(grid, a, b, c)
    size = grid.size[0]
    for x in range(x0, x1 + 1):
        for y in range(y0, y1 + 1):
            for z in range(z0, z1 + 1):
                if abs(_height(grid, x, y, z, nx, ny, nz, size) - offset) > reach:
                    continue
                entry = grid.used[0]
                if entry >= len(grid.item):
                    return
                grid.used[0] += 1
                cell = (x * grid.shape[1] + y) * grid.shape[2] + z
                grid.item[entry], grid.stamp[entry], grid.link[entry] = f, grid.version[f], grid.head[cell]
                grid.head[cell] = entry


@kernel
def _height(grid, x, y, z, nx, ny, nz, size):
    return (
        nx * (grid.low[0] + (x + 0.5) * size)
        + ny * (grid.low[1] + (y + 0.5) * size)
        + nz * (grid.low[2] + (z + 0.5) * size)
    )


@kernel
def _plane(grid, a, b, c):
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if length < 1e-300:
        return 0.0, 0.0, 0.0, 0.0, 1.0
    nx, ny, nz = nx / length, ny / length, nz / length
    reach = 0.5001 * grid.size[0] * (abs(nx) + abs(ny) + abs(nz))
    return nx, ny, nz, nx * a[0] + ny * a[1] + nz * a[2], reach


@kernel
def _cells(grid, a, b, c):
    size = grid.size[0]
    x0 = _clipped((min(a[0], b[0], c[0]) - grid.low[0]) / size, grid.shape[0])
    x1 = _clipped((max(a[0], b[0], c[0]) - grid.low[0]) / size, grid.shape[0])
    y0 = _clipped((min(a[1], b[1], c[1]) - grid.low[1]) / size, grid.shape[1])
    y1 = _clipped((max(a[1], b[1], c[1]) - grid.low[1]) / size, grid.shape[1])
    z0 = _clipped((min(a[2], b[2], c[2]) - grid.low[2]) / size, grid.shape[2])
    z1 = _clipped((max(a[2], b[2], c[2]) - grid.low[2]) / size, grid.shape[2])
    return x0, x1, y0, y1, z0, z1


@kernel
def _clipped(value, count):
    return min(max(int(np.floor(value)), 0), count - 1)


@kernel
def cuts(grid, points, faces, i, j, k, a, b, c, ignored, ignored_count):
    """Whether the triangle ``a, b, c`` of the vertices ``i, j, k`` has a point in common with a face of the grid.

    Points that are theirs by shared vertices do not count; nor do faces that share an edge with it.

    Args:
        ignored: the first ``ignored_count`` entries are faces that are about to change.
    """
    x0, x1, y0, y1, z0, z1 = _cells(grid, a, b, c)
    nx, ny, nz, offset, reach = _plane(grid, a, b, c)
    size = grid.size[0]
    grid.mark[0] += 1
    mark = grid.mark[0]
    for n in range(ignored_count):
        grid.seen[ignored[n]] = mark
    for x in range(x0, x1 + 1):
        for y in range(y0, y1 + 1):
            for z in range(z0, z1 + 1):
                if abs(_height(grid, x, y, z, nx, ny, nz, size) - offset) > reach:
                    continue
                entry = grid.head[(x * grid.shape[1] + y) * grid.shape[2] + z]
                while entry >= 0:
                    f = grid.item[entry]
                    if grid.stamp[entry] == grid.version[f] and grid.seen[f] != mark and faces[f, 0] >= 0:
                        grid.seen[f] = mark
                        if _meets(points, faces, f, i, j, k, a, b, c):
                            return True
                    entry = grid.link[entry]
    return False


@kernel
def _meets(points, faces, f, i, j, k, a, b, c):
    p, q, r = faces[f, 0], faces[f, 1], faces[f, 2]
    pp, pq, pr = points[p], points[q], points[r]
    for x in range(3):
        if max(a[x], b[x], c[x]) < min(pp[x], pq[x], pr[x]) or min(a[x], b[x], c[x]) > max(pp[x], pq[x], pr[x]):
            return False
    shared = 0
    for v in (i, j, k):
        if v == p or v == q or v == r:
            shared += 1
    if shared >= 2:
        return False
    if shared == 0:
        return (
            _pierces(a, b, pp, pq, pr)
            or _pierces(b, c, pp, pq, pr)
            or _pierces(c, a, pp, pq, pr)
            or _pierces(pp, pq, a, b, c)
            or _pierces(pq, pr, a, b, c)
            or _pierces(pr, pp, a, b, c)
        )
    # one vertex in common: the edge that is opposite to it counts
    if i == p or i == q or i == r:
        first = _pierces(b, c, pp, pq, pr)
    elif j == p or j == q or j == r:
        first = _pierces(c, a, pp, pq, pr)
    else:
        first = _pierces(a, b, pp, pq, pr)
    if first:
        return True
    if p == i or p == j or p == k:
        return _pierces(pq, pr, a, b, c)
    if q == i or q == j or q == k:
        return _pierces(pr, pp, a, b, c)
    return _pierces(pp, pq, a, b, c)


@kernel
def _pierces(start, end, a, b, c):
    """Whether a segment crosses a triangle (Möller and Trumbore 1997), both closed; parallel ones do not."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    hx, hy, hz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
    volume = ux * hx + uy * hy + uz * hz
    if volume == 0.0:
        return False
    sx, sy, sz = start[0] - a[0], start[1] - a[1], start[2] - a[2]
    s = (sx * hx + sy * hy + sz * hz) / volume
    if not -_NEAR <= s <= 1.0 + _NEAR:
        return False
    qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
    t = (dx * qx + dy * qy + dz * qz) / volume
    if t < -_NEAR or s + t > 1.0 + _NEAR:
        return False
    r = (vx * qx + vy * qy + vz * qz) / volume
    return -_NEAR <= r <= 1.0 + _NEAR
