"""One size for all frames: which part of each image is kept, and on how many pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.datasets.preparation.resampling import Box
from stspbr.datasets.validation import Log
from stspbr.errors import StspbrError
from stspbr.scene.capture import Frame
from stspbr.scene.object_sphere import estimate_object_sphere, mask_summary, project

_Size = tuple[int, int]
_CROP_MULTIPLE = 8  # so that coarse stages can halve the frames
_SAME_SIZE = 1.05  # finer by less than this is as fine


@dataclass(frozen=True)
class Framing:
    """``boxes``: left, top, width, height in each frame's own pixels; ``sizes``: (width, height) they come to."""

    boxes: list[Box]
    sizes: list[_Size]


def plan_framing(
    frames: Sequence[Frame],
    *,
    image_scale: float = 1.0,
    max_side: int | None = None,
    crop: bool = False,
    crop_margin: float = 0.1,
    on_warning: Log = None,
) -> Framing:
    """What to keep of each frame so that all have one size, seen through unchanged rays.

    Images of several resolutions first come to a like footprint on the object: those that are finer than the
    median are reduced to it. Then a window of one size is laid over each: on the object's mask with ``crop``, else
    about the image's middle; what it shows beside the image is empty. Last all are reduced alike.

    Args:
        image_scale: divides the sides; any number of at least 1.
        max_side: the longest side afterwards.
        crop: keep the mask's box and a margin of ``crop_margin`` times its longer side, all around.
        on_warning: called where padding would cut off an object that runs out of its image.

    Raises:
        StspbrError: ``crop`` and a frame whose mask is empty or covers everything.
    """
    matched_sizes = _matched_sizes(frames)
    canvas = max(w for w, _ in matched_sizes), max(h for _, h in matched_sizes)
    mixed = any(size != canvas for size in matched_sizes)
    if crop:
        masks = [_mask_box(frame, size) for frame, size in zip(frames, matched_sizes, strict=True)]
        canvas = _crop_size(masks, canvas, crop_margin)
        corners = [_placed(mask, size, canvas) for mask, size in zip(masks, matched_sizes, strict=True)]
    else:
        corners = [(-((canvas[0] - w) // 2), -((canvas[1] - h) // 2)) for w, h in matched_sizes]
    if mixed or crop:
        _warn_of_cuts(frames, matched_sizes, corners, canvas, on_warning)
    reduction = max(image_scale, max(canvas) / max_side if max_side else 1.0)
    width, height = (max(1, round(side / reduction)) for side in canvas)
    boxes = []
    for frame, (w, h), (left, top) in zip(frames, matched_sizes, corners, strict=True):
        x, y = frame.camera.width / w, frame.camera.height / h
        boxes.append((left * x, top * y, canvas[0] * x, canvas[1] * y))
    return Framing(boxes, [(width, height)] * len(boxes))


def _matched_sizes(frames: Sequence[Frame]) -> list[_Size]:
    """Each frame's size after reduction to the median footprint; its own where all have one resolution."""
    sizes = [(frame.camera.width, frame.camera.height) for frame in frames]
    kinds = [tuple(sorted(size)) for size in sizes]  # an upright image is as fine as a lying one
    if len(set(kinds)) == 1:
        return sizes
    density = _pixels_per_unit(frames)
    of_kind = {kind: float(np.median([d for d, k in zip(density, kinds, strict=True) if k == kind])) for kind in kinds}
    target = float(np.percentile([of_kind[kind] for kind in kinds], 50, method="lower"))
    out = []
    for (w, h), kind in zip(sizes, kinds, strict=True):
        reduction = of_kind[kind] / target
        out.append((w, h) if reduction < _SAME_SIZE else (max(1, round(w / reduction)), max(1, round(h / reduction))))
    return out


def _pixels_per_unit(frames: Sequence[Frame]) -> list[float]:
    """Pixels per unit of length at the object; per radian if its place is unknown."""
    focal = [math.sqrt(frame.camera.fx * frame.camera.fy) for frame in frames]
    sphere = estimate_object_sphere([frame for frame in frames if frame.summary(mask_summary).is_mask])
    if sphere is None:
        return focal
    depths = [project(frame, sphere[0])[0] for frame in frames]
    if min(depths) <= 0:
        return focal
    return [f / depth for f, depth in zip(focal, depths, strict=True)]


def _mask_box(frame: Frame, like: _Size) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the mask, in pixels of the size ``like``."""
    mask = frame.summary(mask_summary)
    if not mask.is_mask or mask.box is None:
        what = "is empty" if mask.box is None else "covers the whole image"
        raise StspbrError(f"frame {frame.name}: its mask {what}: --crop needs the place of the object")
    x, y = like[0] / frame.camera.width, like[1] / frame.camera.height
    left, top, right, bottom = mask.box
    return left * x, top * y, right * x, bottom * y


def _crop_size(masks: Sequence[Box], canvas: _Size, margin: float) -> _Size:
    """A window that every mask fits into with its margin, no larger than the largest image."""
    boxes = np.array(masks)
    sides = boxes[:, 2:] - boxes[:, :2]
    wide, high = (sides + 2.0 * margin * sides.max(axis=1, keepdims=True)).max(axis=0).tolist()
    wide, high = (math.ceil(side / _CROP_MULTIPLE) * _CROP_MULTIPLE for side in (wide, high))
    return min(wide, canvas[0]), min(high, canvas[1])


def _placed(mask: Box, like: _Size, window: _Size) -> _Size:
    """The window's corner: about the mask, but on the image as far as that reaches."""
    corner = []
    for low, high, length, side in zip(mask[:2], mask[2:], like, window, strict=True):
        wanted = math.floor(0.5 * (low + high) - 0.5 * side + 0.5)
        corner.append(min(max(wanted, 0), length - side) if side <= length else -((side - length) // 2))
    return corner[0], corner[1]


def _warn_of_cuts(
    frames: Sequence[Frame], matched_sizes: Sequence[_Size], corners: Sequence[_Size], canvas: _Size, on_warning: Log
) -> None:
    """An object that runs out of its image would seem to end where padding begins."""
    for frame, (w, h), (left, top) in zip(frames, matched_sizes, corners, strict=True):
        box, camera = frame.summary(mask_summary).box, frame.camera
        padded = box is not None and (
            (left < 0 and box[0] == 0)
            or (top < 0 and box[1] == 0)
            or (left + canvas[0] > w and box[2] == camera.width)
            or (top + canvas[1] > h and box[3] == camera.height)
        )
        if padded and on_warning is not None:
            on_warning(
                f"frame {frame.name}: the object runs out of the image where it is padded to the common size, and "
                "will seem to end there: leave the frame out, or use images of one size"
            )
