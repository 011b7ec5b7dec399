"""Poses of copies that stand on one plane, from all their matches at once.

Two copies fill few degrees each, and their relative turn is nearly free in depth: of its three numbers, two are in the
matches (Koenderink and van Doorn, JOSA A 1991, for affine cameras). If both stand on one plane, its normal is the axis
of every turn, and the shift between them lies in the plane: the normal is common to all pairs, and one angle per pair
is left. So the normal is sought on a grid, and with it each pair's angle, by the number of matches that agree. Where
five free numbers per pair find nothing certain, these find poses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import gammaln

from stspbr.photos.instance_features import Features, Matches
from stspbr.photos.instance_pairs import Pair
from stspbr.photos.instances import Instance

_ELEVATIONS, _ROLLS = np.arange(12.0, 80.0, 5.0), np.arange(-10.0, 11.0, 5.0)  # degrees: of the camera
_FINER = (2.5, 1.2)  # degrees between normals, in the rounds after the first
_YAW = 5.0  # degrees between turns
_MOST, _SHIFTS = 100, 12  # matches of a pair that are looked at; directions of its shift that are tried
_OFF, _CLOSE = 4.0, 2.5  # pixels that agree, on the grid and at last
_APART = 15.0  # degrees: turns that differ by more are rivals
_AGREE = 10.0  # degrees between the yaws of copies of two arrangements that are one
_SURE = 3.0  # decimal powers against chance by which a turn must lead its rivals
_LAST = 3  # how many of the last joints are also left open, one at a time from the end


@dataclass(frozen=True)
class _Pair:
    """The matches of two copies, as rays ``[K, 3]`` whose third number is 1, and the area of the copies in pixels²."""

    first: np.ndarray
    second: np.ndarray
    area: float


def standing(
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    copies: list[Instance],
    focal: float,
    size: tuple[int, int],
) -> list[tuple[dict[int, np.ndarray], np.ndarray]]:
    """Arrangements of copies on one plane, those that explain more first; roughly, to be adjusted.

    Returns:
        Poses ``camera_from_object`` ``[4, 4]`` by number, and the plane's normal ``[3]``, both in OpenGL axes.
    """
    middle = 0.5 * np.asarray(size, np.float64)
    areas = {copy.number: float(copy.pixels) for copy in copies}
    pairs = {}
    for (a, b), found in matches.items():
        if len(found.pairs) < 10:
            continue
        likeness = (features[a].descriptors[found.pairs[:, 0]] * features[b].descriptors[found.pairs[:, 1]]).sum(axis=1)
        best = found.pairs[np.argsort(-likeness, kind="stable")[:_MOST]]
        ends = [
            np.column_stack([(own.points[best[:, k]] - middle) / focal, np.ones(len(best))]).astype(np.float32)
            for k, own in enumerate((features[a], features[b]))
        ]
        pairs[a, b] = _Pair(ends[0], ends[1], max(areas[a], areas[b]))
    if not pairs:
        return []
    up = _normal(*_best_normal(pairs, focal))
    profiles = {pair: _profile(own, up, focal, _CLOSE) for pair, own in pairs.items()}
    boxes = {copy.number: copy.box for copy in copies}
    return [
        ({k: _pose(yaws[k], boxes[k], up, focal, middle) for k in sorted(yaws)}, up * (1.0, -1.0, -1.0))
        for yaws in _arranged(profiles, list(boxes))
    ]


def _best_normal(pairs: Mapping[Pair, _Pair], focal: float) -> tuple[float, float]:
    """Elevation and roll in degrees of the normal that most matches agree with."""
    grid = [(elevation, roll) for elevation in _ELEVATIONS for roll in _ROLLS]
    best, place, off = -1.0, grid[0], _OFF
    for step in (0.0, *_FINER):
        if step:
            grid = [(place[0] + step * i, place[1] + step * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            off = _CLOSE
            best = -1.0
        for one in grid:
            total = sum(float(_profile(own, _normal(*one), focal, off).max()) for own in pairs.values())
            if total > best:
                best, place = total, one
    return place


def _profile(pair: _Pair, up: np.ndarray, focal: float, off: float) -> np.ndarray:
    """``[72]``: decimal powers by which matches speak for each turn about ``up``, against chance; 0 at least."""
    yaws = np.arange(0.0, 360.0, _YAW)
    turns = Rotation.from_rotvec(np.radians(yaws)[:, None] * up).as_matrix().astype(np.float32)
    across = _across(up).astype(np.float32)
    turned = np.einsum("yij,kj->yki", turns, pair.first)
    normal = np.cross(pair.second[None], turned)  # at right angles to the shift, for matches that agree
    parts = normal @ across.T
    chosen = np.linspace(0, len(pair.first) - 1, min(_SHIFTS, len(pair.first))).astype(int)
    angle = np.arctan2(-parts[:, chosen, 0], parts[:, chosen, 1])
    shift = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # [Y, S, 2]
    # gradients of the residual by the two pixels, for each of the plane's two directions
    there = np.stack([np.cross(axis, turned)[..., :2] for axis in across])
    back = np.stack([np.einsum("yji,kj->yki", turns, np.cross(axis, pair.second))[..., :2] for axis in across])
    residual = np.abs(np.einsum("ysc,ykc->ysk", shift, parts))
    slopes = [np.einsum("ysc,cykd->yskd", shift, values) for values in (there, back)]
    norm = np.sqrt(sum((slope * slope).sum(axis=-1) for slope in slopes))
    count = (residual * focal <= off * norm).sum(axis=-1).max(axis=1)
    chance = min(2.0 * off * np.sqrt(2.0 * pair.area) / pair.area, 1.0)
    total = len(pair.first)
    choices = gammaln(total + 1) - gammaln(count + 1) - gammaln(total - count + 1)
    alarms = np.log(len(yaws) * len(chosen)) + choices + (count - 1) * np.log(chance)
    return np.maximum(-alarms / np.log(10.0), 0.0)


def _arranged(profiles: Mapping[Pair, np.ndarray], numbers: list[int]) -> list[dict[int, float]]:
    """Yaws in degrees of sets of at least three copies, the largest first.

    Groups of copies whose turns are known are joined by the turn that all pairs between them speak for together; those
    first whose turn is clearest. What stays in the photo says of every pair that nothing turns: of groups in which
    copies face different ways, these voices fall apart, and those of the print add up.
    """
    groups: list[dict[int, float]] = [{number: 0.0} for number in numbers]
    history = []
    while len(groups) > 1:
        joints = [
            (*_joint(profiles, groups[i], groups[j]), i, j)
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        ]
        lead, offset, i, j = max(joints, key=lambda joint: joint[0])
        if lead < _SURE:
            break
        history.append(groups)
        merged = groups[i] | {k: (yaw + offset) % 360.0 for k, yaw in groups[j].items()}
        groups = [group for k, group in enumerate(groups) if k not in (i, j)] + [merged]
    found: list[dict[int, float]] = []
    for state in [groups, *history[::-1][:_LAST]]:
        for yaws in sorted(state, key=len, reverse=True):
            if len(yaws) >= 3 and not any(set(yaws) == set(other) and _same(other, yaws) for other in found):
                found.append(yaws)
    return found


def _joint(
    profiles: Mapping[Pair, np.ndarray], first: Mapping[int, float], second: Mapping[int, float]
) -> tuple[float, float]:
    """By how much the best turn of the second group against the first leads its rivals, and that turn in degrees."""
    total = np.zeros(round(360.0 / _YAW))
    for a, yaw in first.items():
        for b, other in second.items():
            profile = profiles.get((a, b))
            turn = other - yaw
            if profile is None and (b, a) in profiles:
                profile = np.roll(profiles[b, a][::-1], 1)  # the other way round
            if profile is not None:
                if len(first) + len(second) > 2:  # of one pair it may be the truth, of groups others tell
                    profile = _turning(profile)
                wide = np.maximum(profile, 0.7 * np.maximum(np.roll(profile, 1), np.roll(profile, -1)))
                total += np.roll(wide, -round(turn / _YAW))
    best = int(total.argmax())
    steps = np.arange(len(total))
    away = np.minimum((steps - best) % len(total), (best - steps) % len(total)) * _YAW > _APART
    return float(total[best] - total[away].max()), best * _YAW


def _turning(profile: np.ndarray) -> np.ndarray:
    """The profile as far as it rises above what speaks for no turn.

    To a camera that is nearly affine, two turns explain the matches of a pair alike: where a small one is the truth,
    or where matches stay in the photo, the other peak is the same matches again.
    """
    turns = np.arange(len(profile)) * _YAW
    steady = np.minimum(turns, 360.0 - turns) <= _APART
    return np.maximum(profile - profile[steady].max(), 0.0)


def _pose(yaw: float, box: tuple[int, int, int, int], up: np.ndarray, focal: float, middle: np.ndarray) -> np.ndarray:
    """OpenGL axes; the object's +Y is up, and the plane is at distance 1 from the camera's height."""
    left, top, right, bottom = box
    ray = np.array([(0.5 * (left + right) - middle[0]) / focal, (0.5 * (top + bottom) - middle[1]) / focal, 1.0])
    first, second = _across(up)
    upright = np.stack([first, up, np.cross(first, up)], axis=1)
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(np.radians(yaw) * up).as_matrix() @ upright
    out[:3, 3] = ray / max(-float(ray @ up), 1e-3)
    out[1:3] *= -1.0
    return out


def _normal(elevation: float, roll: float) -> np.ndarray:
    """``[3]`` the plane's normal in OpenCV axes, for a camera that looks down by ``elevation`` degrees."""
    e, r = np.radians(elevation), np.radians(roll)
    return np.array([np.sin(r) * np.cos(e), -np.cos(r) * np.cos(e), -np.sin(e)])


def _across(up: np.ndarray) -> np.ndarray:
    """``[2, 3]`` unit vectors in the plane."""
    first = np.cross(up, np.array([0.0, 0.0, 1.0]))
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first)])


def _gap(angle: float) -> float:
    """Degrees in [0, 180]."""
    return abs((angle + 180.0) % 360.0 - 180.0)


def _same(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    reference = next(iter(first))
    offset = second[reference] - first[reference]
    return all(_gap(second[k] - first[k] - offset) <= _AGREE for k in first)
