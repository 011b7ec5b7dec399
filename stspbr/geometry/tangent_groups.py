"""Which corners of a mesh share a tangent: MikkTSpace's groups (Mikkelsen 2008)."""

from __future__ import annotations

import numpy as np

from stspbr.geometry.tangent_groups_kernels import flood


def group_corners(vertex: np.ndarray, uv_area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group corners that meet at a vertex, are joined there by edges, and have images of the same orientation.

    Args:
        vertex: ``[F, 3]`` int, equal for corners of equal position, UV and normal.
        uv_area: ``[F]`` signed area in UV space, v downwards; a face with 0 takes the side of the first group
            that reaches it.

    Returns:
        ``group [3F]`` int (corner ``3f + k``; the numbers have gaps) and ``handedness [F]`` ±1 int: +1 if the image is
        not mirrored: counter-clockwise on the surface and in the image seen upright.
    """
    left, right = _joined_edges(vertex)
    across = np.full(3 * len(vertex), -1, np.int64)
    across[left], across[right] = right, left
    # v points down: a negative area is counter-clockwise in the image seen upright
    side = -np.sign(uv_area).astype(np.int64)
    group = flood(across, side)
    alone = group < 0
    group[alone] = 3 * len(vertex) + np.nonzero(alone)[0]
    return _with_collapsed(group, vertex), np.where(side == 0, 1, side)


def _joined_edges(vertex: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of corners whose edges (corner to next corner) are the same edge in opposite directions.

    If more than two faces meet at an edge, the first of one direction is paired with the first of the other.
    """
    start, end = vertex.reshape(-1), np.roll(vertex, -1, axis=1).reshape(-1)
    whole = np.repeat(~_collapsed(vertex), 3)
    forward, backward = np.nonzero(whole & (start < end))[0], np.nonzero(whole & (start > end))[0]
    size = int(vertex.max()) + 1 if len(vertex) else 1
    keys = [start[forward] * size + end[forward], end[backward] * size + start[backward]]
    ranks = [_rank(key) for key in keys]
    base = int(max((r.max() for r in ranks if len(r)), default=0)) + 1
    _, at, other = np.intersect1d(*(k * base + r for k, r in zip(keys, ranks, strict=True)), return_indices=True)
    return forward[at], backward[other]


def _rank(keys: np.ndarray) -> np.ndarray:
    """How many equal keys precede each one."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]] if len(keys) else np.zeros(0, bool)
    position = np.arange(len(keys))
    out = np.empty_like(position)
    out[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return out


def _with_collapsed(group: np.ndarray, vertex: np.ndarray) -> np.ndarray:
    """Corners of faces that repeat a vertex join the group of the first whole face there, if there is one."""
    broken = np.repeat(_collapsed(vertex), 3)
    if not broken.any():
        return group
    flat = vertex.reshape(-1)
    owner = np.full(int(flat.max()) + 1, -1, np.int64)
    whole = np.nonzero(~broken)[0][::-1]
    owner[flat[whole]] = group[whole]  # the last write, of the first face, remains
    adopted = owner[flat[broken]]
    group = group.copy()
    group[broken] = np.where(adopted >= 0, adopted, group[broken])
    return group


def _collapsed(vertex: np.ndarray) -> np.ndarray:
    return (vertex == np.roll(vertex, 1, axis=1)).any(axis=1)
