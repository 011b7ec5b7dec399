"""Dual marching cubes with weights: the surface of FlexiCubes (Shen et al. 2023) on some cells of a cubic lattice.

Sign: **negative is inside**. Where cells of Nielson's dual marching cubes (2004) would meet in an edge of four faces,
the ambiguous face between them is cut the other way: edges are manifold, and the surface is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stspbr import kernel_dispatch
from stspbr.geometry import dual_cubes_kernels as kernels
from stspbr.geometry.cube_cases import cube_cases
from stspbr.geometry.held_sides import HeldSides

if TYPE_CHECKING:
    from stspbr.geometry.warp_cubes import WarpCubes

WEIGHTS = 21
"""Weights of a cell before ``_scale``: β of its 12 edges, α of its 8 corners, γ."""
_RANGE = 0.99  # α and β are 1 ± this
_LEAST_GAMMA = 0.005


@dataclass(frozen=True)
class DualTopology:
    """Which cells the surface crosses, and how its dual vertices are joined.

    Attributes:
        cells: ``[N]`` int32 crossed cells, in order; rows: ``[N]`` int32 their rows of ``CubeCases``.
        first: ``[N + 1]`` int32: where the dual vertices of each begin.
        quads: ``[Q, 4]`` int32 dual vertices, counter-clockwise from outside.
    """

    cells: Tensor
    rows: Tensor
    first: Tensor
    quads: Tensor

    def owners(self) -> Tensor:
        """``[M]`` int64: the row in ``cells`` that each dual vertex belongs to."""
        counts = self.first.diff().to(torch.int64)
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


class DualCubes(HeldSides):
    """The extraction for one set of cells.

    Numba kernels work on the CPU in float32, Warp's on a GPU, with hand-written gradients; torch works elsewhere and in
    double precision: the same vertices and quads in the same order.

    Args:
        corners: ``[C, 8]`` int32 vertices of each cell, numbered as in ``cube_cases``.
        neighbours: ``[C, 6]`` int32 the cell behind each face (``cube_cases.FACES``), −1 for none.
        border, core: ``[V]`` bool: vertices that are always outside or always inside, or None; see ``HeldSides``. The
            surface is closed if no edge of a face without a neighbour crosses it.
        backend: one of ``kernel_dispatch.BACKENDS``.
    """

    def __init__(
        self,
        corners: np.ndarray,
        neighbours: np.ndarray,
        border: np.ndarray | None = None,
        core: np.ndarray | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(border, core)
        self.backend = backend
        self.corners = np.ascontiguousarray(corners, np.int32)
        self.neighbours = np.ascontiguousarray(neighbours, np.int32)
        self._moved: tuple[torch.device, list[Tensor]] | None = None
        self._warp: WarpCubes | None = None

    def topology(self, sdf: Tensor) -> DualTopology:
        """The surface's connectivity for distances ``[V]``; its order depends on neither threads nor backend."""
        sdf = sdf.detach()
        kind = kernel_dispatch.choose(self.backend, sdf, what="dual marching cubes")
        if kind == "torch":
            return self._topology_torch(sdf)
        if kind == "warp":
            return DualTopology(*self._warp_cubes(sdf.device).topology(self.inside(sdf)))
        inside = self.inside(sdf).to(torch.uint8).numpy()
        cases, cells = kernels.crossed_cells(inside, self.corners)
        parts = kernels.dual_quads(cube_cases(), inside, self.corners, self.neighbours, cases, cells)
        return DualTopology(*(torch.from_numpy(part) for part in (cells, *parts)))

    def forward(
        self, vertices: Tensor, sdf: Tensor, weights: Tensor, weight_row: Tensor
    ) -> tuple[DualTopology, Tensor, Tensor, Tensor]:
        """The dual vertices.

        A crossing of an edge is where the line between its ends' distances, each times its α, is zero; a dual vertex
        is the mean of its loop's crossings, each times its β (Shen et al. 2023, equations 6 and 7). α and β are
        ``1 + 0.99 tanh(w)``, γ is ``0.005 + 0.99 sigmoid(w)``.

        Args:
            vertices: ``[V, 3]`` grid positions; sdf: ``[V]`` signed distances, negative inside, zero is outside.
            weights: ``[R, 21]``: β, α, γ of some cells, before their ranges.
            weight_row: ``[C]`` int32: the row of each cell; −1 for cells whose weights are 0.

        Returns:
            The topology; ``positions [M, 3]``; ``deviation [M]``: the mean absolute deviation of the distances between
            a dual vertex and its loop's crossings without α; ``gamma [M]``. All are differentiable.
        """
        topology, values = self.topology(sdf), self.values(sdf)
        rows = weight_row.index_select(0, topology.cells)
        kind = kernel_dispatch.choose(self.backend, vertices, values, weights, what="dual marching cubes")
        if kind == "warp":
            from stspbr.geometry.warp_dual_vertices import WarpPositions

            count = int(topology.first[-1])
            positions, deviation = WarpPositions.apply(
                vertices, values, weights, self._warp_cubes(values.device), topology.cells, topology.rows,
                topology.first, rows, count,
            )  # fmt: skip
        elif kind == "cpu":
            positions, deviation = _DualPositions.apply(vertices, values, weights, self.corners, topology, rows)
        else:
            positions, deviation = self._positions_torch(vertices, values, weights, topology, rows)
        own = rows.index_select(0, topology.owners()).to(torch.int64)
        raw = _padded(weights)[:, 20].index_select(0, own + 1)
        return topology, positions, deviation, _LEAST_GAMMA + _RANGE * torch.sigmoid(raw)

    def training_mesh(self, topology: DualTopology, positions: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """``positions [M + Q, 3]``, ``faces [4 Q, 3]`` int32: each quad has a vertex inside, which γ moves."""
        quads = topology.quads
        kind = kernel_dispatch.choose(self.backend, positions, gamma, what="dual marching cubes")
        if kind == "warp":
            from stspbr.geometry.warp_dual_vertices import WarpQuadCentres

            centres = WarpQuadCentres.apply(positions, gamma, quads)
        elif kind == "cpu":
            centres = _QuadCentres.apply(positions, gamma, quads)
        else:
            centres = _quad_centres(positions, gamma, quads.to(torch.int64))
        inner = torch.arange(len(positions), len(positions) + len(quads), dtype=torch.int32, device=quads.device)
        faces = torch.stack([torch.stack([quads[:, k], quads[:, (k + 1) % 4], inner], 1) for k in range(4)], 1)
        return torch.cat([positions, centres]), faces.reshape(-1, 3)

    def final_faces(self, topology: DualTopology, gamma: Tensor) -> Tensor:
        """``[2 Q, 3]`` int32: each quad is cut along the diagonal whose ends have the larger product of γ."""
        quads = topology.quads
        corner = gamma.detach().index_select(0, quads.reshape(-1).to(torch.int64)).reshape(-1, 4)
        turn = corner[:, 1] * corner[:, 3] > corner[:, 0] * corner[:, 2]
        a, b, c, d = torch.where(turn[:, None], quads.roll(-1, 1), quads).unbind(1)
        return torch.stack([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)], 1).reshape(-1, 3)

    def _warp_cubes(self, device: torch.device) -> WarpCubes:
        """The cells as Warp's kernels take them, on a device; kept."""
        if self._warp is None or self._warp.corners.device != device:
            from stspbr.geometry.warp_cubes import WarpCubes

            self._warp = WarpCubes.of(device, self.corners, self.neighbours)
        return self._warp

    # -- the torch twin ---------------------------------------------------------------------------------

    def _tables(self, device: torch.device) -> list[Tensor]:
        """Corners, neighbours and the fields of ``CubeCases``, int64."""
        if self._moved is None or self._moved[0] != device:
            arrays = (self.corners, self.neighbours, *cube_cases())
            self._moved = device, [torch.from_numpy(array).to(device, torch.int64) for array in arrays]
        return self._moved[1]

    def _topology_torch(self, sdf: Tensor) -> DualTopology:
        corners, neighbours, edges, ring, loops, loop_counts, pinched = self._tables(sdf.device)
        inside = self.inside(sdf)[corners]
        bits = 2 ** torch.arange(8, device=sdf.device)
        cases = (inside * bits).sum(1)
        cells = torch.nonzero((cases > 0) & (cases < 255)).squeeze(1)
        own = cases[cells]
        face = pinched[own]
        beyond = neighbours[cells, face.clamp(min=0)]
        meets = (face >= 0) & (beyond >= 0) & (pinched[cases[beyond.clamp(min=0)]] == face ^ 1)
        rows = own + 256 * meets
        first = torch.cat([rows.new_zeros(1), torch.cumsum(loop_counts[rows], 0)])
        place = torch.full_like(cases, -1)
        place[cells] = torch.arange(len(cells), device=sdf.device)
        parts = []
        for axis in range(3):
            b, c = 2 * ((axis + 1) % 3) + 1, 2 * ((axis + 2) % 3) + 1
            along_b, along_c = neighbours[cells, b], neighbours[cells, c]
            opposite = torch.where(along_b < 0, -1, neighbours[along_b.clamp(min=0), c])
            around = torch.stack([cells, along_b, opposite, along_c], 1)
            ends = inside[cells][:, edges[ring[axis, 0]]]
            made = (ends[:, 0] != ends[:, 1]) & (around >= 0).all(1)
            at = place[around.clamp(min=0)].clamp(min=0)
            quad = first[at] + loops[rows[at], ring[axis]]
            parts.append((torch.where(ends[:, :1], quad, quad.flip(1)), made))
        quads, made = (torch.stack(list(each), 1).flatten(0, 1) for each in zip(*parts, strict=True))
        return DualTopology(*(part.to(torch.int32) for part in (cells, rows, first, quads[made])))

    def _positions_torch(
        self, vertices: Tensor, values: Tensor, weights: Tensor, topology: DualTopology, weight_row: Tensor
    ) -> tuple[Tensor, Tensor]:
        corners, _, edges, _, loops, _, _ = self._tables(vertices.device)
        loops = loops[topology.rows.to(torch.int64)]
        n, e = torch.nonzero(loops >= 0, as_tuple=True)
        vertex = topology.first[:-1].to(torch.int64)[n] + loops[n, e]
        i, j = edges[e].unbind(1)
        start, end = (corners[topology.cells.to(torch.int64)[n], k] for k in (i, j))
        own = _padded(weights)[weight_row.to(torch.int64)[n] + 1]
        beta, alpha_i, alpha_j = (1 + _RANGE * torch.tanh(own.gather(1, k[:, None])) for k in (e, 12 + i, 12 + j))
        count = int(topology.first[-1])

        def crossing(a: Tensor, b: Tensor) -> Tensor:
            return vertices[start] + a / (a - b) * (vertices[end] - vertices[start])

        def summed(terms: Tensor) -> Tensor:
            return terms.new_zeros(count, terms.shape[1]).index_add(0, vertex, terms)

        a, b = values[start][:, None], values[end][:, None]
        own_crossing, plain = crossing(alpha_i * a, alpha_j * b), crossing(a, b)
        positions = summed(beta * own_crossing) / summed(beta)
        size = summed(torch.ones_like(beta))
        square = (positions[vertex] - plain).square().sum(1, keepdim=True)
        far = torch.where(square > 0, square.clamp(min=1e-30).sqrt(), 0.0)
        mean = summed(far) / size
        return positions, (summed((far - mean[vertex]).abs()) / size).squeeze(1)


def _padded(weights: Tensor) -> Tensor:
    """The weights with a row of zeros before them: the one of cells without a row of their own."""
    return torch.cat([weights.new_zeros(1, WEIGHTS), weights])


def _quad_centres(positions: Tensor, gamma: Tensor, quads: Tensor) -> Tensor:
    a, b, c, d = positions[quads].unbind(1)
    gamma_a, gamma_b, gamma_c, gamma_d = gamma[quads].unbind(1)
    first, second = gamma_a * gamma_c, gamma_b * gamma_d
    share = (first / (first + second))[:, None]
    return 0.5 * (share * (a + c) + (1 - share) * (b + d))


class _DualPositions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        values: Tensor,
        weights: Tensor,
        corners: np.ndarray,
        topology: DualTopology,
        rows: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(vertices, values, weights)
        ctx.rest = corners, *(t.numpy() for t in (topology.cells, topology.rows, topology.first)), rows.numpy()
        found = kernels.dual_positions(*_arguments((vertices, values, weights), ctx.rest))
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        arrays = _arrays(*gradients)
        found = kernels.dual_positions_gradient(*_arguments(ctx.saved_tensors, ctx.rest), *arrays)
        return (*map(torch.from_numpy, found), None, None, None)


def _arguments(tensors: tuple[Tensor, ...], rest: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
    vertices, values, weights = _arrays(*tensors)
    corners, cells, rows, first, weight_row = rest
    return cube_cases(), vertices, values, corners, cells, rows, first, weights, weight_row


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


class _QuadCentres(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, gamma: Tensor, quads: Tensor) -> Tensor:
        ctx.save_for_backward(positions, gamma, quads)
        return torch.from_numpy(kernels.quad_centres(*_arrays(positions, gamma, quads)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = kernels.quad_centres_gradient(*_arrays(*ctx.saved_tensors, gradient))
        return (*map(torch.from_numpy, found), None)
