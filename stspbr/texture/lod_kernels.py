"""Numba kernels of :mod:`stspbr.texture.lod`: quadrics over position and attributes, and the collapses."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from stspbr.kernel_cache import kernel

_MIN_COSINE = 0.2  # a face that turns farther than this when a corner moves is not wanted
_SEAM_FACES = 2


@kernel
def add_quadrics(corners: np.ndarray, wedge: np.ndarray, seam: np.ndarray, seam_weight: float, count: int):
    """Squared distances to the planes of faces and the lines of seams, for each wedge (Garland and Heckbert 1998).

    Args:
        corners: ``[F, 3, D]`` float64: position, then scaled attributes.
        wedge: ``[F, 3]``; seam: ``[F, 3]`` whether the edge from corner k to the next is one; count: of wedges.

    Returns:
        ``A [count, D, D]``, ``b [count, D]``, ``c [count]`` of ``x·A·x + 2 b·x + c``.
    """
    dimensions = corners.shape[2]
    a = np.zeros((count, dimensions, dimensions))
    b = np.zeros((count, dimensions))
    c = np.zeros(count)
    for f in range(len(corners)):
        p, q, r = corners[f, 0], corners[f, 1], corners[f, 2]
        along = q - p
        length = np.sqrt(np.dot(along, along))
        if length < 1e-14:
            continue
        first = along / length
        across = (r - p) - np.dot(r - p, first) * first
        height = np.sqrt(np.dot(across, across))
        if height < 1e-14:
            continue
        second = across / height
        for k in range(3):
            _add(a, b, c, wedge[f, k], p, first, second, True, length * height / 6.0)
        for k in range(3):
            if seam[f, k]:
                start, stop = corners[f, k], corners[f, (k + 1) % 3]
                step = stop - start
                size = np.sqrt(np.dot(step, step))
                if size > 1e-14:
                    for w in (wedge[f, k], wedge[f, (k + 1) % 3]):
                        _add(a, b, c, w, start, step / size, step, False, seam_weight * size * size)
    return a, b, c


@kernel
def _add(a, b, c, w, p, first, second, plane, weight):
    dimensions = len(p)
    along1, along2 = np.dot(p, first), np.dot(p, second) if plane else 0.0
    for i in range(dimensions):
        for j in range(dimensions):
            value = (1.0 if i == j else 0.0) - first[i] * first[j]
            if plane:
                value -= second[i] * second[j]
            a[w, i, j] += weight * value
        b[w, i] += weight * (along1 * first[i] + (along2 * second[i] if plane else 0.0) - p[i])
    c[w] += weight * (np.dot(p, p) - along1 * along1 - along2 * along2)


@kernel
def collapse(points, uvs, values, faces, wedge, kind, a, b, c, target):
    """Collapse vertices into neighbours, the cheapest first, until ``target`` faces are left or nothing may go.

    Args:
        points: ``[V, 3]``; uvs: ``[W, 2]`` and values ``[W, D]`` of wedges (what the quadrics are over).
        faces, wedge: ``[F, 3]``, changed in place.
        kind: ``[V]`` 0 inside a chart, 1 on a seam (moves along it), 2 stays.
        a, b, c: quadrics, changed in place.

    Returns:
        ``[F]`` bool: the faces that are left.
    """
    count, vertices = len(faces), len(points)
    alive = np.ones(count, np.bool_)
    # The corners at a vertex as linked lists, so that two join in one step.
    head, tail, after = np.full(vertices, -1), np.full(vertices, -1), np.full(3 * count, -1)
    for corner in range(3 * count):
        v = faces[corner // 3, corner % 3]
        if head[v] < 0:
            head[v] = corner
        else:
            after[tail[v]] = corner
        tail[v] = corner
    stamp = np.zeros(vertices, np.int64)
    seen = np.full(vertices, -1)
    mark = 0
    heap = [(0.0, 0, 0, 0, 0) for _ in range(0)]
    for f in range(count):
        for k in range(3):
            for u, v in ((faces[f, k], faces[f, (k + 1) % 3]), (faces[f, (k + 1) % 3], faces[f, k])):
                if kind[u] < 2:
                    cost, fits = _cost(u, v, faces, wedge, alive, head, after, values, kind, a, b, c)
                    if fits:
                        heap.append((cost, u, v, 0, 0))
    heapify(heap)
    left = count
    while left > target and len(heap) > 0:
        _, u, v, stamp_u, stamp_v = heappop(heap)
        if stamp[u] != stamp_u or stamp[v] != stamp_v or head[u] < 0 or head[v] < 0:
            continue
        cost, fits = _cost(u, v, faces, wedge, alive, head, after, values, kind, a, b, c)
        mark += 2
        if not fits or not _manifold(u, v, faces, alive, head, after, seen, mark):
            continue
        pairs = _pairs(u, v, faces, wedge, alive, head, after)
        if _folds(u, v, pairs, points, uvs, faces, wedge, alive, head, after):
            continue
        for k in range(pairs[0, 0]):
            source, sink = pairs[k + 1, 0], pairs[k + 1, 1]
            a[sink] += a[source]
            b[sink] += b[source]
            c[sink] += c[source]
        corner = head[u]
        while corner >= 0:
            f, k = corner // 3, corner % 3
            if alive[f]:
                if faces[f, (k + 1) % 3] == v or faces[f, (k + 2) % 3] == v:
                    alive[f] = False
                    left -= 1
                else:
                    faces[f, k] = v
                    wedge[f, k] = _mapped(pairs, wedge[f, k])
            corner = after[corner]
        after[tail[v]] = head[u]
        tail[v] = tail[u]
        head[u] = -1
        stamp[v] += 1
        corner = head[v]
        while corner >= 0:
            f, k = corner // 3, corner % 3
            if alive[f]:
                for step in (1, 2):
                    other = faces[f, (k + step) % 3]
                    for s, t in ((v, other), (other, v)):
                        if kind[s] < 2:
                            cost, fits = _cost(s, t, faces, wedge, alive, head, after, values, kind, a, b, c)
                            if fits:
                                heappush(heap, (cost, s, t, stamp[s], stamp[t]))
            corner = after[corner]
    return alive


@kernel
def _pairs(u, v, faces, wedge, alive, head, after):
    """Row 0 counts; then rows (wedge at u, wedge at v) of the faces that share the edge, each once."""
    out = np.full((1 + _SEAM_FACES + 1, 2), -1, np.int64)
    out[0] = 0
    corner = head[u]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        if alive[f]:
            for step in (1, 2):
                if faces[f, (k + step) % 3] == v:
                    mine, theirs = wedge[f, k], wedge[f, (k + step) % 3]
                    known = False
                    for i in range(out[0, 0]):
                        if out[i + 1, 0] == mine and out[i + 1, 1] == theirs:
                            known = True
                    if not known and out[0, 0] < len(out) - 1:
                        out[0, 0] += 1
                        out[out[0, 0], 0], out[out[0, 0], 1] = mine, theirs
                    out[0, 1] += 1  # faces at the edge
        corner = after[corner]
    return out


@kernel
def _mapped(pairs, w):
    for k in range(pairs[0, 0]):
        if pairs[k + 1, 0] == w:
            return pairs[k + 1, 1]
    return -1


@kernel
def _cost(u, v, faces, wedge, alive, head, after, values, kind, a, b, c):
    """The error of u in v's place, and whether u's wedges have a place there."""
    pairs = _pairs(u, v, faces, wedge, alive, head, after)
    distinct, shared = pairs[0, 0], pairs[0, 1]
    if shared == 0 or shared > 2:
        return 0.0, False
    on_seam = shared == 1 or distinct == 2
    if (kind[u] == 1) != on_seam:
        return 0.0, False
    if distinct == 2 and pairs[1, 0] == pairs[2, 0]:
        return 0.0, False  # the end of a seam: one wedge would have two places
    corner = head[u]
    while corner >= 0:
        if alive[corner // 3] and _mapped(pairs, wedge[corner // 3, corner % 3]) < 0:
            return 0.0, False
        corner = after[corner]
    total = 0.0
    for k in range(distinct):
        source, x = pairs[k + 1, 0], values[pairs[k + 1, 1]]
        total += np.dot(x, np.dot(a[source], x)) + 2.0 * np.dot(b[source], x) + c[source]
    return max(total, 0.0), True


@kernel
def _manifold(u, v, faces, alive, head, after, seen, mark):
    """The link condition: u and v have no common neighbours but those of their common faces."""
    common_faces = 0
    corner = head[u]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        if alive[f]:
            for step in (1, 2):
                seen[faces[f, (k + step) % 3]] = mark
                if faces[f, (k + step) % 3] == v:
                    common_faces += 1
        corner = after[corner]
    common = 0
    corner = head[v]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        if alive[f]:
            for step in (1, 2):
                other = faces[f, (k + step) % 3]
                if other != u and seen[other] == mark:
                    seen[other] = mark + 1
                    common += 1
        corner = after[corner]
    return common == common_faces


@kernel
def _folds(u, v, pairs, points, uvs, faces, wedge, alive, head, after):
    """Whether a face that stays would turn over or collapse, in space or in the image."""
    corner = head[u]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        i, j = (k + 1) % 3, (k + 2) % 3
        if alive[f] and faces[f, i] != v and faces[f, j] != v:
            p, q = points[faces[f, i]], points[faces[f, j]]
            before, now = np.cross(p - points[u], q - points[u]), np.cross(p - points[v], q - points[v])
            size = np.sqrt(np.dot(before, before) * np.dot(now, now))
            if np.dot(before, before) > 1e-24 and np.dot(before, now) <= _MIN_COSINE * size:
                return True
            s, t = uvs[wedge[f, i]], uvs[wedge[f, j]]
            old, new = uvs[wedge[f, k]], uvs[_mapped(pairs, wedge[f, k])]
            area = (s[0] - old[0]) * (t[1] - old[1]) - (s[1] - old[1]) * (t[0] - old[0])
            moved = (s[0] - new[0]) * (t[1] - new[1]) - (s[1] - new[1]) * (t[0] - new[0])
            if abs(area) > 1e-14 and area * moved <= 0.0:
                return True
        corner = after[corner]
    return False
