"""Creases of a learned surface: marching cells cut them off by a strip of triangles, which is turned back into edges.

Filtered normals tell the sides apart (Zheng et al. 2011, "Bilateral normal filtering for mesh denoising"), and each
vertex between sides goes where their planes meet (as the quadrics of Garland and Heckbert 1997 do).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from stspbr.geometry.closest_kernels import closest_points, closest_tree
from stspbr.geometry.topology import connected, inner_edges
from stspbr.scene.attributes import smooth_normals, unit
from stspbr.scene.mesh import Corners

Bend = Callable[[np.ndarray], np.ndarray]

_ROUNDS = 10
_WIDTH = 0.35  # normals farther apart than this (as the length of their difference) are of different sides
_PLACINGS = 3
_STRAY = np.cos(np.radians(20.0))  # a face whose own normal is farther from the filtered one is part of a cut-off strip
_SIDE = np.cos(np.radians(25.0))  # faces whose normals are nearer to one at the line are of its sides
_SPREAD = 0.25  # a crease's sides may bend by so much of its angle around it: else it is a tight bend
_SHORTEST = 5.0  # mean edges: shorter lines are noise
_FARTHEST = 0.75  # mean edges that a vertex may move
_MEETING = 0.2  # mean edges within which the planes around a vertex must meet


def restored_creases(
    positions: np.ndarray, faces: np.ndarray, least_degrees: float = 40.0
) -> tuple[np.ndarray, np.ndarray]:
    """Find lines between sides that meet at an angle, and move their vertices onto the line.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``, consistently oriented.
        least_degrees: between the normals of the sides.

    Returns:
        Positions ``[V, 3]`` float64 and ``[F, 3]`` bool: the edge from each corner to the next is a crease. Where no
        crease is found, positions stay bit for bit.
    """
    points, faces = np.array(positions, np.float64), np.asarray(faces, np.int64)
    normals, areas, centres = _normals(points, faces)
    smooth = _filtered(normals, areas, centres, faces, len(points))
    left, right, start, end = inner_edges(faces, len(points))
    sharp = (smooth[left] * smooth[right]).sum(axis=1) < np.cos(np.radians(least_degrees))
    edge = float(np.linalg.norm(points[start] - points[end], axis=1).mean())
    sharp &= ~_bends(points, faces, normals, smooth, areas, (left, right, start, end), sharp)
    moved = points
    while True:
        sharp = _long(sharp, points, start, end, _SHORTEST * edge)
        line = np.unique(np.concatenate([start[sharp], end[sharp]]))
        if len(line) == 0:
            moved = points
            break
        moved, off = _placed(points, faces, normals, smooth, areas, (start[sharp], end[sharp]), line)
        doubtful = (off > _MEETING * edge) | (np.linalg.norm(moved - points, axis=1) > _FARTHEST * edge)
        if not (doubtful[start[sharp]] | doubtful[end[sharp]]).any():
            break
        sharp &= ~(doubtful[start] | doubtful[end])
    points = moved
    flags = np.isin(
        _edge_keys(faces, len(points)), (np.minimum(start, end) * len(points) + np.maximum(start, end))[sharp]
    )
    return points, flags


def corner_groups(faces: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """``[F, 3]`` int32: corners at a vertex have one number if they are joined by edges that are not ``sharp [F, 3]``.

    Without a sharp edge these are the numbers of the vertices; otherwise they start with 0 and have no gaps.
    """
    faces = np.asarray(faces, np.int64)
    if not sharp.any():
        return faces.astype(np.int32)
    count = len(faces)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    size = int(faces.max()) + 1
    low, high = np.minimum(start, end), np.maximum(start, end)
    key = np.where(sharp.reshape(-1), -1, low * size + high)
    order = np.argsort(key, kind="stable")
    same = (key[order][1:] == key[order][:-1]) & (key[order][1:] >= 0)
    a, b = order[:-1][same], order[1:][same]
    # the corners at both ends: half edge h runs from corner h to the next corner of its face
    a_next, b_next = a - a % 3 + (a + 1) % 3, b - b % 3 + (b + 1) % 3
    along = start[a] == start[b]
    left = np.concatenate([a, a_next])
    right = np.concatenate([np.where(along, b, b_next), np.where(along, b_next, b)])
    label = connected(left, right, 3 * count)[1]
    pair = np.unique(np.stack([start, label], axis=1), axis=0, return_inverse=True)[1]
    return pair.reshape(-1, 3).astype(np.int32)


def split_normals(positions: np.ndarray, faces: np.ndarray, sharp: np.ndarray) -> Corners[np.ndarray]:
    """Area-weighted normals that are smooth except across the edges ``sharp [F, 3]``; float32."""
    groups = corner_groups(faces, sharp)
    corners = np.asarray(positions, np.float64)[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    count = int(groups.max()) + 1
    total = [np.bincount(groups.reshape(-1), np.repeat(crosses[:, k], 3), count) for k in range(3)]
    return Corners(unit(np.stack(total, axis=1), (0.0, 0.0, 1.0)), groups)


def supported_creases(
    positions: np.ndarray,
    faces: np.ndarray,
    sharp: np.ndarray,
    source: np.ndarray,
    source_faces: np.ndarray,
    bend: Bend | None,
) -> np.ndarray:
    """Which creases the learned shading shows, too: the normals that the images were shaded with turn across them.

    The normals on either side of a line, an edge's length away, must differ in the median over the line by half of
    the angle between its faces at least.

    Args:
        positions, faces, sharp: the mesh with its creases.
        source, source_faces: the mesh that the images were shaded with.
        bend: what was added to its unit smooth normals at points; None: nothing.

    Returns:
        ``[F, 3]`` bool: the edges of ``sharp`` that stay.
    """
    faces = np.asarray(faces, np.int64)
    left, right, start, end = inner_edges(faces, len(positions))
    keys = np.minimum(start, end) * len(positions) + np.maximum(start, end)
    own = _edge_keys(faces, len(positions))
    chosen = np.isin(keys, own[sharp])
    left, right, start, end, keys = (values[chosen] for values in (left, right, start, end, keys))
    if len(keys) == 0:
        return np.zeros(faces.shape, bool)
    points = np.asarray(positions, np.float64)
    normals, _, centres = _normals(points, faces)
    middle, length = 0.5 * (points[start] + points[end]), np.linalg.norm(points[start] - points[end], axis=1)
    seen = []
    tree = closest_tree(source, source_faces, smooth_normals(source, source_faces))
    for side in (left, right):
        away = centres[side] - middle
        away *= (length / np.maximum(np.linalg.norm(away, axis=1), 1e-300))[:, None]
        found, face, weights = closest_points(tree, middle + away)
        normal = (tree.values[tree.faces[face]] * weights[..., None]).sum(axis=1)
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        normal = normal + (0.0 if bend is None else bend(found))
        seen.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300))
    shown = np.arccos(np.clip((seen[0] * seen[1]).sum(axis=1), -1.0, 1.0))
    angle = np.arccos(np.clip((normals[left] * normals[right]).sum(axis=1), -1.0, 1.0))
    line = connected(start, end, len(points))[1][start]
    good = np.zeros(len(keys), bool)
    for one in np.unique(line):
        rows = line == one
        good[rows] = np.median(shown[rows]) >= 0.5 * np.median(angle[rows])
    return np.isin(own, keys[good])


def _edge_keys(faces: np.ndarray, vertices: int) -> np.ndarray:
    """``[F, 3]`` a number for the edge from each corner to the next, the same in both directions."""
    following = np.roll(faces, -1, axis=1)
    return np.minimum(faces, following) * vertices + np.maximum(faces, following)


def _filtered(
    normals: np.ndarray, areas: np.ndarray, centres: np.ndarray, faces: np.ndarray, vertices: int
) -> np.ndarray:
    """``[F, 3]`` normals averaged with like ones around: sides become even, faces of a strip join one of them."""
    count = len(faces)
    uses = csr_matrix((np.ones(3 * count), (np.repeat(np.arange(count), 3), faces.reshape(-1))), (count, vertices))
    pairs = (uses @ uses.T).tocoo()
    owner, other = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    distance = np.linalg.norm(centres[owner] - centres[other], axis=1)
    nearness = areas[other] * np.exp(-0.5 * (distance / distance.mean()) ** 2)
    for _ in range(_ROUNDS):
        gap = ((normals[owner] - normals[other]) ** 2).sum(axis=1)
        weight = nearness * np.exp(-0.5 * gap / _WIDTH**2)
        total = np.stack([np.bincount(owner, weight * normals[other, k], count) for k in range(3)], 1)
        normals = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)
    return normals


def _bends(points, faces, normals, smooth, areas, edges, sharp):  # noqa: ANN001
    """``[E]`` bool: a side of the edge bends by much of the edge's angle within two rings."""
    left, right, start, _ = edges
    near = _faces_around(faces, len(points))
    out = np.zeros(len(left), bool)
    for e in np.flatnonzero(sharp):
        around = near.indices[near.indptr[start[e]] : near.indptr[start[e] + 1]]
        own = np.stack([smooth[left[e]], smooth[right[e]]])
        angle = np.arccos(np.clip(own[0] @ own[1], -1.0, 1.0))
        steady = (normals[around] * smooth[around]).sum(axis=1) > _STRAY
        if not steady.any():
            out[e] = True
            continue
        around = around[steady]
        # a third side at a corner is no bend: faces beyond half the angle from both sides are left out
        apart = np.arccos(np.clip(normals[around] @ own.T, -1.0, 1.0)).min(axis=1)
        ours = apart < 0.5 * angle
        weight = areas[around] * ours
        out[e] = weight.sum() <= 0 or (weight * apart).sum() > _SPREAD * angle * weight.sum()
    return out


def _long(sharp: np.ndarray, points: np.ndarray, start: np.ndarray, end: np.ndarray, least: float) -> np.ndarray:
    """``sharp [E]`` without lines shorter than ``least``, all connected edges together."""
    own = np.flatnonzero(sharp)
    graph = coo_matrix((np.ones(len(own)), (start[own], end[own])), (len(points), len(points)))
    label = connected_components(graph, directed=False)[1][start[own]]
    length = np.bincount(label, np.linalg.norm(points[start[own]] - points[end[own]], axis=1)) if len(own) else own
    out = np.zeros(len(sharp), bool)
    out[own[length[label] >= least]] = True
    return out


def _placed(points, faces, normals, smooth, areas, ends, line):  # noqa: ANN001
    """``points`` with the vertices ``line`` where the planes around them meet, and how far off the planes they are."""
    near = _faces_around(faces, len(points), 2)
    incident = _faces_around(faces, len(points), 0)
    centres = points[faces].mean(axis=1)
    on_line = np.zeros(len(points), bool)
    on_line[line] = True
    # faces along the line are what the cells have cut off: the planes are those of the faces beyond them
    steady = areas * ((normals * smooth).sum(axis=1) > _STRAY) * ~on_line[faces].any(axis=1)
    planes = []
    for v in line:
        around = near.indices[near.indptr[v] : near.indptr[v + 1]]
        own = smooth[incident.indices[incident.indptr[v] : incident.indptr[v + 1]]]
        around = around[(normals[around] @ own.T).max(axis=1) > _SIDE]
        planes.append((around, steady[around]))
    start, end = ends
    degree = np.bincount(np.concatenate(ends), minlength=len(points))
    out, off = points.copy(), np.zeros(len(points))
    for number in range(_PLACINGS):
        if number:  # evenly along the line
            sums = [
                np.bincount(start, out[end, k], len(out)) + np.bincount(end, out[start, k], len(out)) for k in range(3)
            ]
            inner = line[degree[line] == 2]
            out[inner] = 0.5 * out[inner] + 0.25 * np.stack(sums, axis=1)[inner]
        for v, (around, weight) in zip(line, planes, strict=True):
            plane = normals[around]
            if weight.sum() <= 0:
                off[v] = np.inf
                continue
            weight = weight / weight.sum()
            offset = ((centres[around] - out[v]) * plane).sum(axis=1)
            matrix = (plane * weight[:, None]).T @ plane + 1e-2 * np.eye(3)
            step = np.linalg.solve(matrix, (plane * (weight * offset)[:, None]).sum(axis=0))
            out[v] += step
            off[v] = np.sqrt((weight * (offset - plane @ step) ** 2).sum())
    return out, off


def _faces_around(faces: np.ndarray, vertices: int, rings: int = 1) -> csr_matrix:
    """``[V, F]``: the faces that touch a vertex or one within ``rings`` edges of it."""
    count = len(faces)
    uses = csr_matrix((np.ones(3 * count), (faces.reshape(-1), np.repeat(np.arange(count), 3))), (vertices, count))
    near = uses
    for _ in range(rings):
        near = csr_matrix(uses @ (uses.T @ near))
    near.sort_indices()
    return near


def _normals(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit normals ``[F, 3]``, areas ``[F]`` and centres ``[F, 3]``."""
    corners = points[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(crosses, axis=1)
    return crosses / np.maximum(doubled, 1e-300)[:, None], 0.5 * doubled, corners.mean(axis=1)
