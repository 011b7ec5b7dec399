"""Poses by drawing: of copies that features gave no pose, and the proof of those that they did.

The stand-in of the object is drawn in every rotation and compared with the copy, outline and print. A pose counts only
if no other explains the copy as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_proxy import Picture, Proxy, Score
from stspbr.photos.instance_symmetry import Symmetry

_DIRECTIONS, _ROLLS = 192, 24  # 15° apart
_YAWS = 72
_BEST = 8
_APART = 20.0  # degrees: nearer rotations are the same answer
_EVIDENCE, _CLEARER = 0.3, 1.5  # of the print of a rescued copy, and how many times that of any other pose
_OUTLINE, _OUTLINE_MARGIN = 0.85, 0.10  # overlap, and by how much more than in any other pose, where print says nothing
_LEAST_OVERLAP = 0.6  # intersection over union; what no other copy shows is not drawn
_BEATEN = 1.05, 3.0  # by how much a rival's evidence is larger: of many copies, of few, whose hull is loose
_MANY = 6
_MIRROR_MARGIN = 0.02  # overlap of the outlines
_LEAST_SUPPORT = 0.3
_TURNS = (20.0, 30.0, 40.0, 90.0, 180.0)  # degrees
_STEPS = 120


@dataclass(frozen=True)
class Answer:
    """A pose of a copy, and how sure it is.

    Attributes:
        pose: ``camera_from_object`` ``[4, 4]``; score: how well it explains the copy.
        rival: the best score of a rotation that is more than 20° away.
    """

    pose: np.ndarray
    score: Score
    rival: Score

    @property
    def sure(self) -> bool:
        """Whether no other rotation explains the copy nearly as well: by its print, or by its outline alone."""
        own, other = self.score, self.rival
        by_print = own.evidence >= max(_EVIDENCE, _CLEARER * other.evidence) and own.overlap >= _LEAST_OVERLAP
        return by_print or (own.overlap >= max(_OUTLINE, other.overlap + _OUTLINE_MARGIN))

    def refuted(self, copies: int) -> bool:
        """Whether the print speaks against a pose that features gave, with so many copies that show the object."""
        own, other = self.score, self.rival
        if own.support < _LEAST_SUPPORT:
            return copies < _MANY and own.overlap < _LEAST_OVERLAP
        return other.evidence > 0.1 and other.evidence > _BEATEN[copies < _MANY] * own.evidence

    @property
    def doubt(self) -> str:
        """Why it is not sure, in a few words."""
        if self.score.overlap < _LEAST_OVERLAP:
            return f"its outline fits the object in no pose (overlap {self.score.overlap:.2f}): is it the same object?"
        return "ambiguous: another pose explains it as well; print, or a shape without symmetry, would tell them apart"


def all_rotations() -> np.ndarray:
    """``[4608, 3, 3]``: a grid of 15° over all rotations; directions on a Fibonacci lattice, each with 24 rolls."""
    k = np.arange(_DIRECTIONS) + 0.5
    polar, around = np.arccos(1.0 - 2.0 * k / _DIRECTIONS), np.pi * (1.0 + 5.0**0.5) * k
    tilts = Rotation.from_euler("zy", np.stack([around, polar], axis=1)).as_matrix()
    rolls = Rotation.from_rotvec((np.arange(_ROLLS) * 2.0 * np.pi / _ROLLS)[:, None] * np.eye(3)[2]).as_matrix()
    return np.einsum("rij,djk->drik", rolls, tilts).reshape(-1, 3, 3)


def plane_rotations(rotation: np.ndarray, up: np.ndarray) -> np.ndarray:
    """``[72, 3, 3]``: ``rotation`` turned about the table's normal ``up`` ``[3]`` in the camera's axes."""
    angles = np.arange(_YAWS) * 2.0 * np.pi / _YAWS
    return Rotation.from_rotvec(angles[:, None] * up).as_matrix() @ rotation


def find_pose(
    proxy: Proxy,
    picture: Picture,
    rotations: np.ndarray,
    depth: float,
    up: np.ndarray | None = None,
    symmetry: Symmetry | None = None,
) -> Answer | None:
    """The pose among ``rotations`` ``[R, 3, 3]``, refined, that explains a copy best; None if none shows anything.

    Args:
        depth: of the object's centre, a first guess.
        up: the normal of the plane that the copy stands on, in the camera's axes, if there is one.
        symmetry: of the object: poses that it makes alike are no rivals.
    """
    totals, poses = np.full(len(rotations), -np.inf), np.zeros((len(rotations), 4, 4))
    for index, rotation in enumerate(rotations):
        pose = _seated(proxy, picture, rotation, depth)
        if pose is not None:
            totals[index], poses[index] = proxy.score(picture, pose).total, pose
    chosen: list[int] = []
    for index in np.argsort(-totals, kind="stable"):  # the best of each neighbourhood
        near = any(rotation_angle(poses[index][:3, :3].T @ poses[k][:3, :3]) < 0.5 * _APART for k in chosen)
        if np.isfinite(totals[index]) and not near:
            chosen.append(int(index))
        if len(chosen) == _BEST:
            break
    if not chosen:
        return None
    refined = [refined_pose(proxy, picture, poses[k], up) for k in chosen]
    scores = [proxy.score(picture, pose) for pose in refined]
    best = max(range(len(scores)), key=lambda k: scores[k].total)
    rivals = [
        score
        for pose, score in zip(refined, scores, strict=True)
        if rotation_angle(pose[:3, :3].T @ refined[best][:3, :3]) > _APART
        and not (symmetry is not None and symmetry.same(refined[best][:3, :3], pose[:3, :3]))
    ]
    return Answer(refined[best], scores[best], _strongest(rivals))


def proven(proxy: Proxy, picture: Picture, pose: np.ndarray) -> Answer:
    """A pose that features gave, against the same one turned by 20 to 180° about axes of the camera and the object.

    Turned poses whose outline fits less are no rivals: outlines refute them.
    """
    own = proxy.score(picture, pose)
    rivals = [Score(0.0, 0.0, 0.0)]
    axes, _, _ = np.linalg.svd(np.cov((proxy.points - proxy.points.mean(axis=0)).T))
    for axis in axes.T:
        for angle in [sign * turn for turn in _TURNS for sign in (1.0, -1.0)][:-1]:
            turned = pose[:3, :3] @ Rotation.from_rotvec(np.radians(angle) * axis).as_matrix()
            other = proxy.score(picture, _about(proxy, pose, turned))
            if other.overlap >= own.overlap - 0.1:
                rivals.append(other)
    return Answer(pose, own, max(rivals, key=lambda score: score.evidence))


def mirror_fits(
    proxy: Proxy, picture: Picture, answer: Answer, rotations: np.ndarray, depth: float, up: np.ndarray | None = None
) -> bool:
    """Whether the object's mirror image explains a copy better than the ``answer`` of ``find_pose`` does."""
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    centre = proxy.centre * flip
    mirrored = replace(proxy, points=proxy.points * flip, normals=proxy.normals * flip, centre=centre)
    other = find_pose(mirrored, picture, rotations, depth, up)
    if other is None:
        return False
    own, its = answer.score, other.score
    if max(own.evidence, its.evidence) >= _EVIDENCE:
        return its.evidence > _CLEARER * own.evidence
    return its.overlap > own.overlap + _MIRROR_MARGIN  # without print, its outline alone


def refined_pose(proxy: Proxy, picture: Picture, pose: np.ndarray, up: np.ndarray | None = None) -> np.ndarray:
    """The nearby pose that scores best, by Nelder and Mead's search.

    Args:
        up: the axis ``[3]`` in the camera's frame that it may turn about; None: any.
    """
    size = proxy.cell * 20.0
    centre = pose[:3, :3] @ proxy.centre + pose[:3, 3]

    def moved(step: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        turn = step[:3] if up is None else step[0] * up
        out[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ pose[:3, :3]
        # along the line of sight everything moves less in the picture
        out[:3, 3] = centre + size * step[-3:] * (1.0, 1.0, 3.0) - out[:3, :3] @ proxy.centre
        return out

    def cost(step: np.ndarray) -> float:
        return -proxy.score(picture, moved(step)).total

    turns = 3 if up is None else 1
    count = turns + 3
    start = np.zeros((count + 1, count))
    start[np.arange(1, count + 1), np.arange(count)] = [0.12] * turns + [0.05] * 3
    options: Any = {"initial_simplex": start, "maxfev": _STEPS, "xatol": 1e-4, "fatol": 1e-5}
    return moved(minimize(cost, np.zeros(count), method="Nelder-Mead", options=options).x)


def _strongest(rivals: Sequence[Score]) -> Score:
    """The most of each that any of them has."""
    parts = [(score.overlap, score.likeness, score.support) for score in rivals] or [(0.0, 0.0, 0.0)]
    overlap = max(part[0] for part in parts)
    best = max(rivals, key=lambda score: score.evidence, default=Score(0.0, 0.0, 0.0))
    return Score(overlap, best.likeness, best.support)


def rescue_rotations(known: Sequence[np.ndarray], up: np.ndarray | None) -> np.ndarray:
    """The rotations to try: all of them, or where all copies stand on one plane those about its normal."""
    return all_rotations() if up is None else plane_rotations(known[0], up)


def _seated(proxy: Proxy, picture: Picture, rotation: np.ndarray, depth: float) -> np.ndarray | None:
    """The pose of a rotation whose outline has the mask's middle and area."""
    camera = picture.camera
    rows, columns = np.nonzero(picture.mask)
    goal = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    place = np.array([(goal[0] - camera.cx) / camera.fx, -(goal[1] - camera.cy) / camera.fy, -1.0]) * depth
    for _ in range(2):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, place - rotation @ proxy.centre
        shown = np.isfinite(proxy.drawn(camera, pose)[0])
        if not shown.any():
            return None
        i, j = np.nonzero(shown)
        z = -place[2]
        offset = goal - (j.mean() + 0.5, i.mean() + 0.5)
        place = place + z * np.array([offset[0] / camera.fx, -offset[1] / camera.fy, 0.0])
        # what lies behind another copy has no area to compare: only the shown part inside of what is known counts
        scale = np.sqrt((shown & picture.known).sum() / max(picture.mask.sum(), 1))
        place = place * np.clip(scale, 0.7, 1.4)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, place - rotation @ proxy.centre
    return pose


def _about(proxy: Proxy, pose: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = pose[:3, :3] @ proxy.centre + pose[:3, 3] - rotation @ proxy.centre
    return out
