"""Metrics of a capture's frames one by one: sharpness, brightness, clipping, the mask, and where the camera stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from stspbr.colour import luminance_of
from stspbr.datasets.preparation.resampling import area_resampled, reduced_size
from stspbr.metrics.sharpness import sharpness
from stspbr.scene import Frame
from stspbr.scene.object_sphere import COVERED, estimate_object_sphere, mask_place, project
from stspbr.threads import available_cores

SIDE = 1024  # metrics are taken from images of at most this side: what is blurred only above it does no harm
_SMALL = 0.005  # of the mask: smaller holes and pieces look like mistakes of a mask, larger ones like the object
_CLIPPED = 0.999
MISPLACED = 0.75  # radii of the object: a mask farther off is of something else, or its pose is wrong


@dataclass
class FrameMetrics:
    """One frame. What cannot be known (no mask, no object found) is None.

    Attributes:
        mask: ``"mask"``, ``"none"`` (covers everything) or ``"empty"``.
        covered: share of the image that the mask covers.
        border_sides: sides of the image that the mask touches.
        small_holes, small_pieces: holes in the mask, and parts apart from the largest, each below 0.5 % of it.
        hole_share: all holes over the mask's area.
        clipped: share of the object's pixels at the sensor's limit.
        brightness: median over the object of log2 luminance, in stops.
        sharpness: variance of the Laplacian of the display-encoded luminance inside the mask, its median brought to
            mid-grey first, so that exposure does not count.
        bad_pixels: NaN, infinite or negative ones.
        colour_outside: largest radiance where the mask is 0.
        direction: unit vector in object space from the object to the camera; with ``azimuth`` and ``elevation`` in
            degrees (0 is +Z, to +X; +Y is up) and ``distance``.
        area: the silhouette's, in squared units of length at the object's distance.
        offset: from the mask's centroid to where the pose puts the object's centre, in radii of the object.
    """

    name: str
    split: str
    width: int
    height: int
    mask: str = "none"
    covered: float = 0.0
    border_sides: list[str] = field(default_factory=list)
    small_holes: int = 0
    small_pieces: int = 0
    hole_share: float = 0.0
    clipped: float | None = None
    brightness: float | None = None
    sharpness: float | None = None
    bad_pixels: int = 0
    colour_outside: float = 0.0
    direction: list[float] | None = None
    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    area: float | None = None
    offset: float | None = None


@dataclass(frozen=True)
class ObjectPlace:
    """Sphere about the object in object space; ``from_masks`` False: only where the cameras look."""

    centre: np.ndarray
    radius: float
    from_masks: bool


def mask_kind(frame: Frame) -> str:
    """``"mask"``, ``"none"`` (every pixel is covered, or the mask has another size) or ``"empty"``."""
    return frame.summary(_mask_kind)


def _mask_kind(frame: Frame) -> str:
    if frame.alpha.shape[:2] != frame.image.shape[:2] or not np.isfinite(frame.alpha).all():
        return "none"
    if frame.alpha.max(initial=0.0) <= COVERED:
        return "empty"
    return "none" if frame.alpha.min() > COVERED else "mask"


def place_object(frames: Sequence[Frame]) -> ObjectPlace | None:
    """Where the object is: from the masks, else from what the cameras look at; None if neither determines it."""
    masked = [frame for frame in frames if mask_kind(frame) == "mask"]
    sphere = estimate_object_sphere(masked)
    if sphere is not None:
        return ObjectPlace(*sphere, from_masks=True)
    sphere = estimate_object_sphere([frame for frame in frames if mask_kind(frame) == "none"])
    # the images' own half angle: an object that fills half of the picture is the usual case
    return None if sphere is None else ObjectPlace(sphere[0], 0.5 * sphere[1], from_masks=False)


def mask_offset(frame: Frame, place: ObjectPlace) -> float:
    """From the mask's centroid to where the pose puts the object's centre, in radii of the object."""
    depth, x, y = project(frame, place.centre)
    mask_x, mask_y, _ = mask_place(frame)
    across = math.hypot((x - mask_x) / frame.camera.fx, (y - mask_y) / frame.camera.fy) * abs(depth)
    return across / max(place.radius, 1e-12)


def frame_metrics(frames: Sequence[Frame], place: ObjectPlace | None) -> list[FrameMetrics]:
    """The metrics of every frame, in order; frames are worked on in parallel."""

    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(lambda frame: _measured(frame, place), frames))


def _measured(frame: Frame, place: ObjectPlace | None) -> FrameMetrics:
    height, width = frame.image.shape[:2]
    metrics = FrameMetrics(frame.name, frame.split, width, height, mask=mask_kind(frame))
    finite = np.isfinite(frame.image).all(axis=-1) & (frame.image >= 0).all(axis=-1)
    metrics.bad_pixels = int(finite.size - finite.sum())
    image = np.where(finite[..., None], frame.image, np.float32(0))
    alpha = frame.alpha if metrics.mask != "none" else np.ones((height, width, 1), np.float32)
    _put_clipping(metrics, image, alpha, frame.saturation)
    size = reduced_size(width, height, SIDE)
    image, alpha = (area_resampled(x, (0, 0, width, height), size) for x in (image, alpha))
    covered = alpha[..., 0] > COVERED
    if metrics.mask == "mask":
        _put_mask(metrics, covered)
    if metrics.mask != "empty":
        _put_look(metrics, image, alpha)
    if place is not None:
        _put_place(metrics, frame, place)
    return metrics


def _put_clipping(metrics: FrameMetrics, image: np.ndarray, alpha: np.ndarray, saturation: float) -> None:
    inside = alpha[..., 0] > COVERED
    if inside.any():
        limit = _CLIPPED * saturation
        metrics.clipped = float((image[inside] >= limit).any(axis=-1).mean()) if math.isfinite(saturation) else 0.0
    outside = alpha[..., 0] <= 0
    metrics.colour_outside = float(image[outside].max(initial=0.0))


def _put_mask(metrics: FrameMetrics, covered: np.ndarray) -> None:
    area = int(covered.sum())
    metrics.covered = area / covered.size
    edges = {"left": covered[:, 0], "right": covered[:, -1], "top": covered[0], "bottom": covered[-1]}
    metrics.border_sides = [side for side, edge in edges.items() if edge.any()]
    if not area:  # thinner than a pixel of the reduced image
        return
    holes = ndimage.binary_fill_holes(covered) & ~covered
    pieces = _sizes(covered)
    metrics.hole_share = float(holes.sum() / area)
    metrics.small_holes = int((_sizes(holes) < _SMALL * area).sum())
    metrics.small_pieces = int((np.sort(pieces)[:-1] < _SMALL * area).sum())


def _sizes(mask: np.ndarray) -> np.ndarray:
    """Pixels of each connected part, corners touching counts."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _put_look(metrics: FrameMetrics, image: np.ndarray, alpha: np.ndarray) -> None:
    inside = ndimage.binary_erosion(alpha[..., 0] > 0.99, iterations=2, border_value=1)
    values = luminance_of(image)[inside]
    middle = float(np.median(values)) if values.size >= 16 else 0.0
    if middle <= 0.0:
        return
    metrics.brightness = math.log2(middle)
    metrics.sharpness = sharpness(image, alpha)


def _put_place(metrics: FrameMetrics, frame: Frame, place: ObjectPlace) -> None:
    camera = frame.camera
    depth, _, _ = project(frame, place.centre)
    eye = (np.linalg.inv(np.asarray(frame.object_to_world, np.float64)) @ np.append(camera.position, 1.0))[:3]
    offset = eye - place.centre
    distance = float(np.linalg.norm(offset))
    if not math.isfinite(distance) or distance <= 0.0:
        return
    direction = offset / distance
    metrics.direction, metrics.distance = direction.tolist(), distance
    metrics.azimuth = math.degrees(math.atan2(direction[0], direction[2]))
    metrics.elevation = math.degrees(math.asin(float(np.clip(direction[1], -1.0, 1.0))))
    if metrics.mask == "mask" and depth > 0:
        pixels = metrics.covered * metrics.width * metrics.height
        metrics.area = pixels * depth**2 / (camera.fx * camera.fy)
        metrics.offset = mask_offset(frame, place)
