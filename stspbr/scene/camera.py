"""Pinhole cameras: camera-to-world, OpenGL axes, pixel centres at +0.5, image row 0 at the top."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        camera_to_world: ``[4, 4]`` float64, rigid; +X right, +Y up, looking along −Z.
        fx, fy: focal lengths in pixels.
        cx, cy: principal point in pixels from the image's top-left corner (centre of pixel 0 is 0.5).
        width, height: image size in pixels.
        near, far: clip distances in world units.
    """

    camera_to_world: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    near: float = 0.01
    far: float = 100.0

    @property
    def position(self) -> np.ndarray:
        """``[3]`` float64: the camera's centre in world space."""
        return np.asarray(self.camera_to_world, dtype=np.float64)[:3, 3]

    @property
    def world_to_camera(self) -> np.ndarray:
        """``[4, 4]`` float64."""
        return np.linalg.inv(np.asarray(self.camera_to_world, dtype=np.float64))

    @property
    def clip_from_camera(self) -> np.ndarray:
        """``[4, 4]`` float64 projection to clip space.

        As nvdiffrast expects it for images whose row 0 is the top: clip y grows *downwards*, so that
        pixel ``(column, row)`` has its centre at ``((2·column+1)/width − 1, (2·row+1)/height − 1)``.
        Depth is OpenGL's: −1 at ``near``, +1 at ``far``.
        """
        w, h, n, f = float(self.width), float(self.height), self.near, self.far
        m = np.zeros((4, 4))
        m[0, 0] = 2.0 * self.fx / w
        m[0, 2] = 1.0 - 2.0 * self.cx / w
        m[1, 1] = -2.0 * self.fy / h
        m[1, 2] = 1.0 - 2.0 * self.cy / h
        m[2, 2] = -(f + n) / (f - n)
        m[2, 3] = -2.0 * f * n / (f - n)
        m[3, 2] = -1.0
        return m

    def clip_from_object(self, object_to_world: np.ndarray) -> np.ndarray:
        """``[4, 4]`` float64: object space to clip space for an object at ``object_to_world``."""
        return self.clip_from_camera @ self.world_to_camera @ np.asarray(object_to_world, dtype=np.float64)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates ``[N, 2]`` (column, row) and depth ``[N]`` of world points ``[N, 3]``.

        Depth is negative behind the camera.
        """
        matrix = self.world_to_camera
        local = points @ matrix[:3, :3].T + matrix[:3, 3]
        depth = -local[:, 2]
        safe = np.where(np.abs(depth) > 1e-12, depth, 1e-12)
        return np.stack([self.cx + self.fx * local[:, 0] / safe, self.cy - self.fy * local[:, 1] / safe], axis=1), depth

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for an image resampled to ``width × height`` (the field of view stays)."""
        return self.resampled((0, 0, self.width, self.height), (width, height))

    def resampled(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> Camera:
        """The same camera for the part ``box`` (left, top, width, height in pixels), resampled to ``size``."""
        left, top, width, height = box
        sx, sy = size[0] / width, size[1] / height
        cx, cy = (self.cx - left) * sx, (self.cy - top) * sy
        return replace(self, width=size[0], height=size[1], fx=self.fx * sx, fy=self.fy * sy, cx=cx, cy=cy)


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 1.0, 0.0)) -> np.ndarray:
    """Camera-to-world ``[4, 4]`` float64 of a camera at ``position`` that looks at ``target``.

    Where the line of sight is parallel to ``up``, another axis takes its place.
    """
    place = np.asarray(position, dtype=np.float64)
    back = place - np.asarray(target, dtype=np.float64)
    back /= np.linalg.norm(back)
    right = np.cross(np.asarray(up, dtype=np.float64), back)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross(np.array([0.0, 0.0, 1.0]), back)
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3, 0], out[:3, 1], out[:3, 2], out[:3, 3] = right, np.cross(back, right), back, place
    return out
