"""Axes of the data sets' cameras and worlds, and how they become ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stspbr.datasets.validation import Log
from stspbr.errors import StspbrError
from stspbr.formats.lights import read_light
from stspbr.notes import Notes
from stspbr.scene.light import EnvironmentLight, turned_light

WORLD_UP = ("auto", "+y", "-y", "+z", "-z")
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def camera_to_world_from_opencv(camera_from_world: np.ndarray) -> np.ndarray:
    """Camera-to-world with OpenGL axes from COLMAP's and OpenCV's world-to-camera ``[3 or 4, 4]``."""
    m = np.eye(4)
    m[:3] = np.asarray(camera_from_world, np.float64)[:3]
    return np.linalg.inv(m) @ _OPENGL_FROM_OPENCV


def opencv_from_camera_to_world(camera_to_world: np.ndarray) -> np.ndarray:
    """The inverse of :func:`camera_to_world_from_opencv`: world-to-camera ``[4, 4]``."""
    return np.linalg.inv(np.asarray(camera_to_world, np.float64) @ _OPENGL_FROM_OPENCV)


def y_up_from(up: str, camera_to_world: Iterable[np.ndarray] = (), on_warning: Log = None) -> np.ndarray:
    """``[4, 4]`` rotation that turns a world whose up axis is ``up`` to +Y up.

    Args:
        up: ``"+y"``, ``"-y"``, ``"+z"``, ``"-z"``, or ``"auto"``: the mean of the cameras' own up axes, by the
            smallest rotation; where they cancel out, −Y, which is up for a first camera that was held level.
        camera_to_world: the poses, for ``"auto"``.

    Raises:
        StspbrError: another ``up``.
    """
    axes = {"+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1)}
    if up not in WORLD_UP:
        raise StspbrError(f"up is {up!r}: choose one of {', '.join(WORLD_UP)}")
    if up != "auto":
        return _turn_to_y(np.array(axes[up], np.float64))
    mean = np.mean([np.asarray(m, np.float64)[:3, 1] for m in camera_to_world], axis=0)
    length = float(np.linalg.norm(mean))
    if length >= 0.1:
        return _turn_to_y(mean / length)
    if on_warning is not None:
        on_warning("the cameras are rolled every way, so the up axis is a guess (-y): give it with up")
    return _turn_to_y(np.array([0.0, -1.0, 0.0]))


def original(rotation: np.ndarray) -> np.ndarray | None:
    """``original_from_world`` of a capture whose world was turned by ``rotation`` ``[4, 4]``; None if it was not."""
    return None if np.array_equal(rotation, np.eye(4)) else rotation.T


def tilt(rotation: np.ndarray, camera_to_world: Iterable[np.ndarray]) -> float:
    """Degrees between +Y and the cameras' mean up axis in a world turned by ``rotation``; 0 where these cancel out."""
    mean = rotation[:3, :3] @ np.mean([np.asarray(m, np.float64)[:3, 1] for m in camera_to_world], axis=0)
    length = float(np.linalg.norm(mean))
    return 0.0 if length < 0.1 else float(np.degrees(np.arccos(np.clip(mean[1] / length, -1.0, 1.0))))


def turned_pose(rotation: np.ndarray, object_to_world: np.ndarray) -> np.ndarray:
    """An object's pose where both its world and its own axes are turned by ``rotation`` ``[4, 4]``."""
    return rotation @ object_to_world @ rotation.T


def folder_light(folder: Path, rotation: np.ndarray, notes: Notes | None = None) -> EnvironmentLight | None:
    """The known light ``environment.exr`` or ``.hdr`` of a folder, turned with its world; None if there is none."""
    for name in ("environment.exr", "environment.hdr"):
        if (folder / name).is_file():
            return turned_light(read_light(folder / name, notes=notes), rotation[:3, :3])
    return None


def _turn_to_y(up: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the unit vector ``up`` to +Y; about X where it is a half turn."""
    out = np.eye(4)
    x, y, z = up
    if y < -1 + 1e-12:
        out[:3, :3] = np.diag([1.0, -1.0, -1.0])
        return out
    cross = np.array([[0.0, -x, 0.0], [x, 0.0, z], [0.0, -z, 0.0]])  # of up × Y: Rodrigues' formula
    out[:3, :3] = np.eye(3) + cross + cross @ cross / (1.0 + y)
    return out
