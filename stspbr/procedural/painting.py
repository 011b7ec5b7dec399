"""Building blocks of maps and lights made in code: soft steps, coats of material, softboxes, lamps."""

from __future__ import annotations

import numpy as np

from stspbr.scene.light import EnvironmentLight, latlong_to_direction


def paint(albedo, roughness, metallic, cover, colour, rough, metal):
    """Albedo ``[H, W, 3]``, roughness and metallic ``[H, W]`` under a coat ``cover`` ``[H, W or 1]`` in [0, 1]."""
    cover = np.broadcast_to(cover, roughness.shape)
    albedo = albedo * (1.0 - cover[..., None]) + np.asarray(colour) * cover[..., None]
    return albedo, roughness * (1.0 - cover) + rough * cover, metallic * (1.0 - cover) + metal * cover


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at ``low``, 1 at ``high`` (which may be the smaller one), smooth in between; any shape."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit direction ``[3]`` of an azimuth (degrees from −Z towards +X) and an elevation (degrees)."""
    return latlong_to_direction(np.array([azimuth / 360.0 + 0.5, 0.5 - elevation / 180.0]))


def sky_directions(height: int) -> np.ndarray:
    """Unit directions ``[height, 2·height, 3]`` of the texels of a lat-long map."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height)
    return latlong_to_direction(np.stack(np.meshgrid(columns, rows), axis=-1))


def add_softboxes(radiance: np.ndarray, d: np.ndarray, boxes: list) -> np.ndarray:
    """``radiance`` and the boxes' light; a box is (azimuth, elevation, half width, half height) in degrees, colour."""
    for place, colour in boxes:
        radiance = radiance + softbox(d, *place) * np.array(colour)
    return radiance


def round_lamp(d: np.ndarray, azimuth: float, elevation: float, inner: float, outer: float) -> np.ndarray:
    """Coverage ``[H, W, 1]`` of a round lamp: full within ``inner`` degrees of its middle, none beyond ``outer``."""
    cosine = np.clip(d @ direction(azimuth, elevation), -1.0, 1.0)
    return smoothstep(outer, inner, np.degrees(np.arccos(cosine)))[..., None]


def dimmed(radiance: np.ndarray, factor: float) -> EnvironmentLight:
    """The light of ``factor`` times ``radiance`` ``[H, W, 3]``."""
    return EnvironmentLight(np.ascontiguousarray(factor * radiance, dtype=np.float32))


def softbox(d, azimuth, elevation, half_width, half_height):
    """Coverage ``[H, W, 1]`` of a rectangular light that faces the origin, brighter in its middle; degrees."""
    axis = direction(azimuth, elevation)
    right = np.cross(axis, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    top = np.cross(right, axis)
    depth = d @ axis
    ahead = np.maximum(depth, 1e-3)
    a = np.abs(d @ right) / ahead / np.tan(np.radians(half_width))
    b = np.abs(d @ top) / ahead / np.tan(np.radians(half_height))
    cover = smoothstep(1.06, 0.94, a) * smoothstep(1.06, 0.94, b) * (depth > 0)
    return (cover * (1.0 - 0.25 * np.clip(np.maximum(a, b), 0.0, 1.0) ** 2))[..., None]
