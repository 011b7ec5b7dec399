"""Lights prefiltered for shading: what the shading reads, and how a known light gets there.

Level ``w`` is the light convolved with the kernel ``D(h)·V(1, n·l)·(n·l)`` of GGX width ``α = WIDTHS[w]`` at
``n = v``, normalised: the exact lobe at normal incidence. The first level is the light itself. Learned lights have the
same levels, see ``render/light_filter.py``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.render.cube_pyramid import ROOT, cell_areas, cells_of, pyramid, texel_directions
from stspbr.scene.light import EnvironmentLight

WIDTHS = (0.0, 0.01, 0.03, 0.08, 0.22, 0.6)
DIFFUSE_RESOLUTION = 16
_VERSION = 3


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
        convolve(size, width, opening, base_resolution, ROOT, starts, *cells, arrays[-1].reshape(-1, 3))
    size, fine = 2 * DIFFUSE_RESOLUTION, 64
    tail = cells_of(fine)
    cells = [value[-tail[-1] :] for value in cells]
    arrays.append(np.empty((6, size, size, 3), np.float32))
    convolve(size, -1.0, 0.15, fine, ROOT, tail, *cells, arrays[-1].reshape(-1, 3))
    return arrays


def _light_cells(base: Tensor) -> list[np.ndarray]:
    """Flux, solid angle, mean direction and brightest direction of the cells over a known light, float32."""
    base = base.double()
    directions = texel_directions(base.shape[1])
    brightness = base.sum(-1, keepdim=True) + 1e-9
    area = cell_areas(base.shape[1])
    values = pyramid(torch.cat([base, directions, directions * brightness], -1))
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
