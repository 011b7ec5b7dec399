"""A lamp on the camera against the BRDF itself, in value and gradient, in double precision."""

from __future__ import annotations

import torch

from stspbr.render.brdf import evaluate
from stspbr.render.lamp import lamp_look_up
from stspbr.render.shading import combine_twin


def points(count: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    unit = torch.nn.functional.normalize
    normals = unit(torch.randn(count, 3, generator=generator, dtype=dtype), dim=1)
    view = unit(normals + 0.6 * torch.randn(count, 3, generator=generator, dtype=dtype), dim=1)
    facing = (normals * view).sum(1) > 0.05
    normals, view = normals[facing], view[facing]
    to_lamp = 2.5 * view + 0.2 * torch.randn(len(view), 3, generator=generator, dtype=dtype)
    material = torch.rand(len(view), 5, generator=generator, dtype=dtype) * 0.8 + 0.1
    return normals, view, to_lamp, material


def reference(normals, view, to_lamp, material, intensity):
    distance = to_lamp.norm(dim=1, keepdim=True)
    light = to_lamp / distance
    brdf = evaluate(normals, view, light, material[:, :3], material[:, 3:4], material[:, 4:5])
    return brdf * intensity / distance**2


def ours(normals, view, to_lamp, material, intensity):
    found, weights = lamp_look_up(normals, view, material[:, 3:4], to_lamp, intensity)
    nothing = torch.zeros_like(found)
    kinds = torch.stack([weights, torch.zeros_like(weights)], dim=2).reshape(len(weights), -1)
    diffuse, specular = combine_twin(found[None], nothing, kinds, material[:, :3], material[:, 4:5], None)
    return diffuse + specular


def test_it_is_the_brdf_times_the_irradiance_with_its_gradient():
    given = points(300)
    intensity = torch.tensor([3.0, 2.0, 1.5], dtype=torch.float64)
    results = []
    for function in (reference, ours):
        leaves = [value.clone().requires_grad_() for value in (*given, intensity)]
        value = function(*leaves)
        results.append((value.detach(), torch.autograd.grad(value.square().sum(), leaves)))
    (wanted, wanted_grads), (found, found_grads) = results
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)
    for a, b in zip(found_grads, wanted_grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)


def test_it_falls_off_with_the_square_of_the_distance():
    normals, view, to_lamp, material = points(50)
    one = torch.ones(3, dtype=torch.float64)
    near, far = (ours(normals, view, factor * to_lamp, material, one) for factor in (1.0, 3.0))
    assert torch.allclose(near, 9.0 * far)
