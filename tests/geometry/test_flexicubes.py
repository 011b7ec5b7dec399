"""FlexiCubes as an implicit shape: spheres, edges, halved cells, the band, weights near the surface, state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.flexicubes import FlexiCubes
from stspbr.geometry.tet_grid import tight_grid
from stspbr.geometry.topology import mesh_report
from stspbr.threads import set_threads

from .conftest import Ring

HALF = np.array([1.0, 0.6, 1.0])


def torus(x: torch.Tensor, tube: float = 0.3) -> torch.Tensor:
    return ((x[:, 0].square() + x[:, 2].square()).sqrt() - 0.55).square().add(x[:, 1].square()).sqrt() - tube


def deformed_torus(resolution: int = 20) -> FlexiCubes:
    geometry = FlexiCubes(resolution, -HALF, HALF)
    geometry.init_sdf(torus(geometry.grid))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        geometry.deform.copy_(0.3 * torch.randn(geometry.deform.shape, generator=generator))
        geometry.weights.copy_(torch.randn(geometry.weights.shape, generator=generator))
    return geometry


def grow(geometry: FlexiCubes, distance: float) -> None:
    with torch.no_grad():
        geometry.sdf.sub_(distance / geometry.unit)


def surface(geometry: FlexiCubes) -> tuple[np.ndarray, np.ndarray, dict]:
    positions, faces = (x.detach().numpy() for x in geometry.extract())
    return positions, faces, mesh_report(positions, faces)


@pytest.mark.parametrize(("resolution", "error"), [(8, 0.16), (16, 0.04), (32, 0.011)])
def test_sphere_is_closed_and_has_its_volume(resolution, error):
    geometry = FlexiCubes(resolution, (-1, -1, -1), (1, 1, 1))
    geometry.init_sphere(0.7)
    counts = []
    for geometry.settled in (False, True):
        _, faces, report = surface(geometry)
        counts.append(len(faces))
        assert report["watertight"] and (report["genus"], report["components"]) == (0, 1)
        assert report["volume"] == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=error)  # positive: faces look outwards
    assert counts[0] == 2 * counts[1]  # four triangles per quad, then two


def test_noise_and_a_full_box_are_closed_in_a_tight_box():
    resolution, half = tight_grid(12, np.array([0.3, 1.0, 0.3]), FlexiCubes.per_cell)
    geometry = FlexiCubes(resolution, -half, half, torch.Generator().manual_seed(0))
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal(len(geometry.sdf)).astype(np.float32))
    for values in (geometry.sdf.detach().clone(), noise, torch.full_like(noise, -0.3)):
        with torch.no_grad():
            geometry.sdf.copy_(values)
        positions, _, report = surface(geometry)
        assert report["watertight"] and report["non_manifold_vertices"] == 0
        assert (np.abs(positions) < half + 0.5 * geometry.cell).all()


def test_weights_and_displacements_reach_an_edge_that_distances_alone_cut_off():
    """Fitted to a turned box, the vertices come onto its edges: what dual vertices are for."""
    geometry = FlexiCubes(12, (-1, -1, -1), (1, 1, 1))
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, 0.1], [-0.3, 0.0, 0.2], [-0.1, -0.2, 0.0]]))

    def box(points: torch.Tensor) -> torch.Tensor:
        beyond = (points @ turn).abs() - 0.55
        return beyond.clamp(min=0).norm(dim=1) + beyond.amax(1).clamp(max=0)

    geometry.init_sdf(box(geometry.grid))
    corners = torch.tensor([[x, y, z] for x in (-0.55, 0.55) for y in (-0.55, 0.55) for z in (-0.55, 0.55)]) @ turn.T

    def missed() -> float:
        return float(torch.cdist(corners, geometry.extract()[0]).amin(1).max().detach())

    before = missed()
    optimizer = torch.optim.Adam(geometry.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        positions, faces = geometry.extract()
        (box(positions[faces.long()].mean(1)).square().mean() + box(positions).square().mean()
         + 0.01 * torch.cdist(corners, positions).amin(1).square().mean()).backward()  # fmt: skip
        optimizer.step()
    assert missed() < 0.4 * before and surface(geometry)[2]["watertight"]
    assert float(geometry.weights.detach().abs().max()) > 0.1


def test_deviation_is_smallest_for_vertices_in_the_middle_and_has_a_gradient():
    geometry = FlexiCubes(12, (-1, -1, -1), (1, 1, 1))
    geometry.init_sphere(0.7)
    geometry.extract()
    plain = geometry.penalties()["deviation"]
    with torch.no_grad():
        geometry.weights.normal_(generator=torch.Generator().manual_seed(0))
    uneven = geometry.penalties()["deviation"]  # of what is extracted now
    assert 0 < float(plain.detach()) < 0.6 * float(uneven.detach())
    geometry.extract()
    again = geometry.penalties()["deviation"]
    assert float(again.detach()) == float(uneven.detach())
    gradients = torch.autograd.grad(again, list(geometry.parameters()))
    assert all(torch.isfinite(each).all() and each.abs().sum() > 0 for each in gradients)
    assert DMTet(8, (0, 0, 0), (1, 1, 1)).penalties() == {}


def test_bending_of_a_plane_costs_nothing_and_of_a_ball_its_curvature():
    geometry = FlexiCubes(40, (-1, -1, -1), (1, 1, 1))
    geometry.init_sdf(geometry.grid @ torch.tensor([0.6, 0.64, 0.48]) + 0.01)
    assert float(geometry.smoothness().detach()) < 1e-8
    geometry.init_sdf(geometry.grid.norm(dim=1) - 0.7)
    # the mean of six neighbours is a sixth of the Laplacian, which is 2 / r; lengths are in cells
    wanted = (2 / 0.7 * geometry.cell / 6) ** 2
    assert float(geometry.smoothness().detach()) == pytest.approx(wanted, rel=0.05)


def test_halving_moves_the_surface_by_a_part_of_a_cell():
    geometry = deformed_torus()
    with torch.no_grad():
        geometry.weights.zero_()
    _, faces, before = surface(geometry)
    coarse, cell = torch.from_numpy(surface(geometry)[0]), geometry.cell
    for level in (1, 2):
        (heir,) = geometry.subdivide(2)
        assert geometry.refresh()["weights"][0].parents.max() == -1
        positions, fine_faces, after = surface(geometry)
        assert geometry.cell == pytest.approx(cell / 2**level) and heir.share == 0.25
        assert after["watertight"] and (after["genus"], after["components"]) == (1, 1)
        assert len(fine_faces) > 3.5**level * len(faces)
        assert after["volume"] == pytest.approx(before["volume"], rel=0.03)
        assert float(torch.cdist(coarse, torch.from_numpy(positions)).amin(1).max()) < 0.6 * cell
    whole = FlexiCubes(80, -HALF, HALF)
    assert len(geometry.sdf) < 0.4 * len(whole.sdf)


def test_positions_and_distances_are_interpolated_between_corners():
    geometry = deformed_torus()
    with torch.no_grad():
        geometry.deform.zero_()
        geometry.sdf.copy_(geometry.grid @ torch.tensor([0.4, 0.3, -0.5]) + 0.01)  # linear: kept exactly
    geometry.subdivide(2)
    inner = ~(geometry.marching.border | geometry.marching.core)
    wanted = geometry.grid @ torch.tensor([0.4, 0.3, -0.5]) + 0.01
    away = (geometry.grid.abs() < torch.from_numpy(HALF).float() - 0.11).all(dim=1) & inner  # the box's border is |d|
    assert away.sum() > 1000
    torch.testing.assert_close(geometry.distances()[away].detach(), wanted[away], rtol=0, atol=1e-5)
    torch.testing.assert_close(geometry.offset, torch.zeros_like(geometry.offset), rtol=0, atol=1e-6)


def test_noise_in_a_band_stays_closed():
    geometry = deformed_torus(18)
    geometry.subdivide(1)
    geometry.refresh()
    core, border = geometry.marching.core, geometry.marching.border
    assert core is not None and border is not None and core.any() and border.any()
    noise = torch.randn(geometry.sdf.shape, generator=torch.Generator().manual_seed(1))
    for values in (noise, torch.full_like(noise, 0.3), torch.full_like(noise, -0.3), torch.zeros_like(noise)):
        with torch.no_grad():
            geometry.sdf.copy_(values)
        assert surface(geometry)[2]["watertight"]
        loss = geometry.regularizer() + geometry.smoothness() + geometry.extract()[0].square().sum()
        gradients = torch.autograd.grad(loss, [geometry.sdf, geometry.deform, geometry.weights])
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_band_and_the_weights_follow_the_surface():
    geometry = deformed_torus()
    geometry.subdivide(2)
    geometry.refresh()
    assert geometry.follow(2) == [] and geometry.refresh() == {}
    with torch.no_grad():
        geometry.weights.normal_(generator=torch.Generator().manual_seed(0))
    moves = relaid = 0
    for _ in range(8):
        grow(geometry, 0.4 * geometry.cell)
        before = surface(geometry)
        known = {
            tuple(cell): row for cell, row in zip(geometry.weighted.tolist(), geometry.weights.detach(), strict=True)
        }
        heirs, own = geometry.follow(2), geometry.refresh()
        moves, relaid = moves + len(heirs), relaid + len(own)
        after = surface(geometry)
        assert after[2]["watertight"] and (after[2]["genus"], after[2]["components"]) == (1, 1)
        np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-6)
        for cell, row in zip(geometry.weighted.tolist(), geometry.weights.detach(), strict=True):
            wanted = known.get(tuple(cell), torch.zeros_like(row))
            assert torch.equal(row, wanted) or not own
        if own:
            moment = own["weights"][0].of(torch.ones(len(known), 21))
            assert moment.shape == geometry.weights.shape and 0 < float(moment.mean()) < 1
    assert 1 <= moves <= 5 and 1 <= relaid <= 6


def test_weights_are_near_the_surface_only():
    geometry = FlexiCubes(24, (-1, -1, -1), (1, 1, 1))
    geometry.init_sphere(0.5)
    assert 0 < len(geometry.weights) < 0.25 * 24**3
    centres = (geometry.weighted.float() + 0.5) * geometry.cell - 1.0
    assert float((centres.norm(dim=1) - 0.5).abs().max()) < 4.5 * geometry.cell


def test_state_holds_the_band_and_the_weights():
    geometry = deformed_torus(14)
    geometry.subdivide(2)
    grow(geometry, 5 * geometry.cell)
    assert geometry.follow(2)
    geometry.refresh()
    with torch.no_grad():
        geometry.deform.add_(0.1)
        geometry.weights.normal_(generator=torch.Generator().manual_seed(0))
    again = FlexiCubes(14, -HALF, HALF)
    again.load_state_dict(geometry.state_dict())
    for a, b in zip(again.extract(), geometry.extract(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert float(again.smoothness().detach()) == float(geometry.smoothness().detach())
    for each in (again, geometry):
        each.subdivide(2)
        each.refresh()
    for a, b in zip(again.state_dict().values(), geometry.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_one_and_two_threads_give_the_same_bits():
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            set_threads(count)
            geometry = deformed_torus(14)
            geometry.subdivide(2)
            grow(geometry, 5 * geometry.cell)
            heirs = geometry.follow(2) + geometry.refresh()["weights"]
            loss = geometry.extract()[0].square().sum() + geometry.regularizer() + geometry.smoothness()
            gradients = torch.autograd.grad(loss + geometry.penalties()["deviation"], list(geometry.parameters()))
            results.append([*geometry.state_dict().values(), *(heir.parents for heir in heirs), *gradients])
    finally:
        set_threads(threads)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_lost_part_comes_back_when_the_cells_are_first_halved():
    geometry = FlexiCubes(18, -HALF, HALF)
    geometry.init_sdf(geometry.grid.norm(dim=1) - 0.45)
    geometry.subdivide(2, Ring())
    positions, _, report = surface(geometry)
    assert report["watertight"] and (report["components"], report["genus"]) == (2, 1)
    ring = np.linalg.norm(positions, axis=1) > 0.6
    away = np.abs(Ring().ring(positions[ring]))
    assert away.max() < geometry.cell and away.mean() < 0.3 * geometry.cell


def test_bad_boxes_are_refused():
    with pytest.raises(StspbrError, match="empty"):
        FlexiCubes(16, (0, 0, 0), (1, 0, 1))
    with pytest.raises(StspbrError, match="too small"):
        FlexiCubes(3, (0, 0, 0), (1, 1, 1))
