"""What the plane under the object looks like without the object, from many photos that each hide another part of it.

The photos are brought onto a grid in the plane. A place of the plane has one colour in all photos that see it, but for
the exposure, which is found on the way; where a photo differs from that, something stands between. Light and shadows of
a scene at rest are a part of the plane's look. That a pixel looks like the plane says much where the plane has a
pattern there, and little where it is plain: the object may have its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.photos.found_object import Plane
from stspbr.photos.working_photos import PosedPhoto
from stspbr.scene.camera import Camera

_GRID = 192  # cells along a side
_REACH = 2.5  # half side of the grid, in radii of the object's sphere
_DARK = 0.03  # linear: what is darker differs by less
_NOISE = 0.8  # pixels
_LEAST = 4  # photos that must see a place
_SPREAD = 0.06  # least scatter of logarithmic values that is taken for usual
_AGREED = 0.2  # of logarithmic values: photos this near to each other agree
_HELD, _SUPPORT = 0.4, 0.4  # share of the photos that agree most; least share that must
_GAIN_ROUNDS, _SPARSE = 3, 7  # rounds in which the exposures are found, from every so many cells
_SMOOTH, _WINDOW = 1.0, 5.0  # pixels
_PATTERN, _REST = 0.05, 0.8  # least contrast of a pattern; share of it that may be missing


@dataclass(frozen=True)
class Likeness:
    """A photo against the plane's look.

    Attributes:
        difference: ``[H, W]`` 1 where a pixel is as far off as usual; NaN where nothing is known of the plane.
        proven: ``[H, W]`` bool: the plane's pattern is there, so that nothing stands before it.
    """

    difference: np.ndarray
    proven: np.ndarray


@dataclass(frozen=True)
class TableLook:
    """The plane's look.

    Attributes:
        plane, origin, axes: the grid: its middle ``[3]`` in the plane, ``[2, 3]`` unit vectors; reach: half its side.
        colour: ``[G, G, 3]`` logarithm of linear radiance, NaN where too few photos see it; spread: ``[G, G]`` of that.
        gains: ``[V, 3]`` logarithms of what each photo's exposure multiplies.
    """

    plane: Plane
    origin: np.ndarray
    axes: np.ndarray
    reach: float
    colour: np.ndarray
    spread: np.ndarray
    gains: np.ndarray

    def compared(self, photo: PosedPhoto, number: int) -> Likeness:
        """How a photo differs from what it would show of the plane alone."""
        from scipy.ndimage import gaussian_filter, map_coordinates

        height, width = photo.valid.shape
        row, column, hit = self._cells(photo.camera)
        known = np.isfinite(self.colour[..., 0])
        at = [np.where(hit, row, 0.0), np.where(hit, column, 0.0)]

        def read(layer: np.ndarray) -> np.ndarray:
            return map_coordinates(np.where(known, layer, 0.0), at, order=1, mode="nearest").reshape(height, width)

        weight = read(np.ones_like(self.spread))
        share = np.maximum(weight, 1e-6)
        wanted = np.stack([read(layer) / share for layer in np.moveaxis(self.colour, -1, 0)], axis=-1)
        spread = np.maximum(read(self.spread) / share, _SPREAD)
        off = logarithmic(photo.image) - self.gains[number] - wanted

        def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
            return np.stack([gaussian_filter(values[..., k], sigma) for k in range(values.shape[-1])], axis=-1)

        difference = np.sqrt((smooth(off, _SMOOTH) ** 2).mean(axis=-1)) / spread  # half a pixel of shift is nothing
        mean = smooth(wanted, _WINDOW)
        pattern = np.sqrt(np.maximum(smooth(wanted**2, _WINDOW) - mean**2, 0.0).mean(axis=-1))
        rest = np.sqrt((smooth(off**2, _WINDOW)).mean(axis=-1))
        good = (hit.reshape(height, width)) & (weight > 0.9) & photo.valid
        proven = good & (pattern > _PATTERN) & (rest < _REST * pattern)
        return Likeness(np.where(good, difference, np.nan), proven)

    def without(self, points: np.ndarray) -> TableLook:
        """The look without the places below ``points`` ``[N, 3]``: there the object hides the plane for good."""
        place = (points - self.origin) @ self.axes.T / self.reach
        column, row = np.floor((0.5 * place + 0.5) * _GRID).astype(int).T
        inside = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < _GRID)
        colour = self.colour.copy()
        colour[row[inside], column[inside]] = np.nan
        return replace(self, colour=colour)

    def _cells(self, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and column ``[H·W]`` of the grid's cell behind each pixel, and whether there is one."""
        y, x = np.mgrid[: camera.height, : camera.width] + 0.5
        local = np.stack([(x - camera.cx) / camera.fx, (camera.cy - y) / camera.fy, -np.ones_like(x)], axis=-1).reshape(
            -1, 3
        )
        towards = local @ camera.camera_to_world[:3, :3].T
        down = towards @ self.plane.normal
        along = -self.plane.height(camera.position[None])[0] / np.where(np.abs(down) > 1e-9, down, 1e-9)
        place = (camera.position + along[:, None] * towards - self.origin) @ self.axes.T / self.reach
        column, row = ((0.5 * place + 0.5) * _GRID - 0.5).T
        hit = (along > 0) & (np.abs(place) < 1.0).all(axis=1)
        return row, column, hit


def table_look(photos: Sequence[PosedPhoto], plane: Plane, centre: np.ndarray, radius: float) -> TableLook:
    """The look of the plane about the object.

    Args:
        centre, radius: of a sphere that holds the object.
    """
    origin = centre - plane.height(centre[None])[0] * plane.normal
    first = np.cross(plane.normal, [1.0, 0.0, 0.0] if abs(plane.normal[0]) < 0.7 else [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    axes = np.stack([first, np.cross(plane.normal, first)])
    reach = _REACH * radius
    steps = ((np.arange(_GRID) + 0.5) / _GRID * 2.0 - 1.0) * reach
    cells = origin + steps[:, None, None] * axes[1] + steps[None, :, None] * axes[0]
    seen = np.stack([_sampled(photo, cells.reshape(-1, 3)) for photo in photos])
    gains = np.zeros((len(photos), 3))
    few = seen[:, ::_SPARSE]
    for _ in range(_GAIN_ROUNDS):
        usual = _median(few - gains[:, None])
        for k in range(len(photos)):
            off = few[k] - usual
            good = np.isfinite(off).all(axis=1)
            gains[k] = np.median(off[good], axis=0) if good.sum() > 50 else 0.0
    colour, spread, support = _most_alike(seen - gains[:, None])
    colour[support < _SUPPORT] = np.nan
    return TableLook(plane, origin, axes, reach, colour.reshape(_GRID, _GRID, 3), spread.reshape(_GRID, _GRID), gains)


def logarithmic(image: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` float64 logarithm of linear values of an 8-bit sRGB image, whose noise has been smoothed."""
    from scipy.ndimage import gaussian_filter

    linear = srgb_to_linear(image.astype(np.float32) / 255.0)
    return np.log(gaussian_filter(linear, (_NOISE, _NOISE, 0.0)).astype(np.float64) + _DARK)


def _sampled(photo: PosedPhoto, points: np.ndarray) -> np.ndarray:
    """``[N, 3]`` logarithmic values of the pixels that world points fall on; NaN where there is none."""
    from scipy.ndimage import map_coordinates

    xy, depth = photo.camera.project(points)
    height, width = photo.valid.shape
    inside = (depth > 0) & (xy > 1).all(axis=1) & (xy[:, 0] < width - 1) & (xy[:, 1] < height - 1)
    at = [np.where(inside, xy[:, 1] - 0.5, 0.0), np.where(inside, xy[:, 0] - 0.5, 0.0)]
    values = np.stack(
        [map_coordinates(layer, at, order=1) for layer in np.moveaxis(logarithmic(photo.image), -1, 0)], -1
    )
    inside &= map_coordinates((~photo.valid).astype(np.float32), at, order=1) < 0.01
    return np.where(inside[:, None], values, np.nan)


def _most_alike(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values that most photos agree on, though the object may hide the plane in more than half of them.

    Of ``[V, N, 3]`` the shortest interval of brightness that holds two fifths of the photos, and all within a little of
    its middle: their mean ``[N, 3]``, their scatter ``[N]``, and their share ``[N]``, 0 of fewer than four.
    """
    bright = values.mean(axis=2)
    order = np.argsort(bright, axis=0)  # NaN goes to the end
    ordered = np.take_along_axis(bright, order, axis=0)
    count = np.isfinite(bright).sum(axis=0)
    held = np.maximum(2, np.ceil(_HELD * count).astype(int))
    best, middle = np.full(bright.shape[1], np.inf), np.full(bright.shape[1], np.nan)
    for start in range(len(values) - 1):
        last = start + held - 1
        fits = last < count
        end = np.take_along_axis(ordered, np.minimum(last, len(values) - 1)[None], axis=0)[0]
        width = np.where(fits, end - ordered[start], np.inf)
        better = width < best
        best = np.where(better, width, best)
        middle = np.where(better, 0.5 * (end + ordered[start]), middle)
    with np.errstate(invalid="ignore"):
        near = np.abs(bright - middle) <= np.maximum(0.5 * best, _AGREED)
    weight = near.astype(np.float64)[..., None]
    total = np.maximum(weight.sum(axis=0), 1.0)
    filled = np.where(near[..., None], values, 0.0)
    colour = filled.sum(axis=0) / total
    scatter = 1.5 * (np.abs(np.where(near[..., None], values - colour, 0.0)).mean(axis=2)).sum(axis=0) / total[:, 0]
    share = near.sum(axis=0) / np.maximum(count, 1)
    return colour, scatter, np.where(count >= _LEAST, share, 0.0)


def _median(values: np.ndarray) -> np.ndarray:
    """``[N, C]`` over the photos of ``[V, N, C]``, without NaN; NaN where all are."""
    ordered = np.sort(values, axis=0)  # NaN goes to the end
    count = np.isfinite(ordered).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    low = np.take_along_axis(ordered, middle[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(np.maximum(count, 1) // 2, len(values) - 1)[None], axis=0)[0]
    return np.where(count > 0, 0.5 * (low + high), np.nan)
