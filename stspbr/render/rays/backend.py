"""The choice of a ray backend."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from stspbr.errors import StspbrError, missing_extra
from stspbr.render.rays.protocol import RayScene
from stspbr.warp_runtime import why_no_warp

RAY_BACKENDS = ("auto", "numba", "embreex", "warp")
"""``numba``: the embedded hierarchy; ``embreex``: Intel's Embree, where installed; ``warp``: NVIDIA Warp, on CUDA and,
to test it, on the CPU; ``auto``: warp on CUDA, on the CPU embreex if it is there, else numba."""


def ray_scene(positions: Tensor, faces: Tensor, backend: str = "auto") -> RayScene:
    """Build a scene of the triangles ``faces [F, 3]`` over ``positions [V, 3]``; rays lie on the same device.

    Args:
        backend: one of ``RAY_BACKENDS``.

    Raises:
        StspbrError: as ``choose_rays``; positions that are not finite.
    """
    backend = choose_rays(backend, positions.device)
    if not bool(torch.isfinite(positions).all()):
        raise StspbrError("rays: the mesh has positions that are not finite; repair it")
    if backend == "warp":
        from stspbr.render.rays.warp_scene import WarpScene

        return WarpScene(positions, faces)
    if backend == "embreex":
        try:
            from stspbr.render.rays.embree import EmbreeScene
        except ImportError:
            raise missing_extra("embreex", "rays", "rays by Embree") from None
        return EmbreeScene(positions, faces)
    from stspbr.render.rays.bvh import BvhScene

    return BvhScene(positions, faces)


def choose_rays(backend: str, device: torch.device) -> str:
    """What casts rays on ``device``, where ``backend`` is one of ``RAY_BACKENDS``.

    Raises:
        StspbrError: an unknown or missing backend, or one that does not fit the device.
    """
    if backend not in RAY_BACKENDS:
        raise StspbrError(f"transport.rays={backend}: unknown; choose {', '.join(RAY_BACKENDS)}")
    has_embree = importlib.util.find_spec("embreex") is not None
    if backend == "auto":
        backend = "warp" if device.type == "cuda" else "embreex" if has_embree else "numba"
    if device.type not in (("cpu", "cuda") if backend == "warp" else ("cpu",)):
        raise StspbrError(f"transport.rays={backend} casts no rays on {device}: use warp, or --device cpu")
    if backend == "warp" and (reason := why_no_warp(device)) is not None:
        raise StspbrError(f"transport.rays=warp: {reason}")
    if backend == "embreex" and not has_embree:
        raise missing_extra("embreex", "rays", "rays by Embree")
    return backend
