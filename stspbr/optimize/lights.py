"""The light of a reconstruction: known and prefiltered once, or learned and prefiltered at every step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from stspbr.optimize.flash import Flash
from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.gbuffer import GBuffer
from stspbr.render.light import EnvironmentCube, PrefilteredLight, cube_to_latlong
from stspbr.render.light_filter import light_filter
from stspbr.scene import EnvironmentLight
from stspbr.transport.ground import FloorLight, upper_half


class Light(nn.Module):
    """The interface of a light to the reconstruction; by default nothing about it is learned.

    Attributes:
        floor: under the object, in place of the light's lower half; None: there is none. Its grey is learned.
        flash: a lamp on the camera; None: there is none. It is learned.
    """

    def __init__(self, floor: FloorLight | None = None, flash: Flash | None = None) -> None:
        super().__init__()
        self.floor = floor
        self.flash = flash

    def to_lamp(self, gbuffer: GBuffer) -> Tensor | None:
        """``[N, 3]`` from the points of ``gbuffer`` to the flash of its cameras; None: there is none."""
        return None if self.flash is None else self.flash.seen_from(gbuffer)

    def prefiltered(self) -> PrefilteredLight:
        """The light as ``shade`` reads it."""
        raise NotImplementedError

    def albedo_factor(self) -> Tensor | None:
        """``[3]``: factor of the albedo that compensates the light's common scale; None: 1."""
        return None

    def settle(self) -> None:
        """Fix the light's scale from now on; the albedo must already contain its factor."""

    def regularizers(self) -> list[Term]:
        """Terms that keep the light plausible."""
        return []

    def constrain(self) -> None:
        """Bring the parameters back into their ranges after a step."""


class KnownLight(Light):
    """A light that is given and does not change; with a floor, black in its lower half."""

    def __init__(self, light: PrefilteredLight, floor: FloorLight | None = None) -> None:
        super().__init__(floor)
        self._light = light

    def prefiltered(self) -> PrefilteredLight:
        return self._light if self.floor is None else self.floor.joined(self._light)


class LearnedLight(Light):
    """A learned cube map, whose logarithmic radiance needs no constraint.

    A brighter light and a darker albedo give nearly the same image: they differ only in the highlights of non-metals,
    whose strength is known. In the gradients of single texels that difference is lost. If the cube has a common scale,
    the albedo compensates it (``albedo_factor``): one parameter per channel then moves along exactly this direction,
    with a gradient from all pixels.

    Args:
        white_balance: weight of the mean deviation from grey.
        smoothness: weight of the texels' differences from their neighbours: on a matte object the images do not
            determine the direction of a lamp.
        floor: in place of the lower half, whose texels only the regularisers reach.
        flash: on the camera, beside the cube.
    """

    def __init__(
        self,
        cube: EnvironmentCube,
        white_balance: float,
        smoothness: float = 0.0,
        floor: FloorLight | None = None,
        flash: Flash | None = None,
    ) -> None:
        super().__init__(floor, flash)
        self.cube = cube
        self.white_balance = white_balance
        self.smoothness = smoothness

    def prefiltered(self) -> PrefilteredLight:
        light = self._distant()
        return light if self.flash is None else replace(light, lamp=self.flash.intensity(self.cube.log_scale))

    def _distant(self) -> PrefilteredLight:
        if self.floor is None:
            return self.cube.prefilter()
        return self.floor.joined(self.cube.prefilter(upper_half(self.cube.resolution).to(self.cube.common.device)))

    def filtered(self, radiance: Tensor) -> PrefilteredLight:
        """``prefiltered`` of another radiance ``[6, N, N, 3]``: linear in it, and differentiable."""
        if self.floor is None:
            return light_filter(self.cube.resolution)(radiance)
        above = radiance * upper_half(self.cube.resolution).to(radiance)
        return self.floor.joined(light_filter(self.cube.resolution)(above))

    @torch.no_grad()
    def set_radiance(self, radiance: Tensor, albedo_change: Tensor) -> Tensor:
        """Overwrite the light with linear radiance ``[6, N, N, 3]``, at least 1e-4.

        Args:
            albedo_change: ``[3]`` the factor by which albedo changes on the whole. The common scale takes it over if
                there is one.

        Returns:
            ``[3]`` the part that it has not taken over.
        """
        if not self.cube.common.requires_grad:
            self.cube.set_radiance(radiance, self.cube.log_scale)
            return albedo_change
        self.cube.set_radiance(radiance, self.cube.log_scale - albedo_change.log())
        return torch.ones_like(albedo_change)

    def to_latlong(self) -> EnvironmentLight:
        """The light as a lat-long map, with the floor if there is one."""
        if self.floor is None:
            return self.cube.to_latlong()
        with torch.no_grad():
            return cube_to_latlong(self.prefiltered().specular[0].cpu())

    def albedo_factor(self) -> Tensor | None:
        return (-self.cube.log_scale).exp() if self.cube.common.requires_grad else None

    @torch.no_grad()
    def settle(self) -> None:
        if self.flash is not None:
            self.flash.brighten(self.cube.log_scale)
        self.cube.set_radiance(self.cube.radiance)
        self.cube.common.requires_grad_(False)

    def regularizers(self) -> list[Term]:
        terms = [] if self.flash is None else self.flash.regularizers()
        if self.white_balance > 0:
            radiance = self.cube.radiance
            deviation = (radiance - radiance.mean(dim=-1, keepdim=True)).abs().mean()
            terms.append(Term("white_balance", self.white_balance * deviation, STRICT_A, closed=True))
        if self.smoothness > 0:
            terms.append(Term("light_smooth", self.smoothness * self.cube.variation(), STRICT_A, closed=True))
        return terms

    @torch.no_grad()
    def constrain(self) -> None:
        if self.flash is not None:
            self.flash.constrain()


def in_units_of(light: Light, albedo: Tensor) -> Tensor:
    """Linear albedo ``[..., 3]`` times the light's ``albedo_factor``, at most 1."""
    factor = light.albedo_factor()
    return albedo if factor is None else (albedo * factor).clamp(max=1.0)
