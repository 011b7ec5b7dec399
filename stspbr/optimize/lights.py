"""The light of a reconstruction: known and prefiltered once, or learned and prefiltered at every step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.light import EnvironmentCube, PrefilteredLight


class Light(Protocol):
    """What the reconstruction asks of a light."""

    def parameters(self) -> Iterable[Tensor]: ...

    def prefiltered(self) -> PrefilteredLight: ...

    def albedo_factor(self) -> Tensor | None:
        """``[3]``: what the albedo is multiplied with because the light took the inverse; None: nothing."""

    def settle(self) -> None:
        """Keep the light's scale as it is from now on; the albedo must have taken its factor."""

    def regularizers(self) -> list[Term]: ...

    def constrain(self) -> None: ...


class KnownLight(nn.Module):
    """A light that is given and does not change."""

    def __init__(self, light: PrefilteredLight) -> None:
        super().__init__()
        self._light = light

    def prefiltered(self) -> PrefilteredLight:
        return self._light

    def albedo_factor(self) -> Tensor | None:
        return None

    def settle(self) -> None:
        pass

    def regularizers(self) -> list[Term]:
        return []

    def constrain(self) -> None:
        pass


class LearnedLight(nn.Module):
    """A cube map that is learned; ``white_balance`` weighs the mean deviation from grey, ``smoothness`` the texels'
    differences from their neighbours: a matte object does not say where a lamp's light comes from.

    A brighter light and a darker albedo make nearly the same image: only the highlights of non-metals, whose strength
    is known, tell them apart. Texel by texel that small gradient drowns in all others. Where the cube has a common
    scale, the albedo gives back what the light takes (``albedo_factor``): one parameter a channel then moves along this
    very direction, and all pixels vote on it.
    """

    def __init__(self, cube: EnvironmentCube, white_balance: float, smoothness: float = 0.0) -> None:
        super().__init__()
        self.cube = cube
        self.white_balance = white_balance
        self.smoothness = smoothness

    def prefiltered(self) -> PrefilteredLight:
        return self.cube.prefilter()

    def albedo_factor(self) -> Tensor | None:
        return (-self.cube.log_scale).exp() if self.cube.common.requires_grad else None

    @torch.no_grad()
    def settle(self) -> None:
        self.cube.set_radiance(self.cube.radiance)
        self.cube.common.requires_grad_(False)

    def regularizers(self) -> list[Term]:
        terms = []
        if self.white_balance > 0:
            radiance = self.cube.radiance
            deviation = (radiance - radiance.mean(dim=-1, keepdim=True)).abs().mean()
            terms.append(Term("white_balance", self.white_balance * deviation, STRICT_A, closed=True))
        if self.smoothness > 0:
            terms.append(Term("light_smooth", self.smoothness * self.cube.variation(), STRICT_A, closed=True))
        return terms

    def constrain(self) -> None:
        """Nothing to do: the cube keeps the logarithm of its radiance."""


def in_units_of(light: Light, albedo: Tensor) -> Tensor:
    """Albedo ``[..., 3]`` with the factor that ``light`` left to it, at most 1."""
    factor = light.albedo_factor()
    return albedo if factor is None else (albedo * factor).clamp(max=1.0)
