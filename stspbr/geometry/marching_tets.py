"""Marching tetrahedra: the zero level of a signed distance on a tetrahedral grid, as a welded triangle mesh.

After Doi and Koide 1991, differentiable as in Shen et al. 2021 (DMTet). Sign: **negative is inside**.
"""

from __future__ import annotations

import numpy as np
import torch

from stspbr.geometry import marching_tets_kernels as kernels


class MarchingTets:
    """The extraction for one grid; what depends on its connectivity alone is prepared once.

    Args:
        tets: ``[T, 4]`` int32, positive volumes (see ``tet_grid``).
        edges: ``[E, 2]`` int32: every edge of the tets once, smaller index first, sorted; or None: found here.
        border: ``[V]`` bool: vertices that are outside whatever their value, so that the surface closes there;
            or None. Their distance counts with its absolute value.
    """

    def __init__(self, tets: np.ndarray, edges: np.ndarray | None = None, border: np.ndarray | None = None) -> None:
        self.tets = np.ascontiguousarray(tets, dtype=np.int32)
        self.edges = unique_edges(self.tets) if edges is None else np.ascontiguousarray(edges, dtype=np.int32)
        self.border = None if border is None else torch.from_numpy(np.ascontiguousarray(border, dtype=bool))
        vertex_count = int(self.tets.max()) + 1
        first_edge = np.searchsorted(self.edges[:, 0], np.arange(vertex_count + 1)).astype(np.int64)
        self._tet_edges = kernels.tet_edge_table(self.tets, self.edges, first_edge)
        if np.any(self._tet_edges < 0):
            raise ValueError("edges do not hold every edge of the tets")
        self._case_counts, self._case_edges = kernels.case_table()

    def values(self, sdf: torch.Tensor) -> torch.Tensor:
        """``[V]``: the distances that count: ``|sdf|`` at the border, ``sdf`` elsewhere."""
        if self.border is None:
            return sdf
        self.border = self.border.to(sdf.device)
        return torch.where(self.border, sdf.abs(), sdf)

    def topology(self, sdf: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Crossing edges ``[M, 2]`` int64 (inside end first) and faces ``[F, 3]`` int32 between them.

        The order of both follows the grid's and does not depend on threads.
        """
        inside = (sdf.detach() < 0).to("cpu", torch.uint8).numpy()
        if self.border is not None:
            inside = inside * (~self.border.cpu().numpy())
        crossing, new_index = kernels.crossing_edges(inside, self.edges)
        faces = kernels.crossing_faces(
            inside, self.tets, self._tet_edges, new_index, self._case_counts, self._case_edges
        )
        return crossing, faces

    def __call__(self, vertices: torch.Tensor, sdf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Extract the surface.

        Args:
            vertices: ``[V, 3]`` float32 grid positions.
            sdf: ``[V]`` float32 signed distances, negative inside; zero counts as outside.

        Returns:
            ``positions [M, 3]`` float32, differentiable with respect to both arguments, one for each crossing
            edge (welded: neighbours share them); ``faces [F, 3]`` int32, counter-clockwise from outside. Both
            are empty where nothing is inside: the caller has to say so.
        """
        crossing, faces = self.topology(sdf)
        inner, outer = torch.from_numpy(crossing.T.copy()).to(vertices.device)
        values = self.values(sdf)
        inner_value, outer_value = torch.index_select(values, 0, inner), torch.index_select(values, 0, outer)
        weight = (inner_value / (inner_value - outer_value)).unsqueeze(1)  # the divisor is below zero by the signs
        start, end = torch.index_select(vertices, 0, inner), torch.index_select(vertices, 0, outer)
        return start + weight * (end - start), torch.from_numpy(faces).to(vertices.device)


def unique_edges(tets: np.ndarray) -> np.ndarray:
    """``[E, 2]`` int32: every edge of ``tets [T, 4]`` once, smaller index first, sorted."""
    pairs = np.concatenate([tets[:, [a, b]] for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))])
    pairs = np.sort(pairs.astype(np.int64), axis=1)
    count = int(tets.max()) + 1
    keys = np.unique(pairs[:, 0] * count + pairs[:, 1])
    return np.stack([keys // count, keys % count], axis=1).astype(np.int32)
