"""Environment light as a lat-long map, and the one convention for its directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.scene.bilinear import bilinear

_CHUNK = 1 << 21  # samples of a turned map at a time


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

    Resampled as :func:`turned_latlong` does; the identity gives the very same map.
    """
    rotation = np.asarray(rotation, np.float64)
    if np.array_equal(rotation, np.eye(3)):
        return light
    return EnvironmentLight(turned_latlong(light.radiance, rotation.T))


def turned_latlong(radiance: np.ndarray, turn: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """The map ``[H, W, 3]`` whose value along ``d`` is that of ``radiance`` along ``turn @ d``, in our layout.

    A turn about +Y by whole texels moves columns and is exact. Else every texel is the mean of its directions by
    solid angle: rows near the source's poles, where texels are narrower than the samples' distance, are averaged
    along longitude first, so that no light is lost or found between samples; the light that remains too much or too
    little (polar rows, a percent of themselves) is made up for over the whole map: its sum over the sphere is kept.

    Args:
        turn: rotation ``[3, 3]``.
        size: height and width of the result; the source's by default.
    """
    source = np.asarray(radiance, np.float64)
    h, w = source.shape[:2]
    height, width = size or (h, w)
    if (height, width) == (h, w):
        if np.abs(turn @ (0, 1, 0) - (0, 1, 0)).max() < 1e-9:
            shift = (direction_to_latlong(turn @ (0, 0, -1.0))[0] - 0.5) * w
            if abs(shift - round(shift)) < 1e-4:
                return np.roll(source, -round(shift), axis=1).astype(radiance.dtype)
    k = int(np.clip(np.ceil(max(4 * 1024 // width, 4 * h / height)), 1, 8))
    source = _smoothed_poles(source, samples=k * width)
    out = np.zeros((height, width, 3))
    u = (np.arange(width * k) + 0.5) / (width * k)
    rows = max(1, _CHUNK // (width * k * k))
    for first in range(0, height, rows):
        count = min(rows, height - first)
        v = (first * k + np.arange(count * k) + 0.5) / (height * k)
        weight = np.sin(np.pi * v).reshape(count, k)
        direction = latlong_to_direction(np.stack(np.meshgrid(u, v), axis=-1))
        values = bilinear(source, direction_to_latlong(direction @ np.asarray(turn).T), wrap_v=False)
        values = values.reshape(count, k, width, k, 3).mean(axis=3)
        out[first : first + count] = np.einsum("rkwc,rk->rwc", values, weight / weight.sum(axis=1, keepdims=True))
    flux, kept = (np.einsum("hwc,h->c", image, row_solid_angle(*image.shape[:2])) for image in (radiance, out))
    out *= np.where(kept > 0, flux / np.where(kept > 0, kept, 1.0), 1.0)
    return out.astype(radiance.dtype)


def _smoothed_poles(source: np.ndarray, samples: int) -> np.ndarray:
    """Rows averaged along longitude over the distance of ``samples`` around the equator, where that is wider."""
    h, w = source.shape[:2]
    out = source.copy()
    sine = np.sin(np.pi * (np.arange(h) + 0.5) / h)
    for row in range(h):
        span = min(w, int(np.ceil(w / (samples * sine[row]))))
        span += 1 - span % 2 if span < w else 0
        if span >= w:
            out[row] = source[row].mean(axis=0)
        elif span > 1:
            wrapped = np.take(source[row], np.arange(-(span // 2) - 1, w + span // 2), axis=0, mode="wrap")
            total = np.cumsum(wrapped, axis=0)
            out[row] = (total[span:] - total[:-span]) / span
    return out


def row_solid_angle(height: int, width: int) -> np.ndarray:
    """Solid angle ``[H]`` of a texel in each row."""
    edges = np.cos(np.pi * np.arange(height + 1) / height)
    return 2 * np.pi / width * (edges[:-1] - edges[1:])
