"""FlexiCubes: a signed distance and a displacement at cubes' corners, and weights in the cubes near the surface.

After Shen et al. 2023, "Flexible isosurface extraction for gradient-based mesh optimization".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from stspbr.geometry import cell_band
from stspbr.geometry.cell_band import CellBand
from stspbr.geometry.coarse_to_fine import Evidence, Inheritance
from stspbr.geometry.dual_cubes import WEIGHTS, DualCubes, DualTopology
from stspbr.geometry.implicit_shape import ImplicitShape, Lattice
from stspbr.geometry.tet_grid import checked_box, grid_cells

_WEIGHTED = 2  # cells on both sides of the surface that have weights


class FlexiCubes(ImplicitShape):
    """An implicit shape on cubic cells, whose surface has a vertex inside of each cell that it crosses.

    Beside those of ``ImplicitShape`` there is the parameter ``weights [R, 21]``, see ``DualCubes.forward``: of the
    cells within two cells of the surface when ``refresh`` last laid them, whose places are ``weighted [R, 3]`` in the
    state. The weights of all others are 0. Halving cells interpolates distances and positions and starts weights anew,
    so the surface moves by a part of a cell. As long as it is not ``settled``, a quad is four triangles around a vertex
    inside it, and two from then on.
    """

    per_cell = 1.0
    marching: DualCubes
    weighted: torch.Tensor

    def __init__(
        self, resolution: int, box_min: np.ndarray, box_max: np.ndarray, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(resolution, box_min, box_max, generator)
        self.register_buffer("weighted", torch.zeros(0, 3, dtype=torch.int32))
        self.weights = torch.nn.Parameter(torch.zeros(0, WEIGHTS))
        self._deviation: torch.Tensor | None = None

    def extract(self) -> tuple[torch.Tensor, torch.Tensor]:
        topology, positions, gamma = self._dual()
        if self.settled:
            return positions, self.marching.final_faces(topology, gamma)
        return self.marching.training_mesh(topology, positions, gamma)

    def penalties(self) -> dict[str, torch.Tensor]:
        """``deviation``: mean deviation of the dual vertices' distances to their crossings, in cells."""
        if self._deviation is None:
            self._dual()
        deviation, self._deviation = self._deviation, None
        return {} if deviation is None or len(deviation) == 0 else {"deviation": deviation.mean() / self.cell}

    def _dual(self) -> tuple[DualTopology, torch.Tensor, torch.Tensor]:
        row = self._rows()
        topology, positions, deviation, gamma = self.marching(self.vertices(), self.distances(), self.weights, row)
        self._deviation = deviation if torch.is_grad_enabled() else None
        return topology, positions, gamma

    @property
    def follows(self) -> bool:
        return True

    @torch.no_grad()
    def refresh(self) -> dict[str, list[Inheritance]]:
        """Keep weights where the surface is now, if it has come near a cell without."""
        band, inside = self._band(), self._inside()
        crossed = band.cells[band.crossed(inside)]
        rows = self._rows().cpu().numpy()
        near = self._numbers(band, cell_band.around(band, crossed, 1))
        if len(self.weights) and (rows[near[near >= 0]] >= 0).all():
            return {}
        near = self._numbers(band, cell_band.around(band, crossed, _WEIGHTED))
        near = near[near >= 0]
        old = torch.from_numpy(rows[near].astype(np.int64)).to(self.weights.device)
        heirs = Inheritance(old[:, None], 1.0)
        if len(self.weights):
            weights = heirs.of(self.weights.detach())
        else:
            weights = self.weights.new_zeros(len(near), WEIGHTS)
        self._lay(band.cells[near], weights)
        return {"weights": [heirs]}

    @torch.no_grad()
    def subdivide(self, width: int, evidence: Evidence | None = None) -> list[Inheritance]:
        heirs = super().subdivide(width, evidence)
        self._lay(np.zeros((0, 3), np.int64), self.weights.new_zeros(0, WEIGHTS))
        return heirs

    def _lay(self, cells: np.ndarray, weights: torch.Tensor) -> None:
        self.weights = torch.nn.Parameter(weights)
        self.register_buffer("weighted", torch.from_numpy(cells.astype(np.int32)).to(weights.device))
        self._row: torch.Tensor | None = None

    def _rows(self) -> torch.Tensor:
        """``[C]`` int32: the row of each cell in ``weights``; −1 for none."""
        if self._row is None or self._row.device != self.weights.device:
            band = self._band()
            at = self._numbers(band, self.weighted.cpu().numpy().astype(np.int64))
            rows = np.full(len(band.cells), -1, np.int32)
            rows[at[at >= 0]] = np.flatnonzero(at >= 0)
            self._row = torch.from_numpy(rows).to(self.weights.device)
        return self._row

    @staticmethod
    def _numbers(band: CellBand, cells: np.ndarray) -> np.ndarray:
        return np.maximum(band.find(2 * cells + 1) - band.centres[0], -1)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "weighted" in state:
            cells = state[prefix + "weighted"].cpu().numpy()
            self._lay(cells, torch.zeros(len(cells), WEIGHTS, device=self.box_min.device))
        super()._load_from_state_dict(state, prefix, *rest)

    # -- the lattice ------------------------------------------------------------------------------------

    def _whole_lattice(self, box_min: np.ndarray, box_max: np.ndarray) -> Lattice:
        low, high = checked_box(self.resolution, box_min, box_max)
        self._whole = CellBand.whole(grid_cells(self.resolution, low, high, self.per_cell))
        edges, border = self._whole.cube_edges()
        return self._lattice(self._whole, (low, high), edges, border, None)

    def _band_lattice(self, band: CellBand, inside: np.ndarray) -> Lattice:
        edges, border = band.cube_edges()
        return self._lattice(band, self._corners(), edges, border & ~inside, border & inside)

    def _lattice(
        self,
        band: CellBand,
        box: tuple[np.ndarray, np.ndarray],
        edges: np.ndarray,
        border: np.ndarray,
        core: np.ndarray | None,
    ) -> Lattice:
        self._row = None
        vertices = band.positions(*box)[: self._vertex_count(band)]
        return Lattice(vertices, edges, DualCubes(band.corners, band.neighbours, border, core))

    def _band(self) -> CellBand:
        return self._whole if self.band is None else self.band

    def _vertex_count(self, band: CellBand) -> int:
        return len(band.sites) - len(band.cells)

    def _site_sides(self, band: CellBand, inside: np.ndarray) -> np.ndarray:
        # centres are no vertices: one on the side of a corner changes nothing in whether the cell is crossed
        return np.concatenate([inside, inside[band.corners[:, 0]]])

    def _parents(self, band: CellBand, sites: np.ndarray) -> np.ndarray:
        return cell_band.cube_parents(band, sites)
