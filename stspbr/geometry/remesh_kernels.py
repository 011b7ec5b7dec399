"""Numba kernels: passes over a changing mesh that split and collapse, and refuse folds and cuts.

Every new triangle must not turn far from the one that it replaces, must stay within ``tolerance`` of the source, and
must not meet another face (``face_grid_kernels.cuts``). The order of work is that of the indices, so that results do
not depend on threads.
"""

from __future__ import annotations

import numpy as np

from stspbr.geometry.closest_kernels import point_triangle
from stspbr.geometry.face_grid_kernels import cuts, renew
from stspbr.geometry.half_edge_kernels import (
    FREE,
    LINE,
    MAX_RING,
    after,
    before,
    collapse,
    origin,
    ring,
    split,
)
from stspbr.geometry.triangle_kernels import cosine, far, normal, project, quality, squared_length
from stspbr.kernel_cache import kernel

LONG, SHORT = 4.0 / 3.0, 4.0 / 5.0
"""Edges are split above, and collapsed below, so many target lengths (Botsch and Kobbelt 2004, section 3)."""
LEAST_COSINE = 0.5
"""Between the normals of a triangle before and after a change."""
_LEAST_QUALITY = 0.05


@kernel
def relative_lengths(mesh, scale):
    """``[3F]`` length of each inner half edge in target lengths, at the smaller of its ends; inf for others.

    Each edge counts once, at the half edge with the smaller number.
    """
    out = np.full(3 * mesh.used[1], np.inf)
    for h in range(len(out)):
        if mesh.faces[h // 3, 0] >= 0 and mesh.across[h] > h:
            out[h] = _relative(mesh, h, scale)
    return out


@kernel
def _relative(mesh, h, scale):
    u, v = origin(mesh, h), origin(mesh, after(h))
    return np.sqrt(squared_length(mesh.points[u], mesh.points[v])) / (scale * min(mesh.length[u], mesh.length[v]))


@kernel
def split_pass(mesh, grid, tree, scale, most_faces):
    """Split the longest edge of each face while it is too long; returns the number of splits."""
    done, f = 0, 0
    changed = np.empty(4, np.int64)
    while f < mesh.used[1]:
        if mesh.faces[f, 0] < 0:
            f += 1
            continue
        best, longest = -1, LONG
        for k in range(3):
            h = 3 * f + k
            if mesh.across[h] >= 0:
                own = _relative(mesh, h, scale)
                if own > longest:
                    best, longest = h, own
        room = mesh.used[1] + 2 <= min(len(mesh.faces), most_faces) and mesh.used[0] < len(mesh.points)
        if best < 0 or not room:
            f += 1
            continue
        g = mesh.across[best]
        u, v = origin(mesh, best), origin(mesh, g)
        c, d = origin(mesh, before(best)), origin(mesh, before(g))
        middle = 0.5 * (mesh.points[u] + mesh.points[v])
        place = middle.copy()
        length = project(tree, place)
        changed[0], changed[1] = best // 3, g // 3
        if mesh.sharp[best] or not _four_fit(mesh, grid, u, v, c, d, place, changed):
            place = middle
        split(mesh, best, place, length)
        changed[2], changed[3] = mesh.used[1] - 2, mesh.used[1] - 1
        for k in range(4):
            renew(grid, mesh.points, mesh.faces, mesh.used[1], changed[k])
        done += 1
    return done


@kernel
def _four_fit(mesh, grid, u, v, c, d, place, changed):
    """Whether an edge's new middle leaves its four triangles unfolded and clear of others."""
    points = mesh.points
    for side in range(2):
        a, b, tip = (u, v, c) if side == 0 else (v, u, d)
        old = normal(points[a], points[b], points[tip])
        for part in range(2):
            first, second = (points[a], place) if part == 0 else (place, points[b])
            if cosine(old, normal(first, second, points[tip])) < LEAST_COSINE:
                return False
            i, j = (a, -1) if part == 0 else (-1, b)
            if cuts(grid, points, mesh.faces, i, j, tip, first, second, points[tip], changed, 2):
                return False
    return True


@kernel
def collapse_pass(mesh, grid, tree, order, scale, tolerance, least_faces, alive):
    """Collapse the edges ``order`` (half edges, the most urgent first) that are short; returns the faces left.

    Args:
        least_faces: stop when so few are left; alive: the faces at the start.
    """
    rim, other, scratch = np.empty(MAX_RING, np.int64), np.empty(MAX_RING, np.int64), np.empty(MAX_RING, np.int64)
    changed = np.empty(2 * MAX_RING, np.int64)
    place = np.empty(3)
    for n in range(len(order)):
        if alive <= least_faces:
            break
        h = order[n]
        if mesh.faces[h // 3, 0] < 0 or mesh.across[h] < 0:
            continue
        if _relative(mesh, h, scale) >= SHORT:
            continue
        u, v = origin(mesh, h), origin(mesh, after(h))
        if mesh.kind[u] > mesh.kind[v]:
            h = mesh.across[h]
            u, v = v, u
        if mesh.kind[u] > LINE or (mesh.kind[u] == LINE and not mesh.sharp[h]):
            continue
        number = _linkable(mesh, h, rim, other, scratch)
        if number < 0:
            continue
        around = ring(mesh, v, other)
        for attempt in range(3):
            if mesh.kind[v] > FREE:
                if attempt > 0:
                    break
                place[:] = mesh.points[v]
            elif attempt == 0:
                place[:] = 0.5 * (mesh.points[u] + mesh.points[v])
                project(tree, place)
            else:
                place[:] = mesh.points[v] if attempt == 1 else mesh.points[u]
            if _collapse_fits(mesh, grid, tree, h, rim, number, other, around, place, scale, tolerance, changed):
                collapse(mesh, h, rim, number)
                mesh.points[v] = place
                mesh.length[v] = min(mesh.length[u], mesh.length[v])
                for k in range(number):
                    renew(grid, mesh.points, mesh.faces, mesh.used[1], rim[k] // 3)
                for k in range(around):
                    renew(grid, mesh.points, mesh.faces, mesh.used[1], other[k] // 3)
                alive -= 2
                break
    return alive


@kernel
def _linkable(mesh, h, rim, other, scratch):
    """The number of half edges around the start of ``h`` (written to ``rim``), −1 if a collapse tears the surface."""
    g = mesh.across[h]
    u, v = origin(mesh, h), origin(mesh, g)
    for one in (after(h), before(h), after(g), before(g)):
        if mesh.across[one] < 0:
            return -1
    if (mesh.sharp[after(h)] and mesh.sharp[before(h)]) or (mesh.sharp[after(g)] and mesh.sharp[before(g)]):
        return -1
    number, around = ring(mesh, u, rim), ring(mesh, v, other)
    if number < 3 or around < 3 or number + around > MAX_RING:
        return -1
    a, b = origin(mesh, before(h)), origin(mesh, before(g))
    if a == b:
        return -1
    for tip in (a, b):
        if 0 <= ring(mesh, tip, scratch) <= 3:
            return -1
    for k in range(number):
        w = origin(mesh, after(rim[k]))
        if w == v or w == a or w == b:
            continue
        for n in range(around):
            if origin(mesh, after(other[n])) == w or origin(mesh, before(other[n])) == w:
                return -1
    return number


@kernel
def _collapse_fits(mesh, grid, tree, h, rim, number, other, around, place, scale, tolerance, changed):
    points = mesh.points
    g = mesh.across[h]
    u, v = origin(mesh, h), origin(mesh, g)
    length = min(mesh.length[u], mesh.length[v])
    for k in range(number):
        changed[k] = rim[k] // 3
    for k in range(around):
        changed[number + k] = other[k] // 3
    worst = 1.0
    nearest_u, nearest_v = np.inf, np.inf
    for side in range(2):
        for k in range(number if side == 0 else around):
            one = rim[k] if side == 0 else other[k]
            f = one // 3
            i, j = origin(mesh, after(one)), origin(mesh, before(one))
            worst = min(worst, quality(points[mesh.faces[f, 0]], points[mesh.faces[f, 1]], points[mesh.faces[f, 2]]))
            if f == h // 3 or f == g // 3:
                continue
            start = points[u] if side == 0 else points[v]
            if cosine(normal(start, points[i], points[j]), normal(place, points[i], points[j])) < LEAST_COSINE:
                return False
            reach = LONG * scale
            if squared_length(place, points[i]) > (reach * min(length, mesh.length[i])) ** 2:
                if squared_length(place, points[i]) > squared_length(start, points[i]):
                    return False
            nearest_u = min(nearest_u, point_triangle(points[u], place, points[i], points[j])[0])
            nearest_v = min(nearest_v, point_triangle(points[v], place, points[i], points[j])[0])
    squared = tolerance * tolerance
    if nearest_u > squared or nearest_v > squared:
        return False
    for side in range(2):
        for k in range(number if side == 0 else around):
            one = rim[k] if side == 0 else other[k]
            f = one // 3
            if f == h // 3 or f == g // 3:
                continue
            i, j = origin(mesh, after(one)), origin(mesh, before(one))
            if quality(place, points[i], points[j]) < min(worst, _LEAST_QUALITY * 4.0):
                return False
            if far(tree, place, points[i], points[j], squared):
                return False
            if cuts(grid, points, mesh.faces, v, i, j, place, points[i], points[j], changed, number + around):
                return False
    return True
