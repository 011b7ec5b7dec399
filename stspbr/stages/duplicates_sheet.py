"""The picture of a capture from duplicates: the photo with the outline of every copy, as it lies and as it is posed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from stspbr.files import atomic_path
from stspbr.photos.instance_poses import FoundPoses
from stspbr.photos.instances import Instance
from stspbr.photos.silhouette_check import Silhouettes

_SIDE = 1400  # pixels along the longer side
_COLOURS = {"registered": (40, 220, 90), "rescued": (255, 190, 30), "rejected": (240, 60, 60)}
_LETTERS = 22
_OWN = (90, 170, 255)  # the mask's outline, under the other one


def contact_sheet(
    path: Path,
    display: np.ndarray,
    labels: np.ndarray,
    copies: list[Instance],
    states: Mapping[int, str],
    found: FoundPoses,
) -> None:
    """Write the picture.

    Args:
        display: ``[H, W]`` float32 luminance in [0, 1], display curve; labels: ``[H, W]`` int32.
        states: by number of the copy, ``"registered"``, ``"rescued"`` or ``"rejected"``.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = display.shape
    scale = min(_SIDE / max(height, width), 1.0)
    size = max(int(width * scale), 1), max(int(height * scale), 1)
    grey = Image.fromarray(np.rint(255.0 * display.clip(0.0, 1.0)).astype(np.uint8)).resize(size)
    canvas = np.repeat(np.asarray(grey)[..., None], 3, axis=2).copy()
    rows = ((np.arange(size[1]) + 0.5) / scale).astype(int).clip(0, height - 1)
    columns = ((np.arange(size[0]) + 0.5) / scale).astype(int).clip(0, width - 1)
    small = labels[rows[:, None], columns[None, :]]
    silhouettes = Silhouettes(labels, copies)
    for copy in copies:
        state = states[copy.number]
        canvas[_outline(small == copy.number)] = _COLOURS["rejected"] if state == "rejected" else _OWN
        if state != "rejected":
            pose = found.poses[copy.number]
            distance = silhouettes.seen_distance(copy.number, pose, found.focal, found.coherence)
            # what lies behind other copies is too large in the hull, and nobody sees it
            visible = (small == 0) | (small == copy.number)
            edge = _around(_pasted(distance, silhouettes.box(copy.number), scale, size) < 0.0) & visible
            canvas[edge] = _COLOURS[state]
    picture = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=_LETTERS)
    for copy in copies:
        left, top, _, _ = copy.box
        draw.text((left * scale + 4, top * scale + 4), f"{copy.number} {states[copy.number]}",
                  fill=_COLOURS[states[copy.number]], font=font)  # fmt: skip
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, iterations=2)


def _around(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(mask, iterations=2) & ~mask  # beside the mask's own outline, which it would hide


def _pasted(distance: np.ndarray, box: tuple[int, int, int, int], scale: float, size: tuple[int, int]) -> np.ndarray:
    """The reduced crop in the picture, interpolated; positive beside it."""
    left, top, right, bottom = (edge * scale for edge in box)
    row = (np.arange(size[1]) + 0.5 - top) / (bottom - top) * distance.shape[0] - 0.5
    column = (np.arange(size[0]) + 0.5 - left) / (right - left) * distance.shape[1] - 0.5
    out = np.ones((size[1], size[0]), np.float32)
    rows, columns = (
        np.nonzero((at >= -0.5) & (at < n - 0.5))[0] for at, n in ((row, len(distance)), (column, distance.shape[1]))
    )
    if len(rows) and len(columns):
        places = np.meshgrid(row[rows], column[columns], indexing="ij")
        out[np.ix_(rows, columns)] = ndimage.map_coordinates(distance, places, order=1, mode="nearest")
    return out
