"""Multiresolution hash grid encoding (Müller et al. 2022, "Instant neural graphics primitives", section 3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr import kernel_dispatch
from stspbr.errors import StspbrError
from stspbr.fields.backend import ENCODINGS

_PRIMES = (1, 2654435761, 805459861)


class HashGridEncoding(torch.nn.Module):
    """Trainable features of points in the unit cube, interpolated trilinearly from grids of several resolutions.

    Level l has ``floor(base · b^l)`` cells along an axis, with b such that the last level has ``finest_resolution``
    (equations 2 and 3). Each vertex has an entry of its own if all fit the table; else they share entries by a hash
    (equation 4). All levels are in one parameter ``table [total, features]``, coarsest first, level l at
    ``offsets[l] : offsets[l] + sizes[l]``; it starts uniform in ±1e-4.

    Args:
        levels: number of grids.
        features: features per level.
        log2_table_size: log2 of the largest number of entries of a level.
        base_resolution, finest_resolution: cells along an axis of the coarsest and of the finest level.
        generator: for the initial table (CPU); ``None``: torch's default one.
        backend: one of ``kernel_dispatch.BACKENDS``, or ``"tinycudann"``: tiny-cuda-nn on CUDA (see
            ``fields.tinycudann``). The table is the same for all: each reads the state of any other.
        precision: of the features that the network gets: ``"float32"``, or ``"float16"`` with tinycudann.

    Attributes:
        output_dim: ``levels · features``.
        resolutions, offsets, sizes: ``[levels]`` int64 numpy arrays.

    Raises:
        StspbrError: settings out of range, or an unknown backend.
    """

    def __init__(
        self,
        levels: int = 12,
        features: int = 2,
        log2_table_size: int = 15,
        base_resolution: int = 16,
        finest_resolution: int = 1024,
        generator: torch.Generator | None = None,
        backend: str = "auto",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if levels < 1 or features < 1 or base_resolution < 1 or not 1 <= log2_table_size <= 30:
            raise StspbrError("hash grid: levels, features and base_resolution must be ≥ 1, log2_table_size in 1..30")
        if not base_resolution <= finest_resolution < 1 << 20:
            wanted = f"{base_resolution} .. {(1 << 20) - 1}"
            raise StspbrError(f"hash grid: finest_resolution is {finest_resolution}, but must be in {wanted}")
        if backend not in ENCODINGS:
            raise StspbrError(f"hash grid: backend {backend!r} is not one of {', '.join(ENCODINGS)}")
        if precision not in ("float32", "float16") or (precision == "float16" and backend != "tinycudann"):
            raise StspbrError(f"hash grid: precision {precision} with {backend}: only tinycudann has half precision")
        self.levels, self.features, self.backend, self.precision = levels, features, backend, precision
        self.log2_table_size = log2_table_size
        self._fused: tuple[torch.device, Any] | None = None
        self._layout: Tensor | None = None
        self.resolutions = _resolutions(levels, base_resolution, finest_resolution)
        self.sizes = np.minimum((self.resolutions + 1) ** 3, 1 << log2_table_size)
        self.offsets = np.cumsum(self.sizes) - self.sizes
        initial = torch.rand(int(self.sizes.sum()), features, generator=generator)
        self.table = torch.nn.Parameter((initial * 2 - 1) * 1e-4)

    @property
    def output_dim(self) -> int:
        return self.levels * self.features

    def forward(self, x: Tensor, active_levels: int | None = None) -> Tensor:
        """Features ``[N, levels · features]``, coarsest level first, of points ``x [N, 3]`` clamped to [0, 1].

        ``active_levels``: only so many of the coarsest levels are computed; the features of the others are zero.

        Gradients go to the table, and to ``x`` if it requires one (zero along an axis on which it was clamped). On the
        CPU their sums are in a fixed order: equal inputs give equal bits, with any number of threads. On CUDA see
        ``warp_runtime.set_deterministic``.

        Raises:
            StspbrError: ``x`` has another shape, or does not fit the backend.
        """
        if x.ndim != 2 or x.shape[1] != 3:
            raise StspbrError(f"hash grid: points are {list(x.shape)}, but must be [N, 3]")
        active = self.levels if active_levels is None else min(max(int(active_levels), 0), self.levels)
        if self.backend == "tinycudann":
            return self._tiny_cuda_grid()(_into_cube(x), self.table, active)
        kind = kernel_dispatch.choose(self.backend, x, self.table, what="hash grid")
        if kind == "cpu":
            return _HashGridLookup.apply(x, self.table, self.resolutions, self.offsets, self.sizes, active)
        if kind == "warp":
            return self._warp_lookup(x, active)
        if self.table.dtype == torch.float32 and x.dtype == torch.float32:
            return _TorchLookup.apply(x, self.table, self.resolutions, self.offsets, self.sizes, active)
        return hash_grid_torch(x, self.table, self.resolutions, self.offsets, self.sizes, active)

    def _warp_lookup(self, x: Tensor, active: int) -> Tensor:
        from stspbr.fields.warp_grid import WarpGridLookup, level_layout

        device = self.table.device
        if self._layout is None or self._layout.device != device:
            self._layout = level_layout(self.resolutions, self.offsets, self.sizes, device)
        return WarpGridLookup.apply(x, self.table, self._layout, active)

    def _tiny_cuda_grid(self) -> Any:
        """The executor on the table's device, created at its first use there."""
        from stspbr.fields.tinycudann import TinyCudaGrid

        device = self.table.device
        if self._fused is None or self._fused[0] != device:
            if device.type != "cuda" or self.table.dtype != torch.float32:
                own = f"{self.table.dtype} on {device}"
                raise StspbrError(f"hash grid: backend tinycudann takes float32 on CUDA, not {own}")
            precision = torch.float16 if self.precision == "float16" else torch.float32
            layout = (self.resolutions, self.sizes, self.features, self.log2_table_size)
            self._fused = device, TinyCudaGrid(*layout, precision, device)
        return self._fused[1]

    def extra_repr(self) -> str:
        return f"levels={self.levels}, features={self.features}, resolutions={self.resolutions.tolist()}"


def hash_grid_torch(
    x: Tensor, table: Tensor, resolutions: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, active: int
) -> Tensor:
    """The encoding in plain torch, on the device and in the type of ``x`` and ``table``: it defines all others.

    Arguments as of ``HashGridEncoding``, with ``x [N, 3]``; returns ``[N, levels · features]``.
    """
    x = _into_cube(x)
    out = []
    for resolution, offset, size in zip(resolutions.tolist()[:active], offsets.tolist(), sizes.tolist(), strict=False):
        cell, fraction = _locate(x, resolution)
        total = x.new_zeros(())
        for corner in range(8):
            weights = _corner_weights(fraction, corner)
            entry = _corner_entry(cell, corner, resolution, size) + offset
            total = total + (weights[0] * weights[1] * weights[2])[:, None] * torch.index_select(table, 0, entry)
        out.append(total)
    idle = (len(resolutions) - active) * table.shape[1]
    return torch.cat([*out, x.new_zeros(x.shape[0], idle)], dim=1)


def _locate(x: Tensor, resolution: int) -> tuple[list[Tensor], Tensor]:
    """The cell of each point in a level, ``[N]`` int64 by axis, and the position in it ``[N, 3]``."""
    position = x * resolution
    cell = position.detach().floor().clamp(max=resolution - 1)
    return list(cell.long().unbind(1)), position - cell


def _corner_entry(cell: list[Tensor], corner: int, resolution: int, size: int) -> Tensor:
    """``[N]`` entries in the level's table of one of each cell's eight vertices; bit a of ``corner``: axis a."""
    vertex = [cell[axis] + (corner >> axis & 1) for axis in range(3)]
    side = resolution + 1
    if side**3 <= size:
        return vertex[0] + side * (vertex[1] + side * vertex[2])
    # the mask keeps the low bits of 64-bit products, which are those of 32-bit ones
    hashed = [vertex[axis] * _PRIMES[axis] for axis in range(3)]
    return (hashed[0] ^ hashed[1] ^ hashed[2]) & (size - 1)


def _corner_weights(fraction: Tensor, corner: int) -> list[Tensor]:
    """The three factors ``[N]`` of a vertex's weight."""
    return [fraction[:, axis] if corner >> axis & 1 else 1 - fraction[:, axis] for axis in range(3)]


def _into_cube(x: Tensor) -> Tensor:
    """Points clamped to [0, 1]; NaN becomes 0, so that no entry is outside the table."""
    return torch.where(torch.isnan(x), 0.0, x).clamp(0, 1)


class _TorchLookup(torch.autograd.Function):
    """``hash_grid_torch`` in float32 on any device; the backward pass recomputes the vertices.

    Autograd would keep entries, weights and features of eight vertices per level: gigabytes for a million points.
    """

    @staticmethod
    def forward(ctx, x, table, resolutions, offsets, sizes, active):
        ctx.save_for_backward(x, table)
        ctx.layout = resolutions, offsets, sizes, active
        return hash_grid_torch(x, table, *ctx.layout)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        x, table = ctx.saved_tensors
        resolutions, offsets, sizes, active = (list(map(int, part)) for part in (*ctx.layout[:3], [ctx.layout[3]]))
        to_points, to_table = ctx.needs_input_grad[:2]
        grad_x, grad_table = torch.zeros_like(x), torch.zeros_like(table)
        inside, features = _into_cube(x), table.shape[1]
        for level in range(active[0]):
            cell, fraction = _locate(inside, resolutions[level])
            grad = grad_out[:, level * features : (level + 1) * features]
            for corner in range(8):
                weights = _corner_weights(fraction, corner)
                entry = _corner_entry(cell, corner, resolutions[level], sizes[level]) + offsets[level]
                if to_table:
                    grad_table.index_add_(0, entry, (weights[0] * weights[1] * weights[2])[:, None] * grad)
                if to_points:
                    value = (table.index_select(0, entry) * grad).sum(1) * resolutions[level]
                    for axis in range(3):
                        slope = value * weights[(axis + 1) % 3] * weights[(axis + 2) % 3]
                        grad_x[:, axis] += slope if corner >> axis & 1 else -slope
        grad_x = torch.where((x >= 0) & (x <= 1), grad_x, 0.0)
        return grad_x if to_points else None, grad_table if to_table else None, None, None, None, None


class _HashGridLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, table, resolutions, offsets, sizes, active):
        from stspbr.fields.hash_grid_kernels import hash_forward

        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table)
        ctx.layout = resolutions, offsets, sizes, active, (0,) * table.shape[1]
        out = x.new_empty(x.shape[0], resolutions.size * table.shape[1])
        hash_forward(x.detach().numpy(), table.detach().numpy(), *ctx.layout, out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        import numba

        from stspbr.fields.hash_grid_kernels import hash_backward_points, hash_backward_table

        x, table = ctx.saved_tensors
        points, grad_out = x.detach().numpy(), grad_out.contiguous().numpy()
        grad_x = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            hash_backward_points(points, table.detach().numpy(), grad_out, *ctx.layout, grad_x.numpy())
        if ctx.needs_input_grad[1]:
            grad_table = torch.empty_like(table)
            workers = min(numba.get_num_threads(), ctx.layout[0].size)
            hash_backward_table(points, grad_out, *ctx.layout, workers, grad_table.numpy())
        return grad_x, grad_table, None, None, None, None


def _resolutions(levels: int, base: int, finest: int) -> np.ndarray:
    growth = math.log(finest / base) / max(1, levels - 1)
    # without 1e-6, rounding could floor the last level to finest − 1
    return np.array([math.floor(base * math.exp(growth * level) + 1e-6) for level in range(levels)], dtype=np.int64)
