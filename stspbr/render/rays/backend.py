"""The choice of a ray backend."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from stspbr.errors import StspbrError, missing_extra
from stspbr.render.rays.protocol import RayScene

RAY_BACKENDS = ("auto", "numba", "embreex")
"""``numba``: the embedded hierarchy; ``embreex``: Intel's Embree, where installed; ``auto``: embreex if it is there."""


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
