"""Points that several copies show, found again with the poses that are known by then.

Pairs of copies alone leave matches out that no relative motion of two explained, and keep some that one happened to
explain. With the poses of all, every pair is matched again along its epipolar lines, matches are joined to tracks, and
a track counts only if one point explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stspbr.photos.instance_bundle import Adjusted, FocalPrior, adjusted
from stspbr.photos.instance_features import CANDIDATES, Features, Matches
from stspbr.photos.instance_motions import Bundle, Motions, Observations, PlaneMotions, bundle_of, poses_of
from stspbr.photos.instance_pairs import Pair, TwoView

_ALIKE = 0.9  # scalar product of descriptors that are not each other's nearest
# how far off an observation may be and the kernel's scale, in pixels; whether pairs are matched again: along the
# epipolar lines of wrong poses other matches fit, and hold them there
_ROUNDS = ((30.0, 4.0, False), (8.0, 2.0, False), (3.0, 1.0, True), (2.0, 0.7, True))
_VERIFIED, _MUTUAL = 2.0, 1.0  # what comes first where tracks are joined
_LEAST_ANGLE = 1.5  # degrees between the lines of sight of a point
_FEWEST_POINTS = 20


@dataclass(frozen=True)
class Refined:
    """Poses after the joint adjustment.

    Attributes:
        poses: ``camera_from_object`` ``[4, 4]`` OpenGL axes, by number of the copy.
        points: ``[P, 3]`` in object space; focal: in pixels.
        error: median reprojection error in pixels; inliers: by copy, observations within two pixels.
        shared: by pair of copies, the points that both show.
        deviations: by copy, degrees and translation; focal_deviation: in pixels.
        likelihood: how much of the observations is explained, to compare poses by: each counts by how well, and a
            point by its numbers beyond the three that make it fit. Two copies explain nearly all that they share in
            any pose; a third one that shows the same point does not.
    """

    poses: dict[int, np.ndarray]
    points: np.ndarray
    focal: float
    error: float
    inliers: dict[int, int]
    shared: dict[Pair, int]
    deviations: dict[int, tuple[float, float]]
    focal_deviation: float
    likelihood: float


def refined_poses(
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    pairs: Mapping[Pair, TwoView],
    poses: Mapping[int, np.ndarray],
    focal: float,
    size: tuple[int, int],
    free_focal: bool = False,
    prior: FocalPrior | None = None,
    up: np.ndarray | None = None,
) -> Refined | None:
    """Match again, triangulate again and adjust, four times, each time more strictly; None if too few points are left.

    Args:
        matches: of all pairs; pairs: those that one motion explains, also those that contradict others: it is the
            motion of two that is uncertain, seldom the matches.
        up: ``[3]`` the normal of the plane that all stand on, in the camera's OpenGL axes; the poses must be on it.
    """
    names = list(poses)
    current = dict(poses)
    motions: Motions | None = None if up is None else PlaneMotions(up * (1.0, -1.0, -1.0))
    found: Adjusted | None = None
    few = sum(len(pair.inliers) for names_of, pair in pairs.items() if set(names_of) <= set(names)) < _FEWEST_POINTS
    for number, (reach, scale, again) in enumerate(_ROUNDS):
        bundle, seen = tracked(features, matches if again or few else {}, pairs, current, focal, size, reach)
        if len(bundle.points) < _FEWEST_POINTS:
            return None
        free = free_focal and number > 0  # poses first: the focal length hides their errors
        found, motions = _adjusted(bundle, seen, scale, motions, free, prior)
        current, focal = poses_of(found.bundle, names), found.bundle.focal
    assert found is not None
    error = np.linalg.norm(found.bundle.residuals(seen), axis=1)
    good = error < 2.0
    shared: dict[Pair, int] = {}
    for point in np.unique(seen.point[good]):
        shown = sorted(names[k] for k in seen.copy[good & (seen.point == point)])
        for i, a in enumerate(shown):
            for b in shown[i + 1 :]:
                shared[a, b] = shared.get((a, b), 0) + 1
    deviations = {name: (float(d), float(t)) for name, (d, t) in zip(names, found.deviations, strict=True)}
    inliers = {name: int((good & (seen.copy == k)).sum()) for k, name in enumerate(names)}
    return Refined(current, found.bundle.points, focal, float(np.median(error)), inliers, shared, deviations,
                   found.focal_deviation, _likelihood(seen, error))  # fmt: skip


def _likelihood(seen: Observations, error: np.ndarray) -> float:
    counts = np.bincount(seen.point)[seen.point]
    return float(((1.0 - 1.5 / counts) / (1.0 + error**2)).sum())


def tracked(
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    pairs: Mapping[Pair, TwoView],
    poses: Mapping[int, np.ndarray],
    focal: float,
    size: tuple[int, int],
    reach: float,
) -> tuple[Bundle, Observations]:
    """Points that at least two copies show within ``reach`` pixels, and where they show them."""
    names = list(poses)
    bare = bundle_of(poses, np.zeros((0, 3)), focal, size)
    edges = []
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if (a, b) in pairs:
                inliers = pairs[a, b].inliers
                likeness = (features[a].descriptors[inliers[:, 0]] * features[b].descriptors[inliers[:, 1]]).sum(axis=1)
                ends = np.full(len(inliers), i), inliers[:, 0], np.full(len(inliers), j), inliers[:, 1]
                edges.append(np.column_stack([*ends, _VERIFIED + likeness]))
            if (a, b) in matches:
                edges.append(_guided(bare, (i, j), features[a], features[b], matches[a, b], min(reach, _ROUNDS[1][0])))
    seen = _joined(bare, edges, [features[name].points.astype(np.float64) for name in names], reach)
    points = _triangulated(bare, seen)
    bundle = Bundle(bare.rotations, bare.shifts, points, focal, bare.middle)
    for _ in range(2):  # an outlier takes its point along: what is left of the track is triangulated again
        error = np.linalg.norm(bundle.residuals(seen), axis=1)
        good = (error <= reach) & (bundle.depths(seen) > 0)
        seen = _several(seen.of(good))
        points = _triangulated(bare, seen)
        bundle = Bundle(bare.rotations, bare.shifts, points, focal, bare.middle)
    error = np.linalg.norm(bundle.residuals(seen), axis=1)
    wide = _angles(bundle, seen) >= _LEAST_ANGLE
    seen = _several(seen.of((error <= reach) & (bundle.depths(seen) > 0) & wide[seen.point]))
    return Bundle(bare.rotations, bare.shifts, _triangulated(bare, seen), focal, bare.middle), seen


def _adjusted(
    bundle: Bundle,
    seen: Observations,
    scale: float,
    motions: Motions | None,
    free: bool,
    prior: FocalPrior | None,
) -> tuple[Adjusted, Motions | None]:
    found = adjusted(bundle, seen, scale, motions, free, prior)
    if isinstance(motions, PlaneMotions):  # the plane has moved along with the copies
        motions = PlaneMotions(found.bundle.rotations[0] @ bundle.rotations[0].T @ motions.up)
    return found, motions


def _guided(
    bare: Bundle, pair: tuple[int, int], first: Features, second: Features, found: Matches, reach: float
) -> np.ndarray:
    """``[E, 5]``: copy, feature, copy, feature and likeness of matches along the epipolar lines, each feature once."""
    i, j = pair
    rows = np.concatenate([np.repeat(np.arange(len(found.candidates)), CANDIDATES), found.pairs[:, 0]])
    columns = np.concatenate([found.candidates.ravel(), found.pairs[:, 1]])
    off = _off_line(bare, pair, first.points[rows], second.points[columns])
    likeness = (first.descriptors[rows] * second.descriptors[columns]).sum(axis=1)
    mutual = np.zeros(len(rows), bool)
    mutual[found.candidates.size :] = True
    rank = likeness + _MUTUAL * mutual
    order = np.flatnonzero((off <= reach) & (mutual | (likeness > _ALIKE)))
    order = order[np.argsort(-rank[order], kind="stable")]
    rows, columns, rank = first.place[rows[order]], second.place[columns[order]], rank[order]
    _, once = np.unique(rows, return_index=True)
    kept = np.zeros(len(rows), bool)
    kept[once] = True
    _, once = np.unique(columns, return_index=True)
    other = np.zeros(len(rows), bool)
    other[once] = True
    kept &= other
    count = int(kept.sum())
    return np.column_stack([np.full(count, i), rows[kept], np.full(count, j), columns[kept], rank[kept]])


def _off_line(bare: Bundle, pair: tuple[int, int], here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """``[K]`` pixels of points ``[K, 2]`` of two copies from each other's epipolar lines."""
    i, j = pair
    rotation = bare.rotations[j] @ bare.rotations[i].T
    x, y, z = bare.shifts[j] - rotation @ bare.shifts[i]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    a, b = (np.column_stack([(points - bare.middle) / bare.focal, np.ones(len(points))]) for points in (here, there))
    forth, back = a @ essential.T, b @ essential
    norm = (forth[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1)
    return np.abs((b * forth).sum(axis=1)) / np.sqrt(np.maximum(norm, 1e-18)) * bare.focal


def _joined(bare: Bundle, edges: list[np.ndarray], points: list[np.ndarray], reach: float) -> Observations:
    """Tracks: matches joined, the most alike first, if one point explains all of the track; a copy shows it once.

    Along an epipolar line much fits by chance. Without the check, one such match joins two points, and both are lost.
    """
    if not edges:
        return Observations(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))
    rows = np.concatenate(edges)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    lines = [_lines(bare, np.full(len(own), k), own) for k, own in enumerate(points)]
    track_of: dict[tuple[int, int], int] = {}
    tracks: list[dict[int, int]] = []
    for i, a, j, b in rows[:, :4].astype(np.int64).tolist():
        first, second = track_of.get((i, a)), track_of.get((j, b))
        if first is not None and first == second:
            continue
        left = {i: a} if first is None else tracks[first]
        right = {j: b} if second is None else tracks[second]
        if left.keys() & right.keys():
            continue
        merged = {**left, **right}
        if len(merged) > 2 and not _one_point(bare, merged, lines, points, min(reach, _ROUNDS[1][0])):
            continue
        own = len(tracks) if first is None and second is None else (second if first is None else first)
        assert own is not None
        if own == len(tracks):
            tracks.append({})
        if first is not None and second is not None:
            tracks[second] = {}
        tracks[own] = merged
        for member in merged.items():
            track_of[member] = own
    kept = [track for track in tracks if len(track) > 1]
    copy = np.array([k for track in kept for k in track], np.int64)
    point = np.repeat(np.arange(len(kept)), [len(track) for track in kept])
    pixels = np.array([points[k][feature] for track in kept for k, feature in track.items()]).reshape(-1, 2)
    return Observations(copy, point, pixels)


def _one_point(
    bare: Bundle, track: dict[int, int], lines: list[_Lines], points: list[np.ndarray], reach: float
) -> bool:
    """Whether the point nearest to all lines of sight of a track is seen where each copy has it."""
    matrix, vector = np.zeros((3, 3)), np.zeros(3)
    for k, feature in track.items():
        matrix = matrix + lines[k].across[feature]
        vector = vector + lines[k].foot[feature]
    place = np.linalg.solve(matrix + 1e-12 * np.eye(3), vector)
    copies = list(track)
    local = bare.rotations[copies] @ place + bare.shifts[copies]
    pixels = np.array([points[k][feature] for k, feature in track.items()])
    off = bare.focal * local[:, :2] / np.maximum(local[:, 2:], 1e-9) + bare.middle - pixels
    return bool((local[:, 2] > 0).all() and (off**2).sum(axis=1).max() <= reach**2)


@dataclass(frozen=True)
class _Lines:
    """Lines of sight in object space: ``across`` ``[M, 3, 3]`` projects off them, ``foot`` ``[M, 3]`` their eyes."""

    across: np.ndarray
    foot: np.ndarray


def _lines(bundle: Bundle, copy: np.ndarray, pixels: np.ndarray) -> _Lines:
    eyes = -np.einsum("nji,nj->ni", bundle.rotations, bundle.shifts)[copy]
    sights = np.column_stack([(pixels - bundle.middle) / bundle.focal, np.ones(len(pixels))])
    sights = np.einsum("mji,mj->mi", bundle.rotations[copy], sights)
    sights /= np.linalg.norm(sights, axis=1, keepdims=True)
    across = np.eye(3) - sights[:, :, None] * sights[:, None, :]
    return _Lines(across, np.einsum("mij,mj->mi", across, eyes))


def _several(seen: Observations) -> Observations:
    """Without points that one copy alone shows; the points' numbers are made dense."""
    counts = np.bincount(seen.point, minlength=1)
    kept = seen.of(counts[seen.point] > 1) if len(seen.point) else seen
    _, dense = np.unique(kept.point, return_inverse=True)
    return Observations(kept.copy, dense.reshape(-1).astype(np.int64), kept.pixels)


def _triangulated(bundle: Bundle, seen: Observations) -> np.ndarray:
    """``[P, 3]`` where the lines of sight come nearest to each other; Cauchy weights, three times."""
    count = int(seen.point.max()) + 1 if len(seen.point) else 0
    lines = _lines(bundle, seen.copy, seen.pixels)
    weight = np.ones(len(seen.point))
    points: np.ndarray = np.zeros((count, 3))
    for _ in range(3):
        left, right = np.zeros((count, 3, 3)), np.zeros((count, 3))
        np.add.at(left, seen.point, weight[:, None, None] * lines.across)
        np.add.at(right, seen.point, weight[:, None] * lines.foot)
        points = np.linalg.solve(left + 1e-12 * np.eye(3), right[..., None])[..., 0]
        error = replace(bundle, points=points).residuals(seen)
        weight = 1.0 / (1.0 + (error**2).sum(axis=1))
    return points


def _angles(bundle: Bundle, seen: Observations) -> np.ndarray:
    """``[P]`` degrees between the two lines of sight of a point that differ most from their mean, doubled."""
    eyes = -np.einsum("nji,nj->ni", bundle.rotations, bundle.shifts)[seen.copy]
    towards = eyes - bundle.points[seen.point]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    mean = np.zeros((len(bundle.points), 3))
    np.add.at(mean, seen.point, towards)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    out = np.zeros(len(bundle.points))
    np.maximum.at(out, seen.point, np.arccos(np.clip((towards * mean[seen.point]).sum(axis=1), -1.0, 1.0)))
    return 2.0 * np.degrees(out)
