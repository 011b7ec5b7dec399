"""The surface that masks and poses alone suggest, and how bright each frame shows it: exposures without a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stspbr.errors import StspbrError
from stspbr.geometry.visual_hull import estimate_box, visual_hull_sdf
from stspbr.metrics.capture_coverage import sphere_directions
from stspbr.metrics.capture_frames import MISPLACED, ObjectPlace, mask_kind, mask_offset
from stspbr.scene import Frame
from stspbr.scene.resampling import resampled

SIDE = 192  # pixels; the hull is a proxy, and blurring over its errors does the comparison good
_GRID = 32
_POINTS = 2500
_FACING = 0.5  # cosine between normal and line of sight from which a point counts as seen
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_FEWEST = 30  # points that a frame must share with others
_ROUNDS, _SETTLED = 20, 1e-3  # stops


@dataclass(frozen=True)
class ProxySurface:
    """Points and unit normals, ``[N, 3]`` each, in object space; ``from_masks`` False: those of a sphere."""

    points: np.ndarray
    normals: np.ndarray
    from_masks: bool


@dataclass(frozen=True)
class ExposureFit:
    """Exposures without a chart.

    Attributes:
        stops: how many stops brighter each frame shows the surface than the others do; None where it shares too little.
        scatter: how much one place differs between frames once these are taken out, in stops (1.48 times the median
            deviation). Near 0.1 for matte objects; where it nears 1, as on polished metal, the stops say little.
    """

    stops: list[float | None]
    scatter: float

    @property
    def spread(self) -> float | None:
        """Stops from the darkest to the brightest frame."""
        known = [value for value in self.stops if value is not None]
        return max(known) - min(known) if known else None


def reduced_frames(frames: Sequence[Frame], side: int = SIDE) -> list[Frame]:
    """The frames with no side above ``side`` pixels; NaN and infinities become 0."""
    out = []
    for frame in frames:
        width, height = frame.camera.width, frame.camera.height
        scale = max(1.0, max(width, height) / side)
        size = max(1, round(width / scale)), max(1, round(height / scale))
        small = resampled(frame, (0, 0, width, height), size)
        finite = np.isfinite(small.image)
        out.append(small if finite.all() else replace(small, image=np.where(finite, small.image, np.float32(0))))
    return out


def proxy_surface(frames: Sequence[Frame], place: ObjectPlace) -> tuple[ProxySurface, str]:
    """The visual hull's surface, and why it could not be had (empty where it could).

    Args:
        frames: small ones, of :func:`reduced_frames`.
        place: where the object is; its sphere stands in where masks are missing or contradict each other. Masks
            that lie elsewhere are left out: one of them would cut away what all others show.
    """
    masked = [frame for frame in frames if mask_kind(frame) == "mask" and mask_offset(frame, place) <= MISPLACED]
    fault = ""
    if place.from_masks and len(masked) >= 2:
        try:
            points, normals = _hull(masked)
            if len(points):
                return ProxySurface(points, normals, from_masks=True), ""
            fault = "the masks leave nothing of the object where all of them see it"
        except StspbrError as error:
            fault = str(error)
    directions = sphere_directions(_POINTS // 4)
    return ProxySurface(place.centre + place.radius * directions, directions, from_masks=False), fault


def relative_stops(frames: Sequence[Frame], surface: ProxySurface) -> ExposureFit:
    """Exposures of the frames relative to their median, from how bright they show the same places.

    Log luminance at a place in a frame is the place's own plus the frame's; both are found by alternating medians,
    which highlights and wrong places do not move. What only one view shows does not count.
    """
    observed = np.stack([_log_luminance(frame, surface) for frame in frames])  # [frames, points], NaN: not seen
    seen = np.isfinite(observed)
    observed[:, seen.sum(axis=0) < 2] = np.nan
    seen = np.isfinite(observed)
    enough = seen.sum(axis=1) >= _FEWEST
    observed = observed[enough]
    if len(observed) < 2:
        return ExposureFit([None] * len(frames), 0.0)
    stops = np.zeros(len(observed))
    points = np.isfinite(observed).any(axis=0)
    observed = observed[:, points]
    for _ in range(_ROUNDS):
        before = stops
        own = _medians((observed - stops[:, None]).T)
        stops = _medians(observed - own)
        stops -= np.median(stops)
        if np.abs(stops - before).max() < _SETTLED:
            break
    out: list[float | None] = [None] * len(frames)
    for k, value in zip(np.flatnonzero(enough), stops, strict=True):
        out[k] = float(value)
    left = np.abs(observed - stops[:, None] - own)
    return ExposureFit(out, float(1.48 * np.median(left[np.isfinite(left)])))


def _hull(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    low, high = estimate_box(frames)
    axes = [np.linspace(low[k], high[k], _GRID) for k in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    sdf = visual_hull_sdf(grid.reshape(-1, 3).astype(np.float32), frames).reshape(_GRID, _GRID, _GRID)
    step = (high - low) / (_GRID - 1)
    gradient = np.stack(np.gradient(sdf, *step), axis=-1)
    length = np.linalg.norm(gradient, axis=-1)
    near = (np.abs(sdf) < 0.75 * step.max()) & (length > 0.3)
    normals = gradient[near] / length[near][:, None]
    points = grid[near] - normals * (sdf[near] / length[near])[:, None]
    if len(points) > _POINTS:
        chosen = np.linspace(0, len(points) - 1, _POINTS).astype(np.int64)
        points, normals = points[chosen], normals[chosen]
    return points, normals


def _medians(rows: np.ndarray) -> np.ndarray:
    """The medians of rows without their NaNs (each has a number); sorting puts NaNs last."""
    ordered, count = np.sort(rows, axis=1), np.isfinite(rows).sum(axis=1)
    index = np.arange(len(rows))
    return 0.5 * (ordered[index, (count - 1) // 2] + ordered[index, count // 2])


def _log_luminance(frame: Frame, surface: ProxySurface) -> np.ndarray:
    """``[N]`` log2 of the straight luminance where each point is seen, NaN where it is not."""
    camera, pose = frame.camera, np.asarray(frame.object_to_world, np.float64)
    local = surface.points @ (m := camera.world_to_camera @ pose)[:3, :3].T + m[:3, 3]
    depth = np.maximum(-local[:, 2], 1e-9)
    column = np.floor(camera.cx + camera.fx * local[:, 0] / depth)
    row = np.floor(camera.cy - camera.fy * local[:, 1] / depth)
    height, width = frame.image.shape[:2]
    seen = (local[:, 2] < 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    facing = -(surface.normals @ m[:3, :3].T * local).sum(axis=1) / np.maximum(np.linalg.norm(local, axis=1), 1e-12)
    seen &= facing > _FACING
    x, y = np.where(seen, column, 0).astype(np.int64), np.where(seen, row, 0).astype(np.int64)
    alpha = frame.alpha[y, x, 0] if mask_kind(frame) == "mask" else np.ones(len(x), np.float32)
    luminance = frame.image[y, x] @ _LUMINANCE / np.maximum(alpha, 1e-6)
    # clipped pixels say only "at least": they would hide that a frame is brighter
    seen &= (alpha > 0.9) & (luminance > 0) & (luminance < 0.95 * frame.saturation)
    return np.where(seen, np.log2(np.maximum(luminance, 1e-12)), np.nan)
