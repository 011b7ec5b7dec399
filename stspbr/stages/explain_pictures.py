"""Heat maps over the photographs: where a texel's values come from, and in which direction each pixel pulls."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from stspbr.colour import linear_to_srgb
from stspbr.optimize.confidence import Evidence

SIDE = 512
"""Pixels of the longer side that small photographs are enlarged to, by whole factors."""
_DIM = 0.45  # of the photograph's brightness beneath the heat
_HEAT = np.array([[0.1, 0.0, 0.2], [0.7, 0.05, 0.15], [1.0, 0.6, 0.0], [1.0, 1.0, 0.75]])
_UP, _DOWN = np.array([1.0, 0.25, 0.15]), np.array([0.2, 0.5, 1.0])
_CROP = 32  # pixels of a photograph that a tile of the sheet shows


def heat_map(photo: np.ndarray, share: np.ndarray, top: float) -> np.ndarray:
    """``[H, W, 3]`` in [0, 1]: the photograph, dimmed and grey, under the shares of its pixels.

    Args:
        photo: ``[H, W, 3]`` linear; share: ``[H, W]`` ≥ 0; top: the share that is white, one for all views.
    """
    value = np.sqrt(np.clip(share / max(top, 1e-30), 0.0, 1.0))
    places = np.linspace(0.0, 1.0, len(_HEAT))
    colour = np.stack([np.interp(value, places, _HEAT[:, k]) for k in range(3)], axis=-1)
    return _over(photo, colour, value)


def pull_map(photo: np.ndarray, pull: np.ndarray, top: float) -> np.ndarray:
    """As ``heat_map``, of signed pulls ``[H, W]``: red raises the value, blue lowers it."""
    value = np.sqrt(np.clip(np.abs(pull) / max(top, 1e-30), 0.0, 1.0))
    return _over(photo, np.where((pull >= 0)[..., None], _UP, _DOWN), value)


def view_image(values: Tensor, evidence: Evidence, number: int, size: tuple[int, ...]) -> np.ndarray:
    """``[H, W]``: the ``values [N]`` of a view's pixels at their places in its photograph of ``size``, 0 elsewhere."""
    own = evidence.seen.view == number
    image = np.zeros(size[0] * size[1])
    image[evidence.pixel[own].cpu().numpy()] = values[own].cpu().numpy()
    return image.reshape(size[:2])


def enlarged(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """``image [H, W, 3]`` with every pixel repeated, so that its longer side comes nearest to ``side`` from below."""
    times = max(1, side // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def around(image: np.ndarray, row: float, column: float, side: int = _CROP) -> np.ndarray:
    """The square of ``side`` pixels about a place, moved inside the image and padded if the image is smaller."""
    height, width = image.shape[:2]
    top = int(np.clip(round(row) - side // 2, 0, max(height - side, 0)))
    left = int(np.clip(round(column) - side // 2, 0, max(width - side, 0)))
    cut = image[top : top + side, left : left + side]
    return np.pad(cut, ((0, side - cut.shape[0]), (0, side - cut.shape[1]), (0, 0)))


def sheet(tiles: list[np.ndarray], columns: int = 5, gap: int = 4) -> np.ndarray:
    """Tiles ``[S, S, 3]`` of one size in rows on a dark ground."""
    side = tiles[0].shape[0]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    out = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 0.1)
    for k, tile in enumerate(tiles):
        row, column = k // columns * (side + gap), k % columns * (side + gap)
        out[row : row + side, column : column + side] = tile
    return out


def _over(photo: np.ndarray, colour: np.ndarray, value: np.ndarray) -> np.ndarray:
    grey = _DIM * linear_to_srgb(np.clip(photo, 0.0, 1.0)).mean(axis=-1, keepdims=True)
    share = np.where(value > 0, 0.35 + 0.65 * value, 0.0)[..., None]
    return grey * (1.0 - share) + colour * share
