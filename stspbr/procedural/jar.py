"""A small object and a light made in code, with exactly known maps, for the demo and the tests.

The object is a lidded jar: light glazed ceramic with black glossy spots, polished brass trim and an
unglazed foot. Black gloss beside metal is the case that a jointly optimised material network gets wrong.
"""

from __future__ import annotations

import numpy as np

from stspbr.procedural.painting import add_softboxes, dimmed, paint, round_lamp, sky_directions, smoothstep
from stspbr.procedural.revolution import Profile, revolve
from stspbr.scene.asset import Asset
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.material import Material

# (radius, height) control points, from the knob's top on the axis down to the foot's middle on the axis
_PROFILE = np.array(
    [
        (0.00, 1.010), (0.09, 1.010), (0.19, 0.960), (0.205, 0.84), (0.14, 0.76), (0.10, 0.71),  # knob
        (0.12, 0.665), (0.24, 0.65), (0.37, 0.59), (0.46, 0.50), (0.495, 0.465),  # lid
        (0.545, 0.455), (0.555, 0.40), (0.545, 0.335), (0.495, 0.325),  # trim around the neck
        (0.50, 0.27), (0.62, 0.17), (0.745, 0.00), (0.76, -0.21), (0.70, -0.43), (0.56, -0.64),  # belly
        (0.43, -0.77), (0.415, -0.80), (0.44, -0.85), (0.475, -0.93), (0.475, -0.99), (0.45, -1.01),  # foot
        (0.40, -1.01), (0.20, -0.985), (0.00, -0.985),
    ]
)  # fmt: skip
_KNOB_BELOW, _TRIM_ABOVE, _TRIM_BELOW, _FOOT_ABOVE = 0.69, 0.475, 0.318, -0.795  # heights of the borders
_SCALE = 0.88
_JAR = Profile(_PROFILE, _SCALE)

CREAM, TEAL = (0.74, 0.66, 0.52), (0.40, 0.57, 0.54)
BLACK, BRASS, CLAY = (0.030, 0.029, 0.031), (0.89, 0.70, 0.36), (0.42, 0.23, 0.15)


def demo_asset(resolution: int = 512, around: int = 80, along: int = 56) -> Asset:
    """The jar: a closed surface of revolution about +Y, centred at the origin, inside the unit sphere.

    One UV chart: u runs around (seam at −Z), v along the profile from the knob (0) to the foot (1); at the
    two poles every triangle has its own corner in the middle of its column. Positions are welded.

    Args:
        resolution: side of the square maps, preferably a power of two.
        around, along: columns and rows of the mesh; ``2·around·(along − 1)`` faces.

    Returns:
        An ``Asset`` with one material: albedo linear ``[R, R, 3]``, roughness and metallic ``[R, R, 1]``.
    """
    parameter, profile, normal = _JAR.sampled(along + 1)
    mesh = revolve(parameter, profile, normal, around)
    return Asset(mesh, [demo_material(resolution)], name="jar")


def demo_material(resolution: int = 512) -> Material:
    """The jar's maps at texel centres; borders of regions are about two texels soft."""
    parameter, profile, _ = _JAR.sampled(2048)
    centres = (np.arange(resolution) + 0.5) / resolution
    radius = np.interp(centres, parameter, profile[:, 0])[:, None]
    height = np.interp(centres, parameter, profile[:, 1])[:, None] / _SCALE
    phi = 2.0 * np.pi * (centres[None, :] - 0.5)
    x, z = radius * np.sin(phi), radius * np.cos(phi)
    y = np.broadcast_to(height * _SCALE, x.shape)
    soft = 1.2 * _JAR.length / resolution  # two texels are soft: one to each side

    # gentle variation, periodic in u because it is a function of the point in space
    waves = np.sin(5.0 * x + 2.0 * y + 0.4) * np.sin(4.3 * z - 3.1 * y) + 0.5 * np.sin(9.0 * x - 7.0 * z + 4.0 * y)
    pool = smoothstep(0.10, -0.72, y + 0.06 * waves)[..., None]  # the glaze runs down and gathers below
    albedo = np.array(CREAM) * (1.0 - pool) + np.array(TEAL) * pool
    albedo = albedo * (1.0 + 0.05 * waves[..., None])
    roughness = 0.20 + 0.033 * np.clip(waves, -1.5, 1.5)
    metallic = np.zeros_like(roughness)

    albedo, roughness, metallic = paint(albedo, roughness, metallic, _spots(x, y, z, soft), BLACK, 0.10, 0.0)
    foot = _below(height, _FOOT_ABOVE, soft)
    clay = np.array(CLAY) * (1.0 + 0.06 * waves[..., None])
    albedo, roughness, metallic = paint(albedo, roughness, metallic, foot, clay, 0.70, 0.0)
    trim = _below(height, _TRIM_ABOVE, soft) * (1.0 - _below(height, _TRIM_BELOW, soft))
    brass = np.maximum(trim, 1.0 - _below(height, _KNOB_BELOW, soft))
    albedo, roughness, metallic = paint(albedo, roughness, metallic, brass, BRASS, 0.25, 1.0)
    return Material.of(albedo, roughness[..., None], metallic[..., None], name="glazed_jar")


def demo_light(height: int = 256) -> EnvironmentLight:
    """A photo studio, ``[height, 2·height, 3]``: soft room, three softboxes and one small strong lamp.

    Nothing in it is symmetric: a light that is mirrored, turned or upside down shows at once.
    """
    d = sky_directions(height)
    up = d[..., 1:2]
    ceiling, wall, floor = np.array([0.50, 0.54, 0.60]), np.array([0.26, 0.25, 0.24]), np.array([0.13, 0.10, 0.08])
    room = wall + (ceiling - wall) * smoothstep(0.0, 0.9, up) + (floor - wall) * smoothstep(0.05, -0.35, up)
    room = room * (1.0 + 0.30 * d[..., 0:1] - 0.15 * d[..., 2:3])  # one side of the room is brighter
    boxes = [
        ((128.0, 38.0, 24.0, 15.0), (9.5, 8.6, 7.2)),  # key: large, warm
        ((-118.0, 14.0, 9.0, 30.0), (3.6, 4.6, 6.2)),  # strip: tall, cool
        ((20.0, 62.0, 26.0, 9.0), (4.8, 4.8, 4.6)),  # above and behind
    ]
    lamp = round_lamp(d, -35.0, 33.0, 2.6, 4.2) * np.array([110.0, 84.0, 52.0])
    # dimmed so that cream glaze under the key light stays below 1: little is lost in 8-bit images
    return dimmed(add_softboxes(room, d, boxes) + lamp, 0.7)


def _spots(x: np.ndarray, y: np.ndarray, z: np.ndarray, soft: float) -> np.ndarray:
    """Coverage ``[H, W]`` of the black spots: round on the surface, a little irregular, on belly and lid."""
    rng = np.random.default_rng(7)
    _, points, _ = _JAR.dense()
    rows = [(0.10, 7, 0.12), (-0.17, 6, 0.18), (-0.45, 6, 0.13), (0.545, 5, 0.08)]  # height, count, radius
    cover = np.zeros_like(x)
    for row, (height, count, size) in enumerate(rows):
        for k in range(count):
            h = (height + rng.uniform(-0.06, 0.06) * (1.0 if row < 3 else 0.2)) * _SCALE
            r = float(np.interp(-h, -points[:, 1], points[:, 0]))
            phi = 2.0 * np.pi * (k + 0.5 * row + rng.uniform(-0.22, 0.22)) / count
            size_k, phase = size * rng.uniform(0.65, 1.15) * _SCALE, rng.uniform(0.0, 2.0 * np.pi)
            dx, dy, dz = x - r * np.sin(phi), y - h, z - r * np.cos(phi)
            distance = np.sqrt(dx**2 + dy**2 + dz**2)
            angle = np.arctan2(dy, dx * np.cos(phi) - dz * np.sin(phi))
            edge = size_k * (1.0 + 0.09 * np.sin(3.0 * angle + phase) + 0.05 * np.sin(5.0 * angle - phase))
            cover = np.maximum(cover, smoothstep(edge + soft, edge - soft, distance))
    return cover


def _below(height: np.ndarray, border: float, soft: float) -> np.ndarray:
    return smoothstep(border + soft, border - soft, height)
