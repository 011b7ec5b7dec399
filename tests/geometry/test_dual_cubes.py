"""Dual marching cubes with weights: tables, topology against a walk along the contours, values and gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from stspbr.geometry.cell_band import CellBand
from stspbr.geometry.cube_cases import CORNERS, EDGES, FACES, cube_cases
from stspbr.geometry.dual_cubes import WEIGHTS, DualCubes
from stspbr.geometry.topology import mesh_report
from stspbr.threads import set_threads

COUNTS = np.array([7, 6, 8])


def lattice(counts=COUNTS) -> tuple[CellBand, np.ndarray, np.ndarray]:
    """The band of all cells, its corners' positions, and which are on the border."""
    band = CellBand.whole(np.asarray(counts))
    points = band.positions(-np.ones(3), np.ones(3))[: len(band.sites) - len(band.cells)]
    return band, points, band.cube_edges()[1]


def cubes(backend="auto", counts=COUNTS) -> tuple[DualCubes, np.ndarray]:
    band, points, border = lattice(counts)
    return DualCubes(band.corners, band.neighbours, border, backend=backend), points


def noise(points: np.ndarray, seed: int, weighted: float = 0.5, dtype=torch.float32):
    """Displaced vertices, distances, weights of some cells, and the cells' rows."""
    generator = torch.Generator().manual_seed(seed)
    count = int(COUNTS.prod())
    vertices = torch.from_numpy(points) + 0.05 * torch.randn(points.shape, generator=generator)
    sdf = torch.randn(len(points), generator=generator) + 0.4 * (seed % 5 - 2)
    chosen = torch.randperm(count, generator=generator)[: int(weighted * count)]
    row = torch.full((count,), -1, dtype=torch.int32)
    row[chosen] = torch.arange(len(chosen), dtype=torch.int32)
    weights = torch.randn(len(chosen), WEIGHTS, generator=generator)
    return vertices.to(dtype), sdf.to(dtype), weights.to(dtype), row


def contour_loops(inside: np.ndarray, flipped: int) -> list[frozenset[int]]:
    """The loops of one cube, walked face by face along the line that keeps the inside corners to its left."""
    follows = {}
    for face, (axis, side) in enumerate(FACES):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        ring = []
        for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):  # counter-clockwise from outside at the far end
            corner = np.zeros(3, int)
            corner[[axis, b, c]] = side, u, v
            ring.append(int(corner @ (4, 2, 1)))
        ring = ring if side else ring[::-1]
        edge_after = [
            int(np.flatnonzero((EDGES == sorted((ring[k], ring[(k + 1) % 4]))).all(axis=1))[0]) for k in range(4)
        ]
        for k in range(4):
            if inside[ring[k]] and not inside[ring[(k + 1) % 4]]:  # the line enters here
                turn = -1 if face != flipped else 1  # back round the inside corner, or on round the outside one
                at = k
                while True:
                    at = (at + turn) % 4
                    start, end = (ring[at], ring[(at + 1) % 4])
                    if inside[start] != inside[end]:
                        break
                follows[edge_after[k]] = edge_after[at]
    loops = []
    left = set(follows)
    while left:
        loop, edge = [], min(left)
        while edge in left:
            left.remove(edge)
            loop.append(edge)
            edge = follows[edge]
        loops.append(frozenset(loop))
    return loops


def test_tables_are_the_loops_of_the_contours():
    cube = cube_cases()
    for case in range(256):
        inside = np.array([bool(case >> k & 1) for k in range(8)])
        for variant, flipped in ((0, -1), (1, int(cube.pinched[case]))):
            row = cube.loops[case + 256 * variant]
            found = {frozenset(np.flatnonzero(row == k).tolist()) for k in range(cube.counts[case + 256 * variant])}
            assert found == set(contour_loops(inside, flipped)), (case, variant)
            np.testing.assert_array_equal(row >= 0, inside[EDGES[:, 0]] != inside[EDGES[:, 1]])
    assert cube.counts.max() == 4 and max(np.bincount(row[row >= 0]).max() for row in cube.loops if row.max() >= 0) == 7


def test_tables_are_those_of_the_turned_cube():
    """Every rotation and reflection of a case gives the loops of the turned case."""
    cube = cube_cases()
    for order, signs in product(((1, 2, 0), (1, 0, 2)), ((1, 1, 1), (-1, 1, 1))):
        moved = np.where(np.array(signs) == 1, CORNERS[:, order], 1 - CORNERS[:, order])
        to = moved @ (4, 2, 1)
        edge_to = [int(np.flatnonzero((EDGES == np.sort(to[edge])).all(axis=1))[0]) for edge in EDGES]
        for case in range(256):
            turned = sum(1 << int(to[k]) for k in range(8) if case >> k & 1)
            for variant in (0, 256):
                a = {frozenset(edge_to[e] for e in np.flatnonzero(cube.loops[case + variant] == k)) for k in range(4)}
                b = {frozenset(np.flatnonzero(cube.loops[turned + variant] == k).tolist()) for k in range(4)}
                assert a == b, (case, turned)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_noise_is_closed_and_manifold(backend):
    geometry, points = cubes(backend)
    pinched = 0
    for seed in range(60 if backend == "cpu" else 10):
        vertices, sdf, weights, row = noise(points, seed)
        topology, positions, _, gamma = geometry(vertices, sdf, weights, row)
        pinched += int((topology.rows >= 256).sum())
        for mesh in (
            geometry.training_mesh(topology, positions, gamma),
            (positions, geometry.final_faces(topology, gamma)),
        ):
            report = mesh_report(*(each.numpy() for each in mesh))
            assert report["watertight"] and report["non_manifold_vertices"] == 0, seed
            assert report["vertices"] == len(mesh[0])
    assert pinched > 20  # the cases that plain dual marching cubes would join in an edge of four faces


def test_noise_would_not_be_manifold_without_the_second_variant(monkeypatch):
    geometry, points = cubes("torch")
    plain = cube_cases()._replace(pinched=np.full(256, -1))
    monkeypatch.setattr("stspbr.geometry.dual_cubes.cube_cases", lambda: plain)
    found = 0
    for seed in range(10):
        topology, positions, _, gamma = geometry(*noise(points, seed))
        found += mesh_report(positions.numpy(), geometry.final_faces(topology, gamma).numpy())["non_manifold_edges"]
    assert found > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kernels_agree_with_the_twin_in_values_and_gradients(seed, kernels):
    (geometry, points), (twin, _) = cubes(kernels), cubes("torch")
    results = []
    for each, dtype in ((geometry, torch.float32), (twin, torch.float64)):
        vertices, sdf, weights, row = noise(points, seed)
        leaves = [part.to(dtype).requires_grad_() for part in (vertices, sdf, weights)]
        topology, positions, deviation, gamma = each(*leaves, row)
        mesh, faces = each.training_mesh(topology, positions, gamma)
        generator = torch.Generator().manual_seed(7)
        pull = torch.randn(mesh.shape, generator=generator), torch.randn(deviation.shape, generator=generator)
        gradients = torch.autograd.grad((mesh * pull[0]).sum() + (deviation * pull[1]).sum(), leaves)
        results.append(
            ([topology.cells, topology.rows, topology.first, topology.quads, faces], mesh, deviation, gradients)
        )
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype == torch.int32
    for k in (1, 2):
        torch.testing.assert_close(results[0][k], results[1][k].float(), rtol=1e-5, atol=2e-6)
    for a, b in zip(results[0][3], results[1][3], strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5
        assert float(b.abs().sum()) > 0


def test_on_a_gpu_the_mesh_is_the_same(gpu):
    results = []
    for device in (torch.device("cpu"), gpu):
        geometry, points = cubes()
        *leaves, row = noise(points, 4)
        leaves = [leaf.to(device).requires_grad_() for leaf in leaves]
        topology, positions, deviation, gamma = geometry.to(device)(*leaves, row.to(device))
        mesh, faces = geometry.training_mesh(topology, positions, gamma)
        gradients = torch.autograd.grad(mesh.square().sum() + deviation.sum(), leaves)
        results.append([faces, mesh, deviation, *gradients])
    for found, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_twin_match_central_differences():
    geometry, points = cubes("torch")
    vertices, sdf, weights, row = noise(points, 3, dtype=torch.float64)
    count = int(geometry.topology(sdf).first[-1])
    generator = torch.Generator().manual_seed(1)
    pull = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    near = torch.nonzero(sdf.abs() > 0.05).squeeze(1)  # far from a change of topology

    def value(a, b, c):
        moved = sdf.index_copy(0, near, b)
        topology, positions, deviation, gamma = geometry(a, moved, c, row)
        mesh, _ = geometry.training_mesh(topology, positions, gamma)
        return (mesh[:count] * pull).sum() + mesh[count:].square().sum() + 0.1 * deviation.sum()

    leaves = vertices.requires_grad_(), sdf[near].clone().requires_grad_(), weights.requires_grad_()
    exact = torch.autograd.grad(value(*leaves), leaves)
    for k, leaf in enumerate(leaves):
        for seed in range(4):
            step = torch.randn(leaf.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            moved = [[x if j != k else x + s * 1e-7 * step for j, x in enumerate(leaves)] for s in (1, -1)]
            with torch.no_grad():
                difference = (value(*moved[0]) - value(*moved[1])) / 2e-7
            assert float((exact[k] * step).sum()) == pytest.approx(float(difference), rel=1e-4)


def test_a_dual_vertex_by_hand(kernels):
    """One inside corner: three crossings, whose mean by β is the vertex; α shifts them, the deviation leaves α out."""
    geometry, points = cubes(kernels, (2, 2, 2))
    middle = int(np.flatnonzero((np.abs(points) < 1e-6).all(axis=1))[0])
    sdf = torch.full((27,), 1.0)
    sdf[middle] = -1.0
    weights, row = torch.zeros(1, WEIGHTS), torch.tensor([0] + [-1] * 7, dtype=torch.int32)
    inner = EDGES[np.isin(EDGES, 7).any(axis=1)]  # the edges at the first cell's last corner
    edges = [int(np.flatnonzero((EDGES == e).all(axis=1))[0]) for e in inner]
    weights[0, edges[0]], weights[0, 12 + 7] = 0.4, -0.7
    topology, positions, deviation, gamma = geometry(torch.from_numpy(points), sdf, weights, row)
    assert len(positions) == 8 and len(topology.quads) == 6
    alpha, beta = 1 + 0.99 * np.tanh(-0.7), 1 + 0.99 * np.tanh(0.4)
    away = alpha / (alpha + 1)  # of the crossings from the middle, along −x, −y, −z
    betas = np.where(np.arange(3) == 0, beta, 1.0)
    wanted = -away * betas / betas.sum()
    np.testing.assert_allclose(positions[0].numpy(), wanted, rtol=1e-6)
    far = np.linalg.norm(wanted + 0.5 * np.eye(3), axis=1)
    assert float(deviation[0]) == pytest.approx(np.abs(far - far.mean()).mean(), rel=1e-5)
    np.testing.assert_allclose(positions[7].numpy(), 1 / 6, rtol=1e-6)
    assert float(deviation[7]) == pytest.approx(0.0, abs=1e-7) and float(gamma[7]) == pytest.approx(0.5)


def test_one_and_two_threads_give_the_same_bits():
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            set_threads(count)
            geometry, points = cubes("cpu")
            *leaves, row = noise(points, 4)
            leaves = [leaf.requires_grad_() for leaf in leaves]
            topology, positions, deviation, gamma = geometry(*leaves, row)
            mesh, faces = geometry.training_mesh(topology, positions, gamma)
            gradients = torch.autograd.grad(mesh.square().sum() + deviation.sum(), leaves)
            results.append([mesh, faces, deviation, *gradients])
    finally:
        set_threads(threads)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_nothing_inside_gives_an_empty_mesh(kernels):
    for backend in (kernels, "torch"):
        geometry, points = cubes(backend)
        vertices, _, weights, row = noise(points, 0)
        topology, positions, _, gamma = geometry(vertices, torch.ones(len(points)), weights, row)
        mesh, faces = geometry.training_mesh(topology, positions, gamma)
        assert mesh.shape == (0, 3) and faces.shape == (0, 3) and geometry.final_faces(topology, gamma).shape == (0, 3)
