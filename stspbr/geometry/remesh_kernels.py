"""Numba kernels: passes over a changing mesh that split, collapse, flip and smooth, and refuse folds and cuts.

Every new triangle must not turn far from the one that it replaces, must stay within ``tolerance`` of the source, and
must not meet another face (``face_grid_kernels.cuts``). The order of work is that of the indices, so that results do
not depend on threads.
"""

from __future__ import annotations

import numpy as np

from stspbr.geometry.closest_kernels import closest, point_triangle
from stspbr.geometry.face_grid_kernels import cuts, renew
from stspbr.geometry.half_edge_kernels import (
    FREE,
    LINE,
    MAX_RING,
    after,
    before,
    collapse,
    flip,
    joined,
    origin,
    ring,
    split,
)
from stspbr.kernel_cache import kernel

LONG, SHORT = 4.0 / 3.0, 4.0 / 5.0
"""Edges are split above, and collapsed below, so many target lengths (Botsch and Kobbelt 2004, section 3)."""
_TURN = 0.5  # least cosine between the normals of a triangle before and after
_LEAST_QUALITY = 0.05
_SMOOTH_STEPS = (1.0, 0.5, 0.25)


@kernel
def quality(a, b, c):
    """4√3 · area / sum of squared edges: 1 for an equilateral triangle, 0 for one without area."""
    nx, ny, nz = normal(a, b, c)
    total = _squared(a, b) + _squared(b, c) + _squared(c, a)
    return 2.0 * np.sqrt(3.0) * np.sqrt(nx * nx + ny * ny + nz * nz) / total if total > 0.0 else 0.0


@kernel
def normal(a, b, c):
    """Cross product of a triangle's edges."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@kernel
def _squared(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2


@kernel
def _cosine(first, second):
    x = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    y = first[0] ** 2 + first[1] ** 2 + first[2] ** 2
    z = second[0] ** 2 + second[1] ** 2 + second[2] ** 2
    return x / np.sqrt(y * z) if y > 0.0 and z > 0.0 else -1.0


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
    return np.sqrt(_squared(mesh.points[u], mesh.points[v])) / (scale * min(mesh.length[u], mesh.length[v]))


@kernel
def _project(tree, point):
    """The source's closest point to ``point`` (in place), and the target length there."""
    f, _, w0, w1, w2 = closest(tree, point)
    i, j, k = tree.faces[f, 0], tree.faces[f, 1], tree.faces[f, 2]
    for a in range(3):
        point[a] = w0 * tree.points[i, a] + w1 * tree.points[j, a] + w2 * tree.points[k, a]
    return w0 * tree.values[i, 0] + w1 * tree.values[j, 0] + w2 * tree.values[k, 0]


@kernel
def _far(tree, a, b, c, squared):
    """Whether a triangle's centre is farther from the source than the root of ``squared``."""
    point = np.empty(3)
    for x in range(3):
        point[x] = (a[x] + b[x] + c[x]) / 3.0
    return closest(tree, point)[1] > squared


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
        length = _project(tree, place)
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
            if _cosine(old, normal(first, second, points[tip])) < _TURN:
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
                _project(tree, place)
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
            if _cosine(normal(start, points[i], points[j]), normal(place, points[i], points[j])) < _TURN:
                return False
            reach = LONG * scale
            if _squared(place, points[i]) > (reach * min(length, mesh.length[i])) ** 2:
                if _squared(place, points[i]) > _squared(start, points[i]):
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
            if _far(tree, place, points[i], points[j], squared):
                return False
            if cuts(grid, points, mesh.faces, v, i, j, place, points[i], points[j], changed, number + around):
                return False
    return True


@kernel
def flip_pass(mesh, grid, tree, tolerance):
    """Turn inner edges that are not sharp if the worse of their two triangles becomes better; returns their number."""
    scratch, changed = np.empty(MAX_RING, np.int64), np.empty(2, np.int64)
    middle = np.empty(3)
    done = 0
    for h in range(3 * mesh.used[1]):
        g = mesh.across[h]
        if mesh.faces[h // 3, 0] < 0 or g < h or mesh.sharp[h]:
            continue
        a, b = origin(mesh, h), origin(mesh, g)
        c, d = origin(mesh, before(h)), origin(mesh, before(g))
        pa, pb, pc, pd = mesh.points[a], mesh.points[b], mesh.points[c], mesh.points[d]
        was = min(quality(pa, pb, pc), quality(pb, pa, pd))
        becomes = min(quality(pa, pd, pc), quality(pd, pb, pc))
        if becomes <= was * 1.02 + 1e-4 or c == d:
            continue
        first, second = normal(pa, pb, pc), normal(pb, pa, pd)
        new_first, new_second = normal(pa, pd, pc), normal(pd, pb, pc)
        if _cosine(new_first, new_second) < min(_TURN, _cosine(first, second)):
            continue
        total = (first[0] + second[0], first[1] + second[1], first[2] + second[2])
        if _cosine(total, new_first) < _TURN or _cosine(total, new_second) < _TURN:
            continue
        for x in range(3):
            middle[x] = 0.5 * (pc[x] + pd[x])
        distance = closest(tree, middle)[1]
        if distance > (0.3 * tolerance) ** 2:
            for x in range(3):
                middle[x] = 0.5 * (pa[x] + pb[x])
            if distance > closest(tree, middle)[1]:
                continue
        if joined(mesh, c, d, scratch):
            continue
        changed[0], changed[1] = h // 3, g // 3
        if cuts(grid, mesh.points, mesh.faces, a, d, c, pa, pd, pc, changed, 2):
            continue
        if cuts(grid, mesh.points, mesh.faces, d, b, c, pd, pb, pc, changed, 2):
            continue
        flip(mesh, h)
        renew(grid, mesh.points, mesh.faces, mesh.used[1], changed[0])
        renew(grid, mesh.points, mesh.faces, mesh.used[1], changed[1])
        done += 1
    return done


@kernel
def smooth_pass(mesh, grid, tree, tolerance):
    """Move free vertices towards the middle of their triangles, along the surface, and back onto the source."""
    rim, changed = np.empty(MAX_RING, np.int64), np.empty(MAX_RING, np.int64)
    centre, place = np.empty(3), np.empty(3)
    moved = 0
    for v in range(mesh.used[0]):
        if mesh.half[v] < 0 or mesh.kind[v] != FREE:
            continue
        number = ring(mesh, v, rim)
        if number < 3:
            continue
        p = mesh.points[v]
        centre[:] = 0.0
        nx = ny = nz = total = 0.0
        for k in range(number):
            i, j = origin(mesh, after(rim[k])), origin(mesh, before(rim[k]))
            x, y, z = normal(p, mesh.points[i], mesh.points[j])
            nx, ny, nz = nx + x, ny + y, nz + z
            size = (mesh.length[v] + mesh.length[i] + mesh.length[j]) / 3.0
            weight = np.sqrt(x * x + y * y + z * z) / (size * size)
            total += weight
            for q in range(3):
                centre[q] += weight * (p[q] + mesh.points[i, q] + mesh.points[j, q]) / 3.0
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        if total <= 0.0 or length <= 0.0:
            continue
        nx, ny, nz = nx / length, ny / length, nz / length
        x, y, z = centre[0] / total - p[0], centre[1] / total - p[1], centre[2] / total - p[2]
        along = x * nx + y * ny + z * nz
        x, y, z = x - along * nx, y - along * ny, z - along * nz
        for step in _SMOOTH_STEPS:
            place[0], place[1], place[2] = p[0] + step * x, p[1] + step * y, p[2] + step * z
            target = _project(tree, place)
            if move_fits(mesh, grid, tree, v, rim, number, place, tolerance, changed):
                mesh.points[v] = place
                mesh.length[v] = target
                for k in range(number):
                    renew(grid, mesh.points, mesh.faces, mesh.used[1], rim[k] // 3)
                moved += 1
                break
    return moved


@kernel
def move_pass(mesh, grid, tree, targets, tolerance):
    """Move each vertex to its row of ``targets``, or half or a quarter of the way; returns how many stay."""
    rim, changed = np.empty(MAX_RING, np.int64), np.empty(MAX_RING, np.int64)
    place, stay = np.empty(3), 0
    for v in range(mesh.used[0]):
        if mesh.half[v] < 0 or mesh.kind[v] != FREE:
            continue
        number = ring(mesh, v, rim)
        done = number < 3
        for step in _SMOOTH_STEPS:
            if done:
                break
            for x in range(3):
                place[x] = mesh.points[v, x] + step * (targets[v, x] - mesh.points[v, x])
            if move_fits(mesh, grid, tree, v, rim, number, place, tolerance, changed):
                mesh.points[v] = place
                for k in range(number):
                    renew(grid, mesh.points, mesh.faces, mesh.used[1], rim[k] // 3)
                done = True
        stay += not done
    return stay


@kernel
def move_fits(mesh, grid, tree, v, rim, number, place, tolerance, changed):
    """Whether vertex ``v`` may move to ``place``: no fold, no new sliver, near the source, no cut."""
    points = mesh.points
    worst, becomes = 1.0, 1.0
    for k in range(number):
        changed[k] = rim[k] // 3
        i, j = origin(mesh, after(rim[k])), origin(mesh, before(rim[k]))
        if _cosine(normal(points[v], points[i], points[j]), normal(place, points[i], points[j])) < _TURN:
            return False
        worst = min(worst, quality(points[v], points[i], points[j]))
        becomes = min(becomes, quality(place, points[i], points[j]))
    if becomes < min(0.8 * worst, 0.3):
        return False
    squared = tolerance * tolerance
    for k in range(number):
        i, j = origin(mesh, after(rim[k])), origin(mesh, before(rim[k]))
        if _far(tree, place, points[i], points[j], squared) and not _far(
            tree, points[v], points[i], points[j], squared
        ):
            return False
        if cuts(grid, points, mesh.faces, v, i, j, place, points[i], points[j], changed, number):
            return False
    return True
