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
_PEAKS, _APART = 3, 15.0  # turns per pair that are kept, and degrees between them
_AGREE = 10.0  # degrees by which a pair's turn may differ from that of an arrangement
_SURE = 3.0  # decimal powers against chance, from which a pair counts
_STRONG = 0.4  # of the strongest turn's score: turns by next to nothing that have less are doubted
_TRIES = 4


@dataclass(frozen=True)
class _Pair:
    """The matches of two copies, as rays ``[K, 3]`` whose third number is 1, and the area of the copies in pixels²."""

    first: np.ndarray
    second: np.ndarray
    area: float


@dataclass(frozen=True)
class _Peak:
    """A turn in degrees that agrees with many matches of a pair; score: decimal powers against chance."""

    pair: Pair
    yaw: float
    score: float


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
        pairs[a, b] = _Pair(*ends, max(areas[a], areas[b]))
    if not pairs:
        return []
    place, peaks = _best_normal(pairs, focal)
    up = _normal(*place)
    return _arranged(peaks, copies, up, focal, middle)


def _best_normal(pairs: Mapping[Pair, _Pair], focal: float) -> tuple[tuple[float, float], list[_Peak]]:
    """Elevation and roll in degrees of the normal that most matches agree with, and the pairs' turns about it."""
    grid = [(elevation, roll) for elevation in _ELEVATIONS for roll in _ROLLS]
    best, place, off = -1.0, grid[0], _OFF
    for step in (0.0, *_FINER):
        if step:
            grid = [(place[0] + step * i, place[1] + step * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            off = _CLOSE
            best = -1.0
        for one in grid:
            total = sum(
                peak.score for pair in pairs for peak in _turns(pair, pairs[pair], _normal(*one), focal, off)[:1]
            )
            if total > best:
                best, place = total, one
    up = _normal(*place)
    return place, [peak for pair in pairs for peak in _turns(pair, pairs[pair], up, focal, _CLOSE)]


def _turns(name: Pair, pair: _Pair, up: np.ndarray, focal: float, off: float) -> list[_Peak]:
    """The turns about ``up`` that matches agree with beyond chance, the best first."""
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
    score = -alarms / np.log(10.0)
    out: list[_Peak] = []
    for index in np.argsort(-score, kind="stable"):
        if score[index] < _SURE or len(out) == _PEAKS:
            break
        if all(_gap(yaws[index] - peak.yaw) >= _APART for peak in out):
            out.append(_Peak(name, float(yaws[index]), float(score[index])))
    return out


def _arranged(
    peaks: list[_Peak], copies: list[Instance], up: np.ndarray, focal: float, middle: np.ndarray
) -> list[tuple[dict[int, np.ndarray], np.ndarray]]:
    """Trees of the strongest turns, along which every copy's yaw follows; with and without what hardly turns."""
    ordered = sorted(peaks, key=lambda peak: -peak.score)
    if not ordered:
        return []
    turning = [p for p in ordered if _gap(p.yaw) > _APART or p.score > _STRONG * ordered[0].score]
    found: list[tuple[float, dict[int, float]]] = []
    for some in (turning, ordered):  # what stays in the photo pretends that nothing turns
        edges = _tree(some)
        weakest = min(range(len(edges)), key=lambda k: edges[k].score, default=0)
        for part in (edges, edges[:weakest] + edges[weakest + 1 :]):
            for yaws in _yaws(part):
                if len(yaws) >= 3 and not any(set(yaws) == set(other) and _same(other, yaws) for _, other in found):
                    found.append((_explained(ordered, yaws), yaws))
    boxes = {copy.number: copy.box for copy in copies}
    out = []
    for _, yaws in sorted(found, key=lambda one: -one[0])[:_TRIES]:
        poses = {k: _pose(yaws[k], boxes[k], up, focal, middle) for k in sorted(yaws)}
        out.append((poses, up * (1.0, -1.0, -1.0)))
    return out


def _explained(peaks: list[_Peak], yaws: Mapping[int, float]) -> float:
    """The scores of the pairs' turns that agree with the copies' yaws."""
    own = [peak for peak in peaks if set(peak.pair) <= set(yaws)]
    return sum(p.score for p in own if _gap(yaws[p.pair[1]] - yaws[p.pair[0]] - p.yaw) <= _AGREE)


def _tree(ordered: list[_Peak]) -> list[_Peak]:
    """The turns that join copies, the strongest first, without those that close a circle."""
    group: dict[int, int] = {}
    out = []
    for peak in ordered:
        a, b = (group.setdefault(number, number) for number in peak.pair)
        if a != b:
            out.append(peak)
            group = {number: a if own == b else own for number, own in group.items()}
    return out


def _yaws(edges: list[_Peak]) -> list[dict[int, float]]:
    """The yaws of the copies that ``edges`` without circles join, a mapping per set of them."""
    groups: list[dict[int, float]] = []
    for peak in edges:
        a, b = peak.pair
        first = next((group for group in groups if a in group), {a: 0.0})
        second = next((group for group in groups if b in group), {b: 0.0})
        offset = first[a] + peak.yaw - second[b]
        merged = first | {k: (yaw + offset) % 360.0 for k, yaw in second.items()}
        groups = [group for group in groups if group is not first and group is not second] + [merged]
    return groups


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
