"""The topology of dual marching cubes in NVIDIA Warp; the order is that of ``dual_cubes_kernels``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from torch import Tensor

from stspbr.geometry.cube_cases import cube_cases
from stspbr.warp_runtime import launch, warp_function, warp_kernel


@dataclass(frozen=True)
class WarpCubes:
    """The cells of a ``DualCubes`` and the tables of ``cube_cases`` on a device, int32.

    Attributes:
        corners: ``[C, 8]``; neighbours: ``[C, 6]``; edges, ring, loops, counts, pinched: see ``CubeCases``.
    """

    corners: Tensor
    neighbours: Tensor
    edges: Tensor
    ring: Tensor
    loops: Tensor
    counts: Tensor
    pinched: Tensor

    @classmethod
    def of(cls, device: torch.device, corners: np.ndarray, neighbours: np.ndarray) -> WarpCubes:
        """The cells on a device."""
        arrays = corners, neighbours, *cube_cases()
        return cls(*(torch.from_numpy(array).to(device, torch.int32) for array in arrays))

    def topology(self, inside: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The fields of ``DualTopology``; ``inside [V]`` bool. The host waits twice, for the cells and the quads."""
        cases = self.corners.new_empty(len(self.corners))
        launch(_find_cases, len(cases), inside, self.corners, cases)
        cells = torch.nonzero((cases > 0) & (cases < 255)).squeeze(1).to(torch.int32)
        rows, counts, made = cells.new_empty(3, len(cells))
        place = torch.empty_like(cases)  # read at crossed cells only
        tables = self.corners, self.neighbours, self.edges, self.ring
        launch(
            _count, len(cells), inside, cells, cases, *tables, self.counts, self.pinched, place, rows, counts, made
        )  # fmt: skip
        first, quad_first = (torch.cat([n.new_zeros(1), n.cumsum(0, dtype=torch.int32)]) for n in (counts, made))
        quads = cells.new_empty(int(quad_first[-1]), 4)
        launch(_write_quads, len(cells), inside, cells, *tables, self.loops, place, rows, first, quad_first, quads)
        return cells, rows, first, quads


@warp_kernel
def _find_cases(inside: wp.array[wp.bool], corners: wp.array2d[wp.int32], cases: wp.array[wp.int32]):
    """Bit k of a cell's case is set where corner k is inside."""
    c = wp.tid()
    case = wp.int32(0)
    for k in range(8):
        case += wp.where(inside[corners[c, k]], 1 << k, 0)
    cases[c] = case


@warp_function
def _behind(cell: int, face: int, neighbours: wp.array2d[wp.int32]):
    """The cell behind a face of ``cell``; −1 if there is none, or ``cell`` is −1."""
    if cell < 0:
        return -1
    return neighbours[cell, face]


@warp_function
def _around(cell: int, axis: int, neighbours: wp.array2d[wp.int32]):
    """The four cells around an edge of ``cell``, in the order of ``CubeCases.ring``; all −1 if one is missing."""
    b, c = 2 * ((axis + 1) % 3) + 1, 2 * ((axis + 2) % 3) + 1
    along_b, along_c = neighbours[cell, b], neighbours[cell, c]
    opposite = _behind(along_b, c, neighbours)
    if along_b < 0 or along_c < 0 or opposite < 0:
        return wp.vec4i(-1, -1, -1, -1)
    return wp.vec4i(cell, along_b, opposite, along_c)


@warp_kernel
def _count(
    inside: wp.array[wp.bool],
    cells: wp.array[wp.int32],
    cases: wp.array[wp.int32],
    corners: wp.array2d[wp.int32],
    neighbours: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    ring: wp.array2d[wp.int32],
    table_counts: wp.array[wp.int32],
    pinched: wp.array[wp.int32],
    place: wp.array[wp.int32],
    rows: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    made: wp.array[wp.int32],
):
    """Row of the tables, dual vertices and quads of each crossed cell, and where it is among them."""
    n = wp.tid()
    c = cells[n]
    place[c] = n
    face = pinched[cases[c]]
    row = cases[c] + 0
    if face >= 0:
        beyond = neighbours[c, face]
        if beyond >= 0:
            if pinched[cases[beyond]] == (face ^ 1):
                row += 256
    rows[n] = row
    counts[n] = table_counts[row]
    quads = wp.int32(0)
    for axis in range(3):
        edge = ring[axis, 0]
        if inside[corners[c, edges[edge, 0]]] != inside[corners[c, edges[edge, 1]]]:
            around = _around(c, axis, neighbours)
            quads += wp.where(around[0] >= 0, 1, 0)
    made[n] = quads


@warp_kernel
def _write_quads(
    inside: wp.array[wp.bool],
    cells: wp.array[wp.int32],
    corners: wp.array2d[wp.int32],
    neighbours: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    ring: wp.array2d[wp.int32],
    loops: wp.array2d[wp.int32],
    place: wp.array[wp.int32],
    rows: wp.array[wp.int32],
    first: wp.array[wp.int32],
    quad_first: wp.array[wp.int32],
    quads: wp.array2d[wp.int32],
):
    """Counter-clockwise from outside."""
    n = wp.tid()
    c = cells[n]
    at = quad_first[n] + 0
    for axis in range(3):
        edge = ring[axis, 0]
        starts_inside = inside[corners[c, edges[edge, 0]]]
        if starts_inside != inside[corners[c, edges[edge, 1]]]:
            around = _around(c, axis, neighbours)
            if around[0] >= 0:
                for k in range(4):
                    m = place[around[k]]
                    vertex = first[m] + loops[rows[m], ring[axis, k]]
                    quads[at, wp.where(starts_inside, k, 3 - k)] = vertex
                at += 1
