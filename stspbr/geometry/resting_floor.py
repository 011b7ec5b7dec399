"""The table under an object that stands in every view: below it is nothing, though no mask can say so.

Seen from above, the hull goes on below the object as a cone, hidden behind its own lower edge. No mask needs that
matter; the floor is put as high as the masks let it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from stspbr.scene import Frame

_REST = 0.002  # of a mask's pixels may lose all that covers them: its rim
_SIDE = 160  # pixels along the longer side of a mask, about


def resting_level(points: np.ndarray, frames: Sequence[Frame], up: np.ndarray, cell: float) -> float:
    """The highest level along ``up`` such that what is above it still covers every mask.

    Args:
        points: ``[P, 3]`` object space: the grid's points in the hull; cell: their distance.
        frames: as for ``visual_hull_sdf``; all of them see the object stand on one plane.
        up: ``[3]`` unit, object space.

    Returns:
        The level ``up · p``; −inf where the masks tell nothing.
    """
    levels = points @ up
    lowest = np.inf
    for frame in frames:
        camera, pose = frame.camera, frame.camera.world_to_camera @ np.asarray(frame.object_to_world, np.float64)
        local = points @ pose[:3, :3].T + pose[:3, 3]
        depth = -local[:, 2]
        ahead = depth > camera.near
        step = max(max(camera.width, camera.height) // _SIDE, 1)
        mask = np.asarray(frame.alpha)[step // 2 :: step, step // 2 :: step, 0] > 0.5
        row = np.floor((camera.cy - camera.fy * local[ahead, 1] / depth[ahead]) / step)
        column = np.floor((camera.cx + camera.fx * local[ahead, 0] / depth[ahead]) / step)
        inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
        if not inside.any() or not mask.any():
            continue
        top = np.full(mask.shape, -np.inf)
        place = row[inside].astype(int), column[inside].astype(int)
        np.maximum.at(top, place, levels[ahead][inside])
        wide = int(np.ceil(0.5 * cell * camera.fx / float(np.median(depth[ahead])) / step))
        top = ndimage.maximum_filter(top, 2 * wide + 1)
        lowest = min(lowest, float(np.quantile(top[mask], _REST, method="lower")))
    return lowest - cell if np.isfinite(lowest) else -np.inf
