"""Visibility and bounces against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.render.rays.reference import BruteForceScene
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import visibility
from stspbr.transport.radiosity import Irradiance, Radiosity

from .scenes import bowl, gradient_sky, sky, sphere

IDENTITY = torch.eye(3)[None]


def plain(count: int, albedo: float, metallic: float = 0.0) -> MaterialValues:
    """The same material everywhere; radiosity takes the normals of its points."""
    one = torch.ones(count, 1)
    return MaterialValues(albedo * one.expand(-1, 3), 0.9 * one, metallic * one, one.expand(-1, 3))


def lit(radiosity: Radiosity, light, texture) -> Irradiance:
    """What arrives with no turn of the object, bounces included."""
    open_, direct = radiosity.arriving(light, IDENTITY)
    return Irradiance(open_, direct + radiosity.bounced(light.detach(), IDENTITY[0], texture))


def seen(positions, faces):
    normals = torch.nn.functional.normalize(positions, dim=1)
    inward = (positions[faces.long()].mean(1) * face_normal(positions, faces)).sum(1).mean() < 0
    return visibility(positions, faces, -normals if inward else normals, faces, direction_bins())


def area(positions, faces):
    a, b, c = positions[faces.long()].unbind(1)
    return 0.5 * torch.linalg.cross(b - a, c - a).norm(dim=1).sum()


def face_normal(positions, faces):
    a, b, c = positions[faces.long()].unbind(1)
    return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)


def test_bins_hold_the_whole_light():
    bins = direction_bins()
    assert float(bins.solid_angle.sum()) == pytest.approx(4 * np.pi, rel=1e-5)
    cube = gradient_sky()
    light = cube.prefilter()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turn = turn * torch.sign(torch.linalg.det(turn))
    flux = bins.flux(light, torch.stack([torch.eye(3), turn]))
    total = flux.sum(1)
    assert torch.allclose(total[0], total[1], rtol=1e-5)
    towards = (flux[..., :1] * bins.directions).sum(1)  # the light's centre turns with the object
    assert torch.allclose(towards[1] @ turn.T, towards[0], atol=0.05 * float(total.detach().max()))
    total.sum().backward()
    assert bool((cube.log_radiance.grad > 0).all())


def test_a_ball_sees_no_part_of_itself(texture):
    cache = seen(*sphere())
    assert not bool(cache.enclosed.any()) and len(cache.hit_point) == 0
    assert torch.equal(cache.occlusion(), torch.ones(len(cache.points.position)))
    irradiance = lit(Radiosity(cache, plain(len(cache.points.position), 0.8)), sky(), texture)
    assert torch.equal(irradiance.open, irradiance.total)


@pytest.mark.parametrize("height", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("albedo", [0.0, 0.5, 0.9])
def test_inside_a_spherical_bowl_light_is_even(height, albedo):
    """Form factors in a sphere are all alike: E = f / (1 − a (1 − f)) with f the opening's share of the sphere."""
    positions, faces = bowl(height, 4000)
    cache = seen(positions, faces)
    radiosity = Radiosity(cache, plain(len(cache.points.position), albedo), sweeps=40)
    open_, direct = radiosity.arriving(sky(), IDENTITY)
    # diffuse light alone: what F0 = 0.04 mirrors has no closed form here
    total = ((direct + radiosity.exchanged(direct[0], torch.zeros_like(direct[0]))) / open_)[0, :, 0]
    lowest = cache.points.position[:, 1] < height - 0.15  # the rim is ragged
    share = 1 - float(area(positions, faces) / area(*sphere(len(positions))))
    reflected = albedo * 0.96
    expected = share / (1 - reflected * (1 - share))
    assert float(total[lowest].mean()) == pytest.approx(expected, rel=0.03)
    assert float(total[lowest].std()) < 0.06


def test_light_grows_with_every_sweep_and_never_beyond_a_white_furnace(texture):
    cache = seen(*bowl(0.6))
    count = len(cache.points.position)
    last = torch.zeros(1)
    for sweeps in (0, 1, 3, 10, 60):
        irradiance = lit(Radiosity(cache, plain(count, 1.0), sweeps), sky(), texture)
        ratio = (irradiance.total / irradiance.open)[0]
        assert float(ratio.mean()) > float(last.mean())
        last = ratio
    assert float(last.max()) <= 1.0 + 1e-3 and float(last.mean()) > 0.75


def test_a_metal_bowl_is_lit_by_what_it_mirrors(texture):
    positions, faces = bowl(0.3)
    cache = seen(positions, faces)
    share = 1 - float(area(positions, faces) / area(*sphere(len(positions))))
    radiosity = Radiosity(cache, plain(len(cache.points.position), 0.9, metallic=1.0))
    open_, direct = radiosity.arriving(sky(), IDENTITY)
    mirrored = lit(radiosity, sky(), texture).total
    inner = cache.points.position[:, 1] < 0.0
    assert float((direct / open_)[0, inner].mean()) == pytest.approx(share, abs=0.02)
    assert float((mirrored / open_)[0, inner].mean()) > share + 0.1 and float((mirrored / open_).max()) <= 1.0


def test_fewer_hits_give_the_same_light_but_for_noise(texture):
    cache = seen(*bowl(0.3))
    radiosity = Radiosity(cache, plain(len(cache.points.position), 0.9, metallic=1.0))
    light = gradient_sky().prefilter().detach()
    whole = radiosity.bounced(light, IDENTITY[0], texture)
    some = radiosity.bounced(light, IDENTITY[0], texture, most_hits=len(cache.hit_point) // 4)
    assert not torch.equal(whole, some)
    assert float(some.mean()) == pytest.approx(float(whole.mean()), rel=0.03)


def test_gradients_reach_the_light_that_is_seen():
    cache = seen(*bowl(0.3, 4000))
    cube = gradient_sky()
    _, direct = Radiosity(cache, plain(len(cache.points.position), 0.5)).arriving(cube.prefilter(), IDENTITY)
    direct.sum().backward()
    up, down = cube.log_radiance.grad[2], cube.log_radiance.grad[3]
    assert float(up[8:24, 8:24].mean()) > 0 and float(down[12:20, 12:20].abs().max()) < 1e-3 * float(up.mean())


def test_irradiance_between_points_matches_the_double_precision_twin():
    generator = torch.Generator().manual_seed(0)
    open_, total = torch.rand(2, 2, 50, 3, generator=generator).unbind(0)
    open_[0, :20, 1] = 0.0  # on the floor of the ratio
    total[1, :20] *= 40.0  # above the largest ratio
    rotation = torch.randint(2, (3000,), generator=generator)
    corners = torch.cat([torch.randint(20, (1000, 3)), torch.randint(50, (2000, 3), generator=generator)])
    shares = torch.distributions.Dirichlet(torch.ones(3)).sample((3000,))
    weight = torch.rand(2, 3000, 3, generator=generator) - 0.4
    got = []
    for dtype in (torch.float32, torch.float64):
        irradiance = Irradiance(*(part.to(dtype).detach().clone().requires_grad_() for part in (open_, total)))
        whole, ratio = irradiance.at(rotation, corners, shares.to(dtype))
        (whole * weight[0] + ratio * weight[1]).sum().backward()
        got.append([whole.detach(), ratio.detach(), irradiance.open.grad, irradiance.total.grad])
    assert float(got[1][1].max()) == 4.0
    for fast, slow in zip(*got, strict=True):
        torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-5 * float(slow.abs().max()))


@pytest.mark.parametrize(("positions", "faces"), [sphere(90), bowl(0.8, 90)])
def test_visibility_matches_rays_one_by_one(positions, faces):
    """Coarse triangles, whose points lie off the smooth surface, against every triangle in double precision."""
    cache = seen(positions, faces)
    points, ways = cache.points, cache.bins.directions
    cosine = points.normal @ ways.T
    point, way = torch.nonzero(cosine > 0).unbind(1)
    chosen = torch.arange(0, len(point), 97)
    point, way = point[chosen], way[chosen]
    origin = (points.position + cache.offset * points.normal)[point]
    hits = BruteForceScene(positions, faces).closest(origin, ways[way])
    facing = face_normal(positions, faces)[hits.triangle.clamp(min=0)]
    longest = 0.02 * float((positions.amax(0) - positions.amin(0)).norm())
    corners, shares = points.corners_twin(hits.triangle.clamp(min=0), hits.barycentric.double())
    smooth = (points.normal[corners] * shares[..., None]).sum(1)
    own = (cosine[point, way] < 0.25) & (hits.distance < 2 * longest) & ((facing * points.normal[point]).sum(1) > 0.9)
    own &= (smooth * ways[way]).sum(1) > 0
    blocked = hits.found & ~own
    assert bool((own & hits.found).any()) and bool(blocked.any())
    differs = (cache.seen_weights[point, way] == 0) != blocked
    assert float(differs.double().mean()) < 2e-3  # rays through an edge
    number = torch.full(cosine.shape, -1)
    number[cache.hit_point, cache.hit_direction] = torch.arange(len(cache.hit_point))
    front = blocked & ((facing * ways[way]).sum(1) < 0) & ~differs
    rows = number[point[front], way[front]]
    assert bool((rows >= 0).all())
    read = (points.position[cache.hit_corners[rows]] * cache.hit_shares[rows][..., None]).sum(1)
    place = origin[front] + hits.distance[front, None] * ways[way[front]]
    assert torch.allclose(read, place, atol=1e-5)
