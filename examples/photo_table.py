"""A table for the object: a plane with a pattern for feature detectors."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.printed_paper import printed_paper
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh


def table_asset(height: float, size: float = 8.0, resolution: int = 1024, seed: int = 0) -> Asset:
    """A square with its upper side at ``y = height``, covered with printed paper that does not repeat.

    Args:
        size: side in world units, about the y axis.
        resolution: side of its albedo map.
        seed: of the print.
    """
    half = 0.5 * size
    positions = np.array([[-half, height, -half], [-half, height, half], [half, height, half], [half, height, -half]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uvs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], np.float32)
    normals = np.array([[0.0, 1.0, 0.0]], np.float32)
    mesh = Mesh(positions.astype(np.float32), faces, Corners(uvs, faces), Corners(normals, np.zeros_like(faces)))
    albedo = printed_paper(resolution, seed)
    flat = np.ones((1, 1, 1), np.float32)
    return Asset(mesh, [Material(albedo, 0.8 * flat, 0.0 * flat, name="printed_paper")], name="table")
