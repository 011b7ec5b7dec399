"""The table under an object that stands in every view: below it is nothing, though no mask can say so.

Seen from above, the hull goes on below the object as a cone, hidden behind its own lower edge. No mask needs that
matter; the floor is put as high as the masks let it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.scene import Frame

_REST = 0.002  # of a mask's pixels may lose all that covers them: its rim
_GRID = 72  # points along the box, about: a coarse grid leaves seams at the outlines
_SIDE = 160  # pixels along the longer side of a mask, about


def resting_level(frames: Sequence[Frame], half: np.ndarray, up: np.ndarray) -> float:
    """The highest level along ``up`` such that what is above it still covers every mask.

    Args:
        frames: as for ``visual_hull_sdf``; all of them see the object stand on one plane.
        half: ``[3]`` the object's box reaches from −half to half.
        up: ``[3]`` unit, object space.

    Returns:
        The level ``up · p``; −inf where the masks tell nothing.
    """
    cell = 2.0 * float(np.max(half)) / _GRID
    axes = [np.arange(-side, side + cell, cell) for side in np.asarray(half, np.float64)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[visual_hull_sdf(points, frames) < 0]
    levels = points @ up
    lowest = np.inf
    for frame in frames:
        camera, pose = frame.camera, np.asarray(frame.object_to_world, np.float64)
        pixels, depth = camera.project(points @ pose[:3, :3].T + pose[:3, 3])
        step = max(max(camera.width, camera.height) // _SIDE, 1)
        mask = np.asarray(frame.alpha)[step // 2 :: step, step // 2 :: step, 0] > 0.5
        column, row = np.floor(pixels.T / step)
        inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1]) & (depth > camera.near)
        if not inside.any():
            continue
        top = np.full(mask.shape, -np.inf)
        place = row[inside].astype(int), column[inside].astype(int)
        np.maximum.at(top, place, levels[inside])
        wide = int(np.ceil(0.5 * cell * camera.fx / float(np.median(depth[inside])) / step))
        top = ndimage.maximum_filter(top, 2 * wide + 1)
        if not (mask & np.isfinite(top)).any():
            continue
        covered = top[mask & np.isfinite(top)]
        lowest = min(lowest, float(np.quantile(covered, _REST, method="lower")))
    # points and what they cover are each off by half a cell, and the rim by as much
    return lowest - 1.5 * cell if np.isfinite(lowest) else -np.inf
