"""Surfaces of revolution: a smooth profile, and the mesh with UVs that it generates around +Y."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.scene.mesh import Corners, Mesh


@dataclass(frozen=True)
class Profile:
    """A clamped cubic B-spline from the top of the axis, outwards and down, to the bottom of the axis.

    Attributes:
        control: ``[N, 2]`` control points (radius, height); a point given twice makes a tighter bend.
        scale: factor of the curve.
    """

    control: np.ndarray
    scale: float = 1.0

    @property
    def length(self) -> float:
        """Arc length of the whole curve."""
        _, points, _ = self.dense()
        return float(np.linalg.norm(np.diff(points, axis=0), axis=-1).sum())

    def texels(self, resolution: int) -> np.ndarray:
        """Points ``[R, R, 3]`` of the surface of revolution at the texel centres of a square map.

        Column u runs around from −Z, row v along the profile, as in the mesh of ``revolve``.
        """
        parameter, profile, _ = self.sampled(2048)
        centres = (np.arange(resolution) + 0.5) / resolution
        rows = np.stack([np.interp(centres, parameter, profile[:, k]) for k in range(2)], axis=-1)
        return turned(rows, resolution)

    def sampled(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arc-length parameter ``[count]`` in [0, 1], points ``[count, 2]`` and outward normals ``[count, 2]``.

        Points are denser in bends, so that few rows suffice for them.
        """
        fine, points, tangents = self.dense()
        turn = np.abs(np.diff(np.unwrap(np.arctan2(tangents[:, 1], tangents[:, 0]))))
        density = np.concatenate([[0.0], np.cumsum(turn / turn.sum() * 0.55 + np.diff(fine) * 0.45)])
        parameter = np.interp(np.linspace(0.0, 1.0, count), density, fine)
        point = np.stack([np.interp(parameter, fine, points[:, k]) for k in range(2)], axis=-1)
        tangent = np.stack([np.interp(parameter, fine, tangents[:, k]) for k in range(2)], axis=-1)
        tangent[[0, -1]] = (1.0, 0.0), (-1.0, 0.0)  # horizontal at the poles
        tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
        return parameter, point, np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1)

    def dense(self, steps: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The B-spline itself: arc length in [0, 1], points (radius, height) and unit tangents, finely sampled."""
        first, last = 2.0 * self.control[0] - self.control[1], 2.0 * self.control[-1] - self.control[-2]
        control = np.concatenate([first[None], self.control, last[None]])  # phantom points: clamped ends
        t = np.arange(steps)[:, None] / steps
        blend = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1) / 6.0
        pieces = [(blend[:, 0] @ control[i : i + 4]) for i in range(len(control) - 3)]
        points = np.concatenate([*pieces, self.control[-1:]]) * self.scale
        points[[0, -1], 0] = 0.0
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
        tangents = np.gradient(points, length, axis=0)
        return length / length[-1], points, tangents / np.linalg.norm(tangents, axis=-1, keepdims=True)


def turned(rows: np.ndarray, columns: int) -> np.ndarray:
    """Points ``[R, C, 3]``: each row's (radius, height) at the centres of ``columns`` columns around +Y from −Z."""
    phi = 2.0 * np.pi * ((np.arange(columns) + 0.5) / columns - 0.5)[None, :]
    radius, height = rows[:, :1], rows[:, 1:]
    return np.stack(np.broadcast_arrays(radius * np.sin(phi), height, radius * np.cos(phi)), axis=-1)


def revolve(parameter: np.ndarray, profile: np.ndarray, normal: np.ndarray, around: int) -> Mesh:
    """Turn a profile about +Y into a mesh; attributes are split at the seam only.

    Args:
        parameter: ``[R]`` v of each row; profile: ``[R, 2]`` (radius, height); normal: ``[R, 2]`` outward. The first
            and the last row are poles.
        around: columns.
    """
    rows = len(parameter)
    phi = 2.0 * np.pi * (np.arange(around) / around - 0.5)
    ring = np.stack([np.sin(phi), np.zeros(around), np.cos(phi)], axis=-1)
    up = np.array([0.0, 1.0, 0.0])
    inner = slice(1, rows - 1)
    points = profile[inner, 0][:, None, None] * ring + profile[inner, 1][:, None, None] * up
    normals = normal[inner, 0][:, None, None] * ring + normal[inner, 1][:, None, None] * up
    positions = np.concatenate([points.reshape(-1, 3), [[0.0, profile[0, 1], 0.0], [0.0, profile[-1, 1], 0.0]]])
    normals = np.concatenate([normals.reshape(-1, 3), [up, -up]])

    # uvs: (around + 1) columns for the inner rows, then one corner per column for either pole
    u = np.arange(around + 1) / around
    inner_uv = np.stack(np.broadcast_arrays(u[None, :], parameter[inner][:, None]), axis=-1).reshape(-1, 2)
    middle = (np.arange(around) + 0.5) / around
    uvs = np.concatenate([inner_uv, np.stack([middle, 0 * middle], -1), np.stack([middle, 0 * middle + 1], -1)])
    turn = 2.0 * np.pi * (uvs[:, 0] - 0.5)
    tangents = np.stack([np.cos(turn), 0 * turn, -np.sin(turn), 1 + 0 * turn], axis=-1)

    corners, uv_corners = [], []
    last, first_uv, pole_uv = rows - 3, around + 1, (rows - 2) * (around + 1)
    for j in range(around):
        k = (j + 1) % around
        corners.append((len(positions) - 2, j, k))
        uv_corners.append((pole_uv + j, j, j + 1))
        for i in range(last):
            a, b, c, d = i * around + j, (i + 1) * around + j, (i + 1) * around + k, i * around + k
            ua, ub = i * first_uv + j, (i + 1) * first_uv + j
            corners += [(a, b, c), (a, c, d)]
            uv_corners += [(ua, ub, ub + 1), (ua, ub + 1, ua + 1)]
        corners.append((len(positions) - 1, last * around + k, last * around + j))
        uv_corners.append((pole_uv + around + j, last * first_uv + j + 1, last * first_uv + j))
    faces, uv_faces = np.array(corners, dtype=np.int32), np.array(uv_corners, dtype=np.int32)
    f32 = np.float32
    return Mesh(
        positions.astype(f32),
        faces,
        Corners(uvs.astype(f32), uv_faces),
        Corners(normals.astype(f32), faces),
        Corners(tangents.astype(f32), uv_faces),
    )
