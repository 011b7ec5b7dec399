"""The planned look-ups give what ``shade`` gives, and its derivative by albedo."""

import pytest
import torch

from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.render.light_response import LightResponse
from stspbr.render.reference.texture import texture as reference_texture
from stspbr.render.shading import shade


def points(count, dtype):
    generator = torch.Generator().manual_seed(5)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    normals = torch.nn.functional.normalize(rand(count, 3) - 0.5, dim=1)
    view = torch.nn.functional.normalize(normals + 0.9 * (rand(count, 3) - 0.5), dim=1)
    turns = torch.linalg.qr(rand(2, 3, 3))[0]
    material = {"albedo": rand(count, 3), "metallic": rand(count, 1), "occlusion": rand(count, 1)}
    return normals, view, rand(count, 1), (turns, torch.arange(count) % 2), material


def light(dtype):
    cube = EnvironmentCube(16)
    generator = torch.Generator().manual_seed(1)
    cube.set_radiance(torch.rand(6, 16, 16, 3, generator=generator).pow(4) * 20)
    return cube.to(dtype).prefilter().detach()


def half_hidden(found, around, directions, weights):
    """Half of all look-ups are blocked, and something green comes from there."""
    blocked = (directions[..., :1] > 0).to(found.dtype)
    return found * (1 - blocked) + blocked * found.new_tensor([0.0, 0.3, 0.0]), 0.7 * around


@pytest.mark.parametrize("surroundings", [None, half_hidden])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_response_is_the_shading(dtype, surroundings):
    normals, view, roughness, rotation, material = points(200, dtype)
    texture = get_backend("cpu", torch.device("cpu")).texture if dtype == torch.float32 else reference_texture
    how = {"texture": texture, "light_rotation": rotation, "surroundings": surroundings}
    given = light(dtype)
    albedo, metallic, occlusion = material["albedo"], material["metallic"], material["occlusion"]
    wanted = shade(normals, view, albedo, roughness, metallic, given, occlusion=occlusion, **how)
    response = LightResponse.of(normals, view, roughness, len(given.specular), **how)
    gains = response.gains(albedo, metallic, occlusion)
    found = response.radiance(gains, response.found(given))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("surroundings", [None, half_hidden])
def test_its_derivative_by_albedo_is_the_shading_s(surroundings):
    normals, view, roughness, rotation, material = points(50, torch.float64)
    how = {"texture": reference_texture, "light_rotation": rotation, "surroundings": surroundings}
    given, albedo = light(torch.float64), material["albedo"].requires_grad_()
    rest = material["metallic"], material["occlusion"]
    wanted = shade(normals, view, albedo, roughness, rest[0], given, occlusion=rest[1], **how)
    (slope,) = torch.autograd.grad(wanted.sum(), [albedo])  # a channel depends on its own albedo alone
    response = LightResponse.of(normals, view, roughness, len(given.specular), **how)
    found = response.radiance(response.gains_by_albedo(albedo.detach(), *rest), response.found(given))
    torch.testing.assert_close(found, slope)
