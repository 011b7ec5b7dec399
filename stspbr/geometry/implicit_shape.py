"""What the implicit shapes share: a signed distance and a displacement at every vertex of a grid in a box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree

from stspbr.errors import StspbrError
from stspbr.geometry import cell_band
from stspbr.geometry.cell_band import CellBand
from stspbr.geometry.coarse_to_fine import Evidence, Inheritance, lost_sites, with_lost_parts
from stspbr.geometry.held_sides import HeldSides
from stspbr.geometry.tet_grid import grid_cells


@dataclass(frozen=True)
class Lattice:
    """The vertices of a shape's grid, and how the surface between them is found.

    Attributes:
        vertices: ``[V, 3]`` float32; edges: ``[E, 2]`` int32, unique, sorted, first index smaller.
        marching: the extraction, which also holds the border's vertices to their side.
    """

    vertices: np.ndarray
    edges: np.ndarray
    marching: HeldSides


class ImplicitShape(torch.nn.Module, ABC):
    """Geometry whose topology may change: the zero level of ``sdf`` on a deformable grid.

    Parameters: ``sdf [V]`` (negative inside, object units by convention) and ``deform [V, 3]``: ``tanh(deform)`` times
    half a cell is added to the grid. A cell is the unit of ``resolution``, ``extent / resolution``. Once the cells of
    the lattice are halved, ``sdf`` counts in units of ``unit``, a quarter per halving: a step of the optimiser is half
    the part of a cell that it was before, because a vertex has a quarter of the pixels and thus twice the noise.

    ``subdivide`` halves the cells and keeps a band of them around the surface; the grid's border is then on the known
    side, inside or outside, and ``follow`` moves the band after the surface. In the module's state, ``counts``,
    ``cells``, ``side`` and ``offset`` describe the band; they are absent as long as the grid fills the box.

    Args:
        resolution: of a voxel grid along the box's longest side; see ``per_cell``.
        box_min, box_max: ``[3]`` object units. The surface always closes at the box.
        generator: draws the initial distances, uniform in [−0.18, 0.02] of the box's shortest side: nine tenths of
            the noise are inside. ``init_sphere`` and ``init_sdf`` are better starts.

    Raises:
        StspbrError: an empty box, or a resolution below 4.
    """

    per_cell: ClassVar[float]
    """Voxels along the side of a lattice's cell."""
    settled = False
    """Whether the surface is that of the result: no triangles that only the optimiser needs."""

    grid: torch.Tensor
    box_min: torch.Tensor
    box_max: torch.Tensor
    _edges: torch.Tensor
    _degree: torch.Tensor
    _symmetric: torch.Tensor
    cells: torch.Tensor
    side: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self, resolution: int, box_min: np.ndarray, box_max: np.ndarray, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.resolution = resolution
        lattice = self._whole_lattice(box_min, box_max)
        low, high = lattice.vertices.min(axis=0), lattice.vertices.max(axis=0)
        self.band: CellBand | None = None
        self.unit = 1.0
        self.register_buffer("box_min", torch.from_numpy(low))
        self.register_buffer("box_max", torch.from_numpy(high))
        self._use(lattice, float((high - low).max() / resolution))
        noise = torch.rand(len(lattice.vertices), generator=generator) * 0.2 - 0.1
        self.sdf = torch.nn.Parameter((noise - 0.08) * float((high - low).min()))
        self.deform = torch.nn.Parameter(torch.zeros(len(lattice.vertices), 3))

    @abstractmethod
    def _whole_lattice(self, box_min: np.ndarray, box_max: np.ndarray) -> Lattice:
        """The lattice of ``resolution`` that fills the box, its border outside."""

    @abstractmethod
    def _band_lattice(self, band: CellBand, inside: np.ndarray) -> Lattice:
        """The lattice of a band, whose border is held to the side that ``inside [V]`` bool says."""

    @abstractmethod
    def _vertex_count(self, band: CellBand) -> int:
        """How many of the band's sites, from the first, are vertices of the grid."""

    @abstractmethod
    def _site_sides(self, band: CellBand, inside: np.ndarray) -> np.ndarray:
        """``[S]`` bool: which sites of the band are inside, from its vertices' ``inside [V]``."""

    @abstractmethod
    def _parents(self, band: CellBand, sites: np.ndarray) -> np.ndarray:
        """``[N, K]`` the vertices of ``band`` whose mean is each of ``sites [N, 3]`` of halved cells."""

    @abstractmethod
    def extract(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The welded surface ``positions [M, 3]`` float32 (differentiable), ``faces [F, 3]`` int32; may be empty."""

    def penalties(self) -> dict[str, torch.Tensor]:
        """What this kind of shape wants small (scalars by name), of the surface that was extracted last or is now."""
        return {}

    def refresh(self) -> dict[str, list[Inheritance]]:
        """After ``follow`` or ``subdivide``: lay further parameters anew; what they inherit, by parameter."""
        return {}

    @property
    def follows(self) -> bool:
        """Whether something must follow the surface: the band, or parameters that are kept near it only."""
        return self.band is not None

    def _use(self, lattice: Lattice, cell: float) -> None:
        """Take a grid: all that follows from its connectivity."""
        vertices, edges = lattice.vertices, lattice.edges
        device = self.box_min.device
        self.marching = lattice.marching.to(device)
        self.cell = cell
        count = len(vertices)
        degree = np.bincount(edges.ravel(), minlength=count).astype(np.float32)
        step = (vertices[edges[:, 1]] - vertices[edges[:, 0]]).astype(np.float64)
        uneven = np.zeros(count, bool)
        for axis in range(3):
            there, back = (np.bincount(edges[:, end], step[:, axis], count) for end in (0, 1))
            uneven |= np.abs(there - back) >= 1e-3 * cell
        held = np.zeros(count, bool)
        for fixed in (lattice.marching.border, lattice.marching.core):
            held |= False if fixed is None else fixed.cpu().numpy()
        touches_border = np.zeros(count, bool)
        touches_border[edges[held[edges].any(axis=1)].ravel()] = True
        derived = {
            "grid": vertices,
            "_edges": edges.T.astype(np.int64).copy(),
            "_degree": degree,
            "_symmetric": ~uneven & ~touches_border,
        }
        for name, array in derived.items():
            self.register_buffer(name, torch.from_numpy(array).to(device), persistent=False)

    @property
    def box(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(box_min [3], box_max [3])`` of the undeformed grid, by which encodings normalise positions."""
        return self.box_min, self.box_max

    def vertices(self) -> torch.Tensor:
        """``[V, 3]`` the deformed grid."""
        grid = self.grid if self.band is None else self.grid + self.offset
        return grid + torch.tanh(self.deform) * (0.5 * self.cell)

    def distances(self) -> torch.Tensor:
        """``[V]`` the signed distances in object units, with the signs that the border's vertices are kept to."""
        values = self.marching.values(self.sdf)
        return values if self.band is None else values * self.unit

    @torch.no_grad()
    def init_sphere(self, radius: float) -> None:
        """Start from the ellipsoid around the box's centre whose semi-axes are ``radius`` times the half sides."""
        centre, half = (self.box_min + self.box_max) / 2, (self.box_max - self.box_min) / 2
        self.sdf.copy_((torch.linalg.norm((self.grid - centre) / half, dim=1) - radius) * half.min())
        self.deform.zero_()
        self.refresh()

    @torch.no_grad()
    def init_sdf(self, values: np.ndarray | torch.Tensor) -> None:
        """Start from given distances ``[V]`` at the undeformed grid (see ``visual_hull_sdf``), negative inside.

        Raises:
            StspbrError: a wrong number of values, one that is not finite, or nothing inside the box.
        """
        values = torch.as_tensor(values, dtype=torch.float32, device=self.sdf.device)
        if values.shape != self.sdf.shape:
            raise StspbrError(f"the grid has {len(self.sdf)} vertices but {tuple(values.shape)} distances were given")
        if not bool(torch.isfinite(values).all()):
            raise StspbrError("the initial distances contain NaN or infinity: check the masks and cameras")
        if not bool((self.marching.values(values) < 0).any()):
            raise StspbrError("the initial shape is empty inside the grid's box: check the masks, cameras and box")
        self.sdf.copy_(values)
        self.deform.zero_()
        self.refresh()

    @torch.no_grad()
    def subdivide(self, width: int, evidence: Evidence | None = None) -> list[Inheritance]:
        """Halve the cells and keep those within ``width`` of the surface.

        Distances and positions are interpolated between the vertices of the grid; the displacements that the vertices
        have so far become their ``offset``, and ``deform`` starts from 0.

        Args:
            width: cells on both sides of the surface.
            evidence: while the grid fills the box, parts that the surface lacks and that this shows are added to it:
                their vertices take the distances of the hull.

        Returns:
            What the vertices inherit, in order: from a band that had to move first, from coarser cells.
        """
        reach = 1 + (width + 1) // 2  # the finer band is within so many coarse cells
        moved = self.follow(max(width, reach), reach)
        band, values, inside = self._band(), self.distances(), self._inside()
        near = band.cells[band.crossed(inside)]
        lost = None
        if evidence is not None and self.band is None:
            lost = lost_sites(band, inside, self._corners(), evidence)
        if lost is not None:
            near = np.concatenate([near, np.unique((lost - 1) // 4, axis=0)])
        if len(near) == 0:  # the surface has vanished; the next step says so
            return moved
        fine = CellBand.of(2 * band.counts, cell_band.children(cell_band.around(band, near, reach)))
        parents = self._parents(band, fine.sites[: self._vertex_count(fine)])
        middle = Inheritance(torch.from_numpy(parents).to(values.device), 0.25)
        distances, offset = middle.of(values), middle.of(self.vertices() - self.grid)
        if evidence is not None and lost is not None:
            spare = distances.new_zeros(len(fine.sites) - len(distances))
            every = with_lost_parts(fine, torch.cat([distances, spare]), lost, self._corners(), evidence)
            distances = every[: len(distances)]
        sides = self._site_sides(fine, (distances < 0).cpu().numpy())
        band, inside = cell_band.follow(fine, sides, width)
        vertices = self._vertex_count(band)
        own = torch.from_numpy(fine.find(band.sites[:vertices])).to(values.device)
        self._take(band, inside[:vertices])
        self._fill(distances[own], torch.zeros_like(offset[own]), offset[own])
        return [*moved, Inheritance(middle.parents[own], 0.25)]

    @torch.no_grad()
    def follow(self, width: int, margin: int = 1) -> list[Inheritance]:
        """Move the band, ``width`` cells to both sides, after the surface if that is near the band's border.

        Distances of vertices that join are those to the surface, on the border's side. The surface stays as it is.

        Returns:
            What the vertices inherit; [] if nothing was done: the surface is ``margin`` cells away from the border, or
            the grid fills the box.
        """
        if self.band is None:
            return []
        old, inside = self.band, self._inside()
        near = cell_band.around(old, old.cells[old.crossed(inside)], margin)
        if (old.find(2 * near + 1) >= 0).all():
            return []
        surface = self.extract()[0].cpu().numpy()
        values, displaced, offset = self.distances(), self.deform.detach().clone(), self.offset
        band, inside = cell_band.follow(old, inside, width)
        inside = inside[: self._vertex_count(band)]
        own = old.find(band.sites[: len(inside)])
        heirs = Inheritance(torch.from_numpy(np.stack([own, own], axis=1)).to(values.device), 1.0)
        new, displaced, offset = heirs.of(values), heirs.of(displaced), heirs.of(offset)
        self._take(band, inside)
        joined = np.nonzero(own < 0)[0]
        if len(joined):
            distance = np.asarray(cKDTree(surface).query(self.grid.cpu().numpy()[joined])[0], np.float32)
            distance = np.where(inside[joined], -1, 1) * np.maximum(distance, np.float32(0.01 * self.cell))
            new[torch.from_numpy(joined).to(new.device)] = torch.from_numpy(distance.astype(np.float32)).to(new.device)
        self._fill(new, displaced, offset)
        return [heirs]

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        return self.box_min.cpu().numpy(), self.box_max.cpu().numpy()

    def _inside(self) -> np.ndarray:
        """``[S]`` bool: which sites of ``_band()`` are inside."""
        return self._site_sides(self._band(), self.marching.inside(self.sdf.detach()).cpu().numpy())

    def _band(self) -> CellBand:
        if self.band is not None:
            return self.band
        return CellBand.whole(grid_cells(self.resolution, *self._corners(), self.per_cell))

    def _take(self, band: CellBand, inside: np.ndarray) -> None:
        """Use the cells of ``band``, at whose border the vertices stay on their side."""
        low, high = self._corners()
        whole = grid_cells(self.resolution, low, high, self.per_cell)
        halved = float(whole[0] / band.counts[0])
        self.unit = halved**2
        cell = float((high - low).max() / self.resolution) * halved
        self._use(self._band_lattice(band, inside), cell)
        self.band = band
        described = {
            "counts": band.counts,
            "cells": band.cells.astype(np.int32),
            "side": np.where(inside, np.int8(-1), np.int8(1)),
        }
        for name, array in described.items():
            self.register_buffer(name, torch.from_numpy(array).to(self.box_min.device))

    def _fill(self, sdf: torch.Tensor, deform: torch.Tensor, offset: torch.Tensor) -> None:
        self.sdf, self.deform = torch.nn.Parameter(sdf / self.unit), torch.nn.Parameter(deform)
        self.register_buffer("offset", offset)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "cells" in state:
            counts, cells, side = (state[prefix + name].cpu().numpy() for name in ("counts", "cells", "side"))
            self._take(CellBand.of(counts, cells), side < 0)
            zero = torch.zeros_like(self.grid)
            self._fill(zero[:, 0].clone(), zero.clone(), zero)
        super()._load_from_state_dict(state, prefix, *rest)

    def regularizer(self) -> torch.Tensor:
        """Sign-change penalty (scalar): keeps neighbours on both sides of the surface close to zero and each other.

        Mean over the grid's edges with a sign change of
        ``BCE(sigmoid(s_i), [s_j ≥ 0]) + BCE(sigmoid(s_j), [s_i ≥ 0])`` (Munkberg et al. 2022), with distances in
        object units. Zero if no edge crosses.
        """
        values = self.distances()
        inside = values.detach() < 0
        first, second = self._edges
        crosses = inside[first] != inside[second]
        if values.device.type == "cpu":
            crossing = torch.nonzero(crosses).squeeze(1)
            if crossing.numel() == 0:
                return values.sum() * 0.0
            return _sign_penalty(values, first[crossing], second[crossing]).mean()
        return masked_sign_penalty(values, crosses, first, second)

    def smoothness(self) -> torch.Tensor:
        """Bending of the level set (scalar): mean squared umbrella of the distances at the grid's vertices near it.

        The Laplacian of a signed distance is the mean curvature; on the symmetric lattice the umbrella of a plane's
        distances is zero. Distances are in cells, so the weight does not depend on the resolution. Vertices within
        two cells of the surface count, except those at the box, where the lattice is not symmetric.
        """
        values = self.distances() / self.cell
        near = (values.detach().abs() < 2.0) & self._symmetric
        first, second = self._edges
        if values.device.type == "cpu":  # most edges are far from the surface
            touching = torch.nonzero(near.index_select(0, first) | near.index_select(0, second)).squeeze(1)
            first, second = first.index_select(0, touching), second.index_select(0, touching)
        difference = torch.index_select(values, 0, second) - torch.index_select(values, 0, first)
        total = torch.zeros_like(values).index_add(0, first, difference).index_add(0, second, -difference)
        count = near.sum().clamp(min=1)
        return torch.where(near, total / self._degree, 0.0).square().sum() / count


def masked_sign_penalty(
    values: torch.Tensor, crosses: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """The regulariser over all edges with a mask ``crosses [E]``, a scalar; zero if no edge crosses.

    On a GPU, all edges cost less than waiting for the number of crossing ones.
    """
    loss = torch.where(crosses, _sign_penalty(values, first, second), 0.0)
    return loss.sum() / crosses.sum().clamp(min=1)


def _sign_penalty(values: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The cost ``[E]`` of each edge, from each end point's distance and the other's sign."""
    a, b = torch.index_select(values, 0, first), torch.index_select(values, 0, second)
    loss = F.binary_cross_entropy_with_logits(a, (b >= 0).to(a.dtype), reduction="none")
    return loss + F.binary_cross_entropy_with_logits(b, (a >= 0).to(b.dtype), reduction="none")
