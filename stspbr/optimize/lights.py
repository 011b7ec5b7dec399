"""The light of a reconstruction: known and prefiltered once, or learned and prefiltered at every step."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.light import EnvironmentCube, PrefilteredLight


class Light(Protocol):
    """What the reconstruction asks of a light."""

    def parameters(self) -> list[Tensor]: ...

    def prefiltered(self) -> PrefilteredLight: ...

    def regularizers(self) -> list[Term]: ...

    def constrain(self) -> None: ...


class KnownLight(nn.Module):
    """A light that is given and does not change."""

    def __init__(self, light: PrefilteredLight) -> None:
        super().__init__()
        self._light = light

    def prefiltered(self) -> PrefilteredLight:
        return self._light

    def regularizers(self) -> list[Term]:
        return []

    def constrain(self) -> None:
        pass


class LearnedLight(nn.Module):
    """A cube map that is learned; ``white_balance`` weighs the mean deviation from grey."""

    def __init__(self, cube: EnvironmentCube, white_balance: float) -> None:
        super().__init__()
        self.cube = cube
        self.white_balance = white_balance

    def prefiltered(self) -> PrefilteredLight:
        return self.cube.prefilter()

    def regularizers(self) -> list[Term]:
        if self.white_balance == 0:
            return []
        radiance = self.cube.radiance
        deviation = (radiance - radiance.mean(dim=-1, keepdim=True)).abs().mean()
        return [Term("white_balance", self.white_balance * deviation, STRICT_A, closed=True)]

    def constrain(self) -> None:
        """Nothing to do: the cube keeps the logarithm of its radiance."""
