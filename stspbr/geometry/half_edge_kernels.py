"""Numba kernels: a triangle mesh that changes, as half edges, and its three changes: split, collapse and flip.

Half edge ``h`` belongs to face ``h // 3`` and runs from its corner ``h % 3`` to the next one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stspbr.kernel_cache import kernel

FREE, LINE, FIXED = 0, 1, 2
"""Kinds of vertices: inside a smooth part, on a sharp line, and those that stay."""
MAX_RING = 256


class HalfEdges(NamedTuple):
    """A mesh with room to grow.

    Attributes:
        points: ``[V', 3]`` float64; kind: ``[V']`` int64; length: ``[V']`` target edge length.
        half: ``[V']`` a half edge that starts at the vertex, −1 if it is gone.
        faces: ``[F', 3]`` int64, −1 in faces that are gone; across: ``[3F']`` the opposite half edge, −1 at a border.
        sharp: ``[3F']`` bool.
        used: ``[2]`` vertices and faces in use, gone ones included.
    """

    points: np.ndarray
    kind: np.ndarray
    length: np.ndarray
    half: np.ndarray
    faces: np.ndarray
    across: np.ndarray
    sharp: np.ndarray
    used: np.ndarray


def half_edge_mesh(positions: np.ndarray, faces: np.ndarray, sharp: np.ndarray, room: int) -> HalfEdges:
    """Half edges of a mesh; vertices at borders and at edges or fans that are not manifold are ``FIXED``.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``, consistently oriented.
        sharp: ``[F, 3]`` bool: the edge from each corner to the next.
        room: faces that there is room for.
    """
    vertices, count = len(positions), len(faces)
    room = max(room, count) + 2
    faces = np.asarray(faces, np.int64)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    keys, opposite = start * vertices + end, end * vertices + start
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    single = np.r_[True, ordered[1:] != ordered[:-1]] & np.r_[ordered[1:] != ordered[:-1], True]
    at = np.minimum(np.searchsorted(ordered, opposite), len(ordered) - 1)
    both = (ordered[at] == opposite) & single[at]
    both &= single[np.searchsorted(ordered, keys)]
    across = np.full(3 * room, -1, np.int64)
    across[: 3 * count] = np.where(both, order[at], -1)
    table = np.full((room, 3), -1, np.int64)
    table[:count] = faces
    flags = np.zeros(3 * room, bool)
    flags[: 3 * count] = np.asarray(sharp, bool).reshape(-1)
    half = np.full(vertices + room, -1, np.int64)
    half[start[::-1]] = np.arange(3 * count)[::-1]
    points = np.zeros((vertices + room, 3))
    points[:vertices] = positions
    kind = np.zeros(vertices + room, np.int64)
    mesh = HalfEdges(points, kind, np.ones(vertices + room), half, table, across, flags, np.array([vertices, count]))
    degree = np.bincount(start, minlength=vertices)
    lines = np.bincount(start[flags[: 3 * count]], minlength=vertices)
    kind[:vertices] = np.where(lines == 0, FREE, np.where(lines == 2, LINE, FIXED))
    border = start[~both]
    kind[border], kind[end[~both]] = FIXED, FIXED
    kind[:vertices][_fan_sizes(mesh, vertices) != degree] = FIXED
    kind[:vertices][degree > MAX_RING // 2] = FIXED
    return mesh


@kernel
def _fan_sizes(mesh, vertices):
    out = np.zeros(vertices, np.int64)
    for v in range(vertices):
        h = mesh.half[v]
        if h < 0:
            continue
        start = h
        while True:
            out[v] += 1
            h = mesh.across[before(h)]
            if h < 0 or h == start or out[v] > 3 * len(mesh.faces):
                break
    return out


@kernel
def after(h):
    """The next half edge of the same face."""
    return h - 2 if h % 3 == 2 else h + 1


@kernel
def before(h):
    """The previous half edge of the same face."""
    return h + 2 if h % 3 == 0 else h - 1


@kernel
def origin(mesh, h):
    """The vertex at which ``h`` starts."""
    return mesh.faces[h // 3, h % 3]


@kernel
def ring(mesh, v, out):
    """Write the half edges that start at ``v`` into ``out`` and return their number; −1 if there are too many."""
    start = mesh.half[v]
    h, number = start, 0
    while h >= 0:
        if number == len(out):
            return -1
        out[number] = h
        number += 1
        h = mesh.across[before(h)]
        if h == start:
            return number
    h = mesh.across[start]
    while h >= 0:
        h = after(h)
        if number == len(out):
            return -1
        out[number] = h
        number += 1
        h = mesh.across[h]
    return number


@kernel
def joined(mesh, v, w, scratch):
    """Whether an edge joins ``v`` and ``w``; True if ``v`` has too many edges to tell."""
    number = ring(mesh, v, scratch)
    if number < 0:
        return True
    for k in range(number):
        h = scratch[k]
        if origin(mesh, after(h)) == w or origin(mesh, before(h)) == w:
            return True
    return False


@kernel
def pair(mesh, h, g):
    """Make two half edges opposite; one may be −1."""
    if h >= 0:
        mesh.across[h] = g
    if g >= 0:
        mesh.across[g] = h


@kernel
def split(mesh, h, point, length):
    """Split an inner edge at ``point``; returns the new vertex. The caller has made sure that there is room."""
    g = mesh.across[h]
    a, b = origin(mesh, h), origin(mesh, g)
    c, d = origin(mesh, before(h)), origin(mesh, before(g))
    sharp = mesh.sharp[h]
    hb, hc, ga, gd = after(h), before(h), after(g), before(g)
    outer_b, outer_c, outer_a, outer_d = mesh.across[hb], mesh.across[hc], mesh.across[ga], mesh.across[gd]
    sharp_b, sharp_c, sharp_a, sharp_d = mesh.sharp[hb], mesh.sharp[hc], mesh.sharp[ga], mesh.sharp[gd]
    m, f2 = mesh.used[0], mesh.used[1]
    f3 = f2 + 1
    mesh.used[0] += 1
    mesh.used[1] += 2
    f0, f1 = h // 3, g // 3
    mesh.points[m] = point
    mesh.length[m] = length
    mesh.kind[m] = LINE if sharp else FREE
    _set(mesh, f0, a, m, c, sharp, False, sharp_c)
    _set(mesh, f1, m, a, d, sharp, sharp_a, False)
    _set(mesh, f2, m, b, c, sharp, sharp_b, False)
    _set(mesh, f3, b, m, d, sharp, False, sharp_d)
    pair(mesh, 3 * f0, 3 * f1)
    pair(mesh, 3 * f0 + 1, 3 * f2 + 2)
    pair(mesh, 3 * f0 + 2, outer_c)
    pair(mesh, 3 * f2, 3 * f3)
    pair(mesh, 3 * f2 + 1, outer_b)
    pair(mesh, 3 * f1 + 2, 3 * f3 + 1)
    pair(mesh, 3 * f1 + 1, outer_a)
    pair(mesh, 3 * f3 + 2, outer_d)
    mesh.half[m], mesh.half[a], mesh.half[b] = 3 * f2, 3 * f0, 3 * f3
    mesh.half[c], mesh.half[d] = 3 * f0 + 2, 3 * f3 + 2
    return m


@kernel
def flip(mesh, h):
    """Turn an inner edge: the triangles (a, b, c) and (b, a, d) become (a, d, c) and (d, b, c)."""
    g = mesh.across[h]
    a, b = origin(mesh, h), origin(mesh, g)
    c, d = origin(mesh, before(h)), origin(mesh, before(g))
    hb, hc, ga, gd = after(h), before(h), after(g), before(g)
    outer_b, outer_c, outer_a, outer_d = mesh.across[hb], mesh.across[hc], mesh.across[ga], mesh.across[gd]
    sharp_b, sharp_c, sharp_a, sharp_d = mesh.sharp[hb], mesh.sharp[hc], mesh.sharp[ga], mesh.sharp[gd]
    f0, f1 = h // 3, g // 3
    _set(mesh, f0, a, d, c, sharp_a, False, sharp_c)
    _set(mesh, f1, d, b, c, sharp_d, sharp_b, False)
    pair(mesh, 3 * f0, outer_a)
    pair(mesh, 3 * f0 + 1, 3 * f1 + 2)
    pair(mesh, 3 * f0 + 2, outer_c)
    pair(mesh, 3 * f1, outer_d)
    pair(mesh, 3 * f1 + 1, outer_b)
    mesh.half[a], mesh.half[d], mesh.half[b], mesh.half[c] = 3 * f0, 3 * f1, 3 * f1 + 1, 3 * f0 + 2


@kernel
def collapse(mesh, h, rim, number):
    """Remove the start of an inner edge: its faces go to the end of the edge, and the edge's two faces vanish.

    Args:
        rim: the half edges that start at the removed vertex, ``number`` of them, as ``ring`` gives them.
    """
    g = mesh.across[h]
    u, v = origin(mesh, h), origin(mesh, g)
    a, b = origin(mesh, before(h)), origin(mesh, before(g))
    for k in range(number):
        mesh.faces[rim[k] // 3, rim[k] % 3] = v
    first, second = mesh.across[after(h)], mesh.across[before(h)]
    third, fourth = mesh.across[after(g)], mesh.across[before(g)]
    left = mesh.sharp[after(h)] or mesh.sharp[before(h)]
    right = mesh.sharp[after(g)] or mesh.sharp[before(g)]
    pair(mesh, first, second)
    pair(mesh, third, fourth)
    for one in (first, second):
        if one >= 0:
            mesh.sharp[one] = left
    for one in (third, fourth):
        if one >= 0:
            mesh.sharp[one] = right
    for f in (h // 3, g // 3):
        mesh.faces[f] = -1
        for k in range(3):
            mesh.across[3 * f + k] = -1
    mesh.half[u] = -1
    # across[first] = second: one of them starts at v, the other at a
    _start_at(mesh, first, second, v, a)
    _start_at(mesh, third, fourth, v, b)


@kernel
def _start_at(mesh, first, second, v, w):
    for one in (first, second):
        if one >= 0:
            if origin(mesh, one) == v:
                mesh.half[v] = one
            if origin(mesh, one) == w:
                mesh.half[w] = one
            if origin(mesh, after(one)) == w:
                mesh.half[w] = after(one)
            if origin(mesh, after(one)) == v:
                mesh.half[v] = after(one)


@kernel
def _set(mesh, f, a, b, c, first, second, third):
    mesh.faces[f, 0], mesh.faces[f, 1], mesh.faces[f, 2] = a, b, c
    mesh.sharp[3 * f], mesh.sharp[3 * f + 1], mesh.sharp[3 * f + 2] = first, second, third
