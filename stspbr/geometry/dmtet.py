"""DMTet: a signed distance and a displacement at every vertex of a tetrahedral grid (Shen et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.geometry import cell_band
from stspbr.geometry.cell_band import CellBand
from stspbr.geometry.implicit_shape import ImplicitShape, Lattice
from stspbr.geometry.marching_tets import MarchingTets
from stspbr.geometry.tet_grid import TETS_PER_CELL, border_vertices, tet_grid


class DMTet(ImplicitShape):
    """An implicit shape on a body-centred cubic lattice, cut into tetrahedra; see ``ImplicitShape``.

    A cell, by which displacements are limited, is a voxel with the volume of a tetrahedron: small enough that
    neighbours cannot easily pass each other. Halving the lattice splits tetrahedra into tetrahedra and leaves the
    surface as it is.
    """

    per_cell = TETS_PER_CELL ** (1.0 / 3.0)
    marching: MarchingTets

    def extract(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.marching(self.vertices(), self.distances())

    def _whole_lattice(self, box_min: np.ndarray, box_max: np.ndarray) -> Lattice:
        vertices, tets, edges = tet_grid(self.resolution, box_min, box_max)
        return Lattice(vertices, edges, MarchingTets(tets, edges, border_vertices(vertices)))

    def _band_lattice(self, band: CellBand, inside: np.ndarray) -> Lattice:
        tets, edges, border = band.tets()
        marching = MarchingTets(tets, edges, border & ~inside, core=border & inside)
        return Lattice(band.positions(*self._corners()), edges, marching)

    def _vertex_count(self, band: CellBand) -> int:
        return len(band.sites)

    def _site_sides(self, band: CellBand, inside: np.ndarray) -> np.ndarray:
        return inside

    def _parents(self, band: CellBand, sites: np.ndarray) -> np.ndarray:
        return cell_band.parents(band, sites)
