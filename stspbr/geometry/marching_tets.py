"""Marching tetrahedra: the zero level of a signed distance on a tetrahedral grid, as a welded triangle mesh.

After Doi and Koide 1991, differentiable as in Shen et al. 2021 (DMTet). Sign: **negative is inside**.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stspbr import kernel_dispatch
from stspbr.geometry import marching_tets_kernels as kernels
from stspbr.geometry.held_sides import HeldSides

if TYPE_CHECKING:
    from stspbr.geometry.warp_tets import WarpTets


class MarchingTets(HeldSides):
    """The extraction for one grid; whatever depends on its connectivity alone is prepared once.

    Numba kernels find the topology on the CPU, Warp's or torch find it on other devices: the same edges and faces in
    the same order. The module has no state to save.

    Args:
        tets: ``[T, 4]`` int32, positive volumes (see ``tet_grid``).
        edges: ``[E, 2]`` int32: every edge of the tets once, smaller index first, sorted; None: computed here.
        border, core: ``[V]`` bool: vertices that are always outside or always inside, or None; see ``HeldSides``.
        backend: one of ``kernel_dispatch.BACKENDS``.

    Raises:
        ValueError: ``edges`` lacks an edge of the tets.
    """

    def __init__(
        self,
        tets: np.ndarray,
        edges: np.ndarray | None = None,
        border: np.ndarray | None = None,
        backend: str = "auto",
        core: np.ndarray | None = None,
    ) -> None:
        super().__init__(border, core)
        self.backend = backend
        self.tets = np.ascontiguousarray(tets, dtype=np.int32)
        self.edges = unique_edges(self.tets) if edges is None else np.ascontiguousarray(edges, dtype=np.int32)
        vertex_count = int(self.tets.max()) + 1
        first_edge = np.searchsorted(self.edges[:, 0], np.arange(vertex_count + 1)).astype(np.int64)
        self._tet_edges = kernels.tet_edge_table(self.tets, self.edges, first_edge)
        if np.any(self._tet_edges < 0):
            raise ValueError("edges must contain every edge of the tets")
        self._case_counts, self._case_edges = kernels.case_table()
        self._tables: tuple[torch.device, list[torch.Tensor]] | None = None
        self._warp: WarpTets | None = None

    def topology(self, sdf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crossing edges ``[M, 2]`` int64 (inside end first) and faces ``[F, 3]`` int32 between them.

        Both follow the grid's order, whatever the threads and the backend.
        """
        sdf = sdf.detach()
        kind = kernel_dispatch.choose(self.backend, sdf, what="marching tetrahedra")
        if kind == "torch":
            return self._topology_torch(sdf)
        if kind == "warp":
            return self._topology_warp(sdf)
        inside = self.inside(sdf).to(torch.uint8).numpy()
        crossing, new_index = kernels.crossing_edges(inside, self.edges)
        faces = kernels.crossing_faces(
            inside, self.tets, self._tet_edges, new_index, self._case_counts, self._case_edges
        )
        return torch.from_numpy(crossing), torch.from_numpy(faces)

    def _topology_warp(self, sdf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from stspbr.geometry.warp_tets import WarpTets

        if self._warp is None or self._warp.tets.device != sdf.device:
            arrays = self.tets, self.edges, self._tet_edges, self._case_counts, self._case_edges
            self._warp = WarpTets.of(sdf.device, *arrays)
        return self._warp.topology(self.inside(sdf))

    def _topology_torch(self, sdf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``topology`` in torch. On a GPU the host waits twice: for the numbers of edges and of faces."""
        if self._tables is None or self._tables[0] != sdf.device:
            arrays = (self.tets, self.edges, self._tet_edges, self._case_counts, self._case_edges.reshape(16, 2, 3))
            self._tables = sdf.device, [torch.from_numpy(a).to(sdf.device, torch.int64) for a in arrays]
        tets, edges, tet_edges, case_counts, case_edges = self._tables[1]
        inside = self.inside(sdf)
        first = inside.index_select(0, edges[:, 0])
        crosses = first != inside.index_select(0, edges[:, 1])
        new_index = torch.cumsum(crosses, 0) - 1
        rows = torch.nonzero(crosses).squeeze(1)
        ends = edges.index_select(0, rows)
        crossing = torch.where(first.index_select(0, rows)[:, None], ends, ends.flip(1))

        corners = inside.index_select(0, tets.reshape(-1)).reshape(-1, 4).to(torch.int64)
        case = corners[:, 0] + 2 * corners[:, 1] + 4 * corners[:, 2] + 8 * corners[:, 3]
        count = case_counts.index_select(0, case)[:, None]
        slots = torch.nonzero((count > torch.arange(2, device=sdf.device)).reshape(-1)).squeeze(1)  # two per tet
        tet, face = torch.div(slots, 2, rounding_mode="floor"), slots % 2
        sides = case_edges.reshape(32, 3).index_select(0, case.index_select(0, tet) * 2 + face)
        found = torch.gather(tet_edges.index_select(0, tet), 1, sides)
        faces = new_index.index_select(0, found.reshape(-1)).reshape(-1, 3).to(torch.int32)
        return crossing, faces

    def forward(self, vertices: torch.Tensor, sdf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Extract the surface.

        Args:
            vertices: ``[V, 3]`` float32 grid positions.
            sdf: ``[V]`` float32 signed distances, negative inside; zero counts as outside.

        Returns:
            ``positions [M, 3]`` float32, differentiable in both arguments, one per crossing edge (welded: neighbours
            share them); ``faces [F, 3]`` int32, counter-clockwise from outside. Both are empty if nothing is inside:
            the caller must report it.
        """
        crossing, faces = self.topology(sdf)
        inner, outer = crossing.T.contiguous()
        values = self.values(sdf)
        inner_value, outer_value = torch.index_select(values, 0, inner), torch.index_select(values, 0, outer)
        weight = (inner_value / (inner_value - outer_value)).unsqueeze(1)  # the signs make the divisor negative
        start, end = torch.index_select(vertices, 0, inner), torch.index_select(vertices, 0, outer)
        return start + weight * (end - start), faces


def unique_edges(tets: np.ndarray) -> np.ndarray:
    """``[E, 2]`` int32: every edge of ``tets [T, 4]`` once, smaller index first, sorted."""
    pairs = np.concatenate([tets[:, [a, b]] for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))])
    pairs = np.sort(pairs.astype(np.int64), axis=1)
    count = int(tets.max()) + 1
    keys = np.unique(pairs[:, 0] * count + pairs[:, 1])
    return np.stack([keys // count, keys % count], axis=1).astype(np.int32)
