"""Meshes whose exchange of light has a closed form, and lights."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import ConvexHull

from stspbr.render.light import EnvironmentCube


def sphere(count: int = 1500) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions ``[V, 3]`` on the unit sphere and faces ``[F, 3]``, counter-clockwise from outside."""
    number = np.arange(count) + 0.5
    y, angle = 1 - 2 * number / count, number * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y * y)
    points = np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)
    faces = ConvexHull(points).simplices
    corners = points[faces]
    outward = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * corners[:, 0]).sum(1) > 0
    faces[~outward] = faces[~outward][:, ::-1]
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(faces.astype(np.int32))


def bowl(height: float, count: int = 2500) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere without its cap above ``height``, seen from inside: faces turned inwards."""
    positions, faces = sphere(count)
    kept = positions[faces.long()][..., 1].amax(1) < height
    return positions, faces[kept].flip(1).contiguous()


def sky(radiance: float = 1.0, resolution: int = 32):
    """A light of the same radiance from everywhere."""
    return EnvironmentCube(resolution, radiance).prefilter().detach()


def gradient_sky(resolution: int = 32):
    """Bright above, blue below, a lamp to the side."""
    cube = EnvironmentCube(resolution)
    values = torch.full((6, resolution, resolution, 3), 0.2)
    values[2] += torch.tensor([2.0, 1.5, 1.0])
    values[0, 4:8, 6:9] = 40.0
    cube.set_radiance(values)
    return cube
