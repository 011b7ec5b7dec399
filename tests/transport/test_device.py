"""Transport on another device than the CPU: all of it stays there, and it is what the CPU's kernels make."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.render import shading
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, surface_points
from stspbr.render.lobes import load_lobe_table
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.rays.bvh import BvhScene
from stspbr.render.rays.protocol import Hits
from stspbr.render.shading import shade
from stspbr.scene import Corners
from stspbr.transport import cache
from stspbr.transport.ground import Ground
from stspbr.transport.transport import Transport

from .elsewhere import ELSEWHERE, Elsewhere, from_host
from .scenes import bowl, gradient_sky

CPU = torch.device("cpu")
UP = np.array([0.0, 1.0, 0.0])


class Scene:
    """The embedded hierarchy, for rays on any device."""

    def __init__(self, positions, faces, backend) -> None:
        self._scene = BvhScene(positions.cpu(), faces.cpu())

    def closest(self, origins, directions, limit=float("inf")) -> Hits:
        def cast(origins, directions):
            hits = self._scene.closest(origins, directions, limit)
            return hits.triangle, hits.distance, hits.barycentric

        return Hits(*from_host(cast)(origins, directions))


def radiance(device: torch.device, ground: Ground | None, same: bool) -> list[torch.Tensor]:
    """Of places in a bowl, and its gradients by albedo and light; ``same``: the mesh is that of the refresh."""
    positions, faces = (part.to(device) for part in bowl(0.8, 120))
    surface = Surface(positions, faces, Corners(-positions, faces))
    own = get_backend("cpu", CPU)
    operations = own.rasterize, own.interpolate, own.antialias, own.texture
    backend = RasterBackend("cpu", *(from_host(operation) for operation in operations))

    def material(gbuffer) -> MaterialValues:
        one = torch.ones_like(gbuffer.position[:, :1])
        return MaterialValues(0.6 * one.expand(-1, 3), 0.3 * one, 0.5 * one, gbuffer.normal)

    cube = gradient_sky()
    light = cube.prefilter().to(device)
    transport = Transport(backend, "auto", ground=ground)
    transport.refresh(surface, material)
    if not same:
        surface = Surface(positions, faces.roll(1, 1).contiguous(), Corners(-positions, faces.roll(1, 1).contiguous()))
    triangle = torch.arange(0, len(faces), 3, device=device)
    barycentric = torch.full((len(triangle), 2), 0.3, device=device)
    gbuffer = surface_points(surface, triangle, barycentric, backend)
    surroundings = transport.seen(surface, gbuffer, light)
    values = material(gbuffer)
    albedo = values.albedo.clone().requires_grad_()
    way = torch.nn.functional.normalize(gbuffer.normal + 0.5 * torch.tensor([0.3, 0.5, 0.2]).to(device), dim=1)
    out = shade(
        gbuffer.normal, way, albedo, values.roughness, values.metallic, light, texture=backend.texture,
        light_rotation=(gbuffer.object_rotation, gbuffer.view), surroundings=surroundings,
    )  # fmt: skip
    found = [out, *torch.autograd.grad(out.square().sum(), [albedo, cube.log_radiance])]
    return [part.detach().cpu() for part in (*found, *transport.state().values(), transport.cache.occlusion())]


@pytest.mark.parametrize(
    ("ground", "same"), [(None, True), (Ground(UP, None), False)], ids=["the same mesh", "another mesh, and a floor"]
)
def test_transport_stays_on_its_device(monkeypatch, ground, same):
    monkeypatch.setattr(cache, "ray_scene", Scene)
    monkeypatch.setattr(
        shading, "load_lobe_table", functools.cache(load_lobe_table.__wrapped__)
    )  # of this device's own
    results = []
    for device in (CPU, ELSEWHERE):
        with Elsewhere() if device == ELSEWHERE else contextlib.nullcontext():
            results.append(radiance(device, ground, same))
    for found, wanted in zip(*reversed(results), strict=True):
        assert wanted.any()
        # a ray a rounding error from an edge takes another triangle
        near = (found - wanted).abs() <= 1e-4 * wanted.abs() + 1e-4 * wanted.abs().double().mean()
        assert float(near.double().mean()) > 0.995
