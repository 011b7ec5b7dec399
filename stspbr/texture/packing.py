"""Pack charts into a square as densely as they fit, turned but never mirrored, all at one density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from stspbr.errors import StspbrError
from stspbr.geometry.topology import connected
from stspbr.texture.atlas_kernels import TOUCHED
from stspbr.texture.packing_kernels import draw_chart, place_charts

_CELLS = 1024  # along the square's side
_TURNED = 96  # charts, the largest, for which all quarter turns are tried; two turns for the others
_SEARCH = 7  # halvings of the interval of densities
_ORDERS = 128  # random orders of the charts that are tried afterwards
_WORK = 20_000  # charts placed in them at most, as many charts take long
_STEP = 1.004  # by which a density must be better


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
        resolution: side of the square in texels; padding: least number of texels between charts
            that neither touches, half at the border.

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
    cells = min(_CELLS, resolution)
    density, best = _densest(shapes, resolution, cells, padding)
    if best is None:
        raise StspbrError(
            f"{len(members)} charts with a padding of {padding} texels do not fit {resolution}²: "
            "take a larger texture (texture_resolution) or fewer faces (target_faces)"
        )
    density, best = _reordered(shapes, density, best, resolution, cells, padding)
    texels = np.zeros((len(uvs), 2))
    for rows, placed in zip(members, best, strict=True):
        texels[uv_faces[rows]] = placed
    return Packed(texels, density, len(members))


def _densest(
    shapes: list[np.ndarray], resolution: int, cells: int, padding: int
) -> tuple[float, list[np.ndarray] | None]:
    """The largest density at which one of the orders by size fits, and the charts there; None if none fits."""
    # a bound that no packing exceeds
    high = resolution / np.sqrt(max(sum(_area(shape) for shape in shapes), 1e-300))
    low, best = 0.0, None
    for number in range(_SEARCH + 12):
        density = 0.8 * high if best is None and number == 0 else 0.5 * (low + high)
        found = None
        masks = _masks(shapes, density, resolution, cells, padding)
        if masks is not None:
            heights, widths = np.array([mask.shape for mask in masks]).T
            filled = np.array([mask.sum() for mask in masks])
            # no order of the charts is best for all: the first that fits is taken
            for key in (np.maximum(heights, widths), filled, heights + widths, np.minimum(heights, widths)):
                found = _placed(shapes, masks, key, density, resolution, cells, padding)
                if found is not None:
                    break
        if found is None:
            high = density
            if best is None and number >= _SEARCH + 6:
                break
        else:
            low, best = density, found
        if best is not None and number >= _SEARCH:
            break
    return low, best


def _reordered(
    shapes: list[np.ndarray], density: float, best: list[np.ndarray], resolution: int, cells: int, padding: int
) -> tuple[float, list[np.ndarray]]:
    """Go on to higher densities with random orders (seeded), large charts still first on the whole."""
    random = np.random.default_rng(0)
    masks = _masks(shapes, density * _STEP, resolution, cells, padding)
    for _ in range(min(_ORDERS, _WORK // len(shapes))):
        if masks is None:
            break
        heights, widths = np.array([mask.shape for mask in masks]).T
        sizes = (np.maximum(heights, widths), np.sqrt([mask.sum() for mask in masks]), heights + widths)
        key = sizes[random.integers(3)] * np.exp(random.normal(0.0, 0.2, len(shapes)))
        while masks is not None:
            found = _placed(shapes, masks, key, density * _STEP, resolution, cells, padding)
            if found is None:
                break
            density, best = density * _STEP, found
            masks = _masks(shapes, density * _STEP, resolution, cells, padding)
    return density, best


def _masks(
    shapes: list[np.ndarray], density: float, resolution: int, cells: int, padding: int
) -> list[np.ndarray] | None:
    """The cells ``[H, W]`` that each chart takes with its padding, or None if they are too many for the square."""
    cell = resolution / cells
    reach = (0.5 * padding + TOUCHED) / cell
    masks = []
    for shape in shapes:
        extent = shape.max(axis=(0, 1)) * density / cell
        width, height = (int(np.ceil(side + 2.0 * reach)) + 1 for side in extent)
        if min(width, height) > cells:
            return None
        mask = np.zeros((height, width), bool)
        draw_chart(shape * (density / cell) + reach, reach, mask)
        masks.append(mask)
    return masks if sum(int(mask.sum()) for mask in masks) <= cells * cells else None


def _placed(
    shapes: list[np.ndarray],
    masks: list[np.ndarray],
    key: np.ndarray,
    density: float,
    resolution: int,
    cells: int,
    padding: int,
) -> list[np.ndarray] | None:
    """The charts' triangles in texels, those with a large ``key`` placed first, or None if they do not fit."""
    cell = resolution / cells
    reach = (0.5 * padding + TOUCHED) / cell
    heights, widths = np.array([mask.shape for mask in masks], np.int64).T
    turns = np.where(np.arange(len(masks)) < _TURNED, 4, 2)
    order = np.argsort(-key, kind="stable")
    flat = np.concatenate([masks[n].reshape(-1) for n in order])
    size = (heights * widths)[order]
    places, fits = place_charts(flat, np.cumsum(size) - size, heights[order], widths[order], turns, cells)
    if not fits:
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
