"""Pack charts into a square as densely as they fit, turned but never mirrored, all at one density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from stspbr.errors import StspbrError
from stspbr.geometry.topology import connected
from stspbr.texture.packing_kernels import draw_chart, place_charts

_CELLS = 512  # along the square's side
_TURNED = 96  # charts, the largest, for which all quarter turns are tried; two turns for the others
_SEARCH = 7  # halvings of the interval of densities


@dataclass(frozen=True)
class Packed:
    """Charts in a square.

    Attributes:
        texels: ``[T, 2]`` float64 positions in texels; density: texels per unit of the surface; charts: their number.
    """

    texels: np.ndarray
    density: float
    charts: int


def pack(corners: np.ndarray, uv_faces: np.ndarray, uvs: np.ndarray, resolution: int, padding: int) -> Packed:
    """Scale, turn and place charts.

    Args:
        corners: ``[F, 3, 3]`` points of the triangles; each chart gets the area in texels that its surface has.
        uv_faces: ``[F, 3]`` into ``uvs [T, 2]``, charts of any scale and place, not mirrored; charts share no vertex.
        resolution: side of the square in texels; padding: least number of texels between charts, half at the border.

    Raises:
        StspbrError: the paddings alone fill the square.
    """
    owner = connected(uv_faces[:, :2].reshape(-1), uv_faces[:, 1:].reshape(-1), len(uvs))[1]
    labels, chart = np.unique(owner[uv_faces[:, 0]], return_inverse=True)
    members = [np.flatnonzero(chart == n) for n in range(len(labels))]
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    shapes = []
    for rows in members:
        own = uvs[uv_faces[rows]].astype(np.float64)
        image = _area(own)
        scale = np.sqrt(areas[rows].sum() / image) if image > 0 else 0.0
        shapes.append(_upright(own * scale))
    # a bound that no packing exceeds
    total = max(sum(_area(shape) for shape in shapes), 1e-300)
    high = resolution / np.sqrt(total)
    low, best = 0.0, None
    cells = min(_CELLS, resolution)
    for number in range(_SEARCH + 12):
        density = 0.8 * high if best is None and number == 0 else 0.5 * (low + high)
        found = _placed(shapes, density, resolution, cells, padding)
        if found is None:
            high = density
            if best is None and number >= _SEARCH + 6:
                break
        else:
            low, best = density, found
        if best is not None and number >= _SEARCH:
            break
    if best is None:
        raise StspbrError(
            f"{len(members)} charts with a padding of {padding} texels do not fit {resolution}²: "
            "take a larger texture (texture_resolution) or fewer faces (target_faces)"
        )
    texels = np.zeros((len(uvs), 2))
    for rows, placed in zip(members, best, strict=True):
        texels[uv_faces[rows]] = placed
    return Packed(texels, low, len(members))


def _placed(
    shapes: list[np.ndarray], density: float, resolution: int, cells: int, padding: int
) -> list[np.ndarray] | None:
    """The charts' triangles in texels at a density, or None if they do not fit."""
    cell = resolution / cells
    reach = 0.5 * padding / cell
    masks, sizes = [], []
    for shape in shapes:
        extent = shape.max(axis=(0, 1)) * density / cell
        width, height = (int(np.ceil(side + 2.0 * reach)) + 1 for side in extent)
        if min(width, height) > cells:
            return None
        mask = np.zeros((height, width), bool)
        draw_chart(shape * (density / cell) + reach, reach, mask)
        masks.append(mask)
        sizes.append((height, width))
    heights, widths = np.array(sizes, np.int64).T
    filled = np.array([mask.sum() for mask in masks])
    if filled.sum() > cells * cells:
        return None
    turns = np.where(np.arange(len(shapes)) < _TURNED, 4, 2)
    # no order of the charts is best for all: the first that fits is taken
    for key in (np.maximum(heights, widths), filled, heights + widths, np.minimum(heights, widths)):
        order = np.argsort(-key, kind="stable")
        flat = np.concatenate([masks[n].reshape(-1) for n in order])
        size = (heights * widths)[order]
        places, fits = place_charts(flat, np.cumsum(size) - size, heights[order], widths[order], turns, cells)
        if fits:
            break
    else:
        return None
    out: list[np.ndarray] = [np.zeros(0)] * len(shapes)
    for n, (row, column, turn) in zip(order, places, strict=True):
        x, y = np.moveaxis(shapes[n] * (density / cell) + reach, -1, 0)
        height, width = heights[n], widths[n]
        for _ in range(turn):  # a quarter turn counter-clockwise
            x, y, height, width = height - y, x, width, height
        out[n] = np.stack([x + column, y + row], axis=-1) * cell
    return out


def _upright(triangles: np.ndarray) -> np.ndarray:
    """A chart ``[T, 3, 2]`` turned so that its box is smallest, its lower left corner at the origin."""
    points = triangles.reshape(-1, 2)
    try:
        hull = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return triangles - points.min(axis=0)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.round(np.arctan2(sides[:, 1], sides[:, 0]) % (np.pi / 2), 9))
    best, smallest = 0.0, np.inf
    for angle in angles:
        box = np.ptp(hull @ _turn(angle), axis=0)
        if box.prod() < smallest * (1.0 - 1e-9):
            best, smallest = float(angle), float(box.prod())
    turned = triangles @ _turn(best)
    return turned - turned.min(axis=(0, 1))


def _turn(angle: float) -> np.ndarray:
    """Rows times this matrix are turned clockwise by ``angle``."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _area(triangles: np.ndarray) -> float:
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return float(0.5 * np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum())
