"""Coarse to fine: what the vertices of finer cells inherit, and the parts that coarse cells could not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from stspbr.geometry.cell_band import CellBand, children


@dataclass(frozen=True)
class Inheritance:
    """How the vertices of a new grid follow from the old one's.

    Attributes:
        parents: ``[V, K]`` int64: the old vertices whose mean a new one is (K times the same where it is one of them);
            −1 for vertices that nothing is known of.
        share: of the surface around an old vertex that a new one has: 1, or a quarter if the cells were halved.
    """

    parents: torch.Tensor
    share: float

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """``[V, ...]`` the means of the parents' ``values``; 0 where nothing is known."""
        of_parents = [values.index_select(0, parents) for parents in self.parents.clamp(min=0).T]
        mean = sum(of_parents[1:], of_parents[0]) * (1.0 / len(of_parents))
        known = (self.parents[:, 0] >= 0).reshape(-1, *[1] * (values.dim() - 1))
        return torch.where(known, mean, torch.zeros((), device=values.device, dtype=values.dtype))


class Evidence(Protocol):
    """What the images say about points ``[N, 3]`` that the surface does not enclose."""

    def hull(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` signed distance to the visual hull, negative inside."""

    def missed(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` bool: whether the object is there according to the images."""


def lost_sites(
    band: CellBand, inside: np.ndarray, box: tuple[np.ndarray, np.ndarray], evidence: Evidence
) -> np.ndarray | None:
    """Sites of the lattice of half the cells that are in lost parts.

    Args:
        band: all cells; inside: ``[V]`` bool; box: ``(box_min [3], box_max [3])``.

    Returns:
        ``[N, 3]`` half of the finer cells' sides, in cells that the surface does not cross; None if there are none.
    """
    low, high = box
    free = np.nonzero(~band.crossed(inside) & ~inside[band.centres])[0]
    half_diagonal = 0.5 * float(np.linalg.norm((high - low) / band.counts))
    near_hull = evidence.hull(band.positions(low, high)[band.centres[free]]) < half_diagonal
    if not near_hull.any():
        return None
    finer = CellBand.of(2 * band.counts, children(band.cells[free[near_hull]]))
    within = ((finer.sites > 0) & (finer.sites < 2 * finer.counts)).all(axis=1)  # the box's faces stay outside
    sites, points = finer.sites[within], finer.positions(low, high)[within]
    enclosed = np.nonzero(evidence.hull(points) < 0)[0]
    enclosed = enclosed[evidence.missed(points[enclosed])]
    return sites[enclosed] if len(enclosed) else None


def with_lost_parts(
    fine: CellBand,
    distances: torch.Tensor,
    lost: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    evidence: Evidence,
) -> torch.Tensor:
    """``distances [V]`` of the finer grid, where the cells around the ``lost`` sites take the hull's."""
    marked = np.zeros(len(fine.sites), bool)
    marked[fine.find(lost)] = True
    cells = marked[fine.corners].any(axis=1) | marked[fine.centres]
    taken = np.unique(np.concatenate([fine.corners[cells].ravel(), fine.centres[cells]]))
    hull = evidence.hull(fine.positions(*box)[taken])
    usable = marked[taken] | (hull >= 0)
    index = torch.from_numpy(taken[usable]).to(distances.device)
    hull_there = torch.from_numpy(hull[usable]).to(distances.device)
    return distances.index_copy(0, index, torch.minimum(distances[index], hull_there))
