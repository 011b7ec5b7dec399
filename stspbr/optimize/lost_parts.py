"""Parts of the object that the masks show and the surface lacks: too thin for the first cells, or lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.render.gbuffer import render_gbuffer
from stspbr.scene import Frame

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_COVERED = 0.5  # coverage of a pixel that shows the object
_SHARE = (
    0.25  # of the views that see a point must show the object where the surface is not; elsewhere it covers the part
)
_LEAST_VIEWS = 2


class LostParts:
    """The masks' evidence on points, against the surface at the time of each call.

    Args:
        problem: its training views show the surface.
        frames: the same views, normalised; their masks make the hull.
    """

    def __init__(self, problem: Reconstruction, frames: Sequence[Frame]) -> None:
        self.problem = problem
        self.frames = frames

    def hull(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` signed distance of ``points [N, 3]`` to the masks' visual hull, see ``visual_hull_sdf``."""
        return visual_hull_sdf(points, self.frames)

    @torch.no_grad()
    def missed(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` bool: the points that in a quarter of their views (at least two) are on an uncovered object pixel."""
        views = self.problem.views
        surface = self.problem.geometry.surface()
        place = torch.as_tensor(points, dtype=torch.float32, device=views.device)
        homogeneous = torch.cat([place, torch.ones_like(place[:, :1])], dim=1)
        seen = torch.zeros(len(place), dtype=torch.int32, device=views.device)
        missed = torch.zeros_like(seen)
        for number in range(len(views)):
            batch, targets = views.batch([number])
            batch = self.problem.seen(batch, [number])
            shown = targets.alpha.reshape(-1) > _COVERED
            shown[render_gbuffer(surface, batch, self.problem.backend).covered] = False
            height, width = batch.resolution
            clip = homogeneous @ batch.clip_from_object[0].T
            depth = clip[:, 3].clamp(min=1e-12)
            column = ((clip[:, 0] / depth * 0.5 + 0.5) * width).floor()
            row = ((clip[:, 1] / depth * 0.5 + 0.5) * height).floor()
            inside = (clip[:, 3] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            if targets.known is not None:  # a view says nothing where its mask is unknown
                inside = inside & (targets.known.reshape(-1)[pixel] > 0)
            seen += inside
            missed += inside & shown[pixel]
        return ((missed >= _LEAST_VIEWS) & (missed >= _SHARE * seen)).cpu().numpy()
