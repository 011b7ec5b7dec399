"""Shiny objects made in code, with exactly known maps, for the ladder of ``stspbr.quality``.

Each is a closed surface of revolution about +Y inside the unit sphere with one UV chart (u around, v from the
top down), smooth normals, and one material. Colour never reveals reflectance.
"""

from __future__ import annotations

import numpy as np

from stspbr.procedural.painting import direction, paint, smoothstep
from stspbr.procedural.revolution import Profile, revolve, turned
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Mesh

GOLD, COPPER, SILVER, STEEL = (1.00, 0.77, 0.34), (0.93, 0.62, 0.52), (0.95, 0.93, 0.88), (0.62, 0.64, 0.67)
"""Base colours of metals; all reflect more than half of the light."""

_FLASK = Profile(
    np.array(
        [
            (0.00, 1.010), (0.11, 1.010), (0.225, 0.985), (0.25, 0.91), (0.20, 0.80), (0.17, 0.64),  # lip, neck
            (0.20, 0.46), (0.38, 0.30), (0.60, 0.08), (0.69, -0.18), (0.64, -0.47), (0.47, -0.70),  # belly
            (0.40, -0.82), (0.44, -0.93), (0.42, -1.01), (0.36, -1.01), (0.18, -0.99), (0.00, -0.99),  # foot
        ]
    ),
    0.92,
)  # fmt: skip
_VASE = Profile(
    np.array(
        [
            (0.00, 1.000), (0.20, 1.000), (0.40, 0.93), (0.48, 0.74), (0.43, 0.52), (0.45, 0.32),  # shoulder, waist
            (0.60, 0.10), (0.71, -0.16), (0.68, -0.46), (0.53, -0.76), (0.38, -0.94), (0.20, -1.00), (0.00, -1.00),
        ]
    ),
    0.93,
)  # fmt: skip
_BALL_RADIUS = 0.92


def dark_gloss(resolution: int = 512) -> Asset:
    """A flask of black lacquer: dielectric, albedo 0.02 to 0.08, roughness 0.08 to 0.3, with a few ivory marks.

    At normal incidence at least half of the reflected light is highlight, as for a dark metal: the two differ only in
    how the highlight's strength and colour change with the angle.
    """
    points = _FLASK.texels(resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    soft = 1.2 * _FLASK.length / resolution
    clouds = 0.5 + 0.5 * np.sin(4.1 * x + 2.3 * y + 0.7) * np.sin(3.7 * z - 2.9 * y + 1.1)
    drift = 0.5 + 0.5 * np.sin(3.3 * z + 1.9 * x - 2.6 * y)
    brown, blue = np.array([0.066, 0.040, 0.031]), np.array([0.026, 0.034, 0.062])
    albedo = blue + (brown - blue) * clouds[..., None]
    roughness = 0.09 + 0.19 * drift  # independent of the colour
    metallic = np.zeros_like(x)
    swirl = y + 0.05 * np.sin(3.0 * np.arctan2(x, -z))
    ring = smoothstep(0.028 + soft, 0.028 - soft, np.abs(swirl + 0.42))
    albedo, roughness, metallic = paint(albedo, roughness, metallic, ring, (0.55, 0.50, 0.40), 0.20, 0.0)
    for azimuth, height, size, colour in (
        (20.0, 0.02, 0.13, (0.58, 0.52, 0.40)),
        (105.0, -0.12, 0.09, (0.50, 0.09, 0.06)),
        (190.0, 0.06, 0.12, (0.58, 0.52, 0.40)),
        (275.0, -0.16, 0.10, (0.50, 0.09, 0.06)),
    ):
        cover = _disc(points, _FLASK, azimuth, height, size, soft)
        albedo, roughness, metallic = paint(albedo, roughness, metallic, cover, colour, 0.15, 0.0)
    return _asset(revolve(*_FLASK.sampled(61), 88), albedo, roughness, metallic, "dark-gloss")


def letters(resolution: int = 512) -> Asset:
    """A glazed ball with inlaid letters: gold, silver and copper ones, and dielectric ones of similar colours.

    The golden S is metal and the ochre R is paint; the silver T is metal and the white E is glaze.
    """
    theta = np.linspace(0.0, np.pi, 65)
    normal = np.stack([np.sin(theta), np.cos(theta)], axis=-1)
    normal[[0, -1], 0] = 0.0
    centres = np.pi * (np.arange(resolution) + 0.5) / resolution
    points = turned(_BALL_RADIUS * np.stack([np.sin(centres), np.cos(centres)], axis=-1), resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    soft = 1.2 * np.pi * _BALL_RADIUS / resolution
    waves = np.sin(3.6 * x + 1.7 * y + 0.3) * np.sin(3.1 * z - 2.3 * y)
    border = smoothstep(-0.06, 0.06, y + 0.16 * np.sin(2.0 * np.arctan2(x, -z)) + 0.05 * waves)[..., None]
    albedo = np.array([0.10, 0.25, 0.33]) * border + np.array([0.42, 0.13, 0.11]) * (1.0 - border)
    albedo = albedo * (1.0 + 0.08 * waves[..., None])
    roughness = 0.24 + 0.05 * np.clip(waves, -1.0, 1.0) + 0.08 * (1.0 - border[..., 0])
    metallic = np.zeros_like(x)
    for letter, azimuth, elevation, colour, rough, metal in (
        ("S", 0.0, 16.0, GOLD, 0.18, 1.0),
        ("E", 60.0, 16.0, (0.78, 0.77, 0.73), 0.12, 0.0),
        ("T", 120.0, 16.0, SILVER, 0.22, 1.0),
        ("P", 180.0, 16.0, (0.035, 0.034, 0.036), 0.10, 0.0),
        ("B", 240.0, 16.0, COPPER, 0.30, 1.0),
        ("R", 300.0, 16.0, (0.72, 0.50, 0.14), 0.35, 0.0),
        ("P", 30.0, -30.0, SILVER, 0.15, 1.0),
        ("S", 102.0, -30.0, (0.035, 0.034, 0.036), 0.14, 0.0),
        ("R", 174.0, -30.0, GOLD, 0.28, 1.0),
        ("B", 246.0, -30.0, (0.78, 0.77, 0.73), 0.20, 0.0),
        ("E", 318.0, -30.0, STEEL, 0.20, 1.0),
        ("T", 45.0, 60.0, COPPER, 0.20, 1.0),
        ("B", 165.0, 60.0, (0.62, 0.58, 0.12), 0.25, 0.0),
        ("S", 285.0, 60.0, STEEL, 0.30, 1.0),
    ):
        cover = _letter(points, letter, azimuth, elevation, 0.40, soft)
        albedo, roughness, metallic = paint(albedo, roughness, metallic, cover, colour, rough, metal)
    return _asset(revolve(theta / np.pi, _BALL_RADIUS * normal, normal, 96), albedo, roughness, metallic, "letters")


def ramp(resolution: int = 512) -> Asset:
    """A vase whose roughness runs from 0.05 at the top to 0.9 at the foot; metal on one side, paint on the other.

    Six sectors of different albedo, three of metal (x < 0) and three of paint, one of them dark.
    """
    points = _VASE.texels(resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    top, bottom = y.max(), y.min()
    roughness = 0.05 + 0.85 * (top - y) / (top - bottom)
    metal = [COPPER, SILVER, GOLD]
    paints = [(0.76, 0.73, 0.66), (0.06, 0.07, 0.09), (0.55, 0.16, 0.10)]
    # seen from above, u = 0 is −Z and grows towards −X: columns 0 to ½ are the half with x < 0
    sectors, metals = np.array(metal + paints), np.array([[1.0]] * len(metal) + [[0.0]] * len(paints))
    u = (np.arange(resolution) + 0.5) / resolution
    position = u * len(sectors)
    which, along = position.astype(int), position % 1.0
    texel = 2.0 * len(sectors) / resolution  # borders are two texels soft: each sector blends into its neighbours
    ahead, behind = np.roll(sectors, -1, axis=0)[which], np.roll(sectors, 1, axis=0)[which]
    to_next = smoothstep(1.0 - texel, 1.0 + texel, along)[:, None]
    from_last = smoothstep(texel, -texel, along)[:, None]
    row = sectors[which] * (1.0 - to_next - from_last) + ahead * to_next + behind * from_last
    metal_row = metals[which] * (1.0 - to_next - from_last) + np.roll(metals, -1, axis=0)[which] * to_next
    metal_row += np.roll(metals, 1, axis=0)[which] * from_last
    albedo = np.broadcast_to(row[None], points.shape)
    metallic = np.broadcast_to(metal_row[None, :, 0], x.shape)
    return _asset(revolve(*_VASE.sampled(61), 88), albedo, roughness, metallic, "ramp")


def _asset(mesh: Mesh, albedo: np.ndarray, roughness: np.ndarray, metallic: np.ndarray, name: str) -> Asset:
    return Asset(mesh, [Material.of(albedo, roughness[..., None], metallic[..., None], name=name)], name=name)


def _disc(points: np.ndarray, profile: Profile, azimuth: float, height: float, radius: float, soft: float):
    """Coverage ``[R, R]`` of a round mark on the surface at an azimuth (degrees from −Z towards +X)."""
    _, curve, _ = profile.sampled(2048)
    at = int(np.abs(curve[:, 1] - height).argmin())
    phi = np.radians(azimuth)
    centre = np.array([curve[at, 0] * np.sin(phi), height, -curve[at, 0] * np.cos(phi)])
    return smoothstep(radius + soft, radius - soft, np.linalg.norm(points - centre, axis=-1))


def _arc(centre: tuple[float, float], radius: tuple[float, float], start: float, stop: float) -> np.ndarray:
    """Polyline ``[13, 2]`` of an ellipse's arc; degrees counter-clockwise from +x."""
    angle = np.radians(start + (stop - start) * np.linspace(0.0, 1.0, 13))
    return np.stack([centre[0] + radius[0] * np.cos(angle), centre[1] + radius[1] * np.sin(angle)], axis=-1)


def _line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points)


_P = [
    _line((-0.48, -0.98), (-0.48, 0.95), (0.08, 0.95)),
    _arc((0.08, 0.46), (0.46, 0.49), 90.0, -90.0),
    _line((0.08, -0.03), (-0.48, -0.03)),
]
# strokes in a box of width 1.1 and height 2 about the origin
_STROKES: dict[str, list[np.ndarray]] = {
    "S": [
        np.concatenate([_arc((0.0, 0.48), (0.52, 0.50), 25.0, 270.0), _arc((0.0, -0.50), (0.55, 0.48), 90.0, -155.0)])
    ],
    "T": [_line((-0.62, 0.95), (0.62, 0.95)), _line((0.0, 0.95), (0.0, -0.98))],
    "E": [_line((0.50, 0.95), (-0.48, 0.95), (-0.48, -0.95), (0.50, -0.95)), _line((-0.48, 0.02), (0.34, 0.02))],
    "P": _P,
    "B": [
        _line((0.05, -0.95), (-0.48, -0.95), (-0.48, 0.95), (0.05, 0.95)),
        _arc((0.05, 0.48), (0.40, 0.47), 90.0, -90.0),
        _line((0.05, 0.01), (-0.48, 0.01)),
        _arc((0.05, -0.47), (0.50, 0.48), 90.0, -90.0),
    ],
    "R": [*_P, _line((-0.02, -0.03), (0.52, -0.98))],
}
_STROKE = 0.19  # half the width of a stroke, in the letters' own units


def _letter(points: np.ndarray, letter: str, azimuth: float, elevation: float, height: float, soft: float):
    """Coverage ``[R, R]`` of a letter that is upright on the ball, seen from outside.

    The letter is in the tangent plane of its middle and is projected along that plane's normal.
    """
    axis = direction(azimuth, elevation)
    right = np.cross([0.0, 1.0, 0.0], axis)
    right /= np.linalg.norm(right)
    top = np.cross(axis, right)
    unit = 0.5 * height
    near = points @ axis > 0.9 * _BALL_RADIUS  # 26° around its middle: the letter ends well before
    plane = np.stack([points[near] @ right, points[near] @ top], axis=-1) / unit
    distance = np.full(len(plane), np.inf)
    for stroke in _STROKES[letter]:
        for a, b in zip(stroke[:-1], stroke[1:], strict=True):
            along = np.clip(((plane - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-12), 0.0, 1.0)
            distance = np.minimum(distance, np.linalg.norm(plane - a - along[:, None] * (b - a), axis=-1))
    cover = np.zeros(points.shape[:2])
    cover[near] = smoothstep(_STROKE + soft / unit, _STROKE - soft / unit, distance)
    return cover
