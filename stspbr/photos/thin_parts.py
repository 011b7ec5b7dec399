"""Thin parts of masks, which a hull's cells miss and cleaning removes: antennas, wires, handles; and holes in masks."""

from __future__ import annotations

import numpy as np

from stspbr.photos import grabcut

_LONG = 3.0  # times its width: a shorter piece is a corner


def thin_parts(mask: np.ndarray, width: float) -> np.ndarray:
    """``[H, W]`` bool: the long parts of a mask ``[H, W]`` bool that are at most ``width`` pixels wide."""
    cv2 = grabcut.require_opencv()
    thick = grabcut.dilated(grabcut.dilated(mask, -0.5 * width), 0.5 * width + 1.0)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats((mask & ~thick).astype(np.uint8), connectivity=8)
    sides = statistics[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].astype(float)
    long = np.hypot(*sides.T) >= _LONG * width
    long[0] = False  # label 0 is all else
    return long[parts] if count > 1 else np.zeros_like(mask)


def thickened(mask: np.ndarray, width: float) -> np.ndarray:
    """A mask whose parts thinner than ``width`` pixels, of a hull's cells, are so wide that some cell's middle lies in
    them from all sides: half a diagonal of a cell on both sides."""
    return mask | grabcut.dilated(thin_parts(mask, width), 0.75 * width)


def seen_through(likely: np.ndarray, width: float) -> np.ndarray:
    """``[H, W]`` bool: of ``likely`` background ``[H, W]`` bool, the places that are at least ``width`` pixels wide."""
    core = grabcut.dilated(likely, -0.5 * width)
    if not core.any():
        return core
    return likely & grabcut.dilated(core, 0.5 * width + 1.0)
