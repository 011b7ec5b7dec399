"""One view of any size, rendered block by block: memory follows the block, not the view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Camera

_AT_ONCE = 1024  # pixels along the longer side of a view that is rendered at once
_SIDE = 512  # pixels along a side of a block of larger ones
_MARGIN = 2  # pixels around a block, where antialiasing lacks its neighbours


@torch.no_grad()
def render_view(
    camera: Camera,
    object_to_world: np.ndarray,
    render: Callable[[ViewBatch], dict[str, Tensor]],
    device: torch.device,
    names: tuple[str, ...] | None = None,
    at_once: int = _AT_ONCE,
    side: int = _SIDE,
) -> dict[str, np.ndarray]:
    """The images ``[H, W, C]`` of one view, on the CPU.

    Args:
        render: gives images ``[1, H, W, C]`` by name from a batch of one view.
        names: which of them are wanted; None: all.
        at_once: views with no side above this are rendered at once, larger ones in blocks of ``side``.
    """
    out: dict[str, np.ndarray] = {}
    height, width = camera.height, camera.width
    side = max(height, width) if max(height, width) <= at_once else side
    for top in range(0, height, side):
        for left in range(0, width, side):
            low, start = max(0, top - _MARGIN), max(0, left - _MARGIN)
            high, end = min(height, top + side + _MARGIN), min(width, left + side + _MARGIN)
            if side >= max(height, width):
                part = camera
            else:
                size = (end - start, high - low)
                part = camera.resampled((start, low, *size), size)
            found = render(ViewBatch.of([part], [object_to_world], device))
            for name, image in found.items():
                if names is not None and name not in names:
                    continue
                values = image[0].cpu().numpy()
                if part is camera:
                    out[name] = values
                    continue
                whole = out.setdefault(name, np.empty((height, width, values.shape[2]), values.dtype))
                kept = whole[top : top + side, left : left + side]
                kept[...] = values[top - low :, left - start :][: kept.shape[0], : kept.shape[1]]
    return out
