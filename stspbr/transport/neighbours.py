"""Other copies of the object around it, in captures of many equal objects: they hide light, and send some on.

One mesh stands for all: a ray among N copies is cast against it once per copy that it may meet, in that copy's own
space. What leaves a copy is the object's own material under the light as that copy stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.scene import Normalization
from stspbr.transport.cache import VisibilityCache

_CELL = 0.04  # of the diagonal, twice the longest distance of the points


@dataclass(frozen=True)
class Neighbours:
    """Where all N copies lie.

    Attributes:
        rotations: ``[N, 3, 3]`` float64 object to world; shifts: ``[N, 3]``, in units of the object's space.
    """

    rotations: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, poses: np.ndarray, normalization: Normalization | None = None) -> Neighbours:
        """Of rigid ``object_to_world`` ``[N, 4, 4]``.

        Args:
            normalization: of the object in the stage; None: it has the capture's units.
        """
        poses = np.asarray(poses, np.float64)
        turns, shifts = poses[:, :3, :3], poses[:, :3, 3]
        if normalization is not None:
            shifts = (turns @ normalization.centre + shifts) / normalization.scale
        return cls(turns, shifts)

    def number(self, rotation: Tensor) -> int:
        """The copy whose rotation is nearest to ``rotation`` ``[3, 3]``: refinement moves poses a little."""
        own = rotation.detach().cpu().double().numpy()
        return int(np.einsum("nij,ij->n", self.rotations, own).argmax())

    def into(self, number: int, other: int) -> tuple[Tensor, Tensor]:
        """Rotation ``[3, 3]`` and shift ``[3]`` from the space of one copy to that of another."""
        turn = self.rotations[other].T @ self.rotations[number]
        shift = self.rotations[other].T @ (self.shifts[number] - self.shifts[other])
        return torch.from_numpy(turn).float(), torch.from_numpy(shift).float()


@dataclass
class CopyHits:
    """Where R rays meet other copies first.

    Attributes:
        owner: ``[R]`` int64, the copy; −1: none.
        triangle: ``[R]`` int64, barycentric: ``[R, 2]``: the place on the mesh, in that copy's space.
    """

    owner: Tensor
    triangle: Tensor
    barycentric: Tensor


@dataclass
class Blocked:
    """What other copies hide from the points of one copy.

    Attributes:
        seen_weights: ``[P, B]``, ``enclosed``: ``[P]`` as the cache has them, without what other copies block.
        point, direction: ``[M]`` int64 of the directions that end on another copy's front; owner: ``[M]`` int64, it.
        corners, shares: ``[M, 3]`` points about the place there, and their weights.
        weight: ``[M]`` the direction's cosine weight times the solid angle of its cell.
    """

    seen_weights: Tensor
    enclosed: Tensor
    point: Tensor
    direction: Tensor
    owner: Tensor
    corners: Tensor
    shares: Tensor
    weight: Tensor


class CopiesAround:
    """The other copies, as rays from one of them meet them; all in the space of that one.

    Args:
        cache: visibility of the mesh from its own points; positions: ``[V, 3]``, faces: ``[F, 3]`` of the mesh.
        cell: points that are nearer to each other see the other copies alike, a share of the diagonal; 0: each looks
            for itself. They are farther away than the object's own folds, so that what they hide changes slowly.
    """

    def __init__(
        self, cache: VisibilityCache, neighbours: Neighbours, positions: Tensor, faces: Tensor, cell: float = _CELL
    ) -> None:
        self.cache, self.neighbours = cache, neighbours
        corners = positions.detach()[faces.long()].float()
        used = corners.reshape(-1, 3)
        self._middle = 0.5 * (used.amin(0) + used.amax(0))
        self._radius = float((used - self._middle).norm(dim=1).max())
        self._facing = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self._cells = self._split(cell)
        self._blocked: dict[int, Blocked] = {}
        self._floor: dict[int, Tensor] = {}

    def number(self, rotation: Tensor) -> int:
        """See ``Neighbours.number``."""
        return self.neighbours.number(rotation)

    def rotation(self, number: int) -> Tensor:
        """``[3, 3]`` float32, object to world."""
        return torch.from_numpy(self.neighbours.rotations[number]).float()

    @torch.no_grad()
    def closest(self, number: int, origins: Tensor, ways: Tensor) -> CopyHits:
        """The first hit of rays ``[R, 3]`` from copy ``number`` with any other copy; directions are unit."""
        count = len(origins)
        nearest = torch.full((count,), float("inf"))
        out = CopyHits(torch.full((count,), -1), torch.full((count,), -1), torch.zeros(count, 2))
        for other in range(len(self.neighbours.shifts)):
            if other == number:
                continue
            turn, shift = self.neighbours.into(number, other)
            middle = (self._middle - shift) @ turn  # of the other one, in this one's space
            rows = torch.nonzero(_meets(middle - origins, ways, self._radius)).squeeze(1)
            if len(rows) == 0:
                continue
            hits = self.cache.scene.closest(origins[rows] @ turn.T + shift, ways[rows] @ turn.T)
            better = hits.found & (hits.distance < nearest[rows])
            rows = rows[better]
            nearest[rows], out.owner[rows] = hits.distance[better], other
            out.triangle[rows], out.barycentric[rows] = hits.triangle[better], hits.barycentric[better]
        return out

    def fronts(self, number: int, hits: CopyHits, ways: Tensor) -> Tensor:
        """``[R]`` bool: whether rays that hit meet the front of a triangle."""
        out = torch.zeros(len(ways), dtype=torch.bool)
        for other in hits.owner.unique().tolist():
            if other >= 0:
                rows = torch.nonzero(hits.owner == other).squeeze(1)
                turn, _ = self.neighbours.into(number, other)
                out[rows] = (self._facing[hits.triangle[rows]] * (ways[rows] @ turn.T)).sum(1) < 0
        return out

    def at(self, number: int) -> Blocked:
        """What the others hide from the points of copy ``number``; kept."""
        if number not in self._blocked:
            self._blocked[number] = self._look(number)
        return self._blocked[number]

    def floor(self, number: int, nodes: Tensor, ways: Tensor) -> Tensor:
        """``[N, B]`` bool: which directions ``ways [B, 3]`` other copies block at places ``nodes [N, 3]``; kept."""
        if number not in self._floor:
            hits = self.closest(number, nodes.repeat_interleave(len(ways), 0), ways.repeat(len(nodes), 1))
            self._floor[number] = (hits.owner >= 0).view(len(nodes), len(ways))
        return self._floor[number]

    @torch.no_grad()
    def _look(self, number: int) -> Blocked:
        cache = self.cache
        place, cell = self._cells
        ways = cache.bins.directions
        hits = self.closest(number, place.repeat_interleave(len(ways), 0), ways.repeat(len(place), 1))
        met = (hits.owner >= 0).view(len(place), -1)
        front = self.fronts(number, hits, ways.repeat(len(place), 1)).view(len(place), -1)
        open_ = cache.seen_weights > 0
        seen = torch.where(met[cell], 0.0, cache.seen_weights)
        point, way = torch.nonzero(open_ & front[cell]).unbind(1)
        ray = cell[point] * len(ways) + way
        rays, inverse = ray.unique(return_inverse=True)
        corners, shares = cache.points.corners(hits.triangle[rays], hits.barycentric[rays])
        enclosed = (seen != cache.open_weights).any(1)
        weight = cache.open_weights[point, way] * cache.bins.solid_angle[way]
        return Blocked(seen, enclosed, point, way, hits.owner[ray], corners[inverse], shares[inverse], weight)

    def _split(self, share: float) -> tuple[Tensor, Tensor]:
        """Places ``[C, 3]`` that stand for the points about them, and each point's place ``[P]`` int64."""
        points = self.cache.points
        origin = points.position + self.cache.offset * points.normal
        low, high = origin.amin(0), origin.amax(0)
        if share <= 0:
            return origin, torch.arange(len(origin))
        grid = ((origin - low) / (share * float((high - low).norm()))).floor().long()
        _, cell, count = grid.unique(dim=0, return_inverse=True, return_counts=True)
        total = torch.zeros(len(count), 3).index_add_(0, cell, origin)
        return total / count[:, None], cell


def _meets(towards: Tensor, ways: Tensor, radius: float) -> Tensor:
    """``[R]`` bool: whether rays along unit ``ways`` meet a ball of ``radius`` whose centre lies at ``towards``."""
    along = (towards * ways).sum(1)
    square = (towards * towards).sum(1)
    return ((along > 0) & (square - along * along <= radius**2)) | (square <= radius**2)
