"""The prefilter of learned lights: a sparse matrix from a cube map to its levels, made once per resolution."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr import kernel_dispatch
from stspbr.errors import StspbrError
from stspbr.render.cube_pyramid import ROOT, cell_areas, cells_of, level_sizes, pyramid
from stspbr.render.prefilter import DIFFUSE_RESOLUTION, WIDTHS, PrefilteredLight

if TYPE_CHECKING:
    from stspbr.render.warp_prefilter import WarpFilter

_BLOCKS = 64


class LightFilter:
    """The linear map from a base cube ``[6, N, N, 3]`` to its prefiltered levels, as a sparse matrix.

    The matrix reads a pyramid of 2×2 means of the base; it and its transpose are stored, so that either product is
    a plain loop over rows, in a fixed order whatever the number of threads. ``light_filter`` keeps one per resolution.
    """

    def __init__(self, resolution: int, opening: float = 0.65):
        import scipy.sparse

        skipped = min(max(round(np.log2(128 / resolution)), 0), 3)
        self.resolution = resolution
        self._torch: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._warp: dict[torch.device, WarpFilter] = {}
        self.areas = cell_areas(resolution).float().numpy()
        self.widths = (0.0, *WIDTHS[skipped + 1 :])
        self.sizes = [2 * resolution >> level for level in range(len(self.widths))]
        blocks = [_doubling_matrix(resolution)]
        blocks += [
            _kernel_matrix(resolution, size, width, opening if size == resolution else 0.4)
            for size, width in zip(self.sizes[1:], self.widths[1:], strict=True)
        ]
        blocks.append(_kernel_matrix(resolution, DIFFUSE_RESOLUTION, -1.0, opening=0.3))
        matrix = scipy.sparse.vstack([_widen(block, cells_of(resolution)) for block in blocks], format="csr")
        self.forward_matrix = _csr_arrays(matrix)
        self.backward_matrix = _csr_arrays(matrix.T.tocsr())

    def __call__(self, base: Tensor, backend: str = "auto") -> PrefilteredLight:
        """Prefilter ``base [6, N, N, 3]``; differentiable in it, any device and float type."""
        kind = kernel_dispatch.choose(backend, base, what="light prefilter")
        if kind == "cpu":
            flat = _Filter.apply(base, self)
        elif kind == "warp":
            from stspbr.render.warp_prefilter import WarpPrefilter

            flat = WarpPrefilter.apply(base, self._warp_filter(base.device))
        else:
            flat = _SparseProduct.apply(pyramid(base), self)
        rows = [6 * n * n for n in self.sizes] + [6 * DIFFUSE_RESOLUTION**2]
        parts = flat.split(rows)
        specular = [part.view(6, n, n, 3) for part, n in zip(parts, self.sizes, strict=False)]
        return PrefilteredLight(specular, self.widths, parts[-1].view(6, DIFFUSE_RESOLUTION, DIFFUSE_RESOLUTION, 3))

    def _warp_filter(self, device: torch.device) -> WarpFilter:
        """The matrices as Warp's kernels take them, on a device; kept."""
        if device not in self._warp:
            from stspbr.render.warp_prefilter import Rows, WarpFilter

            forward, backward = (Rows.of(device, *m[1:]) for m in (self.forward_matrix, self.backward_matrix))
            areas = torch.from_numpy(self.areas).to(device)
            self._warp[device] = WarpFilter(areas, tuple(level_sizes(self.resolution)), forward, backward)
        return self._warp[device]

    def torch_matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix and its transpose as torch tensors, in the float type and on the device of ``like``; kept."""
        key = (like.device, like.dtype)
        if key not in self._torch:
            forward = _torch_matrix(self.forward_matrix, self.areas.size, like)
            self._torch[key] = forward, _torch_matrix(self.backward_matrix, forward.shape[0], like)
        return self._torch[key]


@functools.cache
def light_filter(resolution: int) -> LightFilter:
    """The prefilter of ``[6, resolution, resolution, 3]`` cubes, see ``checked_resolution``; made once, in seconds."""
    return LightFilter(checked_resolution(resolution))


def checked_resolution(resolution: int) -> int:
    """The face size of a learned light; StspbrError unless it is a power of two from 16 to 256."""
    if resolution not in (16, 32, 64, 128, 256):
        raise StspbrError(f"light resolution {resolution}: must be 16, 32, 64, 128 or 256")
    return resolution


class _Filter(torch.autograd.Function):
    """Pyramid and sparse product in Numba kernels: float32 on the CPU."""

    @staticmethod
    def forward(ctx, base, light_filter):
        from stspbr.render.prefilter_kernels import fold_pyramid, sparse_product

        ctx.light_filter = light_filter
        values = base.new_empty(light_filter.areas.size, 3)
        values[: base.numel() // 3] = base.reshape(-1, 3)
        fold_pyramid(base.shape[1], ROOT, light_filter.areas, values.numpy())
        out = base.new_empty(light_filter.forward_matrix[1].size - 1, 3)
        sparse_product(*light_filter.forward_matrix, values.numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        from stspbr.render.prefilter_kernels import sparse_product, unfold_pyramid

        n, areas = ctx.light_filter.resolution, ctx.light_filter.areas
        grads = grad.new_empty(areas.size, 3)
        sparse_product(*ctx.light_filter.backward_matrix, grad.contiguous().numpy(), grads.numpy())
        unfold_pyramid(n, ROOT, areas, grads.numpy())
        return grads[: 6 * n * n].view(6, n, n, 3), None


class _SparseProduct(torch.autograd.Function):
    """The product in torch: any float type and device."""

    @staticmethod
    def forward(ctx, values, light_filter):
        ctx.light_filter = light_filter
        return light_filter.torch_matrices(values)[0] @ values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.light_filter.torch_matrices(grad)[1] @ grad, None


def _torch_matrix(matrix: tuple[np.ndarray, ...], columns: int, like: Tensor) -> Tensor:
    _, row_starts, indices, weights = matrix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors beta
        sparse = torch.sparse_csr_tensor(
            torch.from_numpy(row_starts), torch.from_numpy(indices.astype(np.int64)), torch.from_numpy(weights),
            size=(row_starts.size - 1, columns), device=like.device, dtype=like.dtype,
        )  # fmt: skip
    return sparse


def _kernel_matrix(fine: int, size: int, width: float, opening: float):
    import scipy.sparse

    from stspbr.render.prefilter_kernels import count_taps, fill_taps

    if width < 0:
        fine = min(fine, 2 * DIFFUSE_RESOLUTION)
    starts = cells_of(fine)
    counts = np.empty(6 * size * size, np.int64)
    count_taps(size, width, opening, fine, ROOT, starts, counts)
    row_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices, weights = np.empty(row_starts[-1], np.int32), np.empty(row_starts[-1], np.float32)
    fill_taps(size, width, opening, fine, ROOT, starts, row_starts, indices, weights)
    return scipy.sparse.csr_matrix((weights, indices, row_starts), shape=(counts.size, starts[-1]))


def _doubling_matrix(resolution: int):
    import scipy.sparse

    from stspbr.render.prefilter_kernels import fill_doubling

    rows = 24 * resolution * resolution
    indices, weights = np.empty(4 * rows, np.int32), np.empty(4 * rows, np.float32)
    fill_doubling(resolution, indices, weights)
    row_starts = np.arange(rows + 1, dtype=np.int64) * 4
    return scipy.sparse.csr_matrix((weights, indices, row_starts), shape=(rows, 6 * resolution * resolution))


def _widen(matrix, starts: np.ndarray):
    """A matrix over the finest or the coarser levels only, as one over all cells."""
    import scipy.sparse

    total = int(starts[-1])
    offset = 0 if matrix.shape[1] in (total, int(starts[1])) else total - matrix.shape[1]
    parts = matrix.data, matrix.indices + np.int32(offset), matrix.indptr
    return scipy.sparse.csr_matrix(parts, shape=(matrix.shape[0], total))


def _csr_arrays(matrix) -> tuple[np.ndarray, ...]:
    """Row blocks of about equal work, row starts, column indices, weights."""
    matrix.sum_duplicates()
    goals = np.linspace(0, matrix.indptr[-1] + matrix.shape[0], _BLOCKS + 1)
    blocks = np.searchsorted(matrix.indptr + np.arange(matrix.shape[0] + 1), goals).astype(np.int64)
    return blocks, matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32)
