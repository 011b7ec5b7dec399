"""Instance segmentations in JSON: run lengths and polygons as COCO has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import read_file

_OVERLAP = -1


def read_instance_json(path: Path) -> np.ndarray:
    """Labels ``[H, W]`` int32 of a list of segmentations, or of the ``annotations`` of one image.

    Each is ``{"size": [H, W], "counts": …}`` with counts as a list or as COCO's compressed text, alone or under
    ``segmentation``; or polygons, which need ``images`` with ``height`` and ``width``. Pixels that two copies claim
    are −1.

    Raises:
        StspbrError: the file is missing, no JSON, of several images, or a segmentation is damaged.
    """
    try:
        content = json.loads(read_file(path).decode("utf-8"))
    except ValueError as error:
        raise StspbrError(f"{path}: not JSON: {error}") from None
    images = content.get("images", []) if isinstance(content, dict) else []
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise StspbrError(f"{path} has no segmentations: give a list of run lengths, or COCO's annotations")
    try:
        if len({entry.get("image_id") for entry in entries if isinstance(entry, dict)}) > 1:
            raise StspbrError(f"{path} has annotations of several images: export those of the photo alone")
        size = (int(images[0]["height"]), int(images[0]["width"])) if len(images) == 1 else None
        masks = [_mask(entry.get("segmentation", entry), size, path) for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise StspbrError(f"{path}: a segmentation is neither run lengths nor polygons: export it again") from None
    if len({mask.shape for mask in masks}) > 1:
        raise StspbrError(f"{path}: its segmentations have different sizes: export it again")
    labels = np.zeros(masks[0].shape, np.int32)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = np.where(labels[mask] == 0, number, _OVERLAP)
    return labels


def _mask(segmentation: Any, size: tuple[int, int] | None, path: Path) -> np.ndarray:
    if isinstance(segmentation, list):
        if size is None:
            raise StspbrError(f"{path}: polygons need the size of the image: give images with height and width")
        return _filled(segmentation, size)
    height, width = (int(side) for side in segmentation["size"])
    counts = segmentation["counts"]
    runs = _decompressed(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise StspbrError(f"{path}: run lengths do not fill an image of {width}x{height}: export it again")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # the first run is background
    return flat.reshape(width, height).T  # runs go down the columns


def _decompressed(text: str) -> np.ndarray:
    """COCO's text: numbers in pieces of 5 bits, low ones first; from the fourth on each adds to the one two before."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        piece = ord(letter) - 48
        value |= (piece & 31) << shift
        shift += 5
        if not piece & 32:
            if piece & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return np.array(runs, np.int64)


def _filled(polygons: list[Any], size: tuple[int, int]) -> np.ndarray:
    from PIL import Image, ImageDraw

    picture = Image.new("1", (size[1], size[0]))
    for polygon in polygons:
        ImageDraw.Draw(picture).polygon([float(v) - 0.5 for v in polygon], fill=1)
    return np.array(picture, bool)
