"""A turned candlestick, three times as tall as wide: fine rings on a thin stem, brass that is lacquered in parts."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.painting import paint, smoothstep
from stspbr.procedural.revolution import Profile, revolve
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material

BRASS, RED, BLACK, IVORY = (0.89, 0.70, 0.36), (0.34, 0.045, 0.035), (0.035, 0.034, 0.037), (0.70, 0.64, 0.50)


def _ring(radius: float, height: float, out: float, tall: float) -> list[tuple[float, float]]:
    """Control points of one bead on a stem of ``radius``, from its top to its bottom."""
    return [(radius, height + tall), (radius + out, height + 0.7 * tall), (radius + 1.3 * out, height),
            (radius + out, height - 0.7 * tall), (radius, height - tall)]  # fmt: skip


_PROFILE = Profile(
    np.array(
        [
            (0.000, 0.845), (0.040, 0.845), (0.062, 0.850), (0.066, 0.925), (0.090, 0.940), (0.112, 0.925),  # socket
            (0.108, 0.860), (0.094, 0.790), (0.098, 0.745), (0.150, 0.735), (0.205, 0.760), (0.228, 0.752),  # drip pan
            (0.222, 0.728), (0.150, 0.690), (0.075, 0.660), (0.052, 0.620),
            *_ring(0.052, 0.575, 0.030, 0.024), *_ring(0.052, 0.520, 0.022, 0.018), *_ring(0.050, 0.475, 0.016, 0.014),
            (0.046, 0.380), (0.060, 0.270), (0.098, 0.170), (0.112, 0.090), (0.080, 0.010), (0.050, -0.050),  # baluster
            *_ring(0.048, -0.100, 0.036, 0.026), *_ring(0.046, -0.160, 0.024, 0.018),
            (0.042, -0.260), (0.042, -0.360), (0.046, -0.430),
            *_ring(0.050, -0.475, 0.020, 0.015), *_ring(0.052, -0.515, 0.030, 0.018),
            *_ring(0.056, -0.565, 0.044, 0.024),
            (0.080, -0.640), (0.140, -0.700), (0.205, -0.745), (0.228, -0.770), (0.232, -0.795),  # foot
            (0.262, -0.800), (0.298, -0.815), (0.314, -0.850), (0.314, -0.905), (0.300, -0.935), (0.260, -0.940),
            (0.120, -0.932), (0.000, -0.932),
        ]
    ),
    0.98,
)  # fmt: skip


def candlestick(resolution: int = 512) -> Asset:
    """The candlestick: a closed surface of revolution about +Y of 0.61 × 1.84 × 0.61 with one UV chart.

    Its thinnest part is 4.5 % as thick as the object is tall, its smallest bead 1.5 % tall. Polished and brushed brass
    (roughness 0.12 to 0.45); red lacquer with ivory spirals on baluster and pan (0.12, 0.25); black paint on the stem
    (0.55) and, with brass leaves, on the foot (0.35).

    Args:
        resolution: side of the square maps.
    """
    points = _PROFILE.texels(resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    phi, radius = np.arctan2(x, -z), np.hypot(x, z)
    soft = 1.2 * _PROFILE.length / resolution

    def band(low: float, high: float) -> np.ndarray:
        return smoothstep(low - soft, low + soft, y) * smoothstep(high + soft, high - soft, y)

    brushed = 0.5 + 0.5 * np.sin(60.0 * y + 0.6 * np.sin(3.0 * phi))
    cloud = 0.5 + 0.5 * np.sin(9.0 * x + 5.0 * y + 0.4) * np.sin(7.0 * z - 4.0 * y)
    albedo = np.array(BRASS) * (0.94 + 0.06 * cloud[..., None])
    roughness, metallic = 0.12 + 0.16 * cloud + 0.17 * brushed * band(-0.45, 0.45), np.ones_like(x)
    lacquer = np.maximum(band(0.005, 0.33), band(0.68, 0.742) * smoothstep(0.11 - soft, 0.11 + soft, radius))
    albedo, roughness, metallic = paint(albedo, roughness, metallic, lacquer, RED, 0.12, 0.0)
    spiral = smoothstep(0.30 + 6 * soft, 0.30 - 6 * soft, np.abs(np.sin(0.5 * (3.0 * phi + 22.0 * y)))) * band(
        0.05, 0.28
    )
    albedo, roughness, metallic = paint(albedo, roughness, metallic, spiral, IVORY, 0.25, 0.0)
    sleeve = band(-0.40, -0.20)
    albedo, roughness, metallic = paint(albedo, roughness, metallic, sleeve, BLACK, 0.55, 0.0)
    foot = band(-0.775, -0.64)
    leaf = smoothstep(0.25 - 4 * soft, 0.25 + 4 * soft, np.cos(6.0 * phi) - np.abs(y + 0.71) / 0.06)
    albedo, roughness, metallic = paint(albedo, roughness, metallic, foot * (1.0 - leaf), BLACK, 0.35, 0.0)
    material = Material.of(albedo, roughness[..., None], metallic[..., None], name="candlestick")
    return Asset(revolve(*_PROFILE.sampled(201), 48), [material], name="candlestick")
