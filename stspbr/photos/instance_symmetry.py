"""Turns of the object that no copy tells apart: the whole circle about an axis, or two, three or four of it.

Such a turn is no error of a pose but a choice: a plain bottle has no front. What matters is to know it, so that copies
are not refused for a doubt that means nothing, and that a print which does tell sides apart is not overlooked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_plane import smallest_turn
from stspbr.photos.instance_proxy import Picture, Proxy

_STEP = 30  # degrees
_OUTLINE = 0.04  # overlap that a turn may cost
_PRINT = 0.85  # of the evidence that a turn must keep
_NO_PRINT = 0.12  # evidence below which the copies show none
_NEAR = 20.0  # degrees: poses that differ by less are one answer
_FOLDS = {2: (180,), 3: (120, 240), 4: (90, 180, 270)}


@dataclass(frozen=True)
class Symmetry:
    """Turns about one axis that change neither outline nor print.

    Attributes:
        fold: how many of the circle, at least 2; 0: every turn (axial).
        axis, centre: ``[3]`` in object space; the axis is unit.
    """

    fold: int
    axis: np.ndarray
    centre: np.ndarray

    @property
    def name(self) -> str:
        """``"axial"`` or ``"2-fold"`` …"""
        return "axial" if self.fold == 0 else f"{self.fold}-fold"

    def same(self, first: np.ndarray, second: np.ndarray) -> bool:
        """Whether the rotations ``[3, 3]`` of two poses show the same, within 20 degrees."""
        between = first.T @ second
        if self.fold == 0:
            return float(np.degrees(np.arccos(np.clip(self.axis @ between @ self.axis, -1.0, 1.0)))) <= _NEAR
        turns = Rotation.from_rotvec(np.arange(self.fold)[:, None] * 2.0 * np.pi / self.fold * self.axis).as_matrix()
        return min(rotation_angle(between @ turn) for turn in turns) <= _NEAR

    def standard(self, pose: np.ndarray) -> np.ndarray:
        """Of the poses ``[4, 4]`` that show the same, the one with the smallest turn; axial symmetry only."""
        if self.fold:
            return pose
        out = pose.copy()
        out[:3, :3] = smallest_turn(self.axis, pose[:3, :3] @ self.axis)
        out[:3, 3] = pose[:3, :3] @ self.centre + pose[:3, 3] - out[:3, :3] @ self.centre
        return out


def symmetry_of(
    proxies: Mapping[int, Proxy], seen: Mapping[int, Picture], poses: Mapping[int, np.ndarray], axial: bool = False
) -> Symmetry | None:
    """The symmetry about a principal axis that all copies agree on; None: there is none.

    Args:
        proxies: the stand-in of each copy, coloured by the others.
        axial: it is known that the object is axial: only the axis is sought.
    """
    numbers = [k for k in poses if k in proxies]
    if not numbers:
        return None
    points = np.concatenate([proxies[k].points for k in numbers])
    centre = proxies[numbers[0]].centre
    _, axes = np.linalg.eigh(np.cov((points - points.mean(axis=0)).T))
    found: Symmetry | None = None
    best = -np.inf
    for axis in axes.T:
        outline, evidence = _turned(proxies, seen, poses, numbers, axis, centre)
        shape = outline >= outline[0] - _OUTLINE
        printed = evidence >= _PRINT * evidence[0] if evidence[0] > _NO_PRINT else np.ones(len(evidence), bool)
        tied = shape if axial else shape & printed
        fold = 0 if tied.all() else next((n for n in (4, 3, 2) if all(tied[a // _STEP] for a in _FOLDS[n])), 1)
        if axial:  # the axis about which turns cost least
            if outline.min() > best:
                found, best = Symmetry(0, axis, centre), float(outline.min())
        elif fold != 1 and (found is None or fold == 0 or (found.fold != 0 and fold > found.fold)):
            found = Symmetry(fold, axis, centre)
    return found


def _turned(
    proxies: Mapping[int, Proxy],
    seen: Mapping[int, Picture],
    poses: Mapping[int, np.ndarray],
    numbers: list[int],
    axis: np.ndarray,
    centre: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean overlap and evidence ``[12]`` of the copies when all are turned by 0, 30, … 330 degrees about ``axis``."""
    angles = np.radians(np.arange(0, 360, _STEP))
    outline, evidence = np.zeros(len(angles)), np.zeros(len(angles))
    for index, angle in enumerate(angles):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec(angle * axis).as_matrix()
        turn[:3, 3] = centre - turn[:3, :3] @ centre
        for number in numbers:
            score = proxies[number].score(seen[number], poses[number] @ turn)
            outline[index] += score.overlap / len(numbers)
            evidence[index] += score.evidence / len(numbers)
    return outline, evidence
