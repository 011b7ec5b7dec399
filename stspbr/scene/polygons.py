"""Polygons as triangles: convex ones by fans, all others by ear clipping."""

from __future__ import annotations

import numpy as np

_STRAIGHT = 1e-6  # sine of a corner that counts as straight: what float32 leaves of one


def triangulated(positions: np.ndarray, vertices: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut polygons into triangles of the same area and winding.

    Convex polygons become fans from their first corner. Others (concave, with straight corners, or self-touching as a
    hole leaves them that a double edge joins to the outline) are cut by ear clipping in the plane of their area vector.

    Args:
        positions: ``[V, 3]``.
        vertices: ``[C]`` rows of ``positions`` of all corners, polygon after polygon.
        count: ``[P]`` corners of each polygon; less than three give no triangle.

    Returns:
        ``[F, 3]`` numbers of corners (into ``vertices``), ``[F]`` the polygon of each triangle, and the number of
        polygons that cross themselves, whose triangles are a guess.
    """
    corners, polygon = _fans(count)
    start = np.cumsum(count) - count
    crossing = 0
    replaced: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for number in _not_convex(positions, vertices, count):
        first, size = int(start[number]), int(count[number])
        triangles, sound = _ears(_flattened(positions[vertices[first : first + size]]))
        crossing += not sound
        replaced.append(triangles + first)
        owners.append(np.full(len(triangles), number))
    if replaced:
        kept = ~np.isin(polygon, [own[0] for own in owners])
        corners, polygon = np.concatenate([corners[kept], *replaced]), np.concatenate([polygon[kept], *owners])
        order = np.argsort(polygon, kind="stable")
        corners, polygon = corners[order], polygon[order]
    return corners, polygon, crossing


def crossing_note(crossing: int) -> list[str]:
    """What to tell of polygons that cross themselves; nothing if there are none."""
    return [f"faces that cross themselves, whose triangles are a guess: {crossing}"] if crossing else []


def _fans(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[F, 3]`` corner numbers of the triangles of polygons with ``count`` corners, and the polygon of each."""
    each = np.maximum(count - 2, 0)
    polygon = np.repeat(np.arange(len(count)), each)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(each) - each, each)
    start = (np.cumsum(count) - count)[polygon]
    return np.stack([start, start + step + 1, start + step + 2], axis=1), polygon


def _not_convex(positions: np.ndarray, vertices: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Numbers of the polygons of more than three corners that a fan does not fill as it should."""
    large = count > 3
    if not large.any():
        return np.zeros(0, np.int64)
    numbers = np.flatnonzero(large)
    size = count[large]
    ring = vertices[np.repeat(large, count)]
    start = np.cumsum(size) - size
    owner = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(ring)) - start[owner]
    points = positions[ring].astype(np.float64)
    edges = points[start[owner] + (within + 1) % size[owner]] - points
    before = edges[start[owner] + (within - 1) % size[owner]]
    relative = points - points[start][owner]  # large coordinates would cancel badly
    normal = np.add.reduceat(np.cross(relative, relative[start[owner] + (within + 1) % size[owner]]), start, axis=0)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)[owner]
    across = np.einsum("ij,ij->i", np.cross(before, edges), normal)
    along = np.einsum("ij,ij->i", before, edges)
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(edges, axis=1)
    turns = np.add.reduceat(np.arctan2(across, along), start)  # 2π for a polygon that goes round once
    bent = np.add.reduceat((across <= _STRAIGHT * lengths).astype(np.int64), start) > 0
    return numbers[bent | (np.abs(turns - 2 * np.pi) > 0.1)]


def _flattened(points: np.ndarray) -> np.ndarray:
    """``[n, 2]`` points of one polygon in the plane of its area vector, counter-clockwise, about 1 in size."""
    points = points.astype(np.float64) - points[0]
    points /= max(float(np.abs(points).max()), 1e-300)
    normal = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    axis = int(np.abs(normal).argmax())
    if not normal[axis]:
        return points[:, :2]
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, np.eye(3)[(axis + 1) % 3])
    first /= np.linalg.norm(first)
    return np.stack([points @ first, points @ np.cross(normal, first)], axis=1)


def _ears(points: np.ndarray) -> tuple[np.ndarray, bool]:
    """``[n − 2, 3]`` triangles of a polygon ``[n, 2]`` by ear clipping, and whether an ear was found each time."""
    ring = list(range(len(points)))
    out: list[tuple[int, int, int]] = []
    sound, at = True, 0
    while len(ring) > 3:
        place = _ear(points, ring, at)
        if place is None:
            sound, place = False, at % len(ring)
        out.append((ring[place - 1], ring[place], ring[(place + 1) % len(ring)]))
        del ring[place]
        at = place + 1  # not the next corner at once: all triangles would share one point
    out.append((ring[0], ring[1], ring[2]))
    return np.array(out), sound


def _ear(points: np.ndarray, ring: list[int], at: int) -> int | None:
    """The place in ``ring`` of a corner that can be cut off, from ``at`` on; None if there is none."""
    p = points[ring]
    after = np.roll(p, -1, axis=0)
    edge = after - p
    before = np.roll(edge, 1, axis=0)
    across = before[:, 0] * edge[:, 1] - before[:, 1] * edge[:, 0]
    lengths = np.hypot(*before.T) * np.hypot(*edge.T)
    convex = across > 1e-12 + _STRAIGHT * lengths
    flat = np.abs(across) <= 1e-12 + _STRAIGHT * lengths
    spikes = np.flatnonzero(flat & ((before * edge).sum(axis=1) < 0))
    if len(spikes):  # there and back: nothing is lost with it, and an ear beside it could be outside
        return int(spikes[0])
    order = [place % len(ring) for place in range(at, at + len(ring))]
    for touching in (False, True):  # better no vertex on the cut, where it leaves a T
        for place in order:
            if convex[place] and _is_free(p, after, place, touching):
                return place
    return int(flat.argmax()) if flat.any() else None


def _is_free(p: np.ndarray, after: np.ndarray, place: int, touching: bool) -> bool:
    """Whether no edge enters the triangle at ``place``; nor, unless ``touching``, a vertex its border."""
    corners = np.stack([p[place - 1], p[place], after[place]])
    sides = np.roll(corners, -1, axis=0) - corners
    inward = np.stack([-sides[:, 1], sides[:, 0]], axis=1)
    inward /= np.hypot(*inward.T)[:, None]
    depth = (p[:, None] - corners) @ inward.T  # [n, corner, side]
    depth = np.diagonal(depth, axis1=1, axis2=2)  # [n, 3] distances to the sides, inside positive
    far = np.roll(depth, -1, axis=0)
    tiny = 1e-9
    if not touching:
        own = (np.abs(p[:, None] - corners).max(axis=2) <= tiny).any(axis=1)
        if ((depth >= -tiny).all(axis=1) & ~own).any():
            return False
    # the part of each edge that is inside all three half-planes, as an interval of its parameter
    change = far - depth
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = (tiny - depth) / change
    enter = np.where(change > 0, cut, np.where((change == 0) & (depth <= tiny), np.inf, -np.inf)).max(axis=1)
    leave = np.where(change < 0, cut, np.inf).min(axis=1)
    return not (np.minimum(leave, 1.0) - np.maximum(enter, 0.0) > tiny).any()
