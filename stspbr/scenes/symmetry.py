"""The eight symmetries of a square room: every one makes other, equally likely scenes of the same pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stspbr.neural.model import Views

COUNT = 8
_VECTORS = ("normal", "position", "mirror", "mirror_hit", "mirror_normal")
_FIRST_WALL, _WALLS = 2, 4  # numbers of the walls in the buffer ``id``: north, east, south, west
_NEAR = 0.02  # how far from a whole number an id may be and still be one


def matrix(number: int) -> np.ndarray:
    """``[3, 3]``: a turn about +y by ``number % 4`` quarters, for 4 to 7 after a reflection of x."""
    quarter = number % 4
    s, c = (0, 1, 0, -1)[quarter], (1, 0, -1, 0)[quarter]
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float64)
    return turn @ np.diag([-1.0 if number >= 4 else 1.0, 1.0, 1.0])


def moved(views: Views, number: int, materials: int) -> Views:
    """The views of rooms that are turned or mirrored as ``matrix(number)`` says, their walls renamed.

    A mirrored camera is none; its picture is flipped, so that it is one again.

    Args:
        materials: how many numbers the buffer ``id`` has.
    """
    if number == 0:
        return views
    turn = matrix(number)
    mirrored = np.linalg.det(turn) < 0
    one = next(iter(views.buffers.values()))
    linear = torch.tensor(turn, dtype=one.dtype, device=one.device)
    buffers = {}
    for name, values in views.buffers.items():
        if name in _VECTORS:
            values = torch.einsum("ij,bvjhw->bvihw", linear, values)
        elif name == "id":
            values = _renamed(values, turn, materials)
        buffers[name] = values.flip(-1) if mirrored else values
    back = torch.eye(4, dtype=views.poses.dtype, device=views.poses.device)
    back[:3, :3] = torch.tensor(turn.T, dtype=views.poses.dtype)
    poses = views.poses.unflatten(-1, (4, 4)) @ back
    if mirrored:
        poses = poses * torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=poses.dtype, device=poses.device)[:, None]
    return Views(buffers, poses.flatten(-2))


def wall_order(turn: np.ndarray) -> list[int]:
    """For north, east, south, west (0 to 3): the wall whose place each takes."""
    directions = np.array([[0, 0, -1], [-1, 0, 0], [0, 0, 1], [1, 0, 0]], float)
    return [int((directions @ (turn @ direction)).argmax()) for direction in directions]


def _renamed(values: Tensor, turn: np.ndarray, materials: int) -> Tensor:
    """A wall's number is that of its place; pixels across an edge, which mix numbers, stay as they are."""
    scaled = values * materials
    out = values.clone()
    for wall, new in enumerate(wall_order(turn)):
        own = (scaled - (_FIRST_WALL + wall)).abs() < _NEAR
        out = torch.where(own, torch.full_like(values, (_FIRST_WALL + new) / materials), out)
    return out


__all__ = ["COUNT", "matrix", "moved", "wall_order"]
