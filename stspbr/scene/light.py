"""Environment light as a lat-long map, and the one convention for its directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class EnvironmentLight:
    """Distant light: ``radiance`` is ``[H, W, 3]`` float32 linear, lat-long, row 0 at the zenith (+Y)."""

    radiance: np.ndarray


def direction_to_latlong(direction: np.ndarray) -> np.ndarray:
    """Lat-long coordinates ``[..., 2]`` in [0, 1] of unit world directions ``[..., 3]``.

    ``u = atan2(x, −z)/2π + ½``, ``v = acos(y)/π``: −Z is the middle of the map, +X is right of it.
    """
    d = np.asarray(direction, dtype=np.float64)
    u = np.arctan2(d[..., 0], -d[..., 2]) / (2.0 * np.pi) + 0.5
    v = np.arccos(np.clip(d[..., 1], -1.0, 1.0)) / np.pi
    return np.stack([u, v], axis=-1)


def latlong_to_direction(uv: np.ndarray) -> np.ndarray:
    """Unit world directions ``[..., 3]`` of lat-long coordinates ``[..., 2]``: the inverse."""
    uv = np.asarray(uv, dtype=np.float64)
    phi, theta = (uv[..., 0] - 0.5) * 2.0 * np.pi, uv[..., 1] * np.pi
    s = np.sin(theta)
    return np.stack([s * np.sin(phi), np.cos(theta), -s * np.cos(phi)], axis=-1)
