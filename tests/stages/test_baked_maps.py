"""Fields over a layout: parts that share texels get their mean, and it is said what that costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.scene import Corners, Mesh
from stspbr.stages.baked_maps import bake_fields
from stspbr.texture.atlas import rasterize_layout

SIZE = 16


def fields(points: torch.Tensor) -> MaterialValues:
    """A material that differs between the left and the right half: 0.2 and 0.6 rough, red and green."""
    right = (points[:, :1] > 0).float()
    zero = torch.zeros_like(right)
    albedo, none = torch.cat([1 - right, right, zero], dim=1), torch.cat([zero, zero, zero], dim=1)
    return MaterialValues(albedo, 0.2 + 0.4 * right, zero, none)


def two_squares(mirrored: bool, apart: float = 0.0) -> Mesh:
    """Two squares side by side in the xy plane whose UVs are one square of the image, ``apart`` shifts the second."""
    square = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], np.float32)
    left = np.concatenate([square * [1, -1] - [1, 0], np.zeros((4, 1))], axis=1)
    right = left * [-1, 1, 1] if mirrored else left + [1, 0, 0]
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    turned = faces[:, ::-1] if mirrored else faces
    positions = np.concatenate([left, right]).astype(np.float32)
    uvs = np.concatenate([square * 0.5, square * 0.5 + [apart, 0.0]]).astype(np.float32)
    faces = np.concatenate([faces, turned + 4]).astype(np.int32)
    return Mesh(positions, faces, Corners(uvs, faces))


@pytest.mark.parametrize("mirrored", [False, True])
def test_shared_texels_get_the_mean_of_their_parts(mirrored):
    mesh = two_squares(mirrored)
    texels = rasterize_layout(mesh.uvs, (SIZE, SIZE))
    maps, sharing = bake_fields(fields, mesh, texels, with_normals=False)
    middle = maps.albedo[3, 3], maps.reflectance[3, 3]
    np.testing.assert_allclose(middle[0], [0.5, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(middle[1], [0.4, 0.0], atol=1e-6)
    assert sharing["shared"] == 1.0
    assert sharing["roughness"] == pytest.approx(0.2, abs=1e-6) and sharing["metallic"] == 0.0
    assert sharing["albedo"] == pytest.approx(np.sqrt((0.25 + 0.25 + 0) / 3), abs=1e-6)


def test_parts_with_texels_of_their_own_keep_what_they_are():
    mesh = two_squares(mirrored=False, apart=1.5)  # half the image further, and a whole tile
    texels = rasterize_layout(mesh.uvs, (SIZE, SIZE))
    maps, sharing = bake_fields(fields, mesh, texels, with_normals=False)
    np.testing.assert_allclose(maps.albedo[3, 3], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(maps.albedo[3, 11], [0, 1, 0], atol=1e-6)
    assert sharing == {"shared": 0.0, "albedo": 0.0, "roughness": 0.0, "metallic": 0.0}
