"""One photo cut into object and background by colour and edges.

Rother, Kolmogorov and Blake, *GrabCut*, SIGGRAPH 2004, by OpenCV; what is sure and what is only probable comes from
outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.errors import missing_extra

BACKGROUND, OBJECT, PROBABLE_BACKGROUND, PROBABLE_OBJECT = 0, 1, 2, 3  # as cv2.grabCut has them
_SMALLEST_PART = 0.1  # components below this share of the largest are dust
_LARGEST_HOLE = 0.01  # of the object's area: speckles; larger ones may be handles


def require_opencv() -> Any:
    """The module ``cv2``, or a StspbrError that names the extra."""
    try:
        import cv2
    except ImportError:
        raise missing_extra("opencv-python-headless", "photos", "masks by grabcut") from None
    return cv2


def cut(image: np.ndarray, labels: np.ndarray, iterations: int = 4, seed: int = 0) -> np.ndarray:
    """Segment ``image`` from the first guess ``labels``.

    Args:
        image: ``[H, W, 3]`` uint8.
        labels: ``[H, W]`` of the four constants of this module.

    Returns:
        ``[H, W]`` bool, cleaned of dust and speckles. Where ``labels`` know only one side, that side.
    """
    cv2 = require_opencv()
    inside = (labels == OBJECT) | (labels == PROBABLE_OBJECT)
    if min(int(inside.sum()), int((~inside).sum())) < 8:  # no colours to learn from
        return inside
    cv2.setRNGSeed(seed)  # of the k-means that starts the mixtures
    found = np.array(labels, np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), found, None, background, foreground, iterations, cv2.GC_INIT_WITH_MASK)
    return cleaned((found == OBJECT) | (found == PROBABLE_OBJECT))


def cleaned(mask: np.ndarray) -> np.ndarray:
    """``[H, W]`` bool without hairs, small components and speckles."""
    cv2 = require_opencv()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return mask.astype(bool)
    areas = statistics[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0.0
    out = (areas >= _SMALLEST_PART * areas.max())[parts]
    count, holes, statistics, _ = cv2.connectedComponentsWithStats((~out).astype(np.uint8), connectivity=4)
    small = statistics[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * out.sum()
    small[0] = False  # label 0 is the object itself
    return out | small[holes]


def inside_box(shape: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """Labels ``[H, W]`` for a box ``x, y, width, height`` in pixels about the object: outside is surely background."""
    labels = np.full(shape, BACKGROUND, np.uint8)
    x, y, width, height = box
    rows = slice(max(round(y), 0), max(round(y + height), 0))
    labels[rows, max(round(x), 0) : max(round(x + width), 0)] = PROBABLE_OBJECT
    return labels


def dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """``[H, W]`` bool grown by ``radius`` pixels; shrunk where that is negative."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any() or mask.all():
        return mask
    if radius >= 0:
        return distance_transform_edt(~mask) <= radius
    return distance_transform_edt(mask) > -radius
