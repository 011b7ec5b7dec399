"""A rough stand-in for the object, in shape the hull of the masks, in colour the mean of the copies that are known.

It answers what masks alone leave open. A can stays the same in outline when it turns about its axis; drawn in the pose
of one copy from what the others show, its print fits or does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from stspbr.geometry.visual_hull import carve_by
from stspbr.photos.instance_features import even_contrast
from stspbr.photos.instance_kernels import draw_points
from stspbr.photos.instances import Instance
from stspbr.photos.silhouette_check import Poses, Silhouettes
from stspbr.scene.camera import Camera

_GRID = 56
_SIDE = 64  # pixels along the longer side of a copy
_REACH = 0.10  # of a copy's side: what is smooth over more is light, not print
_LEAST = 60  # pixels that both show, from which a likeness counts
_FLAT = 0.03  # deviation of a picture in which there is nothing to compare
_BEHIND = 2.5  # cells behind the nearest surface: hidden


@dataclass(frozen=True)
class Picture:
    """One copy, reduced.

    Attributes:
        number: of the copy; camera: at the world's origin, of this crop.
        mask, known: ``[h, w]`` bool: the copy; the copy or background for certain.
        luminance: ``[h, w]`` float32 of even contrast, ½ on average; seen: ``[h, w]`` bool, where it is that of print.
    """

    number: int
    camera: Camera
    mask: np.ndarray
    known: np.ndarray
    luminance: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Score:
    """How well a pose explains a copy.

    Attributes:
        overlap: intersection over union of the outlines.
        likeness: correlation of the luminance in [−1, 1]; support: share of the copy's pixels that were compared.
    """

    overlap: float
    likeness: float
    support: float

    @property
    def evidence(self) -> float:
        """The likeness, less where few pixels were compared."""
        return max(self.likeness, 0.0) * float(np.sqrt(self.support))

    @property
    def total(self) -> float:
        """Outline and print together."""
        return self.overlap + 2.0 * self.evidence


@dataclass(frozen=True)
class Proxy:
    """Points of a surface.

    Attributes:
        points, normals: ``[P, 3]`` float32 in object space, outward.
        values: ``[P]`` float32 luminance as in ``Picture``; NaN where no copy shows it.
        cell: distance of the points; centre: ``[3]`` of the object.
    """

    points: np.ndarray
    normals: np.ndarray
    values: np.ndarray
    cell: float
    centre: np.ndarray

    def drawn(self, camera: Camera, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depth ``[h, w]`` float32 (inf: nothing) and luminance (NaN: unknown) from ``camera_from_object``."""
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        out = np.full(depth.shape, np.nan, np.float32)
        matrix = np.ascontiguousarray(pose[:3], np.float64)
        lens = (camera.fx, camera.fy, camera.cx, camera.cy)
        draw_points(self.points, self.values, self.normals, matrix, *lens, self.cell, depth, out)
        return depth, out

    def score(self, picture: Picture, pose: np.ndarray) -> Score:
        """How well a pose explains a copy."""
        depth, values = self.drawn(picture.camera, pose)
        shown = np.isfinite(depth)
        union = ((picture.mask | shown) & picture.known).sum()
        overlap = float((picture.mask & shown).sum() / max(union, 1))
        both = picture.seen & shown & np.isfinite(values)
        likeness = correlation(picture.luminance[both], values[both])
        return Score(overlap, likeness, float(both.sum() / max(picture.seen.sum(), 1)))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation coefficient in [−1, 1]; 0 where there is too little to compare."""
    if len(first) < _LEAST:
        return 0.0
    a, b = first - first.mean(), second - second.mean()
    if min(a.std(), b.std()) < _FLAT:
        return 0.0
    return float((a * b).mean() / (a.std() * b.std()))


def pictures(
    display: np.ndarray, labels: np.ndarray, copies: Iterable[Instance], focal: float, side: int = _SIDE
) -> dict[int, Picture]:
    """The copies reduced to ``side`` pixels along their longer side, by number.

    Args:
        display: ``[H, W]`` float32 luminance of the photo in [0, 1].
    """
    import cv2

    out = {}
    copies = list(copies)
    silhouettes = Silhouettes(labels, copies, side)
    for copy in copies:
        camera, mask = silhouettes.camera(copy.number, focal), silhouettes.mask(copy.number)
        left, top, right, bottom = silhouettes.box(copy.number)
        part, own = display[top:bottom, left:right], labels[top:bottom, left:right] == copy.number
        size = (camera.width, camera.height)
        share = cv2.resize(own.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        light = cv2.resize((part * own).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        light = light / np.maximum(share, 1e-3)
        luminance = even_contrast(light, share > 0.5, _REACH * side)
        known = silhouettes.outline(copy.number) > 0
        clear = (share > 0.95) & (light < 0.95)
        out[copy.number] = Picture(copy.number, camera, mask, known | mask, luminance, clear)
    return out


def build_proxy(
    silhouettes: Silhouettes, seen: dict[int, Picture], poses: Poses, focal: float, without: int | None = None
) -> Proxy | None:
    """The stand-in of the copies that have poses; None if their masks leave nothing.

    Args:
        without: a copy whose mask helps to carve, but which lends no colour.
    """
    centre, reach = silhouettes.cube(poses, focal)
    axis = np.linspace(-reach, reach, _GRID)
    cell = float(axis[1] - axis[0])
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (centre + offsets).astype(np.float32)
    distance = np.full(len(points), -np.inf, np.float32)
    for number, pose in poses.items():
        carve_by(points, silhouettes.camera(number, focal), pose, silhouettes.outline(number), distance)
    volume = np.where(np.isfinite(distance), distance, 4.0 * cell).reshape(_GRID, _GRID, _GRID)
    inside = volume < 0.25 * cell
    inner = inside.copy()
    for k in range(3):
        for step in (1, -1):
            inner &= np.roll(inside, step, axis=k)
    surface = (inside & ~inner).ravel()
    if surface.sum() < 50:
        return None
    slopes = np.stack(np.gradient(volume.astype(np.float32)), axis=-1).reshape(-1, 3)[surface]
    normals = slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-9)
    bare = Proxy(points[surface], np.ascontiguousarray(normals, np.float32),
                 np.full(int(surface.sum()), np.nan, np.float32), cell, centre)  # fmt: skip
    # where nobody looks, behind what covers the copies, the hull is far too large: only what some copy shows counts
    out = coloured(bare, seen, {k: pose for k, pose in poses.items() if k != without})
    shown = np.isfinite(out.values)
    if shown.sum() < 50:
        return None
    return replace(out, points=out.points[shown], normals=out.normals[shown], values=out.values[shown])


def coloured(proxy: Proxy, seen: dict[int, Picture], poses: Poses) -> Proxy:
    """The stand-in with the mean of what the copies show of each point, those that face it most counting most."""
    total, weight = np.zeros(len(proxy.points)), np.zeros(len(proxy.points))
    for number, pose in poses.items():
        picture = seen[number]
        camera = picture.camera
        depth, _ = proxy.drawn(camera, pose)
        local = proxy.points @ pose[:3, :3].T + pose[:3, 3]
        z = -local[:, 2]
        ahead = z > 1e-6
        safe = np.where(ahead, z, 1.0)
        column = np.floor(camera.cx + camera.fx * local[:, 0] / safe).astype(int)
        row = np.floor(camera.cy - camera.fy * local[:, 1] / safe).astype(int)
        inside = ahead & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        i, j = row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)
        turned = proxy.normals @ pose[:3, :3].T
        facing = -(turned * local).sum(axis=1) / np.maximum(np.linalg.norm(local, axis=1), 1e-9)
        visible = inside & (facing > 0.2) & picture.seen[i, j] & (z < depth[i, j] + _BEHIND * proxy.cell)
        part = np.where(visible, facing**2, 0.0)
        total += part * picture.luminance[i, j]
        weight += part
    values = np.where(weight > 0, total / np.maximum(weight, 1e-9), np.nan)
    return replace(proxy, values=values.astype(np.float32))
