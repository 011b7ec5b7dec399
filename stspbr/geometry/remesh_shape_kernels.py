"""Numba kernels: passes that flip edges and move vertices of a changing mesh, with the checks of ``remesh_kernels``."""

from __future__ import annotations

import numpy as np

from stspbr.geometry.closest_kernels import closest
from stspbr.geometry.face_grid_kernels import cuts, renew
from stspbr.geometry.half_edge_kernels import FREE, MAX_RING, after, before, flip, joined, origin, ring
from stspbr.geometry.remesh_kernels import LEAST_COSINE
from stspbr.geometry.triangle_kernels import cosine, far, normal, project, quality
from stspbr.kernel_cache import kernel

_SMOOTH_STEPS = (1.0, 0.5, 0.25)


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
        if cosine(new_first, new_second) < min(LEAST_COSINE, cosine(first, second)):
            continue
        total = (first[0] + second[0], first[1] + second[1], first[2] + second[2])
        if cosine(total, new_first) < LEAST_COSINE or cosine(total, new_second) < LEAST_COSINE:
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
            target = project(tree, place)
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
        if cosine(normal(points[v], points[i], points[j]), normal(place, points[i], points[j])) < LEAST_COSINE:
            return False
        worst = min(worst, quality(points[v], points[i], points[j]))
        becomes = min(becomes, quality(place, points[i], points[j]))
    if becomes < min(0.8 * worst, 0.3):
        return False
    squared = tolerance * tolerance
    for k in range(number):
        i, j = origin(mesh, after(rim[k])), origin(mesh, before(rim[k]))
        if far(tree, place, points[i], points[j], squared) and not far(tree, points[v], points[i], points[j], squared):
            return False
        if cuts(grid, points, mesh.faces, v, i, j, place, points[i], points[j], changed, number):
            return False
    return True
