"""Features of the copies of an object in one photograph, and their matches from copy to copy.

RootSIFT (Arandjelović and Zisserman, CVPR 2012) on crops of even contrast. A copy can lie in any rotation: SIFT has an
orientation of its own, so that none need be tried. The tier ``affine`` adds tilted views of every crop, as ASIFT does
(Morel and Yu, SIAM J. Imaging Sciences 2009). Key points are in pixels of the whole photo throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from stspbr.photos.instances import NEEDED, RECOMMENDED, Instance

TIERS = ("sift", "affine")
_PEAK = 0.004
_MOST = 8192
_MARGIN = 16  # pixels about a copy's box
_ERODED = 3  # pixels: what is nearer to the outline may show the table
_WHITE = 0.95  # of the range: highlights stay in the photo when the object turns
_FINE = 0.004  # of the range: noise below is left alone
_NOISES = 1.5  # standard deviations of noise that local contrast may not bring out
_CONTRAST = 0.06  # of a box's side: reach of the local mean and deviation
_TILTS = (2**0.5, 2.0, 2.0 * 2**0.5)
_MERGED = 1.5  # pixels
_RATIO, _RATIO_FROM = 0.85, 4.0  # of descriptors' distances; to a neighbour that is so many pixels away
CANDIDATES = 3


@dataclass(frozen=True)
class Features:
    """Key points of one copy.

    Attributes:
        points: ``[K, 2]`` float32 (column, row) in pixels of the photo; the centre of the first pixel is 0.5.
        descriptors: ``[K, 128]`` float32, unit.
        place: ``[K]`` int64: the first key point at the same place, which stands for it in matches.
    """

    points: np.ndarray
    descriptors: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class Matches:
    """What may belong together in two copies.

    Attributes:
        pairs: ``[M, 2]`` int64 indices of the two copies' features: mutual nearest ones that pass the ratio test.
        candidates: ``[K, 3]`` int64: for each feature of the first copy the most alike of the second, best first.
    """

    pairs: np.ndarray
    candidates: np.ndarray


def without_noise(display: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The photo's luminance ``[H, W]`` with its noise averaged out over alike patches, if there is noise to speak of.

    Key points in noise are no points of the object; means over patches (Buades, Coll and Morel, CVPR 2005) keep edges.
    """
    import cv2

    noise = noise_of(display, labels)
    if noise <= _FINE:
        return display
    eight = np.rint(255.0 * display.clip(0.0, 1.0)).astype(np.uint8)
    return (cv2.fastNlMeansDenoising(eight, None, 255.0 * noise, 5, 15) / np.float32(255.0)).astype(np.float32)


def noise_of(display: np.ndarray, labels: np.ndarray) -> float:
    """Standard deviation of the noise on the copies: the median response to Immerkær's mask (CVIU 64, 1996)."""
    mask = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    response = np.abs(ndimage.convolve(display.astype(np.float64), mask))[labels > 0]
    return float(np.median(response)) / (0.6745 * 6.0) if len(response) else 0.0


def instance_features(display: np.ndarray, labels: np.ndarray, copy: Instance, tier: str = "sift") -> Features:
    """Features of one copy.

    Args:
        display: ``[H, W]`` float32 luminance of the photo in [0, 1], display curve.
        labels: ``[H, W]`` int32 of the photo.
        tier: ``"sift"``, or ``"affine"``: those of tilted views; see ``together``.
    """
    pycolmap = _pycolmap()
    left, top, right, bottom = _window(copy, labels.shape)
    crop, mask = display[top:bottom, left:right], labels[top:bottom, left:right] == copy.number
    inner = ndimage.binary_erosion(mask, iterations=_ERODED) & ~ndimage.binary_dilation(crop > _WHITE, iterations=2)
    noise = _NOISES * noise_of(crop, np.where(mask, 1, 0))
    picture = even_contrast(crop, mask, _CONTRAST * copy.side, noise)
    scale = 2 if copy.side < RECOMMENDED else 1
    sift = _extractor(pycolmap)
    found = []
    if tier == "sift":
        found = [_extracted(sift, picture, np.eye(2, 3), scale)]
    else:  # what is as small as an enlarged pixel does not survive a tilt
        scale = 2 if copy.side < NEEDED else 1
        for tilt in _TILTS:
            for angle in np.arange(0.0, 180.0, 72.0 / tilt):
                found.append(_tilted(sift, picture, tilt, np.radians(angle), scale))
    points, descriptors = (np.concatenate(part) for part in zip(*found, strict=True))
    column, row = (np.floor(points[:, k]).astype(int).clip(0, inner.shape[1 - k] - 1) for k in range(2))
    inside = inner[row, column]
    points, descriptors = points[inside], descriptors[inside]
    points = (points + (left, top)).astype(np.float32)
    return Features(points, descriptors, np.arange(len(points)))


def together(first: Features, second: Features) -> Features:
    """Both features of one copy; the numbers of the first stay. Points within 1.5 pixels are one place."""
    from scipy.spatial import cKDTree

    points = np.concatenate([first.points, second.points])
    place = np.arange(len(points))
    fixed = np.zeros(len(points), bool)
    fixed[: len(first.points)] = True
    if len(points):
        for index, near in enumerate(cKDTree(points).query_ball_point(points, _MERGED)):
            if place[index] == index:
                free = [k for k in near if k > index and not fixed[k]]
                place[free], fixed[free] = index, True
    return Features(points, np.concatenate([first.descriptors, second.descriptors]), place)


def match(first: Features, second: Features) -> Matches:
    """Mutual nearest neighbours, more alike than any other point that is not beside the nearest."""
    if len(first.points) == 0 or len(second.points) == 0:
        return Matches(np.zeros((0, 2), np.int64), np.zeros((len(first.points), CANDIDATES), np.int64))
    likeness = first.descriptors @ second.descriptors.T
    forward, candidates = _nearest(likeness, second.points)
    backward, _ = _nearest(np.ascontiguousarray(likeness.T), first.points)
    rows = np.flatnonzero(forward >= 0)
    # tilted views give a point several descriptors: mutual means that it leads back to the same place
    back = backward[forward[rows]]
    near = np.linalg.norm(first.points[back] - first.points[rows], axis=1) <= _MERGED
    rows = rows[(back >= 0) & near]
    pairs = np.stack([rows, forward[rows]], axis=1)
    places = np.stack([first.place[pairs[:, 0]], second.place[pairs[:, 1]]], axis=1)
    _, once = np.unique(places, axis=0, return_index=True)
    return Matches(places[np.sort(once)], second.place[candidates])


def even_contrast(picture: np.ndarray, mask: np.ndarray, reach: float, noise: float = 0.0) -> np.ndarray:
    """``[H, W]`` float32 in [0, 1]: the local mean is ½, the local deviation ⅙; ½ outside the mask.

    Args:
        reach: of "local", the standard deviation of a Gaussian in pixels.
        noise: deviation that is not enlarged.
    """
    weight = ndimage.gaussian_filter(mask.astype(np.float32), reach)
    weight = np.maximum(weight, 1e-3)
    mean = ndimage.gaussian_filter(picture * mask, reach) / weight
    variance = ndimage.gaussian_filter((picture - mean) ** 2 * mask, reach) / weight
    floor = max(0.02, noise)  # of the range: less is noise
    out = 0.5 + (picture - mean) / np.sqrt(variance + floor**2) / 6.0
    return np.where(mask, out, 0.5).clip(0.0, 1.0).astype(np.float32)


def _window(copy: Instance, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top, right, bottom = copy.box
    return (max(left - _MARGIN, 0), max(top - _MARGIN, 0), min(right + _MARGIN, shape[1]),
            min(bottom + _MARGIN, shape[0]))  # fmt: skip


def _pycolmap() -> Any:
    from stspbr.datasets.lens import pycolmap_for

    return pycolmap_for("captures from duplicates")


def _extractor(pycolmap: Any) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    options = pycolmap.FeatureExtractionOptions()
    options.sift.peak_threshold, options.sift.max_num_features = _PEAK, _MOST
    options.sift.first_octave = 0  # crops come enlarged
    options.num_threads, options.max_image_size = 1, 1 << 16
    return pycolmap.Sift(options, pycolmap.Device.cpu).extract


def _extracted(
    extract: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], picture: np.ndarray, to: np.ndarray, scale: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points in the crop and descriptors of ``picture``, to which ``to`` ``[2, 3]`` leads from the crop."""
    import cv2

    height, width = picture.shape
    large = picture
    if scale > 1:
        large = cv2.resize(picture, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    points, descriptors = extract(np.ascontiguousarray(large.clip(0.0, 1.0), np.float32))
    descriptors = np.asarray(descriptors, np.float32)
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
    at = np.asarray(points, np.float64)[:, :2] / scale
    return (at - to[:, 2]) @ np.linalg.inv(to[:, :2]).T, descriptors


def _tilted(
    extract: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    picture: np.ndarray,
    tilt: float,
    angle: float,
    scale: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the crop turned by ``angle`` and then compressed across by ``tilt``."""
    import cv2

    height, width = picture.shape
    # compressing aliases: blur across first, as a camera would
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)]) @ turn.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    turned = _warped(cv2, picture, np.hstack([turn, -low[:, None]]), np.ceil(high - low))
    blurred = cv2.GaussianBlur(turned, (0, 0), sigmaX=0.8 * np.sqrt(tilt**2 - 1.0), sigmaY=0.01)
    squeeze = np.diag([1.0 / tilt, 1.0])
    size = np.ceil((turned.shape[1] / tilt, turned.shape[0]))
    final = _warped(cv2, blurred, np.hstack([squeeze, np.zeros((2, 1))]), size)
    return _extracted(extract, final, np.hstack([squeeze @ turn, squeeze @ -low[:, None]]), scale)


def _warped(cv2: Any, picture: np.ndarray, to: np.ndarray, size: np.ndarray) -> np.ndarray:
    """OpenCV's pixel centres are whole numbers, ours are at ½."""
    shifted = to.copy()
    shifted[:, 2] += to[:, :2] @ (0.5, 0.5) - 0.5
    width, height = (int(side) for side in size)
    return cv2.warpAffine(picture, shifted, (width, height), flags=cv2.INTER_LINEAR, borderValue=0.5)


def _nearest(likeness: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the best column, −1 if the ratio test fails; and the three best columns."""
    few = min(12, likeness.shape[1])
    order = np.argpartition(-likeness, few - 1, axis=1)[:, :few]
    values = np.take_along_axis(likeness, order, axis=1)
    inner = np.argsort(-values, axis=1, kind="stable")
    order, values = np.take_along_axis(order, inner, axis=1), np.take_along_axis(values, inner, axis=1)
    distance = np.sqrt(np.maximum(2.0 - 2.0 * values, 0.0))
    away = np.linalg.norm(points[order] - points[order[:, :1]], axis=2) > _RATIO_FROM
    rival = np.where(away, distance, np.inf).min(axis=1)
    rival = np.where(np.isfinite(rival), rival, distance[:, -1])
    best = np.where(distance[:, 0] < _RATIO * rival, order[:, 0], -1)
    if few < CANDIDATES:
        order = np.pad(order, ((0, 0), (0, CANDIDATES - few)), mode="edge")
    return best, order[:, :CANDIDATES]
