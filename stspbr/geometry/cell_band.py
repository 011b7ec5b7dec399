"""Some cells of a body-centred cubic lattice, stored sparsely: a band around a surface, and how to refine it.

A *site* is a vertex in units of half a cell: corners have even coordinates, centres odd ones. Halving the cells turns
every tetrahedron into eight of its own shape (red refinement along the shortest diagonal), so every vertex of the
finer lattice is a vertex of the coarser one or the middle of one of its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.int64)
_CUBE_EDGES = [[a, b] for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]
_AROUND = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=np.int64)


@dataclass(frozen=True)
class CellBand:
    """Cells of a lattice and their vertices, which are numbered as in ``tet_grid``: corners, then centres.

    Attributes:
        counts: ``[3]`` int64 cells of the whole lattice along each axis.
        cells: ``[C, 3]`` int64, unique and sorted by rows.
        sites: ``[V, 3]`` int64 vertices in half cells: sorted corners, then the centres in the order of the cells.
    """

    counts: np.ndarray
    cells: np.ndarray
    sites: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, cells: np.ndarray) -> CellBand:
        """The band of ``cells [C, 3]``, sorted, of a lattice of ``counts [3]`` cells."""
        counts, cells = np.asarray(counts, np.int64), np.asarray(cells, np.int64)
        every = _rows((cells[:, None] + _CORNERS).reshape(-1, 3), counts + 1)
        return cls(counts, cells, np.concatenate([2 * every, 2 * cells + 1]))

    @classmethod
    def whole(cls, counts: np.ndarray) -> CellBand:
        """All cells of the lattice."""
        return cls.of(counts, np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3))

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        keys = _key(self.sites, 2 * self.counts + 1)
        order = np.argsort(keys)
        return keys[order], order

    def find(self, sites: np.ndarray) -> np.ndarray:
        """``[...]`` the vertex at each of ``sites [..., 3]``; −1 where there is none."""
        keys, order = self._keys
        wanted = _key(sites, 2 * self.counts + 1)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        inside = ((sites >= 0) & (sites <= 2 * self.counts)).all(axis=-1)
        return np.where(inside & (keys[place] == wanted), order[place], -1)

    @cached_property
    def corners(self) -> np.ndarray:
        """``[C, 8]`` the vertices at the corners of every cell."""
        return self.find(2 * (self.cells[:, None] + _CORNERS))

    @property
    def centres(self) -> np.ndarray:
        """``[C]`` the vertex at the centre of every cell."""
        return np.arange(len(self.sites) - len(self.cells), len(self.sites))

    def crossed(self, inside: np.ndarray) -> np.ndarray:
        """``[C]`` bool: the cells whose corners and centre are not all on one side; ``inside [V]`` bool."""
        return (inside[self.corners] != inside[self.centres][:, None]).any(axis=1)

    def positions(self, box_min: np.ndarray, box_max: np.ndarray) -> np.ndarray:
        """``[V, 3]`` float32: the vertices if the whole lattice fills the box."""
        low, high = np.asarray(box_min, np.float64), np.asarray(box_max, np.float64)
        return (low + self.sites * (0.5 * (high - low) / self.counts)).astype(np.float32)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """``[C, 6]`` the cell behind every face (low and high end of each axis), −1 where there is none."""
        step = np.repeat(np.eye(3, dtype=np.int64), 2, axis=0) * np.tile([-1, 1], 3)[:, None]
        found = self.find(2 * (self.cells[:, None] + step) + 1)
        return np.where(found < 0, -1, found - self.centres[0])

    def cube_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """The edges of the cells as cubes, between corners alone.

        Returns:
            ``edges [E, 2]`` int32, unique, sorted, first index smaller; ``border [N]`` bool: corners on outer faces.
        """
        edges = np.concatenate([self.corners[:, pair] for pair in _CUBE_EDGES])
        count = len(self.sites) - len(self.cells)
        cells = np.bincount(self.corners.ravel(), minlength=count)
        return _unique_edges(edges, count), cells < 8

    def tets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tetrahedra that fill the cells: four per face between two cells, two half pyramids per outer face.

        Returns:
            ``tets [T, 4]`` int32, all of positive volume; ``edges [E, 2]`` int32, unique, sorted, first index smaller;
            ``border [V]`` bool: the vertices on outer faces.
        """
        tets = []
        edges = [np.stack([self.corners.ravel(), np.repeat(self.centres, 8)], axis=1)]
        edges += [self.corners[:, pair] for pair in _CUBE_EDGES]
        border = np.zeros(len(self.sites), dtype=bool)
        for axis in range(3):
            step, ring_steps = _face_ring(axis)
            for side, order in ((0, (0, 3, 2, 1)), (1, (0, 1, 2, 3))):
                ring = self.corners[:, (side * step + ring_steps) @ (4, 2, 1)]
                beyond = self.find(2 * (self.cells + (2 * side - 1) * step) + 1)
                alone = beyond < 0
                border[ring[alone]] = True
                a, b, c, d = (ring[alone, k] for k in order)
                tets += [
                    np.stack(four, axis=1) for four in ([a, c, b, self.centres[alone]], [a, d, c, self.centres[alone]])
                ]
                edges.append(np.stack([a, c], axis=1))
                if side:
                    centre, beyond, ring = self.centres[~alone], beyond[~alone], ring[~alone]
                    tets += [np.stack([centre, beyond, ring[:, k], ring[:, (k + 1) % 4]], axis=1) for k in range(4)]
                    edges.append(np.stack([centre, beyond], axis=1))
        return np.concatenate(tets).astype(np.int32), _unique_edges(np.concatenate(edges), len(self.sites)), border


def children(cells: np.ndarray) -> np.ndarray:
    """``[8 N, 3]`` the halves of ``cells [N, 3]``, sorted by rows."""
    halves = (2 * cells[:, None] + _CORNERS).reshape(-1, 3)
    return halves[np.lexsort(halves.T[::-1])]


def parents(band: CellBand, sites: np.ndarray) -> np.ndarray:
    """``[N, 2]`` the ends in ``band`` whose middle is each of ``sites [N, 3]`` of the lattice of half the cells.

    Raises:
        ValueError: a site is outside of the band.
    """
    low, high = sites // 2, (sites + 1) // 2  # equal for corners of the fine lattice
    odd = low % 2 == 1
    count = odd.sum(axis=1)
    centre = (sites % 2 == 1).all(axis=1)
    # a fine centre lies between a coarse corner, all even, and a coarse centre, all odd
    first = np.where(centre[:, None], np.where(odd, high, low), low)
    second = np.where(centre[:, None], np.where(odd, low, high), low)
    edge = ~centre & (count == 1)
    first[edge], second[edge] = (low - odd)[edge], (low + odd)[edge]
    face = ~centre & (count == 2)
    first[face], second[face] = (low - ~odd)[face], (low + ~odd)[face]
    out = np.stack([band.find(first), band.find(second)], axis=1)
    alone = face & (out < 0).any(axis=1)  # an outer face: the middle of its diagonal
    out[alone] = np.stack([band.find((low - odd)[alone]), band.find((low + odd)[alone])], axis=1)
    if (out < 0).any():
        raise ValueError("the finer sites reach beyond the band")
    return out


def cube_parents(band: CellBand, sites: np.ndarray) -> np.ndarray:
    """``[N, 8]`` the corners in ``band`` whose mean is each of ``sites [N, 3]``, corners of halved cells.

    A corner is repeated as often as the trilinear interpolation at the site asks for.

    Raises:
        ValueError: a site is outside of the band.
    """
    middle = sites[:, None] // 2  # in half cells of the coarse lattice
    out = band.find(np.where(_CORNERS == 1, middle + middle % 2, middle - middle % 2))
    if (out < 0).any():
        raise ValueError("the finer sites reach beyond the band")
    return out


def around(band: CellBand, cells: np.ndarray, layers: int) -> np.ndarray:
    """``[M, 3]`` the cells within ``layers`` cells of ``cells [N, 3]`` (diagonally, too) in the whole lattice."""
    for _ in range(layers):
        near = (cells[:, None] + _AROUND).reshape(-1, 3)
        near = near[((near >= 0) & (near < band.counts)).all(axis=1)]
        cells = _rows(near, band.counts)
    return cells


def follow(band: CellBand, inside: np.ndarray, layers: int) -> tuple[CellBand, np.ndarray]:
    """The band of ``layers`` cells around the surface, and on which side its vertices are.

    The surface lies in the band, and whatever is beyond the band's border is on the border's side: new cells take the
    side of the corners that they share with known ones.

    Args:
        inside: ``[V]`` bool, of the vertices of ``band``; layers: at least 1.

    Returns:
        The new band, and ``[V']`` bool: which of its vertices are inside.
    """
    ring = band.cells[band.crossed(inside)]
    shape = 2 * band.counts + 1
    known, side = _key(band.sites, shape), np.where(inside, -1, 1).astype(np.int8)
    order = np.argsort(known)
    known, side = known[order], side[order]
    for _ in range(layers):
        ring = around(band, ring, 1)
        sites = np.concatenate([2 * (ring[:, None] + _CORNERS), 2 * ring[:, None] + 1], axis=1)
        keys = _key(sites, shape)
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        found = np.where(known[place] == keys, side[place], 0)
        fresh = found == 0
        own = np.sign(found.max(axis=1) + found.min(axis=1)).astype(np.int8)  # cells with unknown corners are uniform
        added, first = np.unique(keys[fresh], return_index=True)
        known, side = (
            np.concatenate([known, added]),
            np.concatenate([side, np.repeat(own[:, None], 9, 1)[fresh][first]]),
        )
        order = np.argsort(known)
        known, side = known[order], side[order]
    out = CellBand.of(band.counts, ring)
    return out, side[np.searchsorted(known, _key(out.sites, shape))] < 0


def _face_ring(axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The step ``[3]`` along ``axis``; ``[4, 3]`` a face's corners, counter-clockwise seen from the positive end."""
    step = np.eye(3, dtype=np.int64)
    second, third = step[(axis + 1) % 3], step[(axis + 2) % 3]
    return step[axis], np.stack([0 * second, second, second + third, third])


def _key(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``[...]`` int64: the rows ``[..., 3]`` numbered in a box of ``counts``; equal only for equal rows inside it."""
    return (rows[..., 0] * counts[1] + rows[..., 1]) * counts[2] + rows[..., 2]


def _rows(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The unique rows of ``[N, 3]`` in a box of ``counts``, sorted."""
    keys = _unique(_key(rows, counts))
    plane, third = np.divmod(keys, counts[2])
    return np.stack([*np.divmod(plane, counts[1]), third], axis=1)


def _unique_edges(pairs: np.ndarray, count: int) -> np.ndarray:
    first, second = pairs.T
    keys = _unique(np.minimum(first, second) * count + np.maximum(first, second))
    return np.stack([keys // count, keys % count], axis=1).astype(np.int32)


def _unique(keys: np.ndarray) -> np.ndarray:
    """``[N]`` sorted and without repetitions; for keys that are nearly in order this is faster than ``np.unique``."""
    keys = np.sort(keys, kind="stable")
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
