"""What bundle adjustment works on: observations, poses and points, and the motions that poses may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

_OPENGL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Observations:
    """Which copy shows which point where.

    Attributes:
        copy, point: ``[M]`` int64 indices; pixels: ``[M, 2]`` float64 (column, row) in the photo.
    """

    copy: np.ndarray
    point: np.ndarray
    pixels: np.ndarray

    def of(self, kept: np.ndarray) -> Observations:
        """Those with ``kept`` ``[M]`` true."""
        return Observations(self.copy[kept], self.point[kept], self.pixels[kept])


@dataclass(frozen=True)
class Bundle:
    """Poses and points that are adjusted together.

    Attributes:
        rotations, shifts: ``[N, 3, 3]`` and ``[N, 3]``, object to camera, OpenCV axes.
        points: ``[P, 3]`` in object space.
        focal: in pixels; middle: ``[2]`` the principal point.
    """

    rotations: np.ndarray
    shifts: np.ndarray
    points: np.ndarray
    focal: float
    middle: np.ndarray

    def residuals(self, seen: Observations) -> np.ndarray:
        """``[M, 2]`` pixels from the observation to the point's picture."""
        local = np.einsum("mij,mj->mi", self.rotations[seen.copy], self.points[seen.point]) + self.shifts[seen.copy]
        depth = np.maximum(local[:, 2:], 1e-9)
        return self.focal * local[:, :2] / depth + self.middle - seen.pixels

    def depths(self, seen: Observations) -> np.ndarray:
        """``[M]`` of the points before the camera; negative behind it."""
        return (self.rotations[seen.copy, 2] * self.points[seen.point]).sum(axis=1) + self.shifts[seen.copy, 2]


def bundle_of(poses: Mapping[int, np.ndarray], points: np.ndarray, focal: float, size: tuple[int, int]) -> Bundle:
    """The bundle of poses ``[4, 4]`` (``camera_from_object``, OpenGL axes) in the order of the mapping."""
    rotations = np.stack([_OPENGL @ pose[:3, :3] for pose in poses.values()])
    shifts = np.stack([_OPENGL @ pose[:3, 3] for pose in poses.values()])
    return Bundle(rotations, shifts, points, focal, 0.5 * np.asarray(size, np.float64))


def poses_of(bundle: Bundle, names: list[int]) -> dict[int, np.ndarray]:
    """The other way round."""
    out = {}
    for number, rotation, shift in zip(names, bundle.rotations, bundle.shifts, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _OPENGL @ rotation, _OPENGL @ shift
        out[number] = pose
    return out


class Motions(Protocol):
    """Which motions the poses have."""

    def basis(self, bundle: Bundle) -> np.ndarray:
        """``[6 N, K]``: by how much each of K numbers turns (3) and shifts (3) every copy."""

    def moved(self, bundle: Bundle, step: np.ndarray) -> tuple[Bundle, Motions]:
        """The poses after ``step`` ``[K]``, and the motions that they have there."""


@dataclass(frozen=True)
class FreeMotions:
    """Every copy has its own six numbers."""

    def basis(self, bundle: Bundle) -> np.ndarray:
        """The identity."""
        return np.eye(6 * len(bundle.shifts))

    def moved(self, bundle: Bundle, step: np.ndarray) -> tuple[Bundle, Motions]:
        """Turned about the object's origin, then shifted."""
        twist = step.reshape(-1, 6)
        turned = Rotation.from_rotvec(twist[:, :3]).as_matrix() @ bundle.rotations
        return replace(bundle, rotations=turned, shifts=bundle.shifts + twist[:, 3:]), self


@dataclass(frozen=True)
class PlaneMotions:
    """All stand on one plane with the normal ``up`` ``[3]``: yaw and place of each, tilt and height of the plane."""

    up: np.ndarray

    def basis(self, bundle: Bundle) -> np.ndarray:
        """Columns: yaw and two shifts per copy, then two tilts of everything about the camera, and the height."""
        count = len(bundle.shifts)
        first, second = self._across()
        out = np.zeros((count, 6, 3 * count + 3))
        for k in range(count):
            out[k, :3, 3 * k], out[k, 3:, 3 * k + 1], out[k, 3:, 3 * k + 2] = self.up, first, second
        for column, axis in enumerate((first, second)):
            out[:, :3, 3 * count + column], out[:, 3:, 3 * count + column] = axis, np.cross(axis, bundle.shifts)
        out[:, 3:, -1] = self.up
        return out.reshape(6 * count, -1)

    def moved(self, bundle: Bundle, step: np.ndarray) -> tuple[Bundle, Motions]:
        """On the old plane first, then all with the plane: exactly on the new one."""
        own, (tilt, roll, height) = step[:-3].reshape(-1, 3), step[-3:]
        first, second = self._across()
        shifts = bundle.shifts + own[:, 1:2] * first + own[:, 2:3] * second + height * self.up
        turned = Rotation.from_rotvec(own[:, :1] * self.up).as_matrix() @ bundle.rotations
        whole = Rotation.from_rotvec(tilt * first + roll * second).as_matrix()
        return replace(bundle, rotations=whole @ turned, shifts=shifts @ whole.T), PlaneMotions(whole @ self.up)

    def _across(self) -> tuple[np.ndarray, np.ndarray]:
        first = np.cross(self.up, np.eye(3)[np.abs(self.up).argmin()])
        first /= np.linalg.norm(first)
        return first, np.cross(self.up, first)
