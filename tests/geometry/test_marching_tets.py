"""Tetrahedral grid, marching tetrahedra and DMTet against what is known of spheres, tori and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.implicit_shape import masked_sign_penalty
from stspbr.geometry.marching_tets import MarchingTets, unique_edges
from stspbr.geometry.tet_grid import border_vertices, tet_grid
from stspbr.geometry.topology import mesh_report


def _tet_volumes(vertices: np.ndarray, tets: np.ndarray) -> np.ndarray:
    p = vertices.astype(np.float64)[tets]
    return np.einsum("ij,ij->i", np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), p[:, 3] - p[:, 0]) / 6.0


@pytest.mark.parametrize(("resolution", "high"), [(8, (1.0, 1.0, 1.0)), (13, (1.0, 0.7, 0.1))])
def test_grid_fills_the_box_once_with_positive_tets(resolution, high):
    vertices, tets, edges = tet_grid(resolution, (-1, -1, -1), high)
    volumes = _tet_volumes(vertices, tets)
    assert volumes.min() > 0
    assert volumes.sum() == pytest.approx(np.prod(np.array(high) + 1.0), rel=1e-6)
    np.testing.assert_array_equal(edges, unique_edges(tets))
    faces = np.sort(np.concatenate([tets[:, [0, 1, 2]], tets[:, [0, 1, 3]], tets[:, [0, 2, 3]], tets[:, [1, 2, 3]]]), 1)
    triangles, uses = np.unique(faces, axis=0, return_counts=True)
    assert uses.max() == 2
    assert border_vertices(vertices)[triangles[uses == 1]].all()
    assert vertices.dtype == np.float32
    assert tets.dtype == edges.dtype == np.int32


def test_grid_has_about_resolution_cubed_tets():
    _, tets, _ = tet_grid(32, (0, 0, 0), (2, 2, 2))
    assert len(tets) == pytest.approx(32**3, rel=0.15)


def test_grid_refuses_an_empty_box():
    with pytest.raises(StspbrError, match="empty"):
        tet_grid(16, (0, 0, 0), (1, 0, 1))


def _mesh(geometry: DMTet, sdf: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict]:
    with torch.no_grad():
        geometry.sdf.copy_(torch.from_numpy(sdf.astype(np.float32)))
        positions, faces = geometry.extract()
    return positions.numpy(), faces.numpy(), mesh_report(positions.numpy(), faces.numpy())


@pytest.mark.parametrize(("resolution", "error"), [(12, 0.15), (24, 0.03), (48, 0.008)])
def test_sphere_is_closed_and_has_its_volume(resolution, error):
    geometry = DMTet(resolution, (-1, -1, -1), (1, 1, 1))
    geometry.init_sphere(0.7)
    _, _, report = _mesh(geometry, geometry.sdf.detach().numpy().copy())
    assert report["watertight"]
    assert (report["genus"], report["components"], report["non_manifold_vertices"]) == (0, 1, 0)
    assert report["volume"] == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=error)  # positive: faces look outwards


def test_torus_and_two_spheres():
    geometry = DMTet(32, (-1, -1, -1), (1, 1, 1))
    p = geometry.grid.numpy()
    torus = np.hypot(np.hypot(p[:, 0], p[:, 2]) - 0.55, p[:, 1]) - 0.25
    report = _mesh(geometry, torus)[2]
    assert (report["watertight"], report["genus"], report["components"]) == (True, 1, 1)
    spheres = np.minimum(*(np.linalg.norm(p - [x, 0.1, 0.0], axis=1) - 0.35 for x in (-0.5, 0.5)))
    report = _mesh(geometry, spheres)[2]
    assert (report["watertight"], report["genus"], report["components"]) == (True, 0, 2)


def test_noise_and_a_full_box_are_closed():
    geometry = DMTet(12, (-1, -0.5, -1), (1, 0.5, 1))
    noise = np.random.default_rng(1).standard_normal(len(geometry.sdf))
    _, faces, report = _mesh(geometry, noise)
    assert len(faces) > 500
    assert report["watertight"]
    report = _mesh(geometry, np.full(len(noise), -0.3))[2]
    assert report["watertight"]
    assert report["volume"] > 1.0


def test_empty_gives_empty_arrays():
    positions, faces, _ = _mesh(DMTet(8, (0, 0, 0), (1, 1, 1)), np.ones(91))
    assert positions.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_every_vertex_lies_on_the_linear_zero_crossing():
    geometry = DMTet(16, (-1, -1, -1), (1, 1, 1))
    p = geometry.grid.numpy()
    positions, _, _ = _mesh(geometry, p @ np.array([0.3, 0.5, 0.2]) + 0.1)  # linear: crossings are exact
    inner = np.abs(positions).max(axis=1) < 0.71  # away from the border, which closes it
    assert inner.sum() > 50
    np.testing.assert_allclose(positions[inner] @ np.array([0.3, 0.5, 0.2]) + 0.1, 0, atol=1e-6)


def test_gradients_match_central_differences():
    vertices, tets, _ = tet_grid(6, (-1, -1, -1), (1, 1, 1))
    marching = MarchingTets(tets, None, border_vertices(vertices))
    vertices = torch.from_numpy(vertices).double()
    generator = torch.Generator().manual_seed(3)
    sdf = torch.randn(len(vertices), generator=generator, dtype=torch.float64)
    crossings = len(marching.topology(sdf)[0])
    weight = torch.randn(crossings, 3, generator=generator, dtype=torch.float64)

    def value(points, distances):
        return (marching(points, distances)[0] * weight).sum()

    assert torch.autograd.gradcheck(
        value, (vertices.requires_grad_(), sdf.requires_grad_()), eps=1e-7, atol=1e-4, rtol=1e-4
    )


def test_extraction_is_the_same_for_any_thread_count():
    numba = pytest.importorskip("numba")
    geometry = DMTet(24, (-1, -1, -1), (1, 1, 1), torch.Generator().manual_seed(0))
    before = numba.get_num_threads()
    results = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        geometry.zero_grad()
        positions, faces = geometry.extract()
        positions.square().sum().backward()
        results.append((positions.detach(), faces, geometry.sdf.grad.clone(), geometry.deform.grad.clone()))
    numba.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_regularizer_is_the_sum_over_crossing_edges():
    geometry = DMTet(8, (-1, -1, -1), (1, 1, 1), torch.Generator().manual_seed(0))
    values = geometry.marching.values(geometry.sdf).detach().double().numpy()
    terms = []
    for i, j in geometry.marching.edges:
        if (values[i] < 0) != (values[j] < 0):
            for a, b in ((values[i], values[j]), (values[j], values[i])):
                p = 1 / (1 + np.exp(-a))
                terms.append(-np.log(p) if b >= 0 else -np.log(1 - p))
    loss = geometry.regularizer()
    assert loss.item() == pytest.approx(2 * np.mean(terms), rel=1e-5)
    loss.backward()
    assert geometry.sdf.grad.abs().sum() > 0
    geometry.sdf.data.fill_(1.0)
    assert geometry.regularizer().item() == 0.0


def test_deformation_stays_within_half_a_cell_and_seeds_repeat():
    geometry = DMTet(10, (0, 0, 0), (2, 1, 1), torch.Generator().manual_seed(5))
    geometry.deform.data.fill_(100.0)
    np.testing.assert_allclose((geometry.vertices() - geometry.grid).detach().numpy(), 0.1, rtol=1e-3)
    again = DMTet(10, (0, 0, 0), (2, 1, 1), torch.Generator().manual_seed(5))
    assert torch.equal(geometry.sdf, again.sdf)
    low, high = geometry.box
    assert low.tolist() == [0, 0, 0]
    assert high.tolist() == [2, 1, 1]


def test_bad_initial_distances_are_refused():
    geometry = DMTet(8, (0, 0, 0), (1, 1, 1))
    with pytest.raises(StspbrError, match="91"):
        geometry.init_sdf(np.zeros(5))
    with pytest.raises(StspbrError, match="empty"):
        geometry.init_sdf(np.ones(91))
    with pytest.raises(StspbrError, match="NaN"):
        geometry.init_sdf(np.full(91, np.nan))


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("kind", ["noise", "sphere", "nothing", "all"])
def test_torch_twin_finds_the_same_mesh_in_the_same_order(border, kind, kernels):
    vertices, tets, edges = tet_grid(9, (-1, -1, -1), (1, 0.8, 1))
    generator = torch.Generator().manual_seed(3)
    sdf = {
        "noise": torch.rand(len(vertices), generator=generator) - 0.4,
        "sphere": torch.from_numpy(np.linalg.norm(vertices, axis=1)) - 0.6,
        "nothing": torch.ones(len(vertices)),
        "all": -torch.ones(len(vertices)),
    }[kind]
    sdf[5] *= 0.0 if kind == "noise" else 1.0  # a zero counts as outside
    results = []
    for backend in (kernels, "torch"):
        marching = MarchingTets(tets, edges, border_vertices(vertices) if border else None, backend)
        leaves = torch.from_numpy(vertices).clone().requires_grad_(), sdf.clone().requires_grad_()
        positions, faces = marching(*leaves)
        weight = torch.rand(positions.shape, generator=torch.Generator().manual_seed(1))
        results.append([positions, faces, *torch.autograd.grad((positions * weight).sum(), leaves)])
        assert faces.dtype == torch.int32 and not marching.state_dict()
    for found, wanted in zip(results[1], results[0], strict=True):
        assert torch.equal(found, wanted)
    assert (len(results[0][1]) > 0) == (kind in ("noise", "sphere") or (kind == "all" and border))


def test_on_a_gpu_the_mesh_is_the_same(gpu):
    vertices, tets, edges = tet_grid(24, (-1, -1, -1), (1, 1, 1))
    sdf = torch.rand(len(vertices), generator=torch.Generator().manual_seed(3)) - 0.4
    results = []
    for device in (torch.device("cpu"), gpu):
        marching = MarchingTets(tets, edges, border_vertices(vertices)).to(device)
        leaves = [torch.from_numpy(vertices).to(device).requires_grad_(), sdf.to(device).requires_grad_()]
        positions, faces = marching(*leaves)
        results.append([faces, positions, *torch.autograd.grad(positions.square().sum(), leaves)])
    for found, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("radius", [0.6, 0.0], ids=["sphere", "nothing inside"])
def test_regularizer_with_a_mask_is_that_of_the_crossing_edges(radius):
    geometry = DMTet(12, (-1, -1, -1), (1, 1, 1))
    geometry.init_sphere(radius)
    values = geometry.marching.values(geometry.sdf)
    first, second = geometry._edges
    crosses = (values.detach() < 0)[first] != (values.detach() < 0)[second]
    found, wanted = masked_sign_penalty(values, crosses, first, second), geometry.regularizer()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, geometry.sdf)[0] for value in (found, wanted)))
    assert bool(wanted > 0) == (radius > 0)
