"""Captures made to fit formats with less than ours: no object poses, no principal point, one focal length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stspbr.datasets.preparation.light_frame import on_object
from stspbr.datasets.validation import Log
from stspbr.errors import StspbrError
from stspbr.notes import first_few
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import turned_light

_EXACT = 1e-6  # pixels, and relative for focal lengths: less than this is rounding
_MOST_RESAMPLING = 1.05  # focal lengths further apart than this are not made one by resampling


def folded(capture: Capture, on_warning: Log = None) -> Capture:
    """The same capture with every object pose the identity: the cameras move instead, and every ray stays.

    If all poses are equal, the world is turned as a whole, with its light. If the object moves, the light turns
    with each camera, so that a known light is left out, with a warning.
    """
    poses = [np.asarray(frame.object_to_world, np.float64) for frame in capture.frames]
    frames = [on_object(frame) for frame in capture.frames]
    if all(np.array_equal(pose, np.eye(4)) for pose in poses):
        return capture
    if all(np.array_equal(pose, poses[0]) for pose in poses):
        return Capture(frames, capture.light and turned_light(capture.light, poses[0][:3, :3].T))
    if on_warning is not None:
        light = ", and the known light is left out" if capture.light is not None else ""
        on_warning(
            f"the object moves in {len(frames)} frames, which the format cannot store: the cameras move instead, so "
            f"that the light turns with them{light}"
        )
    return Capture(frames)


def centred(frames: Sequence[Frame], where: str, on_warning: Log = None, *, one_focal: bool) -> list[Frame]:
    """Frames of one size with square pixels and the principal point in the middle.

    If the principal point lies on a pixel's centre or corner, this is padding by empty pixels and exact. Otherwise
    the image is resampled bilinearly, shifted by at most a quarter of a pixel or so, with a warning; rays stay exact.

    Args:
        where: the format's name, for errors and warnings.
        one_focal: all frames get the same focal length.

    Raises:
        StspbrError: pixels that are not square, or focal lengths, more than 5 % apart.
    """
    focals = [max(frame.camera.fx, frame.camera.fy) for frame in frames]
    for frame in frames:
        if max(frame.camera.fx / frame.camera.fy, frame.camera.fy / frame.camera.fx) > _MOST_RESAMPLING:
            raise StspbrError(
                f"frame {frame.name}: fx is {frame.camera.fx:g} and fy {frame.camera.fy:g}, but {where} holds square "
                "pixels only: export to nerfstudio or colmap"
            )
    if one_focal:
        if max(focals) > _MOST_RESAMPLING * min(focals):
            lowest, highest = (frames[int(pick(focals))] for pick in (np.argmin, np.argmax))
            raise StspbrError(
                f"the focal lengths reach from {min(focals):g} (frame {lowest.name}) to {max(focals):g} (frame "
                f"{highest.name}), but {where} holds one for all: export to nerfstudio or colmap"
            )
        focals = [max(focals)] * len(frames)
    width = _side([(f.camera.cx, f.camera.width, k / f.camera.fx) for f, k in zip(frames, focals, strict=True)])
    height = _side([(f.camera.cy, f.camera.height, k / f.camera.fy) for f, k in zip(frames, focals, strict=True)])
    out, resampled = [], []
    for frame, focal in zip(frames, focals, strict=True):
        camera = replace(frame.camera, fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)
        made = _padded(frame, camera)
        if made is None:
            made = _resampled(frame, camera)
            resampled.append(frame.name)
        out.append(made)
    if resampled and on_warning is not None:
        on_warning(
            f"{first_few(resampled)} of {len(frames)} frames are resampled: {where} holds no principal point, and "
            "theirs is off a pixel's centre or corner, or their focal lengths differ a little"
        )
    return out


def _side(places: list[tuple[float, int, float]]) -> int:
    """The smallest side that holds all images about its middle; of its parity and the next the one that more fit.

    Args:
        places: principal point, side and magnification of each image.
    """
    half = max(max(centre, side - centre) * scale for centre, side, scale in places)
    smallest = math.ceil(2 * half - _EXACT)

    def exact(side: int) -> int:
        return sum(_whole(side / 2 - centre) for centre, _, scale in places if abs(scale - 1) < _EXACT)

    return max((smallest, smallest + 1), key=exact)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < _EXACT


def _padded(frame: Frame, camera: Camera) -> Frame | None:
    """The frame with empty pixels around it, or None where these would not be whole."""
    own = frame.camera
    left, top = camera.cx - own.cx, camera.cy - own.cy
    same = abs(own.fx / camera.fx - 1) < _EXACT and abs(own.fy / camera.fy - 1) < _EXACT
    if not (same and _whole(left) and _whole(top)):
        return None
    x, y = round(left), round(top)
    rows = ((y, camera.height - own.height - y), (x, camera.width - own.width - x), (0, 0))
    known = None if frame.known is None else np.pad(frame.known, rows, constant_values=1.0)
    return replace(frame, camera=camera, image=np.pad(frame.image, rows), alpha=np.pad(frame.alpha, rows), known=known)


def _resampled(frame: Frame, camera: Camera) -> Frame:
    own = frame.camera
    x = own.cx + own.fx / camera.fx * (np.arange(camera.width) + 0.5 - camera.cx) - 0.5
    y = own.cy + own.fy / camera.fy * (np.arange(camera.height) + 0.5 - camera.cy) - 0.5
    unknown = np.zeros_like(frame.alpha) if frame.known is None else 1.0 - frame.known
    layers = np.pad(np.concatenate([frame.image, frame.alpha, unknown], axis=-1), ((1, 1), (1, 1), (0, 0)))
    layers = _linear(_linear(layers, y + 1).swapaxes(0, 1), x + 1).swapaxes(0, 1)
    known = None if frame.known is None else 1.0 - layers[..., 4:]
    return replace(frame, camera=camera, image=layers[..., :3].copy(), alpha=layers[..., 3:4].copy(), known=known)


def _linear(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows at fractional places; the first and the last are empty, and so is all outside."""
    places = np.clip(places, 0, len(rows) - 1)
    low = np.minimum(np.floor(places).astype(int), len(rows) - 2)
    weight = (places - low).astype(np.float32)[:, None, None]
    return rows[low] * (1 - weight) + rows[low + 1] * weight
