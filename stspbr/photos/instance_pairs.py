"""Two copies at a time: which matches agree with one rigid motion, and which pairs contradict the others.

From the second copy on, every copy is the same object before another virtual camera; all of these have the lens of the
one real camera, and key points in pixels of the whole photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.special import gammaln

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_features import Features, Matches

FEW = 25  # inliers: a pair with fewer is tried again with more features
_ERROR = 1.5  # pixels of the photo
_LEAST, _SHARE = 15, 0.30  # inliers, and their share of the matches
_CHANCE = 1e-3  # how many motions may fit as well in matches that are all by chance
_SPREAD = 0.10  # of a mask's area that the inliers' convex hull must have
_CLOSES = 8.0  # degrees by which three relative rotations may miss the identity
_MOST_PLANAR = 0.8  # of the inliers: above, a plane explains the pair, and its motion is one of two

Pair = tuple[int, int]


@dataclass(frozen=True)
class TwoView:
    """A pair of copies that fit together.

    Attributes:
        inliers: ``[M, 2]`` int64 indices of the features of both.
        rotations: the relative rotations ``[3, 3]`` that are possible (first to second, OpenCV axes): one as a rule,
            more where the inliers lie in a plane.
        matches: of how many matches.
    """

    inliers: np.ndarray
    rotations: tuple[np.ndarray, ...]
    matches: int


def photo_camera(pycolmap: Any, focal: float, size: tuple[int, int]) -> Any:
    """COLMAP's camera of the photo ``(width, height)``: one focal length, the principal point in the middle."""
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", focal, *size)
    camera.has_prior_focal_length = True
    return camera


def two_view(
    pycolmap: Any, camera: Any, first: Features, second: Features, found: Matches, areas: tuple[int, int], seed: int = 0
) -> TwoView | None:
    """The rigid motion that most matches agree with; None if they are too few to say.

    Args:
        areas: pixels of both masks.
    """
    if len(found.pairs) < _LEAST:
        return None
    geometry = _estimated(pycolmap, camera, first, second, found.pairs, seed)
    if geometry is None or len(geometry.inlier_matches) < _LEAST:
        return None
    # what is found along the epipolar lines afterwards proves nothing
    agreeing = len(geometry.inlier_matches)
    if agreeing < _SHARE * len(found.pairs) or false_alarms(len(found.pairs), agreeing, max(areas)) > _CHANCE:
        return None
    matches = _guided(camera, geometry, first, second, found)
    if len(matches) > len(geometry.inlier_matches):
        again = _estimated(pycolmap, camera, first, second, matches, seed)
        if again is not None and len(again.inlier_matches) > len(geometry.inlier_matches):
            geometry = again
    inliers = np.asarray(geometry.inlier_matches, np.int64)
    spread = all(
        _hull_area(features.points[inliers[:, k]]) >= _SPREAD * area
        for k, (features, area) in enumerate(zip((first, second), areas, strict=True))
    )
    if not spread:
        return None
    return TwoView(inliers, _rotations(pycolmap, camera, geometry, first, second, inliers), len(found.pairs))


def false_alarms(matches: int, inliers: int, area: int) -> float:
    """How many motions are expected to have so many inliers if all matches are by chance.

    The a-contrario criterion of Moisan and Stival (IJCV 57, 2004), equation 11, for the essential matrix: five matches
    fix it, with up to ten solutions.

    Args:
        matches, inliers: their numbers.
        area: pixels of a copy, anywhere in which a match by chance lies.
    """
    if inliers <= 5:
        return float("inf")
    chance = min(2.0 * _ERROR * float(np.sqrt(2.0 * area)) / area, 1.0)  # the share that an epipolar line's band has
    ways = np.log(10.0 * (matches - 5)) + _log_choices(matches, inliers) + _log_choices(inliers, 5)
    return float(np.exp(min(ways + (inliers - 5) * np.log(chance), 700.0)))


def _log_choices(count: int, chosen: int) -> float:
    return float(gammaln(count + 1) - gammaln(chosen + 1) - gammaln(count - chosen + 1))


def consistent(pairs: Mapping[Pair, TwoView]) -> dict[Pair, TwoView]:
    """The pairs that close more triangles of rotations than they break; those in no triangle stay.

    A print that repeats gives pairs that are wrong and fit well: they do not fit the others.
    """
    kept = dict(pairs)
    while True:
        closed, broken = dict.fromkeys(kept, 0), dict.fromkeys(kept, 0)
        for a, b, c in combinations(sorted({k for pair in kept for k in pair}), 3):
            sides = [(a, b), (b, c), (a, c)]
            if all(side in kept for side in sides):
                count = closed if _closes(*(kept[side] for side in sides)) else broken
                for side in sides:
                    count[side] += 1
        bad = [pair for pair in kept if broken[pair] > closed[pair]]
        if not bad:
            return kept
        # the worst alone: what it broke may close without it
        del kept[max(bad, key=lambda pair: (broken[pair] - closed[pair], -len(kept[pair].inliers)))]


def _closes(ab: TwoView, bc: TwoView, ac: TwoView) -> bool:
    return any(
        rotation_angle(last.T @ second @ first) <= _CLOSES
        for first in ab.rotations
        for second in bc.rotations
        for last in ac.rotations
    )


def _estimated(pycolmap: Any, camera: Any, first: Features, second: Features, pairs: np.ndarray, seed: int) -> Any:
    """Of a calibrated camera; None where only an uncalibrated one fits: that many parameters fit by chance."""
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error, options.ransac.random_seed = _ERROR, seed
    options.ransac.max_num_trials, options.ransac.min_num_trials = 20_000, 1000
    options.min_num_inliers, options.compute_relative_pose = _LEAST, True
    options.ransac.num_threads = 1
    points = [features.points.astype(np.float64) for features in (first, second)]
    found = pycolmap.estimate_calibrated_two_view_geometry(
        camera, points[0], camera, points[1], np.ascontiguousarray(pairs, np.uint32), options
    )
    kinds = pycolmap.TwoViewGeometryConfiguration
    good = (kinds.CALIBRATED, kinds.PLANAR, kinds.PLANAR_OR_PANORAMIC)
    return found if found.config in [int(kind) for kind in good] or found.config in good else None


def _guided(camera: Any, geometry: Any, first: Features, second: Features, found: Matches) -> np.ndarray:
    """The first match of each point among its candidates that obeys the motion; ``[M, 2]``."""
    from stspbr.photos.instance_features import CANDIDATES

    essential = _essential(geometry)
    if essential is None:
        return np.asarray(geometry.inlier_matches, np.int64)
    inverse = np.linalg.inv(camera.calibration_matrix())
    fundamental = inverse.T @ essential @ inverse
    rows = np.repeat(np.arange(len(found.candidates)), CANDIDATES)
    columns = found.candidates.ravel()
    a = np.column_stack([first.points[rows], np.ones(len(rows))])
    b = np.column_stack([second.points[columns], np.ones(len(rows))])
    there, back = a @ fundamental.T, b @ fundamental
    sampson = (b * there).sum(axis=1) ** 2 / np.maximum(
        (there[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1), 1e-12
    )
    likeness = (first.descriptors[rows] * second.descriptors[columns]).sum(axis=1)
    good = np.flatnonzero((sampson <= _ERROR**2) & (likeness > 0.8))
    known = np.asarray(geometry.inlier_matches, np.int64)
    taken = (set(known[:, 0].tolist()), set(known[:, 1].tolist()))
    out = [known]
    for k in good[np.argsort(-likeness[good], kind="stable")]:
        row, column = int(rows[k]), int(columns[k])
        if row not in taken[0] and column not in taken[1]:
            taken[0].add(row)
            taken[1].add(column)
            out.append(np.array([[row, column]], np.int64))
    return np.concatenate(out)


def _essential(geometry: Any) -> np.ndarray | None:
    motion = geometry.cam2_from_cam1
    if motion is None:
        return None
    x, y, z = motion.translation
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ motion.rotation.matrix()


def _rotations(
    pycolmap: Any, camera: Any, geometry: Any, first: Features, second: Features, inliers: np.ndarray
) -> tuple[np.ndarray, ...]:
    own = () if geometry.cam2_from_cam1 is None else (geometry.cam2_from_cam1.rotation.matrix(),)
    points = [np.ascontiguousarray(f.points[inliers[:, k]], np.float64) for k, f in enumerate((first, second))]
    options = pycolmap.RANSACOptions()
    options.max_error, options.random_seed = _ERROR, 0
    found = pycolmap.estimate_homography_matrix(points[0], points[1], options)
    if found is None or found["num_inliers"] <= _MOST_PLANAR * len(inliers):
        return own
    import cv2

    # the normals of the plane do not matter, only the rotations that it allows
    matrix = np.asarray(found["H"], np.float64)
    _, rotations, _, _ = cv2.decomposeHomographyMat(matrix, camera.calibration_matrix())
    out = list(own)
    for rotation in rotations:
        if all(rotation_angle(rotation.T @ other) > 1.0 for other in out):
            out.append(rotation)
    return tuple(out)


def _hull_area(points: np.ndarray) -> float:
    try:
        return float(ConvexHull(np.asarray(points, np.float64)).volume)
    except (QhullError, ValueError):
        return 0.0
