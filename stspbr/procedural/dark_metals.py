"""Dark metals beside dark paint, made in code: an iron-bound keg, a ball of gunmetal patches, a steel bottle.

What tells them apart is only how bright their highlights are: a metal of albedo 0.06 mirrors half as much again as any
paint of F0 = 0.04. Colour, roughness and place never reveal the kind.
"""

from __future__ import annotations

import numpy as np

from stspbr.procedural.painting import paint, smoothstep
from stspbr.procedural.revolution import Profile, revolve, turned
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material

ALBEDOS = (0.03, 0.06, 0.10, 0.20)
"""Of the patches of ``gunmetal``, metal and paint alike; nearly grey."""
ROUGHNESSES = (0.15, 0.30, 0.45, 0.60)
_TINT = np.array([1.03, 1.0, 0.98])  # of dark metals, luminance 1
_RADIUS, _POLAR = 0.92, 35.0  # of the ball; degrees of each cap

_SCALE = 0.86
_KEG = Profile(
    np.array(
        [
            (0.000, 0.860), (0.300, 0.860), (0.540, 0.860), (0.560, 0.860), (0.565, 0.930), (0.580, 0.945),  # lid, rim
            (0.615, 0.930), (0.635, 0.800),
            (0.645, 0.770), (0.685, 0.760), (0.700, 0.640), (0.690, 0.600), (0.672, 0.590),  # hoop
            (0.715, 0.350),
            (0.722, 0.310), (0.762, 0.300), (0.772, 0.180), (0.766, 0.140), (0.738, 0.130),  # hoop
            (0.742, 0.000), (0.738, -0.130),
            (0.766, -0.140), (0.772, -0.180), (0.762, -0.300), (0.722, -0.310),  # hoop
            (0.715, -0.350), (0.672, -0.590),
            (0.690, -0.600), (0.700, -0.640), (0.685, -0.760), (0.645, -0.770),  # hoop
            (0.635, -0.800), (0.600, -0.940), (0.560, -0.945), (0.300, -0.940), (0.000, -0.940),
        ]
    ),
    _SCALE,
)  # fmt: skip
_HOOPS = ((0.60, 0.77, 0.06), (0.14, 0.31, 0.10), (-0.31, -0.14, 0.06), (-0.77, -0.60, 0.16))  # heights, albedo
_BOTTLE = Profile(
    np.array(
        [
            (0.000, 0.990), (0.130, 0.990), (0.190, 0.975), (0.205, 0.900), (0.205, 0.780), (0.190, 0.745),  # cap
            (0.180, 0.700), (0.200, 0.620), (0.320, 0.520), (0.420, 0.400), (0.440, 0.250),  # neck, shoulder
            (0.440, 0.000), (0.440, -0.300), (0.440, -0.600), (0.440, -0.860), (0.420, -0.960), (0.340, -0.985),
            (0.150, -0.985), (0.000, -0.985),
        ]
    ),
    0.94,
)  # fmt: skip


def iron_hoop(resolution: int = 512) -> Asset:
    """A keg of rough wood in four hoops of black iron: albedo 0.06, 0.1, 0.06 and 0.16, roughness 0.3 to 0.45.

    Args:
        resolution: side of the square maps.
    """
    points = _KEG.texels(resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    soft = 1.2 * _KEG.length / resolution
    phi = np.arctan2(x, -z)
    stave = np.cos(11.0 * phi)
    grain = 0.5 + 0.5 * np.sin(60.0 * phi + 4.0 * np.sin(2.0 * y + 3.0 * phi)) * np.sin(5.0 * y + 9.0 * np.sin(phi))
    tone = 0.85 + 0.3 * (0.5 + 0.5 * np.sin(11.0 * np.floor((phi + np.pi) * 11.0 / np.pi)))
    wood = np.array([0.34, 0.20, 0.105]) * (tone * (0.82 + 0.18 * grain))[..., None]
    joint = smoothstep(0.12, 0.04, np.abs(stave))[..., None]
    albedo = wood * (1.0 - 0.55 * joint)
    roughness, metallic = 0.62 + 0.12 * grain, np.zeros_like(x)
    cloud = 0.5 + 0.5 * np.sin(5.0 * x + 3.0 * y) * np.sin(6.0 * z - 4.0 * y)
    for low, high, dark in _HOOPS:
        low, high = _SCALE * low, _SCALE * high
        cover = smoothstep(low - soft, low + soft, y) * smoothstep(high + soft, high - soft, y)
        albedo, roughness, metallic = paint(albedo, roughness, metallic, cover, dark * _TINT, 0.30 + 0.15 * cloud, 1.0)
    return _asset(revolve(*_KEG.sampled(81), 88), albedo, roughness, metallic, "iron-hoop")


def gunmetal(resolution: int = 512) -> Asset:
    """A ball of 64 patches: metal and gloss of ``ALBEDOS`` by ``ROUGHNESSES``, each twice; light grey caps.

    Around the ball, metal and paint of one albedo lie side by side; the two rows of one roughness are on either side
    of the equator, turned by 180°.

    Args:
        resolution: side of the square maps.
    """
    theta = np.linspace(0.0, np.pi, 65)
    normal = np.stack([np.sin(theta), np.cos(theta)], axis=-1)
    normal[[0, -1], 0] = 0.0
    centres = np.pi * (np.arange(resolution) + 0.5) / resolution
    points = turned(_RADIUS * np.stack([np.sin(centres), np.cos(centres)], axis=-1), resolution)
    soft = 1.2 * np.pi * _RADIUS / resolution
    x, y, z = np.moveaxis(points, -1, 0)
    albedo = np.full((resolution, resolution, 3), 0.45)
    roughness, metallic = np.full_like(x, 0.5), np.zeros_like(x)
    polar, turn = np.degrees(np.arccos(np.clip(y / _RADIUS, -1.0, 1.0))), np.arctan2(x, -z) / (2.0 * np.pi) % 1.0
    order = (0, 2, 1, 3)  # neighbours differ by more than one step
    rows, columns = 2 * len(ROUGHNESSES), 2 * len(ALBEDOS)
    edge, degrees = soft / (2.0 * np.pi * np.maximum(np.hypot(x, z), 0.1)), np.degrees(soft / _RADIUS)
    low = 180.0 - _POLAR
    for row in range(rows):  # each patch is painted over what lies below it and to its right
        top = _POLAR + row * (low - _POLAR) / rows
        band = smoothstep(top - degrees, top + degrees, polar) * smoothstep(low + degrees, low - degrees, polar)
        along = turn if row < rows // 2 else (turn + 0.5) % 1.0
        rough = ROUGHNESSES[order[row % len(order)]]
        for column in range(columns):
            begin = column / columns if column else -1.0
            cover = band * smoothstep(begin - edge, begin + edge, along)
            colour, metal = ALBEDOS[column // 2] * _TINT, float((column + row) % 2)
            albedo, roughness, metallic = paint(albedo, roughness, metallic, cover, colour, rough, metal)
    return _asset(revolve(theta / np.pi, _RADIUS * normal, normal, 96), albedo, roughness, metallic, "gunmetal")


def painted_steel(resolution: int = 512) -> Asset:
    """A steel bottle: bare (albedo 0.5), blued (0.08) and coated in black, blue and white, with worn stripes.

    The black coat (albedo 0.035) and the blued steel have the same roughness; stripes of bare and blued steel cut
    through the paint.

    Args:
        resolution: side of the square maps.
    """
    points = _BOTTLE.texels(resolution)
    x, y, z = np.moveaxis(points, -1, 0)
    soft = 1.2 * _BOTTLE.length / resolution
    phi, radius = np.arctan2(x, -z), np.hypot(x, z)
    cloud = 0.5 + 0.5 * np.sin(5.0 * x + 2.0 * y) * np.sin(6.0 * z - 3.0 * y)

    def band(low: float, high: float) -> np.ndarray:
        return smoothstep(low - soft, low + soft, y) * smoothstep(high + soft, high - soft, y)

    bare, blued = np.array([0.50, 0.51, 0.53]), np.array([0.074, 0.080, 0.095])
    albedo = bare * (0.95 + 0.05 * cloud[..., None])
    roughness, metallic = 0.22 + 0.12 * cloud, np.ones_like(x)
    albedo, roughness, metallic = paint(albedo, roughness, metallic, band(0.72, 1.1), blued, 0.35, 1.0)
    for high, colour, rough in (
        (0.50, (0.035, 0.034, 0.036), 0.35),
        (0.05, (0.045, 0.075, 0.200), 0.20),
        (-0.40, (0.620, 0.610, 0.580), 0.30),
    ):
        albedo, roughness, metallic = paint(albedo, roughness, metallic, band(-0.80, high), colour, rough, 0.0)
    wide = 0.075 * np.maximum(radius, 0.2) / 0.43
    for turn, tone, rough in ((-2.4, blued, 0.35), (-0.8, bare, 0.28), (0.8, blued, 0.20), (2.4, blued, 0.50)):
        distance = radius * np.abs((phi - turn - 0.6 * y + np.pi) % (2.0 * np.pi) - np.pi)
        stripe = smoothstep(wide + soft, wide - soft, distance) * band(-0.80, 0.50)
        albedo, roughness, metallic = paint(albedo, roughness, metallic, stripe, tone, rough, 1.0)
    return _asset(revolve(*_BOTTLE.sampled(73), 72), albedo, roughness, metallic, "painted-steel")


def _asset(mesh, albedo: np.ndarray, roughness: np.ndarray, metallic: np.ndarray, name: str) -> Asset:  # noqa: ANN001
    return Asset(mesh, [Material.of(albedo, roughness[..., None], metallic[..., None], name=name)], name=name)
