"""Every ray backend against all pairs of rays and triangles in double precision."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from stspbr.errors import StspbrError
from stspbr.render.rays import backend as backends
from stspbr.render.rays.backend import RAY_BACKENDS, ray_scene
from stspbr.render.rays.reference import BruteForceScene
from stspbr.warp_runtime import why_no_warp


@pytest.fixture(params=[name for name in RAY_BACKENDS if name != "auto"])
def backend(request) -> str:
    if request.param == "embreex":
        pytest.importorskip("embreex")
    if request.param == "warp" and (reason := why_no_warp()) is not None:
        pytest.skip(reason)
    return request.param


def soup(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random triangles of all sizes, some of them points, needles or doubles of others."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 1, 3, generator=generator) * 2 - 1
    sizes = 10 ** (-2.5 * torch.rand(count, 1, 1, generator=generator))
    corners = centres + sizes * (torch.rand(count, 3, 3, generator=generator) - 0.5)
    corners[0] = corners[0, :1]
    corners[1, 2] = 0.5 * (corners[1, 0] + corners[1, 1])
    corners[3] = corners[2]
    return corners.reshape(-1, 3), torch.arange(3 * count, dtype=torch.int32).reshape(-1, 3)


def rays(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """From anywhere about the box to anywhere, of any length; the first ones along axes."""
    generator = torch.Generator().manual_seed(seed)
    origins = 4 * torch.rand(count, 3, generator=generator) - 2
    directions = (2 * torch.rand(count, 3, generator=generator) - 1) - origins
    directions *= 10 ** (2 * torch.rand(count, 1, generator=generator) - 1)
    directions[:30] = torch.eye(3).repeat(10, 1) * torch.sign(directions[:30].sum(1, keepdim=True))
    return origins, directions


def clear(found, truth, positions, faces, origins, directions) -> torch.Tensor:
    """Rays whose triangle cannot be argued about: no edge within 1e-5, nothing else at the same distance."""
    corners = positions.double()[faces.long()]
    edges = torch.stack([truth.barycentric[:, 0], truth.barycentric[:, 1], 1 - truth.barycentric.sum(1)]).amin(0)
    twin = (corners[truth.triangle.clamp(min=0)] == corners[found.triangle.clamp(min=0)]).all(dim=(1, 2))
    return ((edges > 1e-3) | ~truth.found) & ~(twin & (truth.triangle != found.triangle))


def test_closest_hits_are_those_of_all_pairs(backend):
    positions, faces = soup(600)
    origins, directions = rays(10_000)
    truth = BruteForceScene(positions, faces).closest(origins, directions)
    found = ray_scene(positions, faces, backend).closest(origins, directions)
    sure = clear(found, truth, positions, faces, origins, directions)
    assert truth.found.float().mean() > 0.3 and sure.float().mean() > 0.9
    assert (truth.found == found.found).float().mean() > 0.9995
    assert torch.equal(truth.triangle[sure & truth.found], found.triangle[sure & truth.found])
    both = sure & truth.found
    assert torch.allclose(truth.distance[both], found.distance[both], rtol=1e-4)
    assert torch.allclose(truth.barycentric[both], found.barycentric[both], atol=2e-3)
    assert bool((found.distance[~found.found] == math.inf).all()) and bool((found.barycentric[~found.found] == 0).all())


def test_occluded_is_whether_there_is_a_closest_hit(backend):
    positions, faces = soup(500, seed=3)
    origins, directions = rays(5_000, seed=4)
    scene = ray_scene(positions, faces, backend)
    assert torch.equal(scene.occluded(origins, directions), scene.closest(origins, directions).found)


def test_hits_end_at_the_limit(backend):
    positions, faces = soup(500, seed=5)
    origins, directions = rays(5_000, seed=6)
    directions = torch.nn.functional.normalize(directions, dim=1)
    scene = ray_scene(positions, faces, backend)
    whole, short = scene.closest(origins, directions), scene.closest(origins, directions, 0.7)
    within = whole.distance <= 0.7
    assert 0.05 < within.float().mean() < 0.95
    assert torch.equal(short.found, within) and torch.equal(short.triangle[within], whole.triangle[within])
    assert torch.equal(scene.occluded(origins, directions, 0.7), within)


def test_both_sides_are_hit_and_nothing_leaks_through_shared_edges(backend):
    points = np.random.default_rng(0).normal(size=(1500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    positions = torch.from_numpy(points.astype(np.float32))
    faces = torch.from_numpy(ConvexHull(points).simplices.astype(np.int32))
    scene = ray_scene(positions, faces, backend)
    generator = torch.Generator().manual_seed(0)
    inside = torch.zeros(4000, 3) + positions.mean(0)
    corner = positions[torch.randint(len(positions), (2000,), generator=generator)]
    edge = positions[faces.long()][torch.randint(len(faces), (2000,), generator=generator)]
    towards = torch.cat([corner, 0.5 * (edge[:, 0] + edge[:, 1])]) - inside
    leaks = ~scene.occluded(inside, towards)  # from the middle of a closed ball, at its very corners and edges
    assert int(leaks.sum()) <= {"numba": 0, "embreex": 0.005 * len(towards), "warp": 0.005 * len(towards)}[backend]
    assert bool(scene.occluded(inside + 10 * towards, -towards).all())


def test_of_two_triangles_at_one_place_the_lower_counts():
    positions, faces = soup(400, seed=7)
    doubled = torch.cat([faces, faces.flip(0)])
    origins, directions = rays(3_000, seed=8)
    hits = ray_scene(positions, doubled, "numba").closest(origins, directions)
    assert bool((hits.triangle < len(faces)).all()) and bool(hits.found.any())


def test_a_ray_does_not_hit_what_it_starts_on(backend):
    if backend != "warp":
        pytest.skip("rays of the CPU start where they are told: callers lift them off the surface")
    positions, faces = soup(300, seed=11)
    corners = positions[faces.long()][4:]  # the others have no area
    outward = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = outward / outward.norm(dim=1, keepdim=True)
    hits = ray_scene(positions, faces, backend).closest(corners.mean(1), outward)
    assert not bool((hits.triangle == torch.arange(4, 300)).any()) and bool((hits.distance > 0).all())


def test_threads_change_no_bit(backend):
    positions, faces = soup(800, seed=9)
    origins, directions = rays(4_000, seed=10)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            hits = ray_scene(positions, faces, backend).closest(origins, directions)
            results.append((hits.triangle, hits.distance, hits.barycentric))
    finally:
        numba.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_empty_scenes_and_no_rays(backend):
    positions, faces = soup(5)
    nothing = ray_scene(positions, faces[:0], backend)
    origins, directions = rays(40)
    assert not bool(nothing.occluded(origins, directions).any())
    assert not bool(nothing.closest(origins, directions).found.any())
    assert len(ray_scene(positions, faces, backend).closest(origins[:0], directions[:0]).triangle) == 0


def test_many_triangles_at_one_place_are_built(backend):
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    faces = torch.arange(3, dtype=torch.int32).repeat(1000, 1)
    hits = ray_scene(positions, faces, backend).closest(torch.tensor([[0.2, 0.2, 1.0]]), torch.tensor([[0.0, 0, -1]]))
    assert float(hits.distance) == pytest.approx(1.0) and bool(hits.found)


def test_bad_input_is_refused():
    positions, faces = soup(4)
    with pytest.raises(StspbrError, match="transport.rays=optix"):
        ray_scene(positions, faces, "optix")
    for backend in ("numba", "embreex"):
        with pytest.raises(StspbrError, match=f"transport.rays={backend} casts no rays on meta"):
            ray_scene(positions.to("meta"), faces, backend)
    positions[0, 0] = math.nan
    with pytest.raises(StspbrError, match="not finite"):
        ray_scene(positions, faces)


def test_warp_casts_the_rays_of_a_gpu_and_its_absence_is_one_line(monkeypatch):
    positions, faces = soup(4)
    monkeypatch.setattr(backends, "why_no_warp", lambda device: None)
    assert backends.choose_rays("auto", torch.device("cuda")) == "warp"
    monkeypatch.setattr(backends, "why_no_warp", lambda device: "warp-lang is not installed")
    with pytest.raises(StspbrError, match="^transport.rays=warp: warp-lang is not installed$"):
        ray_scene(positions, faces, "warp")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Warp on CUDA: no GPU here")
def test_on_a_gpu_hits_are_those_of_the_cpu():
    positions, faces = soup(600)
    origins, directions = rays(10_000)
    here = ray_scene(positions, faces, "warp").closest(origins, directions)
    there = ray_scene(positions.cuda(), faces.cuda()).closest(origins.cuda(), directions.cuda())
    assert there.triangle.device.type == "cuda"
    same = here.triangle == there.triangle.cpu()
    assert same.float().mean() > 0.999  # hierarchies differ: ties, and rays along edges of boxes
    torch.testing.assert_close(there.distance.cpu()[same], here.distance[same], rtol=1e-4, atol=1e-6)
