"""What the copies stand on: one plane, if all have the same side down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_AGREE = 6.0  # degrees
_TURNED = 0.97  # second singular value of the mean rotation: above, all copies have about the same pose


@dataclass(frozen=True)
class RestingPlane:
    """The plane's direction.

    Attributes:
        up: ``[3]`` its normal in the camera's OpenGL axes, towards the camera's own up.
        axis: ``[3]`` the same in the object's axes.
        spread: degrees by which a copy's own normal differs, at most.
    """

    up: np.ndarray
    axis: np.ndarray
    spread: float


def resting_plane(poses: Mapping[int, np.ndarray]) -> RestingPlane | None:
    """The plane on which copies with ``poses`` (``camera_from_object``) stand; None if they do not, or it is open.

    The axis that all rotations take to nearly the same direction is the first right singular vector of their mean.
    """
    if len(poses) < 3:
        return None
    turns = np.stack([pose[:3, :3] for pose in poses.values()])
    left, sizes, right = np.linalg.svd(turns.mean(axis=0))
    if sizes[1] > _TURNED:
        return None
    axis, up = right[0], left[:, 0]
    if up[1] < 0:
        axis, up = -axis, -up
    spread = float(np.degrees(np.arccos(np.clip((turns @ axis) @ up, -1.0, 1.0)).max()))
    return RestingPlane(up, axis, spread) if spread <= _AGREE else None


def on_plane(poses: Mapping[int, np.ndarray], plane: RestingPlane, centre: np.ndarray) -> dict[int, np.ndarray]:
    """The poses with one tilt and one height: what is left of each are its turn about the normal and its place.

    Args:
        centre: ``[3]`` the object's middle in its own space, about which rotations are corrected.
    """
    height = float(np.mean([(pose[:3, :3] @ centre + pose[:3, 3]) @ plane.up for pose in poses.values()]))
    out = {}
    for number, pose in poses.items():
        own = pose[:3, :3] @ plane.axis
        place = pose[:3, :3] @ centre + pose[:3, 3]
        moved = np.eye(4)
        moved[:3, :3] = smallest_turn(own, plane.up) @ pose[:3, :3]
        moved[:3, 3] = place + (height - place @ plane.up) * plane.up - moved[:3, :3] @ centre
        out[number] = moved
    return out


def smallest_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation ``[3, 3]`` that takes the unit vector ``start`` to ``end``."""
    cosine = float(start @ end)
    if cosine < -1.0 + 1e-9:  # half a turn about any axis across
        across = np.cross(start, np.eye(3)[np.abs(start).argmin()])
        across /= np.linalg.norm(across)
        return 2.0 * np.outer(across, across) - np.eye(3)
    x, y, z = np.cross(start, end)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)
