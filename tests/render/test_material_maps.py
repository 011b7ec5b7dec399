"""Lookups by material: the same as each material's own, gradients to what was seen and to nothing else."""

from __future__ import annotations

import pytest
import torch

from stspbr.render.backend import get_backend
from stspbr.render.material_maps import material_pixels, sample_maps

TEXTURE = get_backend("cpu", torch.device("cpu")).texture


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pixels():
    """Twenty pixels on six triangles of three materials; the last material is not seen."""
    uv, uv_da = random(20, 2, seed=0) * 3 - 1, random(20, 4, seed=1) * 0.05
    triangle = torch.arange(20) % 5
    return uv, uv_da, triangle, torch.tensor([0, 1, 1, 0, 1, 2])


def test_each_pixel_reads_its_own_material(pixels):
    uv, uv_da, triangle, face_material = pixels
    maps = [random(1, 8, 8, 3, seed=2), random(1, 4, 16, 3, seed=3), random(1, 8, 8, 3, seed=4)]
    owned = material_pixels(triangle, face_material, 3)
    found = sample_maps(maps, owned, uv, uv_da, TEXTURE)
    for number in (0, 1):
        own = face_material[triangle] == number
        alone = sample_maps([maps[number]], None, uv, uv_da, TEXTURE)
        torch.testing.assert_close(found[own], alone[own], rtol=0, atol=0)
    assert torch.equal(sample_maps([maps[0]], material_pixels(triangle, None, 1), uv, uv_da, TEXTURE)[0],
                       sample_maps(maps[:1], None, uv, uv_da, TEXTURE)[0])  # fmt: skip


def test_gradients_reach_what_was_seen(pixels):
    uv, uv_da, triangle, face_material = pixels
    maps = [random(1, 8, 8, 2, seed=k).requires_grad_() for k in range(3)]
    out = sample_maps(maps, material_pixels(triangle, face_material, 3), uv, uv_da, TEXTURE)
    gradients = torch.autograd.grad(out.sum(), maps, allow_unused=True)
    for number in (0, 1):  # every lookup's weights sum to one
        seen = float((face_material[triangle] == number).sum())
        assert gradients[number].sum().item() == pytest.approx(2 * seen, rel=1e-5)
    assert gradients[2] is None


def test_constants_and_no_pixels(pixels):
    uv, uv_da, triangle, face_material = pixels
    constant = [torch.full((1, 1, 1, 3), float(k)) for k in range(3)]
    found = sample_maps(constant, material_pixels(triangle, face_material, 3), uv, uv_da, TEXTURE)
    assert torch.equal(found[:, 0], face_material[triangle].float())
    none = sample_maps(constant, material_pixels(triangle[:0], face_material, 3), uv[:0], uv_da[:0], TEXTURE)
    assert none.shape == (0, 3)
