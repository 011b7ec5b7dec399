"""A starting shape from photographs: the visual hull, carved where neighbouring photographs agree on a depth.

A hull has no hollows, and from few views it has flat sides and edges that the object has not. An optimiser that moves
the surface by small steps keeps much of them, and paints the photographs on them instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from stspbr.geometry.stereo_depth import View, Volume, depth_views
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.scene import Frame

_CELLS = 96  # along the longest side of the box
_TRUST = 3.0  # cells before and behind a depth in which it is evidence
_ALONE = 2.0  # views at which a distance counts as much as what is beside it
_NOISE = (
    0.5,
    1.5,
)  # cells: by less nothing is carved, as only carving, and never adding, would make of noise; by more, all
_SPREAD = 3.0  # cells over which carving goes on into what no view knows
_FADE = 0.2  # share of known cells about a place, below which it stays the hull


def stereo_hull_sdf(points: np.ndarray, frames: Sequence[Frame], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Signed distance to the visual hull less what the photographs see to be empty of it.

    Depths (``depth_views``) are averaged as truncated signed distances (Curless and Levoy 1996). Where no view has one,
    what was carved beside goes on a little and fades to the hull.

    Args:
        points: ``[V, 3]`` object space.
        frames: as for ``visual_hull_sdf``.
        low, high: ``[3]`` corners of the box that is carved.

    Returns:
        ``[V]`` float32, object units, negative inside, never below the hull's own distance.

    Raises:
        StspbrError: as ``visual_hull_sdf`` does.
    """
    box = [torch.as_tensor(np.asarray(corner, np.float32)) for corner in (low, high)]
    cell = float((box[1] - box[0]).max()) / _CELLS
    counts = [max(8, int(torch.ceil(side / cell))) + 1 for side in (box[1] - box[0]).flip(0)]
    hull = Volume(torch.zeros(counts), *box)
    lattice = hull.points()
    hull = Volume(torch.from_numpy(visual_hull_sdf(lattice.reshape(-1, 3).numpy(), frames)).reshape(counts), *box)
    views = depth_views(frames, hull)
    carved = Volume(_carved(hull, lattice, views, cell), *box)
    exact = visual_hull_sdf(points, frames)
    more = carved.at(torch.as_tensor(points, dtype=torch.float32)).numpy()
    return (exact + more).astype(np.float32)


def _carved(hull: Volume, lattice: torch.Tensor, views: Sequence[View], cell: float) -> torch.Tensor:
    """``[Z, Y, X]`` at least 0: by how much the distance is more than the hull's."""
    total, weight = torch.zeros_like(hull.values), torch.zeros_like(hull.values)
    trust = _TRUST * cell
    for view in views:
        place, depth = view.project(lattice)
        ahead = view.looked_up(view.depth, place) - depth
        sees = (ahead >= -trust) & (depth > 0)
        total += torch.where(sees, ahead.clamp(max=trust), 0.0)
        weight += sees
    certain = weight.square() / (weight.square() + _ALONE**2)
    own = torch.where(weight > 0, total / weight.clamp(min=1.0) - hull.values, 0.0)
    beside = _spread(certain * own) / (_spread(certain) + _FADE)
    more = certain * own + (1.0 - certain) * beside
    low, high = _NOISE
    return more.clamp(min=0.0) * ((more / cell - low) / (high - low)).clamp(0.0, 1.0)


def _spread(values: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(values.numpy(), _SPREAD, mode="nearest"))
