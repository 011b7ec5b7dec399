"""Mesh reports, normals, Laplacian and fixed topology on meshes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from stspbr.errors import StspbrError
from stspbr.geometry.normals import normalize, vertex_normals
from stspbr.geometry.regularizers import UniformLaplacian
from stspbr.geometry.topology import mesh_report, remove_small_components


def _sphere(subdivisions: int = 2, radius: float = 1.0, centre=(0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return (mesh.vertices + centre).astype(np.float32), mesh.faces.astype(np.int32)


def _joined(*meshes):
    offsets = np.cumsum([0] + [len(p) for p, _ in meshes])
    return np.concatenate([p for p, _ in meshes]), np.concatenate(
        [f + o for (_, f), o in zip(meshes, offsets[:-1], strict=True)]
    ).astype(np.int32)


def test_report_of_closed_open_flipped_and_crowded_meshes():
    p, f = _sphere()
    report = mesh_report(p, f)
    assert (report["watertight"], report["genus"], report["euler"]) == (True, 0, 2)
    assert mesh_report(p, f[1:])["boundary_edges"] == 3
    assert not mesh_report(p, f[1:])["watertight"]
    turned = f.copy()
    turned[0] = turned[0, ::-1]
    assert mesh_report(p, turned)["flipped_edges"] == 3
    fin = np.concatenate([f, [[f[0, 0], f[0, 1], len(p)]]])
    assert mesh_report(np.concatenate([p, [[2, 2, 2]]]), fin)["non_manifold_edges"] == 1
    assert mesh_report(p, np.concatenate([f, [[0, 0, 1]]]))["degenerate_faces"] == 1
    assert mesh_report(np.zeros((0, 3)), np.zeros((0, 3), np.int32))["watertight"] is False


def test_two_spheres_that_touch_in_a_vertex_are_not_manifold():
    p, f = _sphere(1)
    other = p.copy()
    other[:, 0] += 3
    joined_p, joined_f = _joined((p, f), (other, f))
    joined_f = np.where(joined_f == len(p), 0, joined_f)  # the second one's first vertex becomes the first one's
    report = mesh_report(joined_p, joined_f)
    assert (report["watertight"], report["components"], report["non_manifold_vertices"]) == (True, 1, 1)
    assert report["genus"] is None


def test_torus_report():
    mesh = trimesh.creation.torus(1.0, 0.3)
    report = mesh_report(mesh.vertices, mesh.faces)
    assert (report["genus"], report["components"]) == (1, 1)
    assert report["volume"] == pytest.approx(mesh.volume, rel=1e-6)


def test_small_components_go():
    p, f = _joined(_sphere(2), _sphere(1, 0.05, (3, 0, 0)), _sphere(2, 0.9, (0, 3, 0)))
    kept_p, kept_f = remove_small_components(p, f, 0.1)
    report = mesh_report(kept_p, kept_f)
    assert (report["components"], report["vertices"]) == (2, len(kept_p))
    assert np.linalg.norm(kept_p - [3, 0, 0], axis=1).min() > 1
    with pytest.raises(StspbrError):
        remove_small_components(p, f, 1.5)


def test_vertex_normals_of_a_sphere_and_their_gradient():
    p, f = _sphere(3)
    normals = vertex_normals(torch.from_numpy(p), torch.from_numpy(f)).numpy()
    assert np.sum(normals * p, axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
    small, faces = _sphere(0)
    points = torch.from_numpy(small).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: vertex_normals(x, torch.from_numpy(faces)), (points,), atol=1e-6)


def test_degenerate_normals_are_finite():
    points = torch.zeros(4, 3, requires_grad=True)
    normals = vertex_normals(points, torch.tensor([[0, 1, 2]], dtype=torch.int32))
    normals.sum().backward()
    assert torch.isfinite(points.grad).all()
    assert normals.tolist() == [[0, 0, 1]] * 4
    assert normalize(torch.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2


def test_laplacian_against_a_loop():
    p, f = _sphere(1)
    neighbours = [set() for _ in p]
    for a, b, c in f:
        neighbours[a] |= {b, c}
        neighbours[b] |= {a, c}
        neighbours[c] |= {a, b}
    expected = np.array([p[i] - p[sorted(n)].mean(axis=0) for i, n in enumerate(neighbours)])
    out = UniformLaplacian(f, len(p))(torch.from_numpy(p)).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-6)
    double = torch.from_numpy(p).double().requires_grad_()
    assert torch.autograd.gradcheck(UniformLaplacian(f, len(p)), (double,))


def test_gradients_repeat_bit_for_bit():
    p, f = _sphere(4)
    faces = torch.from_numpy(f)
    laplacian = UniformLaplacian(f, len(p))
    grads = []
    for _ in range(3):
        points = torch.from_numpy(p).requires_grad_()
        loss = vertex_normals(points, faces).square().mul(torch.from_numpy(p)).sum()
        (loss + laplacian(points).square().sum()).backward()
        grads.append(points.grad)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])
