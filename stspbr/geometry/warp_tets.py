"""Marching tetrahedra in NVIDIA Warp: which edges cross, which faces arise; the order is that of the Numba kernels.

Each edge and each tetrahedron is one thread's. Where its results go is a running sum of counts, by torch; the host
waits once, for the two totals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from torch import Tensor

from stspbr.warp_runtime import launch, warp_function, warp_kernel


@dataclass(frozen=True)
class WarpTets:
    """The connectivity of a grid on a device, int32.

    Attributes:
        tets: ``[T, 4]``; edges: ``[E, 2]``; tet_edges: ``[T, 6]``, rows of ``edges``.
        case_counts, case_edges: ``[16]``, ``[16, 6]``, see ``marching_tets_kernels.case_table``.
    """

    tets: Tensor
    edges: Tensor
    tet_edges: Tensor
    case_counts: Tensor
    case_edges: Tensor

    @classmethod
    def of(cls, device: torch.device, *arrays: np.ndarray) -> WarpTets:
        """With these attributes, in order."""
        return cls(*(torch.from_numpy(array).to(device, torch.int32) for array in arrays))

    def topology(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MarchingTets.topology``; ``inside [V]`` bool."""
        crosses, counts = self.edges.new_empty(len(self.edges)), self.tets.new_empty(len(self.tets))
        launch(_count_edges, len(crosses), inside, self.edges, crosses)
        launch(_count_faces, len(counts), inside, self.tets, self.case_counts, counts)
        edge_ends, face_ends = crosses.cumsum(0, dtype=torch.int32), counts.cumsum(0, dtype=torch.int32)
        total_edges, total_faces = torch.stack([edge_ends[-1], face_ends[-1]]).tolist()
        crossing = torch.empty(total_edges, 2, dtype=torch.int64, device=inside.device)
        faces = self.tets.new_empty(total_faces, 3)
        launch(_write_edges, len(crosses), inside, self.edges, edge_ends, crossing)
        launch(
            _write_faces, len(counts), inside, self.tets, self.tet_edges, self.case_counts, self.case_edges, edge_ends,
            face_ends, faces,
        )  # fmt: skip
        return crossing, faces


@warp_function
def _case(inside: wp.array[wp.bool], tet: wp.vec4i):
    """Bit k is set where corner k is inside."""
    low = wp.where(inside[tet[0]], 1, 0) + wp.where(inside[tet[1]], 2, 0)
    return low + wp.where(inside[tet[2]], 4, 0) + wp.where(inside[tet[3]], 8, 0)


@warp_kernel
def _count_edges(inside: wp.array[wp.bool], edges: wp.array[wp.vec2i], crosses: wp.array[wp.int32]):
    e = wp.tid()
    crosses[e] = wp.where(inside[edges[e][0]] != inside[edges[e][1]], 1, 0)


@warp_kernel
def _count_faces(
    inside: wp.array[wp.bool], tets: wp.array[wp.vec4i], case_counts: wp.array[wp.int32], counts: wp.array[wp.int32]
):
    t = wp.tid()
    counts[t] = case_counts[_case(inside, tets[t])]


@warp_kernel
def _write_edges(
    inside: wp.array[wp.bool], edges: wp.array[wp.vec2i], ends: wp.array[wp.int32], crossing: wp.array2d[wp.int64]
):
    """The ends of crossing edges, the inner one first."""
    e = wp.tid()
    a, b = edges[e][0], edges[e][1]
    if inside[a] != inside[b]:
        row = ends[e] - 1
        crossing[row, 0] = wp.int64(wp.where(inside[a], a, b))
        crossing[row, 1] = wp.int64(wp.where(inside[a], b, a))


@warp_kernel
def _write_faces(
    inside: wp.array[wp.bool],
    tets: wp.array[wp.vec4i],
    tet_edges: wp.array2d[wp.int32],
    case_counts: wp.array[wp.int32],
    case_edges: wp.array2d[wp.int32],
    edge_ends: wp.array[wp.int32],
    face_ends: wp.array[wp.int32],
    faces: wp.array2d[wp.int32],
):
    t = wp.tid()
    case = _case(inside, tets[t])
    count = case_counts[case]
    for f in range(count):
        for k in range(3):
            faces[face_ends[t] - count + f, k] = edge_ends[tet_edges[t, case_edges[case, 3 * f + k]]] - 1
