"""Shapes without materials, by number: turned vessels, super-ellipsoids and pebbles, each inside the unit sphere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stspbr.procedural.revolution import Profile, revolve
from stspbr.scene.mesh import Mesh

COUNT = 12
"""How many there are: five vessels, four super-ellipsoids, three pebbles."""
_EXPONENTS = ((0.35, 0.35), (0.5, 1.0), (1.0, 0.3), (1.5, 1.2))
_VESSELS = 5


def plain_shape(number: int) -> Mesh:
    """The shape ``number``, below ``COUNT``; always the same one, closed, without UVs."""
    rng = np.random.default_rng([20, number])
    if number < _VESSELS:
        return _vessel(rng)
    if number < _VESSELS + len(_EXPONENTS):
        return superellipsoid(*_EXPONENTS[number - _VESSELS], rng.uniform(0.6, 1.0, 3))
    return _pebble(rng)


def superellipsoid(
    along: float, around: float, axes: np.ndarray | tuple[float, float, float], rows: int = 40, columns: int = 64
) -> Mesh:
    """|x|, |y|, |z| to powers of 2 / exponent sum to 1: a box for exponents near 0, an ellipsoid at 1.

    Args:
        along, around: exponents from pole to pole and about +Y; axes: ``[3]`` half axes.
    """

    def power(value: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** exponent

    def point(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        out = power(np.cos(latitude), along)
        across = [out * power(turn(longitude), around) for turn in (np.sin, np.cos)]
        parts = (across[0], power(np.sin(latitude), along), across[1])
        return np.stack(np.broadcast_arrays(*parts), axis=-1) * np.asarray(axes)

    return _fitted(_globe(point, rows, columns))


def _vessel(rng: np.random.Generator) -> Mesh:
    """A turned body of a random profile with six bends."""
    heights = np.linspace(0.95, -0.95, 8)
    radii = np.clip(0.45 + 0.22 * rng.standard_normal(8), 0.12, 0.8)
    ends = (0.6 * radii[0], 0.97), (0.6 * radii[-1], -0.97)
    bends = zip(radii, heights, strict=True)
    control = [(0.0, 0.97), ends[0], *bends, ends[1], (0.0, -0.97)]
    return _fitted(revolve(*Profile(np.array(control)).sampled(61), 64))


def _pebble(rng: np.random.Generator) -> Mesh:
    """A ball with smooth bumps."""
    waves, phases = rng.normal(0.0, 2.4, (5, 3)), rng.uniform(0.0, 2 * np.pi, 5)

    def point(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        flat = np.cos(latitude)
        way = np.stack(
            np.broadcast_arrays(flat * np.sin(longitude), np.sin(latitude), flat * np.cos(longitude)), axis=-1
        )
        return way * (1.0 + 0.09 * np.sin(way @ waves.T + phases).sum(-1, keepdims=True))

    return _fitted(_globe(point, 48, 72))


def _globe(point: Callable[[np.ndarray, np.ndarray], np.ndarray], rows: int, columns: int) -> Mesh:
    """A closed mesh of ``point(latitude, longitude)`` in radians, its poles welded."""
    latitude = np.linspace(0.5 * np.pi, -0.5 * np.pi, rows + 1)[1:-1, None]
    longitude = (2 * np.pi * np.arange(columns) / columns)[None]
    ring = point(latitude, longitude).reshape(-1, 3)
    poles = [point(np.array([[sign * 0.5 * np.pi]]), np.zeros((1, 1))).reshape(3) for sign in (1.0, -1.0)]
    faces = []
    for k in range(columns):
        right = (k + 1) % columns
        faces.append((len(ring), k, right))
        for row in range(rows - 2):
            a, b = row * columns, (row + 1) * columns
            faces += [(a + k, b + k, b + right), (a + k, b + right, a + right)]
        last = (rows - 2) * columns
        faces.append((len(ring) + 1, last + right, last + k))
    return Mesh(np.concatenate([ring, poles]).astype(np.float32), np.array(faces, np.int32))


def _fitted(mesh: Mesh) -> Mesh:
    """``mesh`` without UVs, centred and scaled to a ball of radius 0.95."""
    centre = 0.5 * (mesh.positions.min(0) + mesh.positions.max(0))
    positions = mesh.positions - centre
    scale = 0.95 / np.linalg.norm(positions, axis=1).max()
    return Mesh((positions * scale).astype(np.float32), mesh.faces, normals=mesh.normals)
