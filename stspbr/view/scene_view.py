"""What a page of a scene model shows, without any browser: prediction beside reference, observations, attribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.view.drawing import BACKGROUND, labelled, to_bytes

_GAP = 8
_ROWS = 0.62  # of the height: the upper row


@dataclass(frozen=True)
class SceneChoice:
    """What one tab asks for.

    Attributes:
        light, geometry, material: numbers of test scenes whose part is taken.
        round: which observations: a number that draws others.
        world_to_camera: ``[4, 4]`` as a tuple of 16; None: the scene's own query view. fov: in degrees.
        query_spp, observation_spp: paths per pixel.
        pixel: column and row of the prediction that is attributed; patch: pixels a side; range: heat that is white,
            as a part of the largest.
    """

    light: int = 0
    geometry: int = 0
    material: int = 0
    round: int = 0
    world_to_camera: tuple[float, ...] | None = None
    fov: float = 75.0
    query_spp: int = 16
    observation_spp: int = 64
    pixel: tuple[int, int] | None = None
    patch: int = 1
    range: float = 1.0


@dataclass
class Shown:
    """Linear pictures ``[S, S, 3]``, heat ``[O, S, S]`` or None, and lines of text."""

    predicted: np.ndarray
    observations: list[np.ndarray]
    buffers: dict[str, np.ndarray]
    heat: np.ndarray | None = None
    lines: list[str] = field(default_factory=list)


class SceneShow(Protocol):
    """The interface of what computes pictures for the page; every error is a StspbrError or an OSError."""

    count: int

    def predict(self, choice: SceneChoice) -> Shown:
        """The prediction and what it was made of; a few per second."""

    def reference(self, choice: SceneChoice, round: int) -> np.ndarray:
        """``[S, S, 3]`` linear: one more independent path-traced picture of the same view."""


@dataclass(frozen=True)
class Tile:
    """Where a picture is on the canvas, in pixels."""

    left: int
    top: int
    side: int

    def pixel(self, x: float, y: float, size: int) -> tuple[int, int] | None:
        """Column and row of a ``size``² picture under a place of the canvas; None if it is elsewhere."""
        column, row = (x - self.left) * size / self.side, (y - self.top) * size / self.side
        return (int(column), int(row)) if 0 <= column < size and 0 <= row < size else None


def tiles(width: int, height: int, observations: int, buffers: int) -> dict[str, Tile]:
    """Reference and prediction above, observations and buffers below, as large as they can be."""
    upper = int(min(_ROWS * height - 2 * _GAP, (width - 3 * _GAP) / 2))
    count = max(observations + buffers, 1)
    lower = int(min(height - upper - 3 * _GAP, (width - (count + 1) * _GAP) / count))
    upper, lower = max(upper, 8), max(lower, 8)
    left = (width - 2 * upper - _GAP) // 2
    out = {"reference": Tile(left, _GAP, upper), "predicted": Tile(left + upper + _GAP, _GAP, upper)}
    names = [*(f"observation {k}" for k in range(observations)), *(f"buffer {k}" for k in range(buffers))]
    left = (width - count * lower - (count - 1) * _GAP) // 2
    for k, name in enumerate(names):
        out[name] = Tile(left + k * (lower + _GAP), upper + 2 * _GAP, lower)
    return out


def canvas(shown: Shown, reference: np.ndarray | None, choice: SceneChoice, width: int, height: int) -> np.ndarray:
    """``[height, width, 3]`` in 8 bits: everything that a tab shows."""
    from stspbr.metrics.error_maps import heat

    image = np.full((height, width, 3), BACKGROUND, np.float32)
    places = tiles(width, height, len(shown.observations), len(shown.buffers))
    pictures = {"predicted": _encoded(shown.predicted)}
    if reference is not None:
        pictures["reference"] = _encoded(reference)
    for k, picture in enumerate(shown.observations):
        encoded = _encoded(picture)
        if shown.heat is not None:
            peak = max(float(shown.heat.max()) * choice.range, 1e-30)
            share = np.sqrt(np.clip(shown.heat[k] / peak, 0.0, 1.0))[..., None]
            encoded = 0.4 * encoded.mean(axis=-1, keepdims=True) * (1 - share) + heat(share[..., 0], 1.0) * share
        pictures[f"observation {k}"] = encoded
    for k, (name, values) in enumerate(shown.buffers.items()):
        pictures[f"buffer {k}"] = _buffer(name, values)
    if choice.pixel is not None:
        pictures["predicted"] = _marked(pictures["predicted"], choice)
    names = {f"buffer {k}": name for k, name in enumerate(shown.buffers)}
    for name, picture in pictures.items():
        tile = places[name]
        large = _enlarged(picture, tile.side)
        large = labelled(large, {"reference": "path traced", **names}.get(name, name), 8, "left")
        image[tile.top : tile.top + tile.side, tile.left : tile.left + tile.side] = large
    return to_bytes(image)


def _encoded(picture: np.ndarray) -> np.ndarray:
    return linear_to_srgb(np.clip(picture, 0.0, 1.0)).astype(np.float32)


def _buffer(name: str, values: np.ndarray) -> np.ndarray:
    """A buffer for the eye: directions and places by their range, the rest as it is."""
    if name in ("normal", "mirror", "mirror_normal"):
        values = 0.5 + 0.5 * values
    elif name in ("position", "mirror_hit", "depth"):
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    return np.broadcast_to(np.clip(values, 0.0, 1.0), (*values.shape[:2], 3)).astype(np.float32)


def _marked(picture: np.ndarray, choice: SceneChoice) -> np.ndarray:
    """The picture with the patch that is attributed in white."""
    out, (x, y) = picture.copy(), choice.pixel or (0, 0)
    half = (choice.patch - 1) // 2
    out[max(0, y - half) : y - half + choice.patch, max(0, x - half) : x - half + choice.patch] = 1.0
    return out


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """Nearest neighbours: pixels are what is being looked at."""
    rows = (np.arange(side) * picture.shape[0]) // side
    return picture[rows][:, rows]
