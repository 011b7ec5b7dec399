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


def turned_light(light: EnvironmentLight, rotation: np.ndarray) -> EnvironmentLight:
    """The light of a world turned by ``rotation`` ``[3, 3]``: what came from ``d`` then comes from ``rotation @ d``.

    Resampled bilinearly; the identity gives the very same map.
    """
    rotation = np.asarray(rotation, np.float64)
    if np.array_equal(rotation, np.eye(3)):
        return light
    height, width = light.radiance.shape[:2]
    v, u = np.mgrid[:height, :width]
    uv = np.stack([(u + 0.5) / width, (v + 0.5) / height], axis=-1)
    source = direction_to_latlong(latlong_to_direction(uv) @ rotation)  # row vectors: d @ R is Rᵀ d
    x, y = source[..., 0] * width - 0.5, np.clip(source[..., 1] * height - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.minimum(np.floor(y).astype(int), max(height - 2, 0))
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    pixels, y1 = light.radiance, np.minimum(y0 + 1, height - 1)
    left, right = x0 % width, (x0 + 1) % width
    upper = pixels[y0, left] * (1 - fx) + pixels[y0, right] * fx
    lower = pixels[y1, left] * (1 - fx) + pixels[y1, right] * fx
    return EnvironmentLight((upper * (1 - fy) + lower * fy).astype(np.float32))
