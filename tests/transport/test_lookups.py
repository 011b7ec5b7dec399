"""Visible look-ups: nothing changes where nothing is hidden, and a mirror shows what stands before it."""

from __future__ import annotations

import numba
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.render.cpu.texture import texture as cpu_texture
from stspbr.render.reference.texture import texture as reference_texture
from stspbr.render.shading import shade
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import visibility
from stspbr.transport.lookups import VisibleLookups
from stspbr.transport.radiosity import Irradiance, Radiosity

from .scenes import bowl, gradient_sky, sky, sphere

IDENTITY = torch.eye(3)[None]


def shaded(
    positions, faces, normals, texture, light, material, *, at, roughness=0.3, metallic=0.0, albedo=0.6, on=True,
    strength=1.0, dtype=torch.float32, attached=False,
):  # fmt: skip
    """Radiance at the middles of the triangles ``at``, seen along their normals, and its leaves.

    Args:
        attached: whether irradiance has gradients by the light.
    """
    cache = visibility(positions, faces, normals, faces, direction_bins())
    albedo_of, roughness_of, metallic_of = (
        torch.full((len(cache.points.position), k), v) for k, v in zip((3, 1, 1), material, strict=True)
    )
    radiosity = Radiosity(cache, MaterialValues(albedo_of, roughness_of, metallic_of, cache.points.normal))
    single = (light if attached else light.detach()).to("cpu")
    open_, direct = radiosity.arriving(single, IDENTITY)
    bounced = radiosity.bounced(single.detach(), IDENTITY[0], cpu_texture)
    irradiance = Irradiance(open_.to(dtype), (direct + bounced).to(dtype))
    count = len(at)
    normal = torch.nn.functional.normalize(normals[faces[at].long()].mean(1), dim=1)
    to_eye = torch.nn.functional.normalize(normal + 0.5 * torch.tensor([0.3, 0.5, 0.2]), dim=1)
    owner = torch.zeros(count, dtype=torch.int64)
    a, b, c = positions[faces[at].long()].unbind(1)
    outward = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    origin = (a + b + c) / 3 + cache.offset * outward
    corners, shares = cache.points.corners(at, torch.full((count, 2), 1 / 3))
    surroundings = VisibleLookups(
        radiosity, irradiance, light.detach(), texture, IDENTITY, owner, origin.to(dtype), outward.to(dtype), corners,
        shares.to(dtype), strength,
    )  # fmt: skip
    leaves = [normal.clone(), torch.full((count, 3), albedo), torch.full((count, 1), roughness),
              torch.full((count, 1), metallic)]  # fmt: skip
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    out = shade(
        leaves[0], to_eye.to(dtype), *leaves[1:], light, texture=texture, light_rotation=(IDENTITY, owner),
        surroundings=surroundings if on else None,
    )  # fmt: skip
    return out, leaves


def test_a_ball_is_shaded_as_without_transport_bit_for_bit(texture):
    positions, faces = sphere()
    at = torch.arange(0, len(faces), 7)
    results = []
    for on in (False, True):
        cube = gradient_sky()
        out, leaves = shaded(
            positions, faces, positions, texture, cube.prefilter(), (0.6, 0.3, 0.0), at=at, on=on, metallic=0.5
        )
        (out.sin() * out).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves), cube.log_radiance.grad])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_bowl_mirrors_itself_in_place_of_the_light(texture):
    """Deep in a black bowl a mirror sees black but for the opening; in a white one it sees white."""
    positions, faces = bowl(0.8)
    normals = -positions
    at = torch.nonzero(positions[faces.long()][..., 1].amax(1).abs() < 0.2).squeeze(1)[::5]
    light = sky()
    options = {"at": at, "roughness": 0.1, "metallic": 1.0, "albedo": 1.0}
    surface = (positions, faces, normals, texture, light)
    free = shaded(*surface, (0.0, 1.0, 0.0), on=False, **options)[0].detach()
    black = shaded(*surface, (0.0, 1.0, 0.0), **options)[0].detach()
    white = shaded(*surface, (1.0, 1.0, 0.0), **options)[0].detach()
    assert float(free.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(black.median()) < 0.1  # what the rim of F0 = 0.04 sends on
    assert 3 * float(black.median()) < float(white.median()) < 1.0


def test_blocked_look_ups_send_no_gradient_to_the_light(texture):
    positions, faces = bowl(0.8)
    at = torch.nonzero(positions[faces.long()][..., 1].amax(1) < -0.6).squeeze(1)[::9]
    cube = gradient_sky()
    out, leaves = shaded(
        positions, faces, -positions, texture, cube.prefilter(), (0.0, 1.0, 0.0), at=at, roughness=0.1, metallic=1.0
    )
    out.sum().backward()
    down = cube.log_radiance.grad[3, 8:24, 8:24]
    assert float(down.abs().max()) == 0.0 and float(cube.log_radiance.grad[2].max()) > 0.0
    assert bool(torch.isfinite(leaves[2].grad).all()) and bool((leaves[1].grad >= 0).all())


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_values_and_gradients_match_the_double_precision_twin(strength):
    positions, faces = bowl(0.8)
    at = torch.arange(0, len(faces), 11)
    weight = torch.rand(len(at), 3, generator=torch.Generator().manual_seed(0)) - 0.3
    got = []
    for dtype, look_up in ((torch.float32, cpu_texture), (torch.float64, reference_texture)):
        cube = gradient_sky()
        out, leaves = shaded(
            positions, faces, -positions, look_up, cube.prefilter().to("cpu", dtype), (0.6, 0.3, 0.0), at=at,
            metallic=0.5, strength=strength, dtype=dtype, attached=True,
        )  # fmt: skip
        (out * weight).sum().backward()
        got.append([out.detach(), *(leaf.grad for leaf in leaves), cube.log_radiance.grad])
    for fast, slow in zip(*got, strict=True):
        assert torch.isfinite(fast).all() and slow.abs().sum() > 0
        # a look-up a rounding error from a border or an edge takes another branch there
        near = (fast - slow).abs() <= 2e-3 * slow.abs().mean() + 5e-3 * slow.abs()
        assert float(near.double().mean()) > 0.99


def test_threads_change_no_bit():
    positions, faces = bowl(0.8)
    results, before = [], numba.get_num_threads()
    for threads in (1, 2):
        numba.set_num_threads(min(threads, before))
        cube = gradient_sky()
        out, leaves = shaded(
            positions, faces, -positions, cpu_texture, cube.prefilter(), (0.6, 0.3, 0.0), at=torch.arange(len(faces)),
            metallic=0.5, attached=True,
        )  # fmt: skip
        out.square().sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves), cube.log_radiance.grad])
    numba.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
