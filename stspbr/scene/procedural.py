"""A small object and a light made in code, with exactly known maps: what the demo and the tests capture.

The object is a lidded jar: light glazed ceramic with black glossy spots, polished brass trim and an
unglazed foot. Black gloss beside metal is the case that a jointly optimised material network gets wrong.
"""

from __future__ import annotations

import numpy as np

from stspbr.scene.asset import Asset, Material, Mesh
from stspbr.scene.light import EnvironmentLight, latlong_to_direction

# (radius, height) control points of the profile, from the knob's top on the axis down to the foot's
# middle on the axis: a clamped cubic B-spline, so that a point given twice makes a tighter bend.
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

CREAM, TEAL = (0.74, 0.66, 0.52), (0.40, 0.57, 0.54)
BLACK, BRASS, CLAY = (0.030, 0.029, 0.031), (0.89, 0.70, 0.36), (0.42, 0.23, 0.15)


def demo_asset(resolution: int = 512, around: int = 80, along: int = 56) -> Asset:
    """The jar: a closed surface of revolution about +Y, centred at the origin, inside the unit sphere.

    One UV chart: u runs around (seam at −Z), v along the profile from the knob (0) to the foot (1); at the
    two poles every triangle has its own corner in the middle of its column. Positions are welded.

    Args:
        resolution: side of the square maps, a power of two as glTF likes it.
        around, along: columns and rows of the mesh; ``2·around·(along − 1)`` faces.

    Returns:
        An ``Asset`` with one material: albedo linear ``[R, R, 3]``, roughness and metallic ``[R, R, 1]``.
    """
    parameter, profile, normal = _sampled_profile(along + 1)
    mesh = _revolve(parameter, profile, normal, around)
    return Asset(mesh, [demo_material(resolution)], name="jar")


def demo_material(resolution: int = 512) -> Material:
    """The jar's maps, evaluated at texel centres; borders of regions are about two texels soft."""
    parameter, profile, _ = _sampled_profile(2048)
    centres = (np.arange(resolution) + 0.5) / resolution
    radius = np.interp(centres, parameter, profile[:, 0])[:, None]
    height = np.interp(centres, parameter, profile[:, 1])[:, None] / _SCALE
    phi = 2.0 * np.pi * (centres[None, :] - 0.5)
    x, z = radius * np.sin(phi), radius * np.cos(phi)
    y = np.broadcast_to(height * _SCALE, x.shape)
    soft = 1.2 * _profile_length() / resolution  # two texels are soft: one to each side

    # gentle variation, periodic in u because it is a function of the point in space
    waves = np.sin(5.0 * x + 2.0 * y + 0.4) * np.sin(4.3 * z - 3.1 * y) + 0.5 * np.sin(9.0 * x - 7.0 * z + 4.0 * y)
    pool = _smoothstep(0.10, -0.72, y + 0.06 * waves)[..., None]  # the glaze runs down and gathers below
    albedo = np.array(CREAM) * (1.0 - pool) + np.array(TEAL) * pool
    albedo = albedo * (1.0 + 0.05 * waves[..., None])
    roughness = 0.20 + 0.033 * np.clip(waves, -1.5, 1.5)
    metallic = np.zeros_like(roughness)

    albedo, roughness, metallic = _paint(albedo, roughness, metallic, _spots(x, y, z, soft), BLACK, 0.10, 0.0)
    foot = _below(height, _FOOT_ABOVE, soft)
    clay = np.array(CLAY) * (1.0 + 0.06 * waves[..., None])
    albedo, roughness, metallic = _paint(albedo, roughness, metallic, foot, clay, 0.70, 0.0)
    trim = _below(height, _TRIM_ABOVE, soft) * (1.0 - _below(height, _TRIM_BELOW, soft))
    brass = np.maximum(trim, 1.0 - _below(height, _KNOB_BELOW, soft))
    albedo, roughness, metallic = _paint(albedo, roughness, metallic, brass, BRASS, 0.25, 1.0)
    return Material(
        np.ascontiguousarray(albedo, dtype=np.float32),
        np.ascontiguousarray(roughness[..., None], dtype=np.float32),
        np.ascontiguousarray(metallic[..., None], dtype=np.float32),
        name="glazed_jar",
    )


def demo_light(height: int = 256) -> EnvironmentLight:
    """A photo studio in code, ``[height, 2·height, 3]``: soft room, three softboxes and one small strong lamp.

    Nothing in it is symmetric: a light that is mirrored, turned or upside down shows at once.
    """
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height)
    u, v = np.meshgrid(columns, rows)
    d = latlong_to_direction(np.stack([u, v], axis=-1))
    up = d[..., 1:2]
    ceiling, wall, floor = np.array([0.50, 0.54, 0.60]), np.array([0.26, 0.25, 0.24]), np.array([0.13, 0.10, 0.08])
    room = wall + (ceiling - wall) * _smoothstep(0.0, 0.9, up) + (floor - wall) * _smoothstep(0.05, -0.35, up)
    room = room * (1.0 + 0.30 * d[..., 0:1] - 0.15 * d[..., 2:3])  # one side of the room is brighter
    # (azimuth from −Z towards +X, elevation, half width, half height) in degrees, radiance
    boxes = [
        ((128.0, 38.0, 24.0, 15.0), (9.5, 8.6, 7.2)),  # key: large, warm
        ((-118.0, 14.0, 9.0, 30.0), (3.6, 4.6, 6.2)),  # strip: tall, cool
        ((20.0, 62.0, 26.0, 9.0), (4.8, 4.8, 4.6)),  # above and behind
    ]
    radiance = room
    for (azimuth, elevation, half_width, half_height), colour in boxes:
        radiance = radiance + _softbox(d, azimuth, elevation, half_width, half_height) * np.array(colour)
    lamp = _direction(-35.0, 33.0)
    angle = np.degrees(np.arccos(np.clip(d @ lamp, -1.0, 1.0)))[..., None]
    radiance = radiance + _smoothstep(4.2, 2.6, angle) * np.array([110.0, 84.0, 52.0])
    # dimmed so that cream glaze under the key light stays below 1: little is lost in 8-bit images
    return EnvironmentLight(np.ascontiguousarray(0.7 * radiance, dtype=np.float32))


def _sampled_profile(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arc-length parameter ``[count]`` in [0, 1], points ``[count, 2]`` and outward normals ``[count, 2]``.

    Points are dense where the profile bends, so that few rows draw the knob and the trim well.
    """
    fine, points, tangents = _dense_profile()
    turn = np.abs(np.diff(np.unwrap(np.arctan2(tangents[:, 1], tangents[:, 0]))))
    density = np.concatenate([[0.0], np.cumsum(turn / turn.sum() * 0.55 + np.diff(fine) * 0.45)])
    parameter = np.interp(np.linspace(0.0, 1.0, count), density, fine)
    point = np.stack([np.interp(parameter, fine, points[:, k]) for k in range(2)], axis=-1)
    tangent = np.stack([np.interp(parameter, fine, tangents[:, k]) for k in range(2)], axis=-1)
    tangent[[0, -1]] = (1.0, 0.0), (-1.0, 0.0)  # horizontal at the poles
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    return parameter, point, np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1)


def _dense_profile(steps: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The B-spline itself: arc length in [0, 1], points (radius, height) and unit tangents, finely sampled."""
    ends = 2.0 * _PROFILE[0] - _PROFILE[1], 2.0 * _PROFILE[-1] - _PROFILE[-2]  # phantom points: clamped ends
    control = np.concatenate([ends[0][None], _PROFILE, ends[1][None]])
    t = np.arange(steps)[:, None] / steps
    blend = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1) / 6.0
    pieces = [(blend[:, 0] @ control[i : i + 4]) for i in range(len(control) - 3)]
    points = np.concatenate([*pieces, _PROFILE[-1:]]) * _SCALE
    points[[0, -1], 0] = 0.0
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
    tangents = np.gradient(points, length, axis=0)
    return length / length[-1], points, tangents / np.linalg.norm(tangents, axis=-1, keepdims=True)


def _profile_length() -> float:
    _, points, _ = _dense_profile()
    return float(np.linalg.norm(np.diff(points, axis=0), axis=-1).sum())


def _revolve(parameter: np.ndarray, profile: np.ndarray, normal: np.ndarray, around: int) -> Mesh:
    """Turn a profile about +Y; the first and the last point are poles. Attributes are split at the seam only."""
    rows = len(parameter)
    phi = 2.0 * np.pi * (np.arange(around) / around - 0.5)
    ring = np.stack([np.sin(phi), np.zeros(around), np.cos(phi)], axis=-1)
    up = np.array([0.0, 1.0, 0.0])
    inner = slice(1, rows - 1)
    points = profile[inner, 0][:, None, None] * ring + profile[inner, 1][:, None, None] * up
    normals = normal[inner, 0][:, None, None] * ring + normal[inner, 1][:, None, None] * up
    positions = np.concatenate([points.reshape(-1, 3), [[0.0, profile[0, 1], 0.0], [0.0, profile[-1, 1], 0.0]]])
    normals = np.concatenate([normals.reshape(-1, 3), [up, -up]])

    # uvs: (around + 1) columns for the inner rows, then one corner a column for either pole
    u = np.arange(around + 1) / around
    inner_uv = np.stack(np.broadcast_arrays(u[None, :], parameter[inner][:, None]), axis=-1).reshape(-1, 2)
    middle = (np.arange(around) + 0.5) / around
    uvs = np.concatenate([inner_uv, np.stack([middle, 0 * middle], -1), np.stack([middle, 0 * middle + 1], -1)])
    turn = 2.0 * np.pi * (uvs[:, 0] - 0.5)
    tangents = np.stack([np.cos(turn), 0 * turn, -np.sin(turn), 1 + 0 * turn], axis=-1)

    faces, uv_faces = [], []
    last, first_uv, pole_uv = rows - 3, around + 1, (rows - 2) * (around + 1)
    for j in range(around):
        k = (j + 1) % around
        faces.append((len(positions) - 2, j, k))
        uv_faces.append((pole_uv + j, j, j + 1))
        for i in range(last):
            a, b, c, d = i * around + j, (i + 1) * around + j, (i + 1) * around + k, i * around + k
            ua, ub = i * first_uv + j, (i + 1) * first_uv + j
            faces += [(a, b, c), (a, c, d)]
            uv_faces += [(ua, ub, ub + 1), (ua, ub + 1, ua + 1)]
        faces.append((len(positions) - 1, last * around + k, last * around + j))
        uv_faces.append((pole_uv + around + j, last * first_uv + j + 1, last * first_uv + j))
    faces, uv_faces = np.array(faces, dtype=np.int32), np.array(uv_faces, dtype=np.int32)
    f32 = np.float32
    return Mesh(
        positions.astype(f32), faces, uvs.astype(f32), uv_faces,
        normals.astype(f32), faces.copy(), tangents.astype(f32), uv_faces.copy(),
    )  # fmt: skip


def _spots(x: np.ndarray, y: np.ndarray, z: np.ndarray, soft: float) -> np.ndarray:
    """Coverage ``[H, W]`` of the black spots: round on the surface, a little irregular, on belly and lid."""
    rng = np.random.default_rng(7)
    _, points, _ = _dense_profile()
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
            cover = np.maximum(cover, _smoothstep(edge + soft, edge - soft, distance))
    return cover


def _paint(albedo, roughness, metallic, cover, colour, rough, metal):
    """Lay a coat over the maps: ``cover`` ``[H, W]`` or ``[H, 1]`` in [0, 1]."""
    cover = np.broadcast_to(cover, roughness.shape)
    albedo = albedo * (1.0 - cover[..., None]) + np.asarray(colour) * cover[..., None]
    return albedo, roughness * (1.0 - cover) + rough * cover, metallic * (1.0 - cover) + metal * cover


def _below(height: np.ndarray, border: float, soft: float) -> np.ndarray:
    return _smoothstep(border + soft, border - soft, height)


def _smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at ``low``, 1 at ``high`` (which may be the smaller one), smooth in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit direction of an azimuth (degrees from −Z towards +X) and an elevation (degrees above the horizon)."""
    return latlong_to_direction(np.array([azimuth / 360.0 + 0.5, 0.5 - elevation / 180.0]))


def _softbox(d, azimuth, elevation, half_width, half_height):
    """Coverage ``[H, W, 1]`` of a rectangle of light that faces the origin, brighter in its middle."""
    axis = _direction(azimuth, elevation)
    right = np.cross(axis, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    top = np.cross(right, axis)
    depth = d @ axis
    ahead = np.maximum(depth, 1e-3)
    a = np.abs(d @ right) / ahead / np.tan(np.radians(half_width))
    b = np.abs(d @ top) / ahead / np.tan(np.radians(half_height))
    cover = _smoothstep(1.06, 0.94, a) * _smoothstep(1.06, 0.94, b) * (depth > 0)
    return (cover * (1.0 - 0.25 * np.clip(np.maximum(a, b), 0.0, 1.0) ** 2))[..., None]
