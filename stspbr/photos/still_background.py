"""A turntable: photos of one camera at rest, in which the object turns and all that is behind it stands still.

Features of a background that stands still would say that nothing moved. It is found by the median of all photos (what
most of them show at a pixel): in photos that walk around an object no pattern stays at its pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.photos.grabcut import dilated, require_opencv

_FEWEST = 6  # photos: of fewer the median is no background
_SIDE = 320  # longer side in pixels at which photos are compared
_LEAST_STEP, _NOISES = 0.03, 4.0  # sRGB in [0, 1], and times the noise: a pixel that differs by more has changed
_STILL = 0.75  # of the photos that must show a pixel unchanged
_EDGE = 0.06  # sRGB per pixel: steeper slopes are pattern
_LEAST_SHARE, _LEAST_PATTERN = 0.12, 0.004  # of the photos' pattern that stands still; of the picture that it covers
_SEAM = 0.012  # of the longer side: what moves is wider than its changed pixels by this much


@dataclass(frozen=True)
class StillBackground:
    """What stands still in a set of photos.

    Attributes:
        moving: ``[H, W]`` bool per photo, of its size: where it may show what turns; what lies outside stands still.
        share: of the photos' pattern that stands still, about, in [0, 1].
    """

    moving: list[np.ndarray]
    share: float


def still_background(pictures: Sequence[np.ndarray]) -> StillBackground | None:
    """Find the background that stands still.

    Args:
        pictures: ``[H, W, 3]`` uint8 sRGB each, upright.

    Returns:
        None if the photos are fewer than six, have different sizes, or have no pattern that stays at its pixels: a
        camera that was moved, or a plain background, whose features mislead nobody.
    """
    if len(pictures) < _FEWEST or len({picture.shape for picture in pictures}) > 1:
        return None
    cv2 = require_opencv()
    height, width = pictures[0].shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])
    exposed, background = _equally_exposed(small.astype(np.float32) / 255.0)
    change = np.stack([cv2.blur(np.abs(photo - background).max(axis=-1), (3, 3)) for photo in exposed])
    changed = change > max(_LEAST_STEP, _NOISES * float(np.quantile(np.median(change, axis=0), 0.1)))
    still = (~changed).mean(axis=0) >= _STILL
    pattern = _pattern(background) & still
    share = float(pattern.sum() / max(np.mean([_pattern(photo).sum() for photo in exposed]), 1.0))
    if share < _LEAST_SHARE or pattern.mean() < _LEAST_PATTERN:
        return None
    moving = [_moving(one) for one in changed]
    grown = [cv2.resize(one.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0 for one in moving]
    return StillBackground(grown, min(share, 1.0))


def _equally_exposed(photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photos ``[N, h, w, 3]`` with the gains of their channels divided out, and their median ``[h, w, 3]``."""
    background = np.median(photos, axis=0)
    for _ in range(2):
        known = ((background > 0.08) & (background < 0.92)).all(axis=-1)
        if known.any():
            ratio = np.median(photos[:, known] / background[known], axis=1)
            photos = photos / np.clip(ratio, 0.5, 2.0)[:, None, None]
        background = np.median(photos, axis=0)
    return photos, background


def _pattern(photo: np.ndarray) -> np.ndarray:
    """``[h, w]`` bool: slopes by which a feature could be told."""
    grey = photo.mean(axis=-1)
    rows, columns = np.gradient(grey)
    return np.hypot(rows, columns) > _EDGE


def _moving(changed: np.ndarray) -> np.ndarray:
    """``[h, w]`` bool: what changed, whole, and a seam around it: what changes enclose is part of it."""
    cv2 = require_opencv()
    seam = max(1.0, _SEAM * max(changed.shape))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    sure = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    closed = dilated(dilated(np.pad(sure > 0, 4), 2 * seam), -2 * seam)[4:-4, 4:-4]
    _, parts = cv2.connectedComponents(np.pad((~closed).astype(np.uint8), 1, constant_values=1), connectivity=4)
    return dilated((parts != parts[0, 0])[1:-1, 1:-1], seam)  # reached from the border over unchanged pixels: outside
