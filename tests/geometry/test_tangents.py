"""Tangent frames on planes whose frames are known by hand, and the shading rule with its inverse."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from stspbr.geometry.normals import vertex_normals
from stspbr.geometry.tangents import compute_tangents, shading_normals, to_tangent_space, with_frames
from stspbr.scene import Corners, Mesh

# A unit square in the xy plane that looks along +z; its image is upright: u along +x, v (down) along −y.
_SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
_UVS = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
_UP = np.tile(np.array([[0, 0, 1]], np.float32), (4, 1))


def made(positions, faces, uvs, normals):
    found = compute_tangents(positions, faces, Corners(uvs, faces), Corners(normals, faces))
    return found.values, found.index


def on_square(uvs):
    return made(_SQUARE, _FACES, uvs, _UP)


def test_upright_plane():
    tangents, faces = on_square(_UVS)
    np.testing.assert_allclose(tangents, np.tile([1, 0, 0, 1], (4, 1)), atol=1e-6)
    np.testing.assert_array_equal(faces, _FACES)
    bitangent = tangents[0, 3] * np.cross(_UP[0], tangents[0, :3])
    np.testing.assert_allclose(bitangent, [0, 1, 0], atol=1e-6)  # up in the image: decreasing v


def test_mirrored_plane():
    mirrored = _UVS * [-1, 1] + [1, 0]
    tangents, _ = on_square(mirrored)
    np.testing.assert_allclose(tangents, np.tile([-1, 0, 0, -1], (4, 1)), atol=1e-6)
    bitangent = tangents[0, 3] * np.cross(_UP[0], tangents[0, :3])
    np.testing.assert_allclose(bitangent, [0, 1, 0], atol=1e-6)


def test_green_of_a_normal_map_tilts_up_in_the_image():
    for uvs in (_UVS, _UVS * [-1, 1] + [1, 0]):
        tangents, _ = on_square(uvs)
        n = shading_normals(torch.from_numpy(_UP), torch.from_numpy(tangents), torch.tensor([[0.0, 0.6, 0.8]] * 4))
        np.testing.assert_allclose(n.numpy(), np.tile([0, 0.6, 0.8], (4, 1)), atol=1e-6)


def test_handedness_splits_vertices():
    positions = np.concatenate([_SQUARE, [[2, 0, 0], [2, 1, 0]]]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]], np.int32)
    uvs = np.concatenate([_UVS, [[0, 1], [0, 0]]]).astype(np.float32)  # the right half mirrors the left one
    tangents, index = made(positions, faces, uvs, np.tile([[0, 0, 1.0]], (6, 1)))
    assert len(tangents) == 8
    signs = tangents[index][..., 3]
    np.testing.assert_array_equal(signs, [[1] * 3, [1] * 3, [-1] * 3, [-1] * 3])
    np.testing.assert_allclose(tangents[index][2:, :, 0], -1, atol=1e-6)


def _bent_mesh():
    mesh = trimesh.creation.icosphere(3)
    p, f = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    uv = np.stack([p[:, 0] * 0.4 + 0.5 + 0.05 * p[:, 2], 0.5 - p[:, 1] * 0.4], 1).astype(np.float32)
    return p, f, uv, vertex_normals(torch.from_numpy(p), torch.from_numpy(f)).numpy()


def test_tangents_are_unit_perpendicular_and_repeat():
    p, f, uv, n = _bent_mesh()
    tangents, faces = made(p, f, uv, n)
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, rtol=1e-5)
    assert np.abs((tangents[faces][..., :3] * n[f]).sum(-1)).max() < 1e-5
    assert set(np.unique(tangents[:, 3])) == {-1.0, 1.0}
    assert (np.ptp(tangents[faces][..., 3], axis=1) == 0).all()
    again = made(p, f, uv, n)
    np.testing.assert_array_equal(tangents, again[0])


def test_faces_without_uv_area_get_a_frame():
    tangents, _ = on_square(np.zeros((4, 2)))
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1)
    np.testing.assert_allclose(tangents[:, 2], 0)


def _frames(count: int = 200):
    generator = torch.Generator().manual_seed(0)
    n, t, other = (torch.randn(count, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    sign = torch.where(torch.rand(count, 1, generator=generator, dtype=torch.float64) < 0.5, -1.0, 1.0)
    return n, torch.cat([t, sign], dim=1), torch.nn.functional.normalize(other, dim=1)


def test_inverse_is_exact_for_skewed_frames():
    n, t, other = _frames()
    there = to_tangent_space(n, t, other)
    np.testing.assert_allclose(there.norm(dim=1), 1)
    np.testing.assert_allclose(shading_normals(n, t, there), other, atol=1e-9)
    np.testing.assert_allclose(to_tangent_space(n, t, shading_normals(n, t, other)), other, atol=1e-9)


def test_rule_by_hand_and_its_gradient():
    n, t, m = _frames(20)
    unit = n / n.norm(dim=1, keepdim=True)
    expected = m[:, :1] * t[:, :3] + m[:, 1:2] * t[:, 3:] * torch.linalg.cross(unit, t[:, :3]) + m[:, 2:] * unit
    np.testing.assert_allclose(shading_normals(n, t, m), expected / expected.norm(dim=1, keepdim=True))
    inputs = [x.clone().requires_grad_() for x in (n, t, m)]
    assert torch.autograd.gradcheck(shading_normals, inputs)


def test_flat_map_is_the_normal_and_broken_frames_are_finite():
    n, t, _ = _frames(20)
    flat = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(20, 3)
    np.testing.assert_allclose(shading_normals(n, t, flat), n / n.norm(dim=1, keepdim=True))
    assert torch.equal(to_tangent_space(n, torch.zeros(20, 4, dtype=torch.float64), n), flat)


def test_only_tangents_that_are_missing_are_computed():
    own = np.array([[0.8, 0.6, 0, -1], [0, 0, 0, 0]], np.float32)
    mesh = Mesh(
        _SQUARE,
        _FACES,
        Corners(_UVS, _FACES),
        Corners(_UP, _FACES),
        Corners(own, np.array([[0] * 3, [1] * 3], np.int32)),
    )
    found = with_frames(mesh)
    corners = found.tangents.values[found.tangents.index]
    np.testing.assert_array_equal(corners[0], np.tile(own[0], (3, 1)))
    np.testing.assert_allclose(corners[1], np.tile([1, 0, 0, 1], (3, 1)), atol=1e-6)
    again = with_frames(found)
    np.testing.assert_array_equal(again.tangents.values[again.tangents.index], corners)
