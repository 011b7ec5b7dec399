"""The learned light: a cube map of radiance, prefiltered anew in every step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.errors import StspbrError
from stspbr.render.cube_pyramid import texel_directions
from stspbr.render.light_filter import checked_resolution, light_filter
from stspbr.render.prefilter import PrefilteredLight, latlong_to_cube
from stspbr.scene.light import EnvironmentLight, latlong_to_direction

_FLOOR = 1e-4
_EQUAL = 0.01  # of log radiance: neighbours that differ by less than 1 % count as equal
_SCALE_PACE = 0.1  # one scale moves the whole image: its steps are a tenth of a texel's


class EnvironmentCube(nn.Module):
    """Learned distant light; its parameter ``log_radiance [6, N, N, 3]`` is the logarithm of linear radiance.

    The logarithm keeps radiance positive without a clamp between steps. A lamp a hundred times as bright as the grey
    start is about 150 Adam steps of 0.03 away, not 1500. Its gradients are small (a texel is one of many), so its
    group needs an Adam ``eps`` of at most 1e-12.

    Args:
        resolution: face size N: 16, 32, 64, 128 or 256.
        initial: radiance of the grey start, positive.
        common_scale: whether the light's scale, one number per channel, is a parameter of its own (``common``).

    Raises:
        StspbrError: another resolution, or ``initial`` is not positive.
    """

    def __init__(self, resolution: int = 64, initial: float = 0.5, common_scale: bool = False):
        super().__init__()
        if not initial > 0:
            raise StspbrError(f"initial light {initial}: must be positive")
        self.resolution = checked_resolution(resolution)
        start = torch.full((6, resolution, resolution, 3), math.log(initial), dtype=torch.float32)
        self.log_radiance = nn.Parameter(start)
        self.common = nn.Parameter(torch.zeros(3), requires_grad=common_scale)

    @property
    def log_scale(self) -> Tensor:
        """``[3]``: the common scale's addition to the logarithm of every texel."""
        return _SCALE_PACE * self.common

    @property
    def radiance(self) -> Tensor:
        """Linear radiance ``[6, N, N, 3]``, differentiable."""
        return (self.log_radiance + self.log_scale).exp()

    @torch.no_grad()
    def set_radiance(self, radiance: Tensor, log_scale: Tensor | None = None) -> None:
        """Overwrite the light with linear radiance ``[6, N, N, 3]``, at least 1e-4.

        Args:
            log_scale: ``[3]`` of the common scale from now on; None: 0.
        """
        self.log_radiance.copy_(radiance.clamp_min(_FLOOR).log())
        self.common.zero_()
        if log_scale is not None:
            self.log_radiance.sub_(log_scale)
            self.common.copy_(log_scale / _SCALE_PACE)

    def variation(self) -> Tensor:
        """Mean difference of the log radiance of neighbouring texels, also across the cube's edges; a scalar.

        Charbonnier's sqrt(d² + ε²) − ε with ε = 0.01 replaces |d|: for texels that are equal up to rounding, the sign
        of d, and with it Adam's step, would be random.
        """
        values = self.log_radiance
        first, second = pairs_over_edges(self.resolution, values.device)
        flat = values.reshape(-1, 3)
        differences = (
            values[:, 1:] - values[:, :-1],
            values[:, :, 1:] - values[:, :, :-1],
            flat.index_select(0, first) - flat.index_select(0, second),
        )
        totals = (((part.square() + _EQUAL**2).sqrt() - _EQUAL).sum() for part in differences)
        return sum(totals, values.new_zeros(())) / sum(part.numel() for part in differences)

    def prefilter(self, mask: Tensor | None = None) -> PrefilteredLight:
        """The light as ``shade`` reads it, differentiable in the parameter; once per step.

        Args:
            mask: ``[6, N, N, 1]``, a factor on the texels; None: 1.
        """
        return light_filter(self.resolution)(self.radiance if mask is None else self.radiance * mask)

    @classmethod
    def from_latlong(cls, light: EnvironmentLight, resolution: int = 64) -> EnvironmentCube:
        """A cube initialised with a given light, averaged over each texel."""
        cube = cls(resolution)
        cube.set_radiance(torch.from_numpy(latlong_to_cube(light, resolution)))
        return cube

    def latlong(self, width: int, texture: Callable[..., Tensor]) -> Tensor:
        """``[width/2, width, 3]``: the light at the texel centres of a lat-long map, differentiable.

        Args:
            texture: the backend's texture function.
        """
        directions = torch.from_numpy(_latlong_directions(width)).to(self.log_radiance.device)
        return texture(self.radiance[None], directions[None], filter_mode="linear", boundary_mode="cube")[0]

    @torch.no_grad()
    def to_latlong(self, width: int = 1024) -> EnvironmentLight:
        """The light as a lat-long map ``[width/2, width, 3]``, sampled bilinearly, for an HDR file."""
        return cube_to_latlong(self.radiance.detach().cpu(), width)


def cube_to_latlong(cube: Tensor, width: int = 1024) -> EnvironmentLight:
    """A cube ``[6, N, N, 3]`` of linear radiance, sampled at the texel centres of a map ``[width/2, width, 3]``."""
    from stspbr.render.cpu.cubemap import sample_cube

    values = sample_cube([cube.float()[None].contiguous()], torch.from_numpy(_latlong_directions(width))[None])
    return EnvironmentLight(values[0].numpy())


def _latlong_directions(width: int) -> np.ndarray:
    """``[width/2, width, 3]`` float32: the directions of a lat-long map's texel centres."""
    height = width // 2
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return latlong_to_direction(np.stack([u, v], axis=-1)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def pairs_over_edges(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two index tensors ``[12 · size]`` into the texels ``[6 · size · size]``: neighbours on different faces."""
    flat = torch.arange(6 * size * size).reshape(6, size, size)
    inner = torch.ones(size, size, dtype=torch.bool)
    inner[1:-1, 1:-1] = False
    border = flat[:, inner]
    directions = texel_directions(size)[:, inner]
    pairs = []
    for one in range(6):
        for other in range(one):
            cosine = directions[one] @ directions[other].T
            nearest, back = cosine.argmax(1), cosine.argmax(0)
            here = torch.arange(len(nearest))
            # the nearest texels of opposite faces are not neighbours: they are at least a quarter turn apart
            met = (back[nearest] == here) & (cosine.amax(1) > math.cos(2.0 / size))
            pairs.append(torch.stack([border[one, here[met]], border[other, nearest[met]]]))
    first, second = torch.cat(pairs, dim=1).to(device)
    return first, second
