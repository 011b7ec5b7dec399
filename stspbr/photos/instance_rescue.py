"""Poses by drawing: of copies that features gave no pose, and the proof of those that they did.

The stand-in of the object is drawn in every rotation and compared with the copy, outline and print. A pose counts only
if no other explains the copy as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from stspbr.photos.instance_pairs import rotation_angle
from stspbr.photos.instance_proxy import Picture, Proxy

_DIRECTIONS, _ROLLS = 192, 24  # 15° apart
_YAWS = 72
_BEST = 8
_APART = 20.0  # degrees: nearer rotations are the same answer
MARGIN = 0.02
"""How much better than any other a pose must score."""
_LEAST_OVERLAP = 0.75  # intersection over union
_TURNS = (20.0, 40.0, 90.0, 180.0)  # degrees
_STEPS = 120


@dataclass(frozen=True)
class Answer:
    """The best pose of a copy, and how sure it is.

    Attributes:
        pose: ``camera_from_object`` ``[4, 4]``.
        overlap, likeness: its score, see ``Proxy.score``.
        runner_up: the best total of a rotation that is more than 20° away.
    """

    pose: np.ndarray
    overlap: float
    likeness: float
    runner_up: float

    @property
    def total(self) -> float:
        """Overlap and likeness together."""
        return self.overlap + max(self.likeness, 0.0)

    @property
    def sure(self) -> bool:
        """Whether no other rotation explains the copy as well."""
        return self.overlap >= _LEAST_OVERLAP and self.total >= (1.0 + MARGIN) * self.runner_up

    @property
    def doubt(self) -> str:
        """Why it is not sure, in a few words."""
        if self.overlap < _LEAST_OVERLAP:
            return f"its outline fits the object in no pose (overlap {self.overlap:.2f}): is it the same object?"
        return "ambiguous: another pose explains it as well; print, or a shape without symmetry, would tell them apart"


def all_rotations() -> np.ndarray:
    """``[4608, 3, 3]``: a grid of 15° over all rotations; directions on a Fibonacci lattice, each with 24 rolls."""
    k = np.arange(_DIRECTIONS) + 0.5
    polar, around = np.arccos(1.0 - 2.0 * k / _DIRECTIONS), np.pi * (1.0 + 5.0**0.5) * k
    tilts = Rotation.from_euler("zy", np.stack([around, polar], axis=1)).as_matrix()
    rolls = Rotation.from_euler("z", np.arange(_ROLLS) * 2.0 * np.pi / _ROLLS).as_matrix()
    return np.einsum("rij,djk->drik", rolls, tilts).reshape(-1, 3, 3)


def plane_rotations(rotation: np.ndarray, up: np.ndarray) -> np.ndarray:
    """``[72, 3, 3]``: ``rotation`` turned about the table's normal ``up`` ``[3]`` in the camera's axes."""
    angles = np.arange(_YAWS) * 2.0 * np.pi / _YAWS
    return Rotation.from_rotvec(angles[:, None] * up).as_matrix() @ rotation


def find_pose(proxy: Proxy, picture: Picture, rotations: np.ndarray, depth: float) -> Answer | None:
    """The pose among ``rotations`` ``[R, 3, 3]``, refined, that explains a copy best; None if none shows anything.

    Args:
        depth: of the object's centre, a first guess.
    """
    totals, poses = np.full(len(rotations), -np.inf), np.zeros((len(rotations), 4, 4))
    for index, rotation in enumerate(rotations):
        pose = _seated(proxy, picture, rotation, depth)
        if pose is not None:
            overlap, likeness = proxy.score(picture, pose)
            totals[index], poses[index] = overlap + max(likeness, 0.0), pose
    order = np.argsort(-totals, kind="stable")
    chosen: list[int] = []
    for index in order:  # the best of each neighbourhood
        near = any(rotation_angle(poses[index][:3, :3].T @ poses[k][:3, :3]) < 0.5 * _APART for k in chosen)
        if np.isfinite(totals[index]) and not near:
            chosen.append(int(index))
        if len(chosen) == _BEST:
            break
    if not chosen:
        return None
    refined = [refined_pose(proxy, picture, poses[k]) for k in chosen]
    scores = [proxy.score(picture, pose) for pose in refined]
    sums = [overlap + max(likeness, 0.0) for overlap, likeness in scores]
    best = int(np.argmax(sums))
    rivals = [
        total
        for pose, total in zip(refined, sums, strict=True)
        if rotation_angle(pose[:3, :3].T @ refined[best][:3, :3]) > _APART
    ]
    return Answer(refined[best], *scores[best], max(rivals, default=0.0))


def proven(proxy: Proxy, picture: Picture, pose: np.ndarray) -> Answer:
    """A pose that features gave, against the same one turned by 20 to 180° about the object's axes."""
    overlap, likeness = proxy.score(picture, pose)
    rivals = []
    for axis in np.eye(3):
        for angle in [sign * turn for turn in _TURNS for sign in (1.0, -1.0)][:-1]:
            turned = pose[:3, :3] @ Rotation.from_rotvec(np.radians(angle) * axis).as_matrix()
            other = _about(proxy, pose, turned)
            found = proxy.score(picture, other)
            rivals.append(found[0] + max(found[1], 0.0))
    return Answer(pose, overlap, likeness, max(rivals))


def refined_pose(proxy: Proxy, picture: Picture, pose: np.ndarray) -> np.ndarray:
    """The nearby pose that scores best, by Nelder and Mead's search over a rotation vector and a translation."""
    size = proxy.cell * 20.0
    centre = pose[:3, :3] @ proxy.centre + pose[:3, 3]

    def moved(step: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3] = Rotation.from_rotvec(step[:3]).as_matrix() @ pose[:3, :3]
        # along the line of sight everything moves less in the picture
        out[:3, 3] = centre + size * step[3:] * (1.0, 1.0, 3.0) - out[:3, :3] @ proxy.centre
        return out

    def cost(step: np.ndarray) -> float:
        overlap, likeness = proxy.score(picture, moved(step))
        return -(overlap + max(likeness, 0.0))

    start = np.zeros((7, 6))
    start[np.arange(1, 7), np.arange(6)] = [0.12, 0.12, 0.12, 0.05, 0.05, 0.05]
    options: Any = {"initial_simplex": start, "maxfev": _STEPS, "xatol": 1e-4, "fatol": 1e-5}
    return moved(minimize(cost, np.zeros(6), method="Nelder-Mead", options=options).x)


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
