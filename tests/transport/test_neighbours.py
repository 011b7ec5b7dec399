"""Copies around the object: against closed forms, and against one mesh that has all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from stspbr.fields.material_values import MaterialValues
from stspbr.render.cpu.texture import texture
from stspbr.scene import Normalization
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import visibility
from stspbr.transport.ground import FloorGrid, Ground, GroundedRadiosity
from stspbr.transport.lookups import VisibleLookups
from stspbr.transport.neighbours import CopiesAround, Neighbours
from stspbr.transport.radiosity import Irradiance, Radiosity

from .scenes import gradient_sky, sky, sphere

COUNT = 700


def poses(*places, turns=None):
    out = np.stack([np.eye(4)] * len(places))
    out[:, :3, 3] = places
    for k, turn in enumerate(turns or []):
        out[k, :3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    return out


def balls(at, albedo=0.5, roughness=0.4, metallic=0.0, grid=None, cell=0.0):
    """Radiosity of one unit ball among copies of it; each point looks for itself, unless ``cell`` joins some."""
    positions, faces = sphere(COUNT)
    cache = visibility(positions, faces, positions, faces, direction_bins())
    one = torch.ones(len(cache.points.position), 1)
    material = MaterialValues(albedo * one.expand(-1, 3), roughness * one, metallic * one, cache.points.normal)
    copies = None if at is None else CopiesAround(cache, Neighbours.of(at), positions, faces, cell)
    if grid is not None:
        return GroundedRadiosity(cache, material, FloorGrid(grid, cache, positions, faces), copies)
    return Radiosity(cache, material, copies=copies)


def merged(at, albedo=0.5, roughness=0.4, metallic=0.0):
    """The same balls as one mesh in the world."""
    positions, faces = sphere(COUNT)
    every = [(positions @ torch.from_numpy(p[:3, :3].T).float()) + torch.from_numpy(p[:3, 3]).float() for p in at]
    normals = [positions @ torch.from_numpy(p[:3, :3].T).float() for p in at]
    joined = torch.cat([faces + k * len(positions) for k in range(len(at))])
    cache = visibility(torch.cat(every), joined, torch.cat(normals), joined, direction_bins())
    one = torch.ones(len(cache.points.position), 1)
    material = MaterialValues(albedo * one.expand(-1, 3), roughness * one, metallic * one, cache.points.normal)
    return Radiosity(cache, material)


def of_first(radiosity, values):
    """``values [P, …]`` at the vertices of the first ball, which lies at the origin."""
    distance, rows = cKDTree(radiosity.cache.points.position.numpy()).query(sphere(COUNT)[0].numpy())
    assert distance.max() < 1e-5
    return values[torch.from_numpy(rows)]


def test_a_ball_hides_its_form_factor():
    """Of a black ball at distance D straight ahead: F = (R / D)²."""
    radiosity = balls(poses((0, 0, 0), (3, 0, 0)), albedo=0.0)
    open_, direct = radiosity.arriving(sky(), torch.eye(3)[None])
    place = radiosity.cache.points.position
    for way, hidden in (((1.0, 0, 0), 0.25), ((-1.0, 0, 0), 0.0)):
        row = int((place @ torch.tensor(way)).argmax())
        assert float((direct / open_)[0, row, 0]) == pytest.approx(1.0 - hidden, abs=0.015)
    # the other one sees the first in the opposite direction
    other = radiosity.copies.at(1)
    assert float(other.seen_weights.sum()) == pytest.approx(float(radiosity.copies.at(0).seen_weights.sum()), rel=1e-2)
    row = int((place @ torch.tensor((-1.0, 0, 0))).argmax())
    assert bool(other.enclosed[row]) and not bool(radiosity.copies.at(0).enclosed[row])


@pytest.mark.parametrize("metallic", [0.0, 0.8])
def test_irradiance_is_that_of_one_mesh_with_all_copies(metallic):
    at = poses((0, 0, 0), (2.3, 0.3, 0), (0.2, -0.4, -2.6))
    light = gradient_sky().prefilter().detach()
    apart, whole = balls(at, metallic=metallic), merged(at, metallic=metallic)
    turn = torch.eye(3)
    open_, direct = whole.arriving(light, turn[None])
    irradiance = Irradiance(open_, direct)
    once = torch.from_numpy((whole._exchange @ (whole._diffuse * direct[0].numpy())).astype(np.float32))
    once = once + whole._mirrored(light, turn, texture, irradiance, None)  # of balls only other balls are seen
    wanted = of_first(whole, direct[0]), of_first(whole, once)
    sent = apart._from_copies(light, turn, texture, None)
    got = of_first(apart, apart.arriving(light, turn[None])[1][0]), of_first(apart, sent)
    # rays that start a little off the surface graze edges of the facets
    same = (got[0] - wanted[0]).abs() <= 1e-3 * wanted[0].mean()
    assert float(same.double().mean()) > 0.97 and torch.allclose(got[0], wanted[0], rtol=0.05)
    near = wanted[1].mean(1) > 0.2 * wanted[1].mean(1).max()
    assert int(near.sum()) > 20
    assert torch.allclose(got[1][near], wanted[1][near], rtol=0.1)
    assert float(got[1].mean()) == pytest.approx(float(wanted[1].mean()), rel=0.08)
    # of many bounces, these are the most: the others are left out
    assert float(got[1].mean()) > 0.75 * float(of_first(whole, whole.bounced(light, turn, texture)).mean())


def test_points_that_look_together_see_nearly_what_each_sees():
    at = poses((0, 0, 0), (2.3, 0.3, 0), (0.2, -0.4, -2.6))
    light, turn = gradient_sky().prefilter().detach(), torch.eye(3)
    alone, joined = balls(at), balls(at, cell=0.04)
    assert 100 < len(joined.copies._cells[0]) < 0.5 * len(alone.copies._cells[0])
    own, other = (one.arriving(light, turn[None])[1][0] for one in (alone, joined))
    blocked = (alone.arriving(light, turn[None])[0][0] - own).mean()
    assert float((other - own).pow(2).mean().sqrt()) < 0.04 * float(own.mean())
    assert abs(float((other - own).mean())) < 0.02 * float(blocked)
    sent, alike = (one._from_copies(light, turn, texture, None) for one in (alone, joined))
    assert float(alike.mean()) == pytest.approx(float(sent.mean()), rel=0.01)


def test_a_turned_copy_sees_the_others_where_they_are():
    """Object space turns with the copy; the world does not."""
    turn = (0.0, 90.0, 0.0)  # about y: the object's +z lies along the world's +x
    at = poses((0, 0, 0), (2.5, 0, 0), turns=[turn, (10.0, 20.0, 30.0)])
    neighbours = Neighbours.of(at)
    radiosity = balls(at, albedo=0.0)
    assert neighbours.number(torch.from_numpy(at[1, :3, :3]).float()) == 1
    open_, direct = radiosity.arriving(sky(), torch.from_numpy(at[:1, :3, :3]).float())
    hidden = (1.0 - direct / open_)[0, :, 0]
    darkest = radiosity.cache.points.position[int(hidden.argmax())]
    assert float(darkest @ torch.from_numpy(at[0, :3, :3].T).float()[:, 0]) > 0.97
    turned, shift = neighbours.into(0, 1)
    world = np.array([0.3, -0.2, 0.5]) @ at[0, :3, :3].T
    back = (world - at[1, :3, 3]) @ at[1, :3, :3]
    assert np.allclose(turned.numpy() @ (0.3, -0.2, 0.5) + shift.numpy(), back, atol=1e-6)


def test_normalised_copies_are_the_same_ones():
    at = poses((0, 0, 0), (2.5, 1.0, 0), turns=[(0, 40, 0), (10, 20, 30)])
    box = Normalization(np.array([0.2, -0.1, 0.4]), 1.7)
    plain, scaled = Neighbours.of(at), Neighbours.of(at, box)
    point = np.array([0.5, 0.3, -0.2])
    turn, shift = plain.into(0, 1)
    turned, moved = scaled.into(0, 1)
    there = turn.double().numpy() @ point + shift.double().numpy()
    again = turned.double().numpy() @ ((point - box.centre) / box.scale) + moved.double().numpy()
    assert np.allclose((there - box.centre) / box.scale, again, atol=1e-6)


def test_copies_far_away_change_nothing_and_none_changes_no_bit():
    light = gradient_sky().prefilter().detach()
    alone, far = balls(None), balls(poses((0, 0, 0), (500, 0, 0)))
    turns = torch.eye(3)[None]
    for one, other in zip(alone.arriving(light, turns), far.arriving(light, turns), strict=True):
        assert torch.allclose(one, other, rtol=1e-6)
    assert torch.allclose(alone.bounced(light, turns[0], texture), far.bounced(light, turns[0], texture))
    assert not bool(far.copies.at(0).enclosed.any())


def test_gradient_of_what_arrives_past_the_copies_is_that_of_finite_differences():
    radiosity = balls(poses((0, 0, 0), (2.3, 0, 0)))
    cube = gradient_sky()
    weight = torch.rand(len(radiosity.cache.points.position), 3, generator=torch.Generator().manual_seed(0)) - 0.3

    def value():
        return (radiosity.arriving(cube.prefilter(), torch.eye(3)[None])[1][0] * weight).double().sum()

    value().backward()
    gradient = cube.log_radiance.grad.clone()
    way = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1))
    step, values = 1e-2, []
    for sign in (1, -1):
        with torch.no_grad():
            cube.log_radiance += sign * step * way
            values.append(float(value()))
            cube.log_radiance -= sign * step * way
    assert float((gradient * way).sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-2)


def test_a_mirror_shows_the_copy_before_it():
    """Rays of a mirror ball that meet the other one bring what leaves it; elsewhere, and behind it, the light."""
    at = poses((0, 0, 0), (2.4, 0, 0))
    light = sky()
    out = {}
    for name, radiosity in (("copies", balls(at, albedo=0.3)), ("whole", merged(at, albedo=0.3))):
        place = radiosity.cache.points.position
        first = torch.nonzero(place.norm(dim=1) < 1.01).squeeze(1)
        rows = torch.stack([first[(place[first] @ torch.tensor(way)).argmax()] for way in ((1.0, 0, 0), (-1.0, 0, 0))])
        open_, direct = radiosity.arriving(light, torch.eye(3)[None])
        irradiance = Irradiance(open_, direct)
        origin = place[rows] + 1e-3 * radiosity.cache.points.normal[rows]
        owner = torch.zeros(2, dtype=torch.int64)
        lookups = VisibleLookups(
            radiosity, irradiance, light, texture, torch.eye(3)[None], owner, origin,
            radiosity.cache.points.normal[rows], rows[:, None].repeat(1, 3), torch.full((2, 3), 1 / 3),
        )  # fmt: skip
        ways = torch.tensor([[1.0, 0.05, 0.02], [-1.0, 0.05, 0.02]])[None]
        weights = torch.ones(2, 4)
        out[name] = lookups(torch.ones(1, 2, 3), torch.ones(2, 3), ways, weights)
    found, around = out["copies"]
    assert torch.allclose(found[0, 1], torch.ones(3)) and float(found[0, 0].mean()) < 0.5
    assert torch.allclose(found, out["whole"][0], rtol=0.03)
    assert torch.allclose(around, out["whole"][1], rtol=0.03) and float(around[0].mean()) < float(around[1].mean())


def test_the_floor_is_darker_beside_a_copy():
    ground = Ground(np.array([0.0, 1.0, 0.0]), -1.0)
    light = gradient_sky().prefilter().detach()
    shades = []
    for at in (poses((0, 0, 0), (500, 0, 0)), poses((0, 0, 0), (2.2, 0, 0))):
        radiosity = balls(at, grid=ground)
        radiosity.bounced(light, torch.eye(3), texture)
        (shade,) = radiosity.shades.values()
        place = torch.tensor([[2.2, -0.5, 0.0], [-2.2, -0.5, 0.0]])
        shades.append(radiosity.grid.at(shade, place, torch.tensor([[0.0, -1.0, 0.0]] * 2)).mean(1))
    assert float(shades[1][0]) < 0.6 * float(shades[0][0])  # under the copy
    assert float(shades[1][1]) > 0.9 * float(shades[0][1])  # on the far side
