"""Numba kernels of transport at places on a surface: the cached points about them, what these hold, and rays.

Each place is one thread's, and sums over places are taken in runs of a fixed number: no result depends on the threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

_FLAGS = {"contract", "arcp", "nsz"}
_BLOCK = 1024
_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel(fastmath=_FLAGS)
def _within(value, high):
    """``value`` in [0, high]; NaN is 0."""
    return min(value, high) if value > _ZERO else _ZERO


@kernel(fastmath=_FLAGS)
def _write_corners(triangle, second, third, segments, first, index, p, corners, shares):
    """See ``CachePoints.corners``."""
    n, start = segments[triangle], first[triangle]
    x, y = _within(second, _ONE) * np.float32(n), _within(third, _ONE) * np.float32(n)
    i = min(int(x), n - 1)
    j = min(int(y), n - 1 - i)
    u, v = _within(x - np.float32(i), _ONE), _within(y - np.float32(j), _ONE)
    row = start + i * (n + 1) - i * (i - 1) // 2 + j
    below = row + n + 1 - i
    corners[p, 1], corners[p, 2] = index[below], index[row + 1]
    if u + v > _ONE and i + j < n - 1:
        corners[p, 0] = index[below + 1]
        shares[p, 0], shares[p, 1], shares[p, 2] = u + v - _ONE, _ONE - v, _ONE - u
    else:
        over = max(u + v, _ONE)
        u, v = u / over, v / over
        corners[p, 0] = index[row]
        shares[p, 0], shares[p, 1], shares[p, 2] = _ONE - u - v, u, v


@kernel(parallel=True, fastmath=_FLAGS)
def corners_forward(triangle, barycentric, segments, first, index, corners, shares):
    """The points about places and their weights."""
    for p in prange(triangle.shape[0]):
        _write_corners(
            triangle[p], barycentric[p, 0], barycentric[p, 1], segments, first, index, p, corners, shares
        )  # fmt: skip


@kernel(parallel=True, fastmath=_FLAGS)
def places_forward(
    triangle, barycentric, positions, faces, normals, offset, segments, first, index, origin, outward, corners, shares
):
    """``Places`` on the mesh itself, whose triangles have ``normals``: rays start ``offset`` above it."""
    for p in prange(triangle.shape[0]):
        t, v, w = triangle[p], barycentric[p, 0], barycentric[p, 1]
        u = _ONE - v - w
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        for k in range(3):
            outward[p, k] = normals[t, k]
            origin[p, k] = positions[a, k] * u + positions[b, k] * v + positions[c, k] * w + offset * normals[t, k]
        _write_corners(t, v, w, segments, first, index, p, corners, shares)


@kernel(parallel=True, fastmath=_FLAGS)
def mix(values, corners, shares, out):
    """``values [P, C]`` between points: ``out [N, C]``."""
    for p in prange(corners.shape[0]):
        a, b, c = corners[p, 0], corners[p, 1], corners[p, 2]
        for k in range(values.shape[1]):
            out[p, k] = values[a, k] * shares[p, 0] + values[b, k] * shares[p, 1] + values[c, k] * shares[p, 2]


@kernel(fastmath=_FLAGS)
def _mixed(values, r, corners, shares, p):
    a, b, c = values[r, corners[p, 0]], values[r, corners[p, 1]], values[r, corners[p, 2]]
    u, v, w = shares[p, 0], shares[p, 1], shares[p, 2]
    return a[0] * u + b[0] * v + c[0] * w, a[1] * u + b[1] * v + c[1] * w, a[2] * u + b[2] * v + c[2] * w


@kernel(parallel=True, fastmath=_FLAGS)
def ratio_forward(open_, total, rotation, corners, shares, floor, largest, arriving, ratio):
    """See ``Irradiance.at``."""
    for p in prange(corners.shape[0]):
        opened = _mixed(open_, rotation[p], corners, shares, p)
        whole = _mixed(total, rotation[p], corners, shares, p)
        least = floor * max((opened[0] + opened[1] + opened[2]) / np.float32(3), np.float32(1e-12))
        for k in range(3):
            arriving[p, k] = whole[k]
            ratio[p, k] = min(max(whole[k] / max(opened[k], least), _ZERO), largest)


@kernel(parallel=True, fastmath=_FLAGS)
def ratio_backward(
    open_, total, rotation, corners, shares, floor, largest, grad_arriving, grad_ratio, slabs_open, slabs_total
):
    """Gradients by both irradiances, as partial sums ``[S, R, P, 3]`` over S runs of places."""
    runs, count = slabs_open.shape[0], corners.shape[0]
    for run in prange(runs):
        to_open, to_total = slabs_open[run], slabs_total[run]
        to_open[:], to_total[:] = _ZERO, _ZERO
        for p in range(count * run // runs, count * (run + 1) // runs):
            r = rotation[p]
            opened, whole = _mixed(open_, r, corners, shares, p), _mixed(total, r, corners, shares, p)
            least = floor * max((opened[0] + opened[1] + opened[2]) / np.float32(3), np.float32(1e-12))
            for k in range(3):
                under = max(opened[k], least)
                by_total, by_open = grad_arriving[p, k], _ZERO
                if _ZERO <= whole[k] <= largest * under:
                    grad = grad_ratio[p, k] / under
                    by_total += grad
                    if opened[k] > least:
                        by_open = -grad * whole[k] / under
                if by_total == _ZERO and by_open == _ZERO:
                    continue
                for corner in range(3):
                    to_total[r, corners[p, corner], k] += shares[p, corner] * by_total
                    to_open[r, corners[p, corner], k] += shares[p, corner] * by_open


@kernel(fastmath=_FLAGS)
def _scale(weights, p, lookups):
    """Over the specular weight of a pixel: A and B of the look-ups are what a mirror and Fresnel's rim see of each."""
    total = _ZERO
    for k in range(2 * (lookups + 1)):
        total += weights[p, k]
    return _ONE / max(total, np.float32(1e-12))


@kernel(parallel=True, fastmath=_FLAGS)
def count_rays(weights, enclosed, lookups, negligible, ends):
    """How many rays ``gather_rays`` casts for each block of pixels; ``ends`` has an element per block."""
    for block in prange(ends.shape[0]):
        total = 0
        for p in range(block * _BLOCK, min((block + 1) * _BLOCK, enclosed.shape[0])):
            if enclosed[p]:
                scale = _scale(weights, p, lookups)
                for k in range(lookups):
                    total += int((weights[p, k] + weights[p, lookups + 1 + k]) * scale > negligible)
        ends[block] = total


@kernel(parallel=True, fastmath=_FLAGS)
def gather_rays(
    directions, weights, enclosed, rotations, rotation, origin, negligible, ends, number, pixel, origins, ways
):
    """The rays ``[M, 3]`` along the look-ups that count of the pixels that are ``enclosed``, pixel by pixel.

    Args:
        ends: the number of rays up to the end of each block of pixels.
        number, pixel: ``[M]`` int64, the look-up and the pixel of each ray, written.
    """
    lookups = directions.shape[0]
    for block in prange(ends.shape[0]):
        m = ends[block - 1] if block > 0 else 0
        for p in range(block * _BLOCK, min((block + 1) * _BLOCK, enclosed.shape[0])):
            if not enclosed[p]:
                continue
            scale, turn = _scale(weights, p, lookups), rotations[rotation[p]]
            for k in range(lookups):
                if (weights[p, k] + weights[p, lookups + 1 + k]) * scale > negligible:
                    x, y, z = directions[k, p, 0], directions[k, p, 1], directions[k, p, 2]
                    a = turn[0, 0] * x + turn[1, 0] * y + turn[2, 0] * z
                    b = turn[0, 1] * x + turn[1, 1] * y + turn[2, 1] * z
                    c = turn[0, 2] * x + turn[1, 2] * y + turn[2, 2] * z
                    over = _ONE / max(np.float32(np.sqrt(a * a + b * b + c * c)), np.float32(1e-12))
                    number[m], pixel[m] = k, p
                    ways[m, 0], ways[m, 1], ways[m, 2] = a * over, b * over, c * over
                    origins[m, 0], origins[m, 1], origins[m, 2] = origin[p, 0], origin[p, 1], origin[p, 2]
                    m += 1


def block_count(pixels: int) -> int:
    """How many blocks of pixels ``count_rays`` and ``gather_rays`` work in."""
    return -(-pixels // _BLOCK)


@kernel(parallel=True, fastmath=_FLAGS)
def rise(cosine, position, normal, ways, offset, ends, point, way, origins, rays):
    """A ray for each positive ``cosine [P, B]``, from ``offset`` above the point along the direction.

    Args:
        ends: ``[P]``, the number of rays up to the end of each point; point, way: ``[M]`` int64, written.
    """
    for p in prange(cosine.shape[0]):
        m = ends[p - 1] if p > 0 else 0
        for b in range(cosine.shape[1]):
            if cosine[p, b] > _ZERO:
                point[m], way[m] = p, b
                for k in range(3):
                    origins[m, k], rays[m, k] = position[p, k] + offset * normal[p, k], ways[b, k]
                m += 1


@kernel(parallel=True, fastmath=_FLAGS)
def judge_hits(
    triangle, distance, barycentric, point, way, rays, cosine, normal, facing, near, grazing, alike,
    all_normals, segments, first, index, seen, front,
):  # fmt: skip
    """Clear ``seen [P, B]`` of directions that are blocked; ``front [M]``: hits on the outside of a triangle.

    A smooth convex surface of flat triangles does not shade itself along its own tangents: a hit does not count if
    the ray grazes (``cosine`` below ``grazing``), ends within ``near`` on a triangle that faces ``alike`` the point,
    and leaves the smooth surface there. In a hollow that would face the ray.

    Args:
        normal: ``[P, 3]`` of the points that cast; all_normals: of all points; facing: ``[F, 3]`` of triangles.
    """
    blocks = (triangle.shape[0] + _BLOCK - 1) // _BLOCK
    for block in prange(blocks):
        corners, shares = np.empty((1, 3), np.int64), np.empty((1, 3), np.float32)
        for m in range(block * _BLOCK, min((block + 1) * _BLOCK, triangle.shape[0])):
            front[m] = False
            t, p, b = triangle[m], point[m], way[m]
            if t < 0:
                continue
            x, y, z = rays[m, 0], rays[m, 1], rays[m, 2]
            fx, fy, fz = facing[t, 0], facing[t, 1], facing[t, 2]
            if cosine[p, b] < grazing and distance[m] < near:
                if fx * normal[p, 0] + fy * normal[p, 1] + fz * normal[p, 2] > alike:
                    _write_corners(
                        t, barycentric[m, 0], barycentric[m, 1], segments, first, index, 0, corners, shares
                    )  # fmt: skip
                    leaving = _ZERO
                    for c in range(3):
                        n = all_normals[corners[0, c]]
                        leaving += shares[0, c] * (n[0] * x + n[1] * y + n[2] * z)
                    if leaving > _ZERO:
                        continue
            seen[p, b] = _ZERO
            front[m] = fx * x + fy * y + fz * z < _ZERO
