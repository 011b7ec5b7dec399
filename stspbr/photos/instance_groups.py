"""Groups of copies whose poses are known among themselves, joined to larger ones.

Copies that face about the same way match well and form groups; between groups few matches are left, and the print's own
repetitions outvote them pair by pair. But a group is a small reconstruction: one similarity joins two of them, so that
one rotation is asked of all pairs between them at once, by the matches that agree with it and by drawing each group
from what the other one shows. The rotations that come out first are starts; the joint adjustment of both groups judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import gammaln

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_features import Features, Matches
from stspbr.photos.instance_pairs import Pair, TwoView
from stspbr.photos.instance_plane import RestingPlane, resting_plane, smallest_turn
from stspbr.photos.instance_proxy import Picture, Proxy, build_proxy
from stspbr.photos.silhouette_check import Poses, Silhouettes

_YAWS = 72
_OPENGL = np.diag([1.0, -1.0, -1.0])
_CLOSE, _EXACT = 4.0, 1.5  # pixels from an epipolar line: of groups placed by their masks, of adjusted poses
_LINK, _STEADY_LINK = 5.0, 25.0  # decimal powers against chance from which two copies are linked; also if nothing turns
_STEADY = 15.0  # degrees: what stays in the photo says of every pair that nothing turns
_APART = 12.0  # degrees between rotations that are two answers
_PLANES_AGREE = 12.0  # degrees between what two groups take for the table's normal

Similarity = tuple[np.ndarray, float, np.ndarray, np.ndarray]
"""Rotation ``[3, 3]`` from the first group's object to the second's, scale of the second's lengths in the first's, and
the object's middle ``[3]`` in either."""


def joined_groups(
    silhouettes: Silhouettes,
    seen: dict[int, Picture],
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    pairs: Mapping[Pair, TwoView],
    first: Poses,
    second: Poses,
    focal: float,
    middle: np.ndarray,
    most: int = 3,
) -> list[dict[int, np.ndarray]]:
    """Poses of both groups in the first one's space, at most ``most`` of each kind, to be adjusted and judged.

    Args:
        first, second: ``camera_from_object`` ``[4, 4]`` of two groups that have no copy in common.
        middle: ``[2]`` the principal point.
    """
    proxies = [build_proxy(silhouettes, seen, group, focal) for group in (first, second)]
    if proxies[0] is None or proxies[1] is None:
        return []
    centres, scale = _middles(silhouettes, first, second, focal)
    rotations = _rotations(pairs, first, second)
    if not rotations:
        return []
    drawn, agreed = [], []
    for rotation in rotations:
        there = moved_group(second, (rotation, scale, *centres))
        back = moved_group(first, (rotation.T, 1.0 / scale, *centres[::-1]))
        drawn.append(_drawn(proxies[0], seen, there) + _drawn(proxies[1], seen, back))
        agreed.append(_agreement(features, matches, first, there, focal, middle))
    chosen = _peaks(rotations, drawn, most)
    chosen += [k for k in _peaks(rotations, agreed, most) if agreed[k] > 0.0 and _new(rotations, k, chosen)]
    return [dict(sorted({**first, **moved_group(second, (rotations[k], scale, *centres))}.items())) for k in chosen]


def moved_group(poses: Poses, similarity: Similarity) -> dict[int, np.ndarray]:
    """The poses ``[4, 4]`` of a group in the space of the other one."""
    rotation, scale, centre, own = similarity
    out = {}
    for number, pose in poses.items():
        moved = np.eye(4)
        moved[:3, :3] = pose[:3, :3] @ rotation
        moved[:3, 3] = scale * (pose[:3, :3] @ own + pose[:3, 3]) - moved[:3, :3] @ centre
        out[number] = moved
    return out


def _middles(
    silhouettes: Silhouettes, first: Poses, second: Poses, focal: float
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """The object's middle in both spaces, and the scale: of the table's distance, else of the masks' reach."""
    (one, reach), (other, its) = (silhouettes.cube(group, focal) for group in (first, second))
    planes = _planes(first, second)
    if planes is None:
        return (one, other), reach / its
    heights = [
        float(np.mean([(pose[:3, :3] @ centre + pose[:3, 3]) @ plane.up for pose in group.values()]))
        for plane, centre, group in zip(planes, (one, other), (first, second), strict=True)
    ]
    ratio = heights[0] / heights[1] if heights[1] else 0.0
    return (one, other), ratio if 0.5 < ratio * its / reach < 2.0 else reach / its


def _planes(first: Poses, second: Poses) -> tuple[RestingPlane, RestingPlane] | None:
    one, other = resting_plane(first), resting_plane(second)
    if one is None or other is None or one.up @ other.up < np.cos(np.radians(_PLANES_AGREE)):
        return None
    return one, other


def _rotations(pairs: Mapping[Pair, TwoView], first: Poses, second: Poses) -> list[np.ndarray]:
    """From the first group's object to the second's: all turns on the plane; else those that single pairs suggest."""
    planes = _planes(first, second)
    if planes is not None:
        one, other = planes
        yaws = np.arange(_YAWS)[:, None] * (2.0 * np.pi / _YAWS) * one.axis
        return list(smallest_turn(one.axis, other.axis) @ Rotation.from_rotvec(yaws).as_matrix())
    out: list[np.ndarray] = []
    for (a, b), view in pairs.items():
        for turn in view.rotations:
            between = _OPENGL @ turn @ _OPENGL
            if a in first and b in second:
                out.append(second[b][:3, :3].T @ between @ first[a][:3, :3])
            elif b in first and a in second:
                out.append(second[a][:3, :3].T @ between.T @ first[b][:3, :3])
    return out


def _drawn(proxy: Proxy, seen: Mapping[int, Picture], poses: Poses) -> float:
    return sum(proxy.score(seen[number], pose).total for number, pose in poses.items())


def linked(
    features: Mapping[int, Features], matches: Mapping[Pair, Matches], poses: Poses, focal: float, middle: np.ndarray
) -> list[list[int]]:
    """The copies that matches join in these poses, beyond chance: sets without a link between them, the largest first.

    The adjustment fits what it is given. Of two groups that were joined in a wrong way, matches by chance remain
    between them, and outlines of an axial shape agree with any turn: only links tell.
    """
    sets = [{number} for number in poses]
    for a, b in [(a, b) for a in poses for b in poses if a < b]:
        least = _LINK if rotation_angle(poses[b][:3, :3] @ poses[a][:3, :3].T) >= _STEADY else _STEADY_LINK
        if _evidence(features, matches, (a, b), poses[a], poses[b], focal, middle, _EXACT) >= least:
            first, second = (next(own for own in sets if k in own) for k in (a, b))
            if first is not second:
                sets = [own for own in sets if own is not first and own is not second] + [first | second]
    return sorted((sorted(own) for own in sets), key=lambda own: (-len(own), own))


def _agreement(
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    first: Poses,
    second: Poses,
    focal: float,
    middle: np.ndarray,
) -> float:
    """Decimal powers by which the matches between two groups speak for their poses, against chance."""
    return sum(
        _evidence(features, matches, (a, b), one, other, focal, middle, _CLOSE)
        for a, one in first.items()
        for b, other in second.items()
        if rotation_angle(other[:3, :3] @ one[:3, :3].T) >= _STEADY
    )


def _evidence(
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    pair: Pair,
    one: np.ndarray,
    other: np.ndarray,
    focal: float,
    middle: np.ndarray,
    close: float,
) -> float:
    """Decimal powers of one pair: how seldom chance puts so many matches within ``close`` pixels of their lines."""
    a, b = pair
    found = matches.get(pair) or matches.get((b, a))
    if found is None or len(found.pairs) == 0:
        return 0.0
    ends = found.pairs if pair in matches else found.pairs[:, ::-1]
    off = _off_line(one, other, features[a].points[ends[:, 0]], features[b].points[ends[:, 1]], focal, middle)
    count, number = int((off <= close).sum()), len(ends)
    wide = float(np.ptp(features[b].points, axis=0).mean())
    choices = gammaln(number + 1) - gammaln(count + 1) - gammaln(number - count + 1)
    alarms = np.log(_YAWS) + choices + count * np.log(min(2.0 * close / max(wide, 1.0), 1.0))
    return max(-float(alarms) / np.log(10.0), 0.0)


def _off_line(
    one: np.ndarray, other: np.ndarray, here: np.ndarray, there: np.ndarray, focal: float, middle: np.ndarray
) -> np.ndarray:
    """``[K]`` pixels of ``there [K, 2]`` and ``here [K, 2]`` from each other's epipolar lines."""
    between = _OPENGL @ (other[:3, :3] @ one[:3, :3].T) @ _OPENGL
    x, y, z = _OPENGL @ other[:3, 3] - between @ (_OPENGL @ one[:3, 3])
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ between
    a, b = (np.column_stack([(points - middle) / focal, np.ones(len(points))]) for points in (here, there))
    forth, back = a @ essential.T, b @ essential
    norm = np.sqrt((forth[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1))
    return np.abs((b * forth).sum(axis=1)) / np.maximum(norm, 1e-12) * focal


def _peaks(rotations: Sequence[np.ndarray], values: Sequence[float], most: int) -> list[int]:
    """Indices of the best values whose rotations are apart from all better ones."""
    out: list[int] = []
    for k in np.argsort(-np.asarray(values), kind="stable").tolist():
        if len(out) < most and _new(rotations, k, out):
            out.append(k)
    return out


def _new(rotations: Sequence[np.ndarray], index: int, chosen: Sequence[int]) -> bool:
    return all(rotation_angle(rotations[index].T @ rotations[k]) > _APART for k in chosen)
