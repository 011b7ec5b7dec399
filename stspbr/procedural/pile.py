"""Piles: many copies of one object on a table before one camera, for captures from duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from stspbr.errors import StspbrError
from stspbr.procedural.printed_paper import printed_paper
from stspbr.scene.asset import Asset
from stspbr.scene.attributes import joined
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

Poses = Literal["upright", "turned", "tumbled"]
_STEPS = (20.0, 40.0)  # degrees from one copy to the next
_MARGIN = 0.04  # of the photo, free on every side
_GAP = 0.02  # of the object's radius between two copies, at least
_TRIES = 400
_TABLE = 14.0  # side in object radii
_HULL_POINTS = 400


@dataclass(frozen=True)
class PileOptions:
    """How a pile is laid and photographed.

    Attributes:
        copies: their number.
        poses: ``upright``: turned about the vertical axis only, anyhow; ``turned``: the same, by 20 to 40 degrees from
            one to the next, as the documents advise, in any order; ``tumbled``: any rotation, laid on the table.
        size: ``(width, height)`` of the photo in pixels.
        elevation, fov: of the camera, in degrees; the field of view is that of the longer side.
        spacing: mean distance of neighbours, in diameters of the object's footprint.
        seed: of poses and places.
    """

    copies: int = 8
    poses: Poses = "upright"
    size: tuple[int, int] = (1536, 1536)
    elevation: float = 40.0
    fov: float = 40.0
    spacing: float = 1.3
    seed: int = 0


@dataclass(frozen=True)
class Pile:
    """A pile before its camera.

    Attributes:
        asset: the object, in its own space.
        poses: ``[N, 4, 4]`` float64 object to world, rigid; the table is at y = 0.
        camera: of the photo.
        others: assets that are no copies, with their poses, in the world: foreign objects.
    """

    asset: Asset
    poses: np.ndarray
    camera: Camera
    others: tuple[tuple[Asset, np.ndarray], ...] = ()

    def scene(self) -> tuple[Asset, np.ndarray]:
        """All objects as one asset in the world, and of each face ``[F]`` its label: 1 … N, then those of others."""
        parts = [(self.asset, pose) for pose in self.poses] + list(self.others)
        meshes, labels = [], []
        materials: list[Material] = []
        for number, (asset, pose) in enumerate(parts, start=1):
            mesh = placed(asset.mesh, pose)
            meshes.append(
                replace(mesh, face_material=(mesh.material_of + len(materials)).astype(np.int32), face_node=None)
            )
            materials += asset.materials
            labels.append(np.full(len(mesh.faces), number, np.int32))
        return Asset(joined(meshes, fill_tangents=True), materials, name="pile"), np.concatenate(labels)


def lay_pile(asset: Asset, options: PileOptions) -> Pile:
    """Copies of ``asset`` side by side without touching each other, and a camera that sees all of them.

    Raises:
        StspbrError: no arrangement was found: give more spacing.
    """
    rng = np.random.default_rng(options.seed)
    points = np.asarray(asset.mesh.positions[np.unique(asset.mesh.faces)], np.float64)
    hull = points[ConvexHull(points).vertices]
    if len(hull) > _HULL_POINTS:
        hull = hull[rng.permutation(len(hull))[:_HULL_POINTS]]
    radius = float(np.linalg.norm(points, axis=1).max())
    across = (
        1.7 * radius if options.poses == "tumbled" else 2.0 * float(np.linalg.norm(points[:, [0, 2]], axis=1).max())
    )
    placed_hulls: list[np.ndarray] = []
    poses = []
    yaws: np.ndarray | None = None
    if options.poses == "turned":
        yaws = rng.permutation(np.radians(rng.uniform(*_STEPS, options.copies).cumsum()))
    for index, place in enumerate(_places(options.copies, options.spacing * across)):
        for attempt in range(_TRIES):
            pose = np.eye(4)
            if options.poses == "tumbled":
                pose[:3, :3] = _turn(rng)
            else:
                pose[:3, :3] = _yaw(rng.uniform(0, 2 * np.pi) if yaws is None else yaws[index])
            reach = min(0.25 * (options.spacing - 1.0) * across + 0.002 * attempt * radius, 0.5 * across)
            pose[[0, 2], 3] = place + rng.uniform(-1, 1, 2) * reach
            pose[1, 3] = -float((points @ pose[:3, :3].T)[:, 1].min())
            shape = hull @ pose[:3, :3].T + pose[:3, 3]
            if all(_apart(shape, other, _GAP * radius) for other in placed_hulls):
                break
        else:
            raise StspbrError(f"no place for {options.copies} copies: give more spacing than {options.spacing:g}")
        placed_hulls.append(shape)
        poses.append(pose)
    return Pile(asset, np.stack(poses), _camera(np.concatenate(placed_hulls), options))


def table(height: float, size: float, resolution: int = 1024, seed: int = 0, contrast: float = 0.25) -> Asset:
    """A square table top about the origin at ``y = height``, covered with pale printed paper.

    Args:
        size: side, in world units.
        contrast: of the print, 1: as strong as on the objects.
    """
    half = 0.5 * size
    positions = np.array([[-half, height, -half], [-half, height, half], [half, height, half], [half, height, -half]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uvs = Corners(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], np.float32), faces)
    normals = Corners(np.array([[0.0, 1.0, 0.0]], np.float32), np.zeros_like(faces))
    paper = printed_paper(resolution, seed)
    albedo = (1.0 - contrast) * np.array([0.42, 0.38, 0.33], np.float32) + contrast * paper
    rough = np.full((1, 1, 1), 0.85, np.float32)
    return Asset(Mesh(positions.astype(np.float32), faces, uvs, normals), [Material.of(albedo, rough, 0.0 * rough)])


def table_of(pile: Pile) -> Asset:
    """The table under a pile."""
    radius = float(np.linalg.norm(pile.asset.mesh.positions, axis=1).max())
    spread = float(np.abs(pile.poses[:, [0, 2], 3]).max())
    return table(0.0, _TABLE * radius + 4.0 * spread)


def placed(mesh: Mesh, pose: np.ndarray) -> Mesh:
    """A mesh under a rigid pose ``[4, 4]``."""
    turn = pose[:3, :3]

    def turned(corners: Corners[np.ndarray] | None) -> Corners[np.ndarray] | None:
        if corners is None:
            return None
        values = corners.values.copy()
        values[:, :3] = values[:, :3] @ turn.T
        return Corners(values.astype(np.float32), corners.index)

    positions = (mesh.positions @ turn.T + pose[:3, 3]).astype(np.float32)
    return replace(mesh, positions=positions, normals=turned(mesh.normals), tangents=turned(mesh.tangents))


def mirrored(asset: Asset) -> Asset:
    """The asset in a mirror (x negated): as like as the left shoe and the right one, and no duplicate."""
    mesh = asset.mesh

    def flipped(corners: Corners[np.ndarray] | None, turn: bool) -> Corners[np.ndarray] | None:
        if corners is None:
            return None
        values = corners.values.copy()
        if turn:
            values[:, 0] *= -1.0
        return Corners(values, np.ascontiguousarray(corners.index[:, ::-1]))

    positions = mesh.positions * np.array([-1.0, 1.0, 1.0], np.float32)
    faces = np.ascontiguousarray(mesh.faces[:, ::-1])
    flat = replace(mesh, positions=positions, faces=faces, uvs=flipped(mesh.uvs, False),
                   normals=flipped(mesh.normals, True), tangents=None)  # fmt: skip
    return replace(asset, mesh=flat)


def _places(count: int, step: float) -> np.ndarray:
    """``[count, 2]`` places (x, z) in staggered rows about the origin, wider than deep, in the order of their rows."""
    rows = max(int(round(np.sqrt(count / 1.15))), 1)
    lengths = [count // rows + (row < count % rows) for row in range(rows)]
    lengths = lengths[::2] + lengths[1::2][::-1]  # long and short rows in turn
    out = [
        ((column - 0.5 * (length - 1)) * step, (row - 0.5 * (rows - 1)) * step)
        for row, length in enumerate(lengths)
        for column in range(length)
    ]
    return np.array(out)


def _apart(first: np.ndarray, second: np.ndarray, gap: float) -> bool:
    """Whether a plane parts two clouds of points with ``gap`` between them, at least."""
    between = first.mean(axis=0) - second.mean(axis=0)
    if np.linalg.norm(between) > 4.0 * gap + np.linalg.norm(np.ptp(first, axis=0)) + np.linalg.norm(
        np.ptp(second, axis=0)
    ):
        return True
    # maximise t over (n, d, t): n·a ≥ d + t, n·b ≤ d − t, |n|∞ ≤ 1; the gap is at least 2t / √3
    rows = np.concatenate(
        [
            np.hstack([-first, np.ones((len(first), 1)), np.ones((len(first), 1))]),
            np.hstack([second, -np.ones((len(second), 1)), np.ones((len(second), 1))]),
        ]
    )
    bounds = [(-1, 1)] * 3 + [(None, None), (None, None)]
    found = linprog([0, 0, 0, 0, -1.0], A_ub=rows, b_ub=np.zeros(len(rows)), bounds=bounds, method="highs")
    return found.fun is not None and -2.0 * float(found.fun) / np.sqrt(3.0) > gap


def _camera(points: np.ndarray, options: PileOptions) -> Camera:
    """The nearest camera at the elevation that has all ``points`` ``[P, 3]`` in its picture."""
    width, height = options.size
    focal = 0.5 * max(width, height) / np.tan(np.radians(0.5 * options.fov))
    slope = np.radians(options.elevation)
    towards = np.array([0.0, np.sin(slope), np.cos(slope)])
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    for _ in range(6):  # the target moves to where the picture's middle has the pile's
        low, high = 0.1, 1e3
        for _ in range(60):
            distance = np.sqrt(low * high)
            camera = Camera(look_at(middle + distance * towards, middle), focal, focal, 0.5 * width, 0.5 * height,
                            width, height)  # fmt: skip
            seen = _seen(camera, points)
            reach = np.abs(seen / (width, height) - 0.5).max() if np.isfinite(seen).all() else np.inf
            low, high = (low, distance) if reach < 0.5 - _MARGIN else (distance, high)
        offset = 0.5 * (seen.min(axis=0) + seen.max(axis=0)) - (0.5 * width, 0.5 * height)
        axes = camera.camera_to_world[:3, :3]
        middle = middle + distance / focal * (offset[0] * axes[:, 0] - offset[1] * axes[:, 1])
    return camera


def _seen(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels ``[P, 2]`` (column, row) of world points ``[P, 3]``; infinite behind the camera."""
    pixels, depth = camera.project(points)
    return np.where((depth > 1e-6)[:, None], pixels, np.inf)


def _yaw(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def _turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation ``[3, 3]``, uniform over all."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def truth_of(pile: Pile) -> dict[str, object]:
    """What ``truth.json`` has: poses and camera of a pile."""
    camera = pile.camera
    return {
        "object_to_world": [pose.tolist() for pose in np.asarray(pile.poses)],
        "camera_to_world": np.asarray(camera.camera_to_world).tolist(),
        "focal": camera.fx,
        "size": [camera.width, camera.height],
        "radius": float(np.linalg.norm(pile.asset.mesh.positions, axis=1).max()),
    }


def with_foreign(pile: Pile, others: Sequence[tuple[int, Asset]]) -> Pile:
    """The pile with some copies, by index, exchanged for other assets that stand in their places."""
    chosen = dict(others)
    kept = [pose for index, pose in enumerate(pile.poses) if index not in chosen]
    return replace(pile, poses=np.stack(kept), others=tuple((a, pile.poses[index]) for index, a in chosen.items()))
