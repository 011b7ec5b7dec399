"""Lights prefiltered for shading: learned and known lights have the same mip levels.

Level ``w`` is the light convolved with the kernel ``D(h)·V(1, n·l)·(n·l)`` of GGX width ``α = WIDTHS[w]`` at
``n = v``, normalised: the exact lobe at normal incidence. The first level is the light itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr import kernel_dispatch
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.scene.light import EnvironmentLight

if TYPE_CHECKING:
    from stspbr.render.warp_prefilter import WarpFilter

WIDTHS = (0.0, 0.01, 0.03, 0.08, 0.22, 0.6)
DIFFUSE_RESOLUTION = 16
_VERSION = 3
_ROOT = 4
_BLOCKS = 64


@dataclass
class PrefilteredLight:
    """A light as the shading reads it; cubes have OpenGL's faces and are looked up by world direction.

    Attributes:
        specular: ``[6, n, n, 3]`` linear radiance per level, finest first, each half as large as the previous one.
        widths: GGX width ``α`` of each level's kernel: the last ``len(specular) − 1`` of ``WIDTHS``, after 0.
        diffuse: ``[6, m, m, 3]`` cosine-weighted mean radiance around each direction (irradiance over π).
        lamp: ``[3]`` intensity of a lamp on the camera beside it, see ``lamp``; None: there is none.
    """

    specular: list[Tensor]
    widths: tuple[float, ...]
    diffuse: Tensor
    lamp: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> PrefilteredLight:
        """The same light on a device, in a float type."""
        specular = [level.to(device, dtype) for level in self.specular]
        lamp = None if self.lamp is None else self.lamp.to(device, dtype)
        return PrefilteredLight(specular, self.widths, self.diffuse.to(device, dtype), lamp)

    def detach(self) -> PrefilteredLight:
        """The same light, detached from the graph."""
        lamp = None if self.lamp is None else self.lamp.detach()
        return PrefilteredLight([level.detach() for level in self.specular], self.widths, self.diffuse.detach(), lamp)


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
        self.areas = _cell_areas(resolution).float().numpy()
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
            flat = _SparseProduct.apply(_pyramid(base), self)
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
            self._warp[device] = WarpFilter(areas, tuple(_levels(self.resolution)), forward, backward)
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


def prefilter_latlong(
    light: EnvironmentLight, base_resolution: int = 256, cache_dir: str | os.PathLike | None = None
) -> PrefilteredLight:
    """Prefilter a known light from its full lat-long map, float32 on the CPU.

    Args:
        light: radiance ``[H, W, 3]``, linear.
        base_resolution: face size of the finest level, a power of two from 128.
        cache_dir: folder of cached results, named by the hash of the light and the method; None: no cache.

    Raises:
        StspbrError: a radiance that is not ``[H, W, 3]``, is negative or not finite, or a bad resolution.
    """
    radiance = _checked_radiance(light)
    if base_resolution < 128 or base_resolution & (base_resolution - 1):
        raise StspbrError(f"light resolution {base_resolution}: must be a power of two, at least 128")
    if cache_dir is None:
        return _from_arrays(_prefilter_arrays(radiance, base_resolution))
    path = _cache_path(radiance, base_resolution, cache_dir)
    arrays = _read_cache(path)
    if arrays is None:
        arrays = _prefilter_arrays(radiance, base_resolution)
        _write_cache(path, arrays)
    return _from_arrays(arrays)


def cached_light(
    light: EnvironmentLight, base_resolution: int, cache_dir: str | os.PathLike
) -> PrefilteredLight | None:
    """What ``prefilter_latlong`` has left in ``cache_dir``; None if it is not there. Nothing is written."""
    arrays = _read_cache(_cache_path(_checked_radiance(light), base_resolution, cache_dir))
    return None if arrays is None else _from_arrays(arrays)


def latlong_to_cube(light: EnvironmentLight, resolution: int) -> np.ndarray:
    """Mean radiance in each texel of a cube ``[6, resolution, resolution, 3]`` float32."""
    from stspbr.render.prefilter_kernels import cube_from_latlong

    radiance = _checked_radiance(light)
    sub = max(2, int(np.ceil(radiance.shape[1] / (2 * resolution))))
    out = np.empty((6 * resolution * resolution, 3), np.float32)
    cube_from_latlong(radiance, resolution, sub, out)
    return out.reshape(6, resolution, resolution, 3)


def cells_of(fine: int) -> np.ndarray:
    """First cell of each level of a pyramid over ``[6, fine, fine]``, and at the end the number of cells; int64."""
    sizes = [6 * n * n for n in _levels(fine)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


class _Filter(torch.autograd.Function):
    """Pyramid and sparse product in Numba kernels: float32 on the CPU."""

    @staticmethod
    def forward(ctx, base, light_filter):
        from stspbr.render.prefilter_kernels import fold_pyramid, sparse_product

        ctx.light_filter = light_filter
        values = base.new_empty(light_filter.areas.size, 3)
        values[: base.numel() // 3] = base.reshape(-1, 3)
        fold_pyramid(base.shape[1], _ROOT, light_filter.areas, values.numpy())
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
        unfold_pyramid(n, _ROOT, areas, grads.numpy())
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


def _pyramid(base: Tensor) -> Tensor:
    """Cells ``[count, C]`` of a base ``[6, N, N, C]`` and its means over 2×2, weighted by solid angle, finest first.

    Without these weights, a lamp near a corner of the cube would be wrong by a third.
    """
    size, channels = base.shape[1], base.shape[3]
    levels = [base]
    area = _solid_angles_on(size, base.device, base.dtype)
    flux = base * area[..., None]
    while size > _ROOT:
        size //= 2
        area = area.view(size, 2, size, 2).sum((1, 3))
        flux = flux.view(6, size, 2, size, 2, channels).sum((2, 4))
        levels.append(flux / area[..., None])
    return torch.cat([level.reshape(-1, channels) for level in levels])


def _cell_areas(fine: int) -> Tensor:
    """Solid angles ``[count]`` of the cells of a pyramid, float64."""
    return torch.cat([solid_angles(n).reshape(-1).repeat(6) for n in _levels(fine)])


@functools.lru_cache(maxsize=16)
def _solid_angles_on(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``solid_angles`` on a device; cached."""
    return solid_angles(size).to(device, dtype)


def solid_angles(size: int) -> Tensor:
    """Exact solid angles ``[size, size]`` of the texels of a cube's face, float64."""
    edge = torch.linspace(-1, 1, size + 1, dtype=torch.float64)
    s, t = edge[None], edge[:, None]
    corner = torch.atan2(s * t, (s * s + t * t + 1).sqrt())
    return corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]


def texel_directions(size: int) -> Tensor:
    """Unit directions ``[6, size, size, 3]`` of a cube's texels, float64, OpenGL's faces."""
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    t, s = torch.meshgrid(middle, middle, indexing="ij")
    one = torch.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.nn.functional.normalize(torch.stack([torch.stack(face, -1) for face in faces]), dim=-1)


def _levels(fine: int) -> list[int]:
    sizes = [fine]
    while sizes[-1] > _ROOT:
        sizes.append(sizes[-1] // 2)
    return sizes


def _kernel_matrix(fine: int, size: int, width: float, opening: float):
    import scipy.sparse

    from stspbr.render.prefilter_kernels import count_taps, fill_taps

    if width < 0:
        fine = min(fine, 2 * DIFFUSE_RESOLUTION)
    starts = cells_of(fine)
    counts = np.empty(6 * size * size, np.int64)
    count_taps(size, width, opening, fine, _ROOT, starts, counts)
    row_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices, weights = np.empty(row_starts[-1], np.int32), np.empty(row_starts[-1], np.float32)
    fill_taps(size, width, opening, fine, _ROOT, starts, row_starts, indices, weights)
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


def _checked_radiance(light: EnvironmentLight) -> np.ndarray:
    radiance = np.ascontiguousarray(light.radiance, np.float32)
    if radiance.ndim != 3 or radiance.shape[2] != 3:
        raise StspbrError(f"environment light: expected an image [H, W, 3], not {list(radiance.shape)}")
    if not np.isfinite(radiance).all() or radiance.min() < 0:
        raise StspbrError("environment light: radiance is negative or not finite: clean the HDR file")
    return radiance


def _prefilter_arrays(radiance: np.ndarray, base_resolution: int, opening: float = 0.3) -> list[np.ndarray]:
    from stspbr.render.prefilter_kernels import convolve

    base = torch.from_numpy(latlong_to_cube(EnvironmentLight(radiance), base_resolution))
    cells = _light_cells(base)
    starts = cells_of(base_resolution)
    arrays = [base.numpy()]
    for level, width in enumerate(WIDTHS[1:], start=1):
        size = base_resolution >> level
        arrays.append(np.empty((6, size, size, 3), np.float32))
        convolve(size, width, opening, base_resolution, _ROOT, starts, *cells, arrays[-1].reshape(-1, 3))
    size, fine = 2 * DIFFUSE_RESOLUTION, 64
    tail = cells_of(fine)
    cells = [value[-tail[-1] :] for value in cells]
    arrays.append(np.empty((6, size, size, 3), np.float32))
    convolve(size, -1.0, 0.15, fine, _ROOT, tail, *cells, arrays[-1].reshape(-1, 3))
    return arrays


def _light_cells(base: Tensor) -> list[np.ndarray]:
    """Flux, solid angle, mean direction and brightest direction of the cells over a known light, float32."""
    base = base.double()
    directions = texel_directions(base.shape[1])
    brightness = base.sum(-1, keepdim=True) + 1e-9
    area = _cell_areas(base.shape[1])
    values = _pyramid(torch.cat([base, directions, directions * brightness], -1))
    flux = values[:, :3] * area[:, None]
    middle, bright = (torch.nn.functional.normalize(part, dim=-1) for part in values[:, 3:].split(3, -1))
    return [value.float().contiguous().numpy() for value in (flux, area, middle, bright)]


def _from_arrays(arrays: list[np.ndarray]) -> PrefilteredLight:
    tensors = [torch.from_numpy(array) for array in arrays]
    return PrefilteredLight(tensors[:-1], WIDTHS, tensors[-1])


def _cache_path(radiance: np.ndarray, base_resolution: int, cache_dir: str | os.PathLike) -> Path:
    digest = hashlib.sha256(repr((_VERSION, WIDTHS, DIFFUSE_RESOLUTION, base_resolution, radiance.shape)).encode())
    digest.update(radiance.tobytes())
    return Path(cache_dir) / f"light-{digest.hexdigest()[:24]}.npz"


def _read_cache(path: Path) -> list[np.ndarray] | None:
    import zipfile

    try:
        with np.load(path) as stored:
            return [stored[f"level{i}"] for i in range(len(stored.files))]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # missing or damaged: it is computed again


def _write_cache(path: Path, arrays: list[np.ndarray]) -> None:
    named: dict[str, Any] = {f"level{i}": array for i, array in enumerate(arrays)}
    with atomic_path(path) as temporary:
        np.savez(temporary, **named)
