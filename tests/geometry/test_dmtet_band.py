"""Coarse to fine: halving the cells keeps the surface, the band follows it, and the border stays closed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.topology import mesh_report
from stspbr.threads import set_threads

from .conftest import Ring

HALF = np.array([1.0, 0.6, 1.0])


def torus(x: torch.Tensor, tube: float = 0.3) -> torch.Tensor:
    return ((x[:, 0].square() + x[:, 2].square()).sqrt() - 0.55).square().add(x[:, 1].square()).sqrt() - tube


def deformed_torus(resolution: int = 40) -> DMTet:
    geometry = DMTet(resolution, -HALF, HALF)
    geometry.init_sdf(torus(geometry.grid))
    with torch.no_grad():
        geometry.deform.copy_(0.4 * torch.randn(geometry.deform.shape, generator=torch.Generator().manual_seed(3)))
    return geometry


def grow(geometry: DMTet, distance: float) -> None:
    with torch.no_grad():
        geometry.sdf.sub_(distance / geometry.unit)


def surface(geometry: DMTet) -> tuple[np.ndarray, np.ndarray, dict]:
    positions, faces = (x.detach().numpy() for x in geometry.extract())
    return positions, faces, mesh_report(positions, faces)


def test_halving_keeps_the_surface():
    geometry = deformed_torus()
    coarse, faces, before = surface(geometry)
    cell, vertices = geometry.cell, len(geometry.sdf)
    for level in (1, 2):
        geometry.subdivide(2)
        fine, fine_faces, after = surface(geometry)
        assert geometry.cell == pytest.approx(cell / 2**level)
        assert after["watertight"] and after["genus"] == before["genus"] == 1 and after["components"] == 1
        assert len(fine_faces) > 3.5**level * len(faces)
        assert after["volume"] == pytest.approx(before["volume"], rel=1e-6)
        assert after["area"] == pytest.approx(before["area"], rel=1e-5)
        assert (
            cKDTree(fine).query(coarse)[0].max() < 1e-6
        )  # the corners of the coarse faces are on edges that were halved
        normals = np.cross(*(coarse[faces[:, k]] - coarse[faces[:, 0]] for k in (1, 2)))
        assert len(normals) == len(faces)
    assert len(geometry.sdf) < 0.35 * 4**3 * vertices


def test_a_band_costs_a_part_of_the_whole_grid():
    geometry, whole = deformed_torus(), DMTet(80, -HALF, HALF)
    geometry.subdivide(2)
    assert len(geometry.marching.tets) < 0.6 * len(whole.marching.tets)
    assert geometry.band is not None and geometry.band.counts.prod() == 8 * np.prod([17, 10, 17])


def test_noise_in_a_band_stays_closed():
    """Whatever the distances do: border vertices stay outside or inside, each on its side, and hold the surface."""
    geometry = deformed_torus(36)
    geometry.subdivide(1)
    core, border = geometry.marching.core, geometry.marching.border
    assert core is not None and border is not None and core.any() and border.any()
    noise = torch.randn(geometry.sdf.shape, generator=torch.Generator().manual_seed(1))
    for values in (noise, torch.full_like(noise, 0.3), torch.full_like(noise, -0.3), torch.zeros_like(noise)):
        with torch.no_grad():
            geometry.sdf.copy_(values)
        assert surface(geometry)[2]["watertight"]
        counted = geometry.distances()
        assert (counted[core] < 0).all() and (counted[border] >= 0).all()
        loss = geometry.regularizer() + geometry.smoothness() + geometry.extract()[0].square().sum()
        gradients = torch.autograd.grad(loss, [geometry.sdf, geometry.deform])
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_band_follows_the_surface():
    geometry = deformed_torus()
    geometry.subdivide(2)
    assert geometry.follow(2) == []  # the surface is in its middle
    moves, step = 0, 0.4 * geometry.cell
    for _ in range(12):
        grow(geometry, step)
        _, _, before = surface(geometry)
        heirs = geometry.follow(2)
        moves += len(heirs)
        _, _, after = surface(geometry)
        assert after["watertight"] and (after["genus"], after["components"]) == (1, 1)
        assert after["volume"] == pytest.approx(before["volume"], rel=1e-6)
        for heir in heirs:
            known = heir.parents[:, 0] >= 0
            assert known.any() and not known.all()
            assert (geometry.distances()[~known].abs() > 0.9 * geometry.cell).all()
    assert 1 <= moves <= 6
    away = torus(torch.from_numpy(surface(geometry)[0]))
    assert float(away.mean()) == pytest.approx(12 * step, abs=0.5 * geometry.cell)


def test_a_surface_that_outruns_the_band_stops_at_its_border_and_goes_on_after_the_move():
    geometry = deformed_torus()
    geometry.subdivide(1)
    grow(geometry, 4 * geometry.cell)
    at_border = surface(geometry)[2]
    assert at_border["watertight"] and at_border["genus"] == 1
    assert geometry.follow(1)
    assert surface(geometry)[2]["volume"] == pytest.approx(at_border["volume"], rel=0.005)  # between other tetrahedra
    grow(geometry, 4 * geometry.cell)
    assert surface(geometry)[2]["volume"] > 1.02 * at_border["volume"]


def test_regularisers_work_on_the_band():
    """On the same distances they are those of the whole grid of these cells."""
    geometry, whole = DMTet(41, -np.ones(3), np.ones(3)), DMTet(82, -np.ones(3), np.ones(3))
    geometry.init_sdf(torus(geometry.grid))
    whole.init_sdf(torus(whole.grid))
    geometry.subdivide(2)
    with torch.no_grad():
        geometry.sdf.copy_(torus(geometry.grid) / geometry.unit)
        assert geometry.cell == whole.cell and geometry.band is not None and geometry.band.counts[0] == 36
        assert float(geometry.regularizer()) == pytest.approx(float(whole.regularizer()), rel=1e-5)
        assert float(geometry.smoothness()) == pytest.approx(float(whole.smoothness()), rel=1e-4)


def test_state_holds_the_band():
    geometry = deformed_torus(28)
    geometry.subdivide(2)
    grow(geometry, 5 * geometry.cell)
    with torch.no_grad():
        geometry.deform.add_(0.1)
    assert geometry.follow(2)
    again = DMTet(28, -HALF, HALF)
    again.load_state_dict(geometry.state_dict())
    for a, b in zip(again.extract(), geometry.extract(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert float(again.smoothness().detach()) == float(geometry.smoothness().detach())
    assert float(again.regularizer().detach()) == float(geometry.regularizer().detach())
    for each in (again, geometry):
        each.subdivide(2)
    for a, b in zip(again.state_dict().values(), geometry.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_one_and_two_threads_give_the_same_bits():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            set_threads(count)
            geometry = deformed_torus(28)
            geometry.subdivide(2)
            grow(geometry, 5 * geometry.cell)
            heirs = geometry.follow(2) + geometry.subdivide(2)
            loss = geometry.extract()[0].square().sum() + geometry.regularizer() + geometry.smoothness()
            gradients = torch.autograd.grad(loss, [geometry.sdf, geometry.deform])
            results.append([*geometry.state_dict().values(), *(heir.parents for heir in heirs), *gradients])
    finally:
        set_threads(threads)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_torch_twin_extracts_the_same_from_a_band():
    geometry = deformed_torus(36)
    geometry.subdivide(1)
    with torch.no_grad():
        geometry.sdf.copy_(torch.randn(geometry.sdf.shape, generator=torch.Generator().manual_seed(2)))
    kernels = geometry.marching.topology(geometry.sdf)
    twin = geometry.marching._topology_torch(geometry.sdf.detach())
    for a, b in zip(kernels, twin, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_moments_are_inherited_with_the_share_of_the_surface():
    geometry = deformed_torus(36)
    moment = geometry.grid[:, 0].clone()  # linear, so interpolation is exact
    (heir,) = geometry.subdivide(2)
    assert heir.share == 0.25
    torch.testing.assert_close(heir.of(moment), geometry.grid[:, 0], rtol=0, atol=1e-6)


def test_a_lost_part_comes_back_when_the_cells_are_first_halved():
    geometry, plain = DMTet(40, -HALF, HALF), DMTet(40, -HALF, HALF)
    for each in (geometry, plain):
        each.init_sdf(each.grid.norm(dim=1) - 0.45)  # inside the hull, where nothing is missed
    geometry.subdivide(2, Ring())
    plain.subdivide(2)
    positions, faces, report = surface(geometry)
    assert report["watertight"] and (report["components"], report["genus"]) == (2, 1)
    ring = np.linalg.norm(positions, axis=1) > 0.6
    away = np.abs(Ring().ring(positions[ring]))  # its corners are a cell apart
    assert away.max() < 1.2 * geometry.cell and away.mean() < 0.3 * geometry.cell
    torch.testing.assert_close(geometry.extract()[0][torch.from_numpy(~ring)], plain.extract()[0], rtol=0, atol=0)
    again = surface(geometry)[2]
    geometry.subdivide(2, Ring())
    assert surface(geometry)[2]["volume"] == pytest.approx(again["volume"], rel=1e-6)


def test_a_hull_around_the_surface_adds_nothing_that_the_views_do_not_miss():
    class Hollow(Ring):
        def missed(self, points):
            return np.zeros(len(points), bool)

    geometry, plain = DMTet(24, -HALF, HALF), DMTet(24, -HALF, HALF)
    for each in (geometry, plain):
        each.init_sdf(each.grid.norm(dim=1) - 0.3)
    geometry.subdivide(2, Hollow())
    plain.subdivide(2)
    for a, b in zip(geometry.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
