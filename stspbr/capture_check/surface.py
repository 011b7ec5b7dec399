"""The surface that masks and poses alone suggest, and how bright each frame shows it: exposures without a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stspbr.capture_check.frames import MISPLACED, ObjectPlace, mask_kind, mask_offset
from stspbr.colour import luminance_of
from stspbr.datasets.preparation.resampling import reduced_size, resampled
from stspbr.errors import StspbrError
from stspbr.geometry.visual_hull import estimate_box, visual_hull_sdf
from stspbr.scene import Frame
from stspbr.scene.directions import sphere_directions

SIDE = 192  # pixels; the hull is a proxy, and blurring over its errors does the comparison good
_GRID = 32
_POINTS = 2500
_FACING = 0.5  # cosine between normal and line of sight from which a point counts as seen
_FEWEST = 30  # points that a frame must share with others
_PARTNERS = 12  # frames that each is compared with
_ROUNDS, _SETTLED = 6, 0.02  # of reweighting; stops


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
        small = resampled(frame, (0, 0, width, height), reduced_size(width, height, side)).loaded()
        finite = np.isfinite(small.image)
        out.append(small if finite.all() else replace(small, image=np.where(finite, small.image, np.float32(0))))
    return out


def proxy_surface(frames: Sequence[Frame], place: ObjectPlace) -> tuple[ProxySurface, str]:
    """The visual hull's surface, and why it is missing (empty if it is not).

    Args:
        frames: small ones, of :func:`reduced_frames`.
        place: where the object is; its sphere replaces the hull if masks are missing or contradict each other. Masks
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

    Log luminance at a place in a frame is the place's own plus the frame's. Two frames differ by the median over the
    places that both see, which highlights and wrong places do not move; all differences together give the frames'
    stops by least absolute deviations (iteratively reweighted least squares).
    """
    observed = np.stack([_log_luminance(frame, surface) for frame in frames])  # [frames, points], NaN: not seen
    pairs, differences = _differences(observed)
    stops = _solved(pairs, differences, len(frames))
    known_frames = np.zeros(len(frames), bool)
    known_frames[pairs.ravel()] = True
    if not known_frames.any():
        return ExposureFit([None] * len(frames), 0.0)
    stops -= np.median(stops[known_frames])
    evened = observed[known_frames] - stops[known_frames, None]
    evened = evened[:, np.isfinite(evened).sum(axis=0) > 1]
    left = np.abs(evened - _medians(evened.T))
    out = [float(value) if known else None for value, known in zip(stops, known_frames, strict=True)]
    return ExposureFit(out, float(1.48 * np.median(left[np.isfinite(left)])))


def _differences(observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs ``[P, 2]`` of frames that see the same places, each frame with those it shares most with; ``[P]`` stops."""
    seen = np.isfinite(observed)
    shared = seen.astype(np.float32) @ seen.T.astype(np.float32)
    np.fill_diagonal(shared, 0)
    rows, others = np.arange(len(shared))[:, None], np.argsort(-shared, axis=1, kind="stable")[:, :_PARTNERS]
    pairs = np.sort(np.stack(np.broadcast_arrays(rows, others), axis=-1)[shared[rows, others] >= _FEWEST], axis=-1)
    chosen = np.unique(pairs, axis=0)
    both = [observed[i, seen[i] & seen[j]] - observed[j, seen[i] & seen[j]] for i, j in chosen]
    return chosen, np.array([float(np.median(values)) for values in both])


def _solved(pairs: np.ndarray, differences: np.ndarray, count: int) -> np.ndarray:
    """``[count]`` stops whose differences over ``pairs`` are nearest to ``differences``; their mean is 0."""
    stops, weights = np.zeros(count), np.ones(len(pairs))
    if len(pairs) == 0:
        return stops
    rows = np.arange(len(pairs))
    system = np.zeros((len(pairs), count))
    system[rows, pairs[:, 0]], system[rows, pairs[:, 1]] = 1.0, -1.0
    for _ in range(_ROUNDS):
        normal = system.T @ (weights[:, None] * system)
        stops = np.linalg.pinv(normal, hermitian=True) @ (system.T @ (weights * differences))
        weights = 1.0 / np.maximum(np.abs(system @ stops - differences), _SETTLED)
    return stops


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
    chosen = np.linspace(0, len(points) - 1, min(len(points), _POINTS)).astype(np.int64)
    return points[chosen], normals[chosen]


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
    luminance = luminance_of(frame.image[y, x]) / np.maximum(alpha, 1e-6)
    # clipped pixels say only "at least": they would hide that a frame is brighter
    seen &= (alpha > 0.9) & (luminance > 0) & (luminance < 0.95 * frame.saturation)
    return np.where(seen, np.log2(np.maximum(luminance, 1e-12)), np.nan)
