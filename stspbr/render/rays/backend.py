"""What a ray backend offers, and the choice of one."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stspbr.errors import StspbrError, missing_extra

RAY_BACKENDS = ("auto", "numba", "embreex")
"""``numba``: the embedded hierarchy; ``embreex``: Intel's Embree, where installed; ``auto``: embreex if it is there."""


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


def ray_scene(positions: Tensor, faces: Tensor, backend: str = "auto") -> RayScene:
    """Build a scene of the triangles ``faces [F, 3]`` over ``positions [V, 3]``.

    Args:
        backend: one of ``RAY_BACKENDS``.

    Raises:
        StspbrError: an unknown or missing backend, or positions that are not finite.
    """
    if backend not in RAY_BACKENDS:
        raise StspbrError(f"transport.rays={backend}: unknown; choose {', '.join(RAY_BACKENDS)}")
    if positions.device.type != "cpu":
        raise StspbrError(f"rays on {positions.device} are not supported: use --device cpu, or transport.mode=off")
    if not bool(torch.isfinite(positions).all()):
        raise StspbrError("rays: the mesh has positions that are not finite; repair it")
    if backend == "auto":
        backend = "embreex" if importlib.util.find_spec("embreex") is not None else "numba"
    if backend == "embreex":
        try:
            from stspbr.render.rays.embree import EmbreeScene
        except ImportError:
            raise missing_extra("embreex", "rays", "rays by Embree") from None
        return EmbreeScene(positions, faces)
    from stspbr.render.rays.bvh import BvhScene

    return BvhScene(positions, faces)
