"""The prefilter of a learned light in NVIDIA Warp: the pyramid of means and the sparse products of ``prefilter``.

Rows of the matrices have from 3 to 50 000 taps. A short one is one thread's. Of a long one, runs of taps go to a few
threads each, whose partial sums another thread adds: no thread works long, and sums have a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.warp_runtime import launch, warp_kernel

_SHORT = 8  # taps at most of rows that are one thread's
_RUN = 512  # taps of a run at most
_LANES = 8  # threads per run: the indices that they read at a time are one sector of memory


@dataclass(frozen=True)
class Rows:
    """A sparse matrix on a device, its rows by length.

    Attributes:
        starts: ``[rows + 1]`` int32; indices: ``[taps]`` int32; weights: ``[taps]`` float32.
        short, long: ``[S]``, ``[L]`` int32 rows.
        runs: ``[L + 1]`` int32, where the runs of each long row begin; bounds: ``[R, 2]`` int32, each run's taps.
    """

    starts: Tensor
    indices: Tensor
    weights: Tensor
    short: Tensor
    long: Tensor
    runs: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, device: torch.device, starts: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> Rows:
        """The matrix with these CSR arrays."""
        taps = np.diff(starts)
        long = np.flatnonzero(taps > _SHORT)
        counts = -(-taps[long] // _RUN)
        runs = np.concatenate([[0], np.cumsum(counts)])
        number = np.arange(runs[-1]) - np.repeat(runs[:-1], counts)  # of a run within its row
        first = np.repeat(starts[long], counts) + _RUN * number
        last = np.minimum(first + _RUN, np.repeat(starts[long + 1], counts))
        short = np.flatnonzero(taps <= _SHORT)
        whole = (starts, indices, weights, short, long, runs, np.stack([first, last], axis=1))
        kinds = (np.int32, np.int32, np.float32, np.int32, np.int32, np.int32, np.int32)
        arrays = (np.ascontiguousarray(part, kind) for part, kind in zip(whole, kinds, strict=True))
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def product(self, values: Tensor) -> Tensor:
        """``[rows, 3]`` of ``values [columns, 3]``."""
        out = values.new_empty(len(self.starts) - 1, 3)
        partial = values.new_empty(len(self.bounds), _LANES, 3)
        taps = self.indices, self.weights, values
        launch(_short_rows, len(self.short), self.short, self.starts, *taps, out)
        launch(_runs, partial.shape[:2], self.bounds, *taps, partial)
        launch(_long_rows, len(self.long), self.long, self.runs, partial, out)
        return out


@dataclass(frozen=True)
class WarpFilter:
    """The matrices of a ``LightFilter`` on a device.

    Attributes:
        areas: ``[cells]`` solid angles; levels: sides of the pyramid, finest first; forward, backward: the matrix of
            the cells, and its transpose.
    """

    areas: Tensor
    levels: tuple[int, ...]
    forward: Rows
    backward: Rows


class WarpPrefilter(torch.autograd.Function):
    """All levels ``[rows, 3]`` of a light with the base ``[6, N, N, 3]``."""

    @staticmethod
    def forward(ctx, base: Tensor, matrices: WarpFilter) -> Tensor:
        ctx.matrices = matrices
        values = base.new_empty(len(matrices.areas), 3)
        values[: base.numel() // 3] = base.reshape(-1, 3)
        first = 0
        for n in matrices.levels[1:]:
            children, first = first, first + 24 * n * n
            launch(_fold, 6 * n * n, n, children, first, matrices.areas, values)
        return matrices.forward.product(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        matrices: WarpFilter = ctx.matrices
        grads = matrices.backward.product(grad.contiguous())
        first = len(grads)
        for n in reversed(matrices.levels[1:]):
            first -= 6 * n * n
            launch(_unfold, 24 * n * n, n, first - 24 * n * n, first, matrices.areas, grads)
        n = matrices.levels[0]
        return grads[: 6 * n * n].view(6, n, n, 3), None


@warp_kernel
def _short_rows(
    rows: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    indices: wp.array[wp.int32],
    weights: wp.array[wp.float32],
    values: wp.array[wp.vec3],
    out: wp.array[wp.vec3],
):
    row = rows[wp.tid()]
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(starts[row], starts[row + 1]):
        total += weights[k] * values[indices[k]]
    out[row] = total


@warp_kernel
def _runs(
    bounds: wp.array[wp.vec2i],
    indices: wp.array[wp.int32],
    weights: wp.array[wp.float32],
    values: wp.array[wp.vec3],
    partial: wp.array2d[wp.vec3],
):
    run, lane = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(bounds[run][0] + lane, bounds[run][1], partial.shape[1]):
        total += weights[k] * values[indices[k]]
    partial[run, lane] = total


@warp_kernel
def _long_rows(
    rows: wp.array[wp.int32],
    runs: wp.array[wp.int32],
    partial: wp.array2d[wp.vec3],
    out: wp.array[wp.vec3],
):
    r = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for run in range(runs[r], runs[r + 1]):
        for lane in range(partial.shape[1]):
            total += partial[run, lane]
    out[rows[r]] = total


@warp_kernel
def _fold(n: int, children: int, parents: int, areas: wp.array[wp.float32], values: wp.array[wp.vec3]):
    """The mean of four by solid angle, for each cell of a level of side ``n``, which begins at ``parents``."""
    cell = wp.tid()
    child = children + 2 * (cell // n) * 2 * n + 2 * (cell % n)  # rows of all faces follow each other
    total = areas[child] * values[child] + areas[child + 1] * values[child + 1]
    child += 2 * n
    total += areas[child] * values[child] + areas[child + 1] * values[child + 1]
    values[parents + cell] = total / areas[parents + cell]


@warp_kernel
def _unfold(n: int, children: int, parents: int, areas: wp.array[wp.float32], grads: wp.array[wp.vec3]):
    """The transpose, for each cell of the level below, of side ``2 n``."""
    cell = wp.tid()
    parent = parents + (cell // (2 * n)) // 2 * n + (cell % (2 * n)) // 2
    child = children + cell
    grads[child] = grads[child] + grads[parent] / areas[parent] * areas[child]  # += would be atomic
