"""What a ray backend offers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class Hits:
    """First hits of N rays.

    Attributes:
        triangle: ``[N]`` int64 into the mesh's faces; −1 for a ray that hits nothing.
        distance: ``[N]`` float32 in units of the direction's length; inf for a miss.
        barycentric: ``[N, 2]`` float32, the weights of the triangle's second and third corner; 0 for a miss.
    """

    triangle: Tensor
    distance: Tensor
    barycentric: Tensor

    @property
    def found(self) -> Tensor:
        """``[N]`` bool."""
        return self.triangle >= 0


class RayScene(Protocol):
    """A mesh that rays can be cast against. Results are the same for any number of threads.

    Rays are ``origins [N, 3]`` and ``directions [N, 3]``, float32, of any length but 0; hits lie in (0, ``limit``].
    Both sides of a triangle are hit. Nothing has a gradient.
    """

    def closest(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Hits:
        """The first hit of each ray."""

    def occluded(self, origins: Tensor, directions: Tensor, limit: float = math.inf) -> Tensor:
        """``[N]`` bool: whether anything is hit."""
