"""What maps and lights in code are painted with: soft steps, coats of material, rectangles of light."""

from __future__ import annotations

import numpy as np

from stspbr.scene.light import latlong_to_direction


def paint(albedo, roughness, metallic, cover, colour, rough, metal):
    """Lay a coat over the maps: ``cover`` ``[H, W]`` or ``[H, 1]`` in [0, 1]."""
    cover = np.broadcast_to(cover, roughness.shape)
    albedo = albedo * (1.0 - cover[..., None]) + np.asarray(colour) * cover[..., None]
    return albedo, roughness * (1.0 - cover) + rough * cover, metallic * (1.0 - cover) + metal * cover


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at ``low``, 1 at ``high`` (which may be the smaller one), smooth in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit direction of an azimuth (degrees from −Z towards +X) and an elevation (degrees above the horizon)."""
    return latlong_to_direction(np.array([azimuth / 360.0 + 0.5, 0.5 - elevation / 180.0]))


def softbox(d, azimuth, elevation, half_width, half_height):
    """Coverage ``[H, W, 1]`` of a rectangle of light that faces the origin, brighter in its middle."""
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
