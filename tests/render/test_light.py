"""Learned and known lights: what a mip level means, gradients, caching, lat-long in and out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render import prefilter
from stspbr.render.light import EnvironmentCube, cube_to_latlong
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import WIDTHS, cached_light, latlong_to_cube, prefilter_latlong
from stspbr.scene.light import EnvironmentLight, latlong_to_direction
from stspbr.warp_runtime import why_no_warp

pytestmark = pytest.mark.usefixtures("unremembered_lights")


def _light(height: int = 64) -> EnvironmentLight:
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    d = latlong_to_direction(np.stack([u, v], -1))
    lamp = 5 * np.exp(40 * (d @ np.array([0.48, 0.6, 0.64]) - 1))
    radiance = np.stack([0.5 + 0.4 * d[..., 0], 0.5 + 0.4 * d[..., 1] + lamp, 0.5 + 0.4 * d[..., 2]], -1)
    return EnvironmentLight(radiance.astype(np.float32))


def _directions(size: int) -> np.ndarray:
    middle = (np.arange(size) + 0.5) * 2 / size - 1
    t, s = np.meshgrid(middle, middle, indexing="ij")
    one = np.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    d = np.stack([np.stack(f, -1) for f in faces])
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def _brute_force(height: int, width: float, towards: np.ndarray) -> np.ndarray:
    """Convolution by a plain sum over the lat-long map; width < 0: the cosine."""
    light = _light(height)
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    d = latlong_to_direction(np.stack([u, v], -1)).reshape(-1, 3)
    c = towards.reshape(-1, 3) @ d.T
    weight = np.maximum(c, 0.0)
    if width > 0:
        half2, a2 = 0.5 * (1 + c), width**2
        lobe = (1 - half2) + a2 * half2
        weight = weight / lobe**2 / (weight + np.sqrt((1 - a2) * weight**2 + a2))
    weight = weight * np.sin(np.pi * v).ravel()
    mean = weight @ light.radiance.reshape(-1, 3) / weight.sum(-1, keepdims=True)
    return mean.reshape(*towards.shape)


def test_known_light_levels_are_its_convolutions():
    light = prefilter_latlong(_light(64), 128)
    assert light.widths == WIDTHS and len(light.specular) == len(WIDTHS)
    for level in (3, 4, 5):
        got = light.specular[level].numpy()
        exact = _brute_force(64, WIDTHS[level], _directions(got.shape[1]))
        np.testing.assert_allclose(got, exact, rtol=0.02, atol=0.01)
    exact = _brute_force(64, -1.0, _directions(light.diffuse.shape[1]))
    np.testing.assert_allclose(light.diffuse.numpy(), exact, rtol=0.01)


def test_learned_light_means_the_same_as_a_known_one():
    known = prefilter_latlong(_light(128), 128)
    learned = EnvironmentCube.from_latlong(_light(128), 64).prefilter()
    assert learned.widths == (0.0, *WIDTHS[2:])
    for level in (3, 4, 5):
        a, b = known.specular[level], learned.specular[level - 1].detach()
        n = min(a.shape[1], b.shape[1])
        a, b = (x.view(6, n, x.shape[1] // n, n, x.shape[1] // n, 3).mean((2, 4)) for x in (a, b))
        assert ((a - b).abs() / a).mean() < 0.02
        assert ((a - b).abs() / a).max() < 0.15


@pytest.mark.parametrize("resolution", [16, 32])
def test_gradient_and_twin_of_the_prefilter(resolution, kernels):
    apply = light_filter(resolution)
    base = torch.rand(6, resolution, resolution, 3, generator=torch.Generator().manual_seed(0))
    grads = {}
    for dtype, backend in ((torch.float32, kernels), (torch.float64, "torch")):
        leaf = base.clone().to(dtype).detach().requires_grad_()
        light = apply(leaf, backend)
        parts = [*light.specular, light.diffuse]
        generator = torch.Generator().manual_seed(1)
        weights = [torch.rand(part.shape, generator=generator).to(dtype) for part in parts]
        sum((part * w).sum() for part, w in zip(parts, weights, strict=True)).backward()
        grads[dtype] = (leaf.grad.double(), [part.detach().double() for part in parts])
    torch.testing.assert_close(grads[torch.float32][0], grads[torch.float64][0], rtol=1e-4, atol=1e-4)
    for a, b in zip(grads[torch.float32][1], grads[torch.float64][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    # the map is linear: its gradient is its transpose
    step = torch.rand(base.shape, generator=torch.Generator().manual_seed(2)).double()
    moved = apply(base.double() + step)
    change = [a - b for a, b in zip([*moved.specular, moved.diffuse], grads[torch.float64][1], strict=True)]
    generator = torch.Generator().manual_seed(1)
    total = sum((c * torch.rand(c.shape, generator=generator).double()).sum() for c in change)
    torch.testing.assert_close(total, (grads[torch.float64][0] * step).sum(), rtol=1e-9, atol=1e-6)


def test_a_step_is_bit_identical_whatever_the_threads():
    import numba

    cube = EnvironmentCube.from_latlong(_light(), 32)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, before, before):
            numba.set_num_threads(threads)
            cube.zero_grad()
            light = cube.prefilter()
            (light.specular[2].square().sum() + light.diffuse.square().sum()).backward()
            results.append((light.specular[1].detach().clone(), cube.log_radiance.grad.clone()))
    finally:
        numba.set_num_threads(before)
    for value, grad in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(grad, results[0][1])


def test_starts_grey_and_stays_positive():
    cube = EnvironmentCube(16, initial=0.5)
    light = cube.prefilter()
    for part in (*light.specular, light.diffuse):
        torch.testing.assert_close(part.detach(), torch.full_like(part, 0.5), rtol=1e-5, atol=0)
    optimizer = torch.optim.Adam(cube.parameters(), lr=0.5, eps=1e-12)
    for _ in range(20):
        optimizer.zero_grad()
        cube.prefilter().diffuse.sum().backward()
        optimizer.step()
    assert (cube.radiance > 0).all() and cube.radiance.max() < 0.01


def test_latlong_round_trip():
    light = _light(128)
    cube = EnvironmentCube.from_latlong(light, 128)
    back = cube.to_latlong(256)
    assert back.radiance.shape == (128, 256, 3) and back.radiance.dtype == np.float32
    np.testing.assert_allclose(back.radiance, light.radiance, rtol=0.02, atol=0.02)
    axis = np.zeros((6, 4, 4, 3), np.float32)
    axis[0] = 1.0  # +X is right of the middle
    seen = cube_to_latlong(torch.from_numpy(axis), 64).radiance[16, :, 0]
    assert seen[48] == 1.0 and seen[16] == 0.0


def test_cache_is_used_keyed_by_content_and_survives_damage(tmp_path, monkeypatch):
    light = _light(32)
    assert cached_light(light, 128, tmp_path) is None and not list(tmp_path.iterdir())
    first = prefilter_latlong(light, 128, cache_dir=tmp_path)
    found = cached_light(light, 128, tmp_path)
    assert found is not None and torch.equal(found.diffuse, first.diffuse)
    (path,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(prefilter, "_prefilter_arrays", lambda *_: pytest.fail("computed again"))
        again = prefilter_latlong(light, 128, cache_dir=tmp_path)
    for a, b in zip(first.specular, again.specular, strict=True):
        assert torch.equal(a, b)
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(prefilter_latlong(light, 128, cache_dir=tmp_path).diffuse, first.diffuse)
    prefilter_latlong(EnvironmentLight(light.radiance * 2), 128, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_lights_are_refused_in_one_line():
    with pytest.raises(StspbrError, match="negative or not finite"):
        prefilter_latlong(EnvironmentLight(np.full((8, 16, 3), np.nan, np.float32)))
    with pytest.raises(StspbrError, match="power of two"):
        prefilter_latlong(_light(8), 100)
    with pytest.raises(StspbrError, match="resolution 48"):
        EnvironmentCube(48)
    assert latlong_to_cube(_light(8), 8).shape == (6, 8, 8, 3)


def test_twin_and_warp_in_single_precision_are_the_kernels(device):
    base, results = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)) + 0.1, []
    kinds = [("cpu", torch.device("cpu")), ("torch", device)] + [("warp", device)] * (why_no_warp(device) is None)
    for backend, where in kinds:
        leaf = base.clone().requires_grad_()
        light = light_filter(16)(leaf.to(where), backend)
        parts = [part.cpu() for part in (*light.specular, light.diffuse)]
        generator = torch.Generator().manual_seed(1)
        total = sum((part * torch.rand(part.shape, generator=generator)).sum() for part in parts)
        results.append([*parts, *torch.autograd.grad(total, leaf)])
    for result in results[1:]:
        for found, wanted in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(StspbrError, match="backend cpu takes float32 on the CPU, not torch.float64"):
        light_filter(16)(base.double(), "cpu")
