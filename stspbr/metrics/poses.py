"""Errors of the poses of one object, apart from the object's own axes, place and scale, which images leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PoseErrors:
    """What is left after the best common similarity of the object.

    Attributes:
        rotations: degrees by name; translations: in units of the true poses, of the object's own origin.
        similarity: ``[4, 4]`` that takes points of the found object to the true one.
    """

    rotations: dict[int, float]
    translations: dict[int, float]
    similarity: np.ndarray


def pose_errors(found: Mapping[int, np.ndarray], true: Mapping[int, np.ndarray]) -> PoseErrors:
    """Compare poses ``[4, 4]`` object to camera; names that are only in ``true`` are left out.

    The rotation of the similarity is the chordal mean of the single ones; place and scale are least squares.
    """
    names = list(found)
    mean = np.sum([true[k][:3, :3].T @ found[k][:3, :3] for k in names], axis=0)
    left, _, right = np.linalg.svd(mean)
    common = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    rows = np.concatenate([np.hstack([true[k][:3, :3], -found[k][:3, 3:]]) for k in names])
    wanted = -np.concatenate([true[k][:3, 3] for k in names])
    solved = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    rotations, translations = {}, {}
    for k in names:
        turn = true[k][:3, :3].T @ found[k][:3, :3] @ common.T
        rotations[k] = rotation_angle(turn)
        place = true[k][:3, :3] @ solved[:3] + true[k][:3, 3] - solved[3] * found[k][:3, 3]
        translations[k] = float(np.linalg.norm(place))
    similarity = np.eye(4)
    similarity[:3, :3], similarity[:3, 3] = solved[3] * common, solved[:3]
    return PoseErrors(rotations, translations, similarity)


def rotation_angle(rotation: np.ndarray) -> float:
    """Degrees by which a rotation ``[3, 3]`` turns, in [0, 180]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1.0) / 2.0, -1.0, 1.0))))
