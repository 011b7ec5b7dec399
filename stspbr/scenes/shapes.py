"""The shapes that scenes are built of, all of our own making, as triangles in the world."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError, did_you_mean
from stspbr.scene.attributes import mesh_normals


@dataclass(frozen=True)
class Shape:
    """Triangles with one index: ``positions``, ``normals`` ``[V, 3]``, ``uvs`` ``[V, 2]``, ``faces`` ``[F, 3]``."""

    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray

    def placed(self, transform: np.ndarray) -> Shape:
        """In the world; ``transform`` ``[4, 4]`` acts on columns."""
        linear = transform[:3, :3]
        normals = self.normals @ np.linalg.inv(linear)
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        positions = self.positions @ linear.T + transform[:3, 3]
        faces = self.faces[:, ::-1] if np.linalg.det(linear) < 0 else self.faces
        return Shape(positions, normals / np.maximum(lengths, 1e-12), self.uvs, faces)


def joined(parts: list[Shape]) -> Shape:
    """Several shapes as one."""
    starts = np.cumsum([0, *(len(part.positions) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=False)]
    positions = np.concatenate([part.positions for part in parts])
    normals = np.concatenate([part.normals for part in parts])
    return Shape(positions, normals, np.concatenate([part.uvs for part in parts]), np.concatenate(faces))


@functools.cache
def shape(name: str) -> Shape:
    """One of ``SHAPES`` by its name, or an OBJ file by its path.

    Raises:
        StspbrError: neither exists.
    """
    if name in SHAPES:
        return SHAPES[name]()
    path = Path(name)
    if path.suffix.lower() != ".obj" or not path.is_file():
        raise StspbrError(
            f"shape {name!r}: no such shape or OBJ file; there are {', '.join(SHAPES)}{did_you_mean(name, SHAPES)}"
        )
    from stspbr.formats.obj import read_obj

    mesh = read_obj(path).mesh
    normals, flat = mesh_normals(mesh), mesh.faces.reshape(-1)
    uvs = np.zeros((len(flat), 2)) if mesh.uvs is None else mesh.uvs.values[mesh.uvs.index.reshape(-1)]
    return Shape(mesh.positions[flat], normals.values[normals.index.reshape(-1)], uvs, _triangles(len(flat)))


def grid() -> Shape:
    """The square of ±½ in x and z that faces +y."""
    corners = np.array([[-0.5, 0, -0.5], [-0.5, 0, 0.5], [0.5, 0, 0.5], [0.5, 0, -0.5]])
    return Shape(corners, np.tile([0.0, 1.0, 0.0], (4, 1)), corners[:, [0, 2]] + 0.5, np.array([[0, 1, 2], [0, 2, 3]]))


def cube() -> Shape:
    """The box of ±½."""
    sides = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            up = np.eye(3)[axis] * sign
            right = np.eye(3)[(axis + 1) % 3]
            frame = np.eye(4)
            frame[:3, :3] = np.stack([right, up, np.cross(right, up)], axis=1)
            frame[:3, 3] = 0.5 * up
            sides.append(grid().placed(frame))
    return joined(sides)


def cylinder(around: int = 48) -> Shape:
    """Of radius ½ between y = ±½."""
    outline = np.array([[0.0, 0.5], [0.5, 0.5], [0.5, -0.5], [0.0, -0.5]])
    return _revolved(outline, around, sharp=True)


def dodecahedron() -> Shape:
    """With corners at distance ½·√3·0.62 from its centre, so that it is about as large as the other shapes."""
    golden = (1.0 + np.sqrt(5.0)) / 2.0
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    rest = [np.roll([0.0, a / golden, b * golden], k) for k in range(3) for a in (-1, 1) for b in (-1, 1)]
    corners = np.concatenate([corners, rest]) * 0.31
    axes = [np.roll([0.0, a, b * golden], k) for k in range(3) for a in (-1, 1) for b in (-1, 1)]
    # the faces look along the corners of an icosahedron
    axes = [axis if _count(corners, axis) == 5 else axis[::-1] for axis in axes]
    positions, normals = [], []
    for axis in axes:
        normal = axis / np.linalg.norm(axis)
        height = corners @ normal
        ring = corners[height > height.max() - 1e-6]
        middle = ring.mean(axis=0)
        first = (ring[0] - middle) / np.linalg.norm(ring[0] - middle)
        angle = np.arctan2((ring - middle) @ np.cross(normal, first), (ring - middle) @ first)
        ring = ring[np.argsort(angle)]
        for k in range(1, len(ring) - 1):
            positions += [ring[0], ring[k], ring[k + 1]]
            normals += [normal] * 3
    points = np.array(positions)
    return Shape(points, np.array(normals), points[:, :2] + 0.5, _triangles(len(points)))


def teapot(around: int = 40) -> Shape:
    """A teapot of our own: a turned body with lid and knob, a bent spout and a handle; about 1 wide, base at −½."""
    t = np.linspace(0.0, 1.0, 22)
    body = np.stack([0.36 * np.sin(np.pi * (0.16 + 0.68 * t)) ** 0.8 + 0.04, 0.18 - 0.66 * t], axis=1)
    lid = [[0.0, 0.40], [0.035, 0.39], [0.05, 0.35], [0.03, 0.31], [0.06, 0.28], [0.16, 0.25], [0.24, 0.20]]
    outline = np.concatenate([lid, body, [[0.0, body[-1, 1]]]])
    spout = np.array([[0.30, -0.20, 0], [0.44, -0.14, 0], [0.50, 0.02, 0], [0.60, 0.12, 0]])
    handle = np.array([[-0.34, 0.10, 0], [-0.52, 0.14, 0], [-0.56, -0.06, 0], [-0.36, -0.26, 0]])
    return joined([
        _revolved(outline, around), _tube(spout, np.linspace(0.10, 0.045, 12)), _tube(handle, np.full(16, 0.035)),
    ])  # fmt: skip


def ball(around: int = 48) -> Shape:
    """A sphere of radius 1 in triangles, for places that need other than equal scales."""
    t = np.linspace(0.0, np.pi, around // 2 + 1)
    return _revolved(np.stack([np.sin(t), np.cos(t)], axis=1), around)


SHAPES: Mapping[str, Callable[[], Shape]] = {
    "grid": grid,
    "cube": cube,
    "cylinder": cylinder,
    "dodecahedron": dodecahedron,
    "teapot": teapot,
    "ball": ball,
}
"""Our own shapes by name; furniture adds its own (``scenes.furniture``)."""


def _revolved(outline: np.ndarray, around: int, sharp: bool = False) -> Shape:
    """An outline ``[N, 2]`` (radius, height), from the top outwards and down, turned about +y."""
    if sharp:
        return joined([_revolved(outline[k : k + 2], around) for k in range(len(outline) - 1)])
    angle = np.linspace(0.0, 2.0 * np.pi, around + 1)
    slope = np.gradient(outline, axis=0)
    across = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    sine, cosine = np.sin(angle), np.cos(angle)

    def turned(values: np.ndarray) -> np.ndarray:
        height = np.repeat(values[:, 1:2], around + 1, axis=1)
        return np.stack([values[:, :1] * sine, height, values[:, :1] * cosine], axis=-1).reshape(-1, 3)

    v = np.linspace(0.0, 1.0, len(outline))
    uvs = np.stack(np.meshgrid(angle / (2.0 * np.pi), v), axis=-1).reshape(-1, 2)
    return Shape(turned(outline), turned(across), uvs, _net(len(outline), around + 1))


def _tube(points: np.ndarray, radii: np.ndarray, around: int = 12) -> Shape:
    """A round tube along a cubic Bézier curve in the plane z = 0."""
    t = np.linspace(0.0, 1.0, len(radii))[:, None]
    weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
    path = sum(weight * point for weight, point in zip(weights, points, strict=True))
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, [0.0, 0.0, 1.0])
    angle = np.linspace(0.0, 2.0 * np.pi, around + 1)
    out = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * np.array([0.0, 0.0, 1.0])
    positions = path[:, None] + radii[:, None, None] * out
    uvs = np.stack(np.meshgrid(angle / (2.0 * np.pi), t.ravel()), axis=-1).reshape(-1, 2)
    return Shape(positions.reshape(-1, 3), out.reshape(-1, 3), uvs, _net(len(radii), around + 1))


def _net(rows: int, columns: int) -> np.ndarray:
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    return np.concatenate([corner + [0, columns, 1], corner + [1, columns, columns + 1]])


def _triangles(count: int) -> np.ndarray:
    return np.arange(count).reshape(-1, 3)


def _count(corners: np.ndarray, axis: np.ndarray) -> int:
    height = corners @ axis
    return int((height > height.max() - 1e-6).sum())
