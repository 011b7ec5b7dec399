"""Area filtering: images reduced by any ratio, cut out and padded in one step, each exact in the camera."""

from __future__ import annotations

import numpy as np

from stspbr.scene.capture import Frame

Box = tuple[float, float, float, float]


def area_resampled(image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The means of ``image`` over the cells of a grid that covers ``box``; what lies beside the image counts as 0.

    Args:
        image: ``[H, W, C]``, pixels as squares of constant value.
        box: left, top, width and height in the image's pixels; any real numbers.
        size: ``(width, height)`` of the result.

    Returns:
        ``[height, width, C]`` float32. Its sum times the cells' area is the sum of the image inside of the box.
    """
    left, top, width, height = box
    rows = _means(image, float(top), float(height), size[1], axis=0)
    return np.ascontiguousarray(_means(rows, float(left), float(width), size[0], axis=1), dtype=np.float32)


def resampled(frame: Frame, box: Box, size: tuple[int, int]) -> Frame:
    """A frame that shows ``box`` of ``frame`` (as :func:`area_resampled`) on ``size`` pixels; its rays stay.

    A box that is all of the image at its own size gives ``frame`` itself.
    """
    camera = frame.camera
    if box == (0, 0, camera.width, camera.height) and size == (camera.width, camera.height):
        return frame

    def reduced(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return area_resampled(image, box, size), np.minimum(area_resampled(alpha, box, size), np.float32(1))

    return frame.with_pixels(reduced, camera=camera.resampled(box, size))


def reduced_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with no side above ``side``, in the same proportion."""
    scale = max(1.0, max(width, height) / side)
    return max(1, round(width / scale)), max(1, round(height / scale))


def _means(image: np.ndarray, start: float, extent: float, count: int, axis: int) -> np.ndarray:
    """Means along one axis over ``count`` equal parts of ``[start, start + extent]``."""
    length = image.shape[axis]
    if start == 0 and extent == count == length:
        return image
    edges = np.round(start + extent / count * np.arange(count + 1), 9)  # sums of fractions meet pixel borders
    low, high = edges[:-1], edges[1:]
    first = np.floor(low).astype(np.int64)
    shape = [1] * image.ndim
    shape[axis] = count
    out = np.zeros((*image.shape[:axis], count, *image.shape[axis + 1 :]), np.float32)
    for tap in range(int((np.ceil(high) - first).max())):
        index = first + tap
        overlap = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0.0, None) / (high - low)
        overlap[(index < 0) | (index >= length)] = 0.0
        # gathered values times weights, never differences of sums: what is not negative stays so
        part = np.take(image, np.clip(index, 0, length - 1), axis=axis)
        out += part * overlap.astype(np.float32).reshape(shape)
    return out
