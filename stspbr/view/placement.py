"""Between the page's scene, in which the object is a unit ball, and the capture's world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from stspbr.scene import Camera, Frame

FIELD_OF_VIEW = np.radians(35.0)
"""Of the page's first view, upright."""
_FLIP = np.diag([1.0, -1.0, -1.0])  # between OpenGL's axes of a camera and those of the page, which are OpenCV's


@dataclass(frozen=True)
class Placement:
    """The point ``x`` of the capture's world is ``(x − centre) / radius`` on the page."""

    centre: np.ndarray
    radius: float

    @classmethod
    def of_cameras(cls, frames: Sequence[Frame]) -> Placement:
        """Where cameras look at, if no surface is known: the point nearest to all lines of sight."""
        poses = [np.linalg.inv(frame.object_to_world) @ frame.camera.camera_to_world for frame in frames]
        eyes, ways = np.array([pose[:3, 3] for pose in poses]), np.array([-pose[:3, 2] for pose in poses])
        away = np.eye(3) - ways[:, :, None] * ways[:, None, :]
        centre = np.linalg.lstsq(away.sum(axis=0), np.einsum("nij,nj->i", away, eyes), rcond=None)[0]
        distance = float(np.median(np.linalg.norm(eyes - centre, axis=1)))
        half = min(np.arctan(0.5 * min(f.camera.width, f.camera.height) / f.camera.fx) for f in frames)
        return cls(centre, max(0.8 * distance * float(np.sin(half)), 1e-6))

    def camera(self, wxyz: np.ndarray, position: np.ndarray, field: float, width: int, height: int) -> Camera:
        """A camera of the capture's world from one of the page.

        Args:
            wxyz: rotation to the world, of axes +X right, +Y down, +Z forward; position: ``[3]``.
            field: of view, upright, in radians; width, height: in pixels.
        """
        pose = np.eye(4)
        pose[:3, :3] = rotation_of(wxyz) @ _FLIP
        pose[:3, 3] = np.asarray(position, np.float64) * self.radius + self.centre
        focal = 0.5 * height / np.tan(0.5 * field)
        distance = float(np.linalg.norm(position)) * self.radius
        near = max(distance - 1.5 * self.radius, 0.01 * self.radius)
        far = distance + 1.5 * self.radius
        return Camera(pose, focal, focal, width / 2, height / 2, width, height, near, far)

    def on_page(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Rotation ``wxyz`` and position ``[3]`` of a frame's camera on the page, about the object's own axes."""
        pose = np.linalg.inv(frame.object_to_world) @ frame.camera.camera_to_world
        return quaternion_of(pose[:3, :3] @ _FLIP), (pose[:3, 3] - self.centre) / self.radius


def rotation_of(wxyz: np.ndarray) -> np.ndarray:
    """The rotation ``[3, 3]`` of a quaternion."""
    return Rotation.from_quat(np.roll(np.asarray(wxyz, np.float64), -1)).as_matrix()


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """The quaternion ``wxyz`` of a rotation ``[3, 3]``."""
    return np.roll(Rotation.from_matrix(rotation).as_quat(), 1)
