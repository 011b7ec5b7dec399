"""Interpolation against the reference: values, attribute derivatives, gradients, pixel lists."""

from __future__ import annotations

import numba
import pytest
import torch

from stspbr.render.cpu.interpolate import interpolate
from stspbr.render.cpu.rasterize import rasterize
from stspbr.render.reference import interpolate as reference


def scene(batch=2, count=30, vertices=25, resolution=(19, 26), seed=0):
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(batch, vertices, 1, generator=g) * 2 + 0.3
    xy, z = torch.randn(batch, vertices, 2, generator=g) * w, (torch.rand(w.shape, generator=g) - 0.5) * w
    clip = torch.cat([xy, z, w], -1)
    faces = torch.randint(0, vertices, (count, 3), generator=g).int()
    rast, rast_db = rasterize(clip, faces, resolution)
    assert (rast[..., 3] > 0).any() and (rast[..., 3] == 0).any()
    return rast, rast_db, faces, vertices, g


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("selection", [None, "all", [3, 1], [2]])
@pytest.mark.parametrize("channels", [1, 5])
def test_values_and_gradients_match_reference(groups, selection, channels, raster):
    if isinstance(selection, list):
        selection = [c % channels for c in selection]
    rast, rast_db, faces, vertices, g = scene()
    attributes = torch.randn(groups, vertices, channels, generator=g)
    fast = [t.clone().requires_grad_() for t in (attributes, rast, rast_db)]
    slow = [t.double().requires_grad_() for t in (attributes, rast, rast_db)]
    out, out_da = raster.interpolate(fast[0], fast[1], faces, fast[2], selection)
    expected, expected_da = reference.interpolate(slow[0], slow[1], faces, slow[2], selection)
    assert out_da.shape == expected_da.shape
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out_da.double(), expected_da, atol=1e-5, rtol=1e-5)
    weight, weight_da = torch.randn(out.shape, generator=g), torch.randn(out_da.shape, generator=g)
    ((out * weight).sum() + (out_da * weight_da).sum()).backward()
    ((expected * weight.double()).sum() + (expected_da * weight_da.double()).sum()).backward()
    for a, b in zip(fast, slow, strict=True):
        if b.grad is None or a.grad is None:
            assert selection is None
            continue
        torch.testing.assert_close(a.grad.double(), b.grad, atol=2e-5 * raster.tolerance, rtol=1e-5)


def test_gradient_of_the_derivatives_alone(raster):
    rast, rast_db, faces, vertices, g = scene(seed=3)
    attributes = torch.randn(1, vertices, 2, generator=g)
    fast = [t.clone().requires_grad_() for t in (attributes, rast_db)]
    slow = [t.double().requires_grad_() for t in (attributes, rast_db)]
    raster.interpolate(fast[0], rast, faces, fast[1], "all")[1].square().sum().backward()
    reference.interpolate(slow[0], rast, faces, slow[1], "all")[1].square().sum().backward()
    for a, b in zip(fast, slow, strict=True):
        assert ((a.grad - b.grad).abs() <= 1e-5 * raster.tolerance * b.grad.abs().max()).all()


def test_derivatives_are_those_of_the_image(raster):
    """Central differences of an affine-in-clip attribute across neighbouring pixels of one triangle."""
    clip = torch.tensor([[[-3.0, -3, 0, 1], [5, -2, 0.4, 2], [-2, 6, 0.2, 1.5]]])
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    rast, rast_db = raster.rasterize(clip, faces, (64, 64))
    attributes = torch.tensor([[[0.0], [1.0], [0.3]]])
    out, out_da = raster.interpolate(attributes, rast, faces, rast_db, "all")
    inside = (rast[0, 1:-1, 1:-1, 3] > 0) & (rast[0, 2:, 2:, 3] > 0) & (rast[0, :-2, :-2, 3] > 0)
    inside &= (rast[0, 2:, :-2, 3] > 0) & (rast[0, :-2, 2:, 3] > 0)
    across = (out[0, 1:-1, 2:, 0] - out[0, 1:-1, :-2, 0]) / 2
    down = (out[0, 2:, 1:-1, 0] - out[0, :-2, 1:-1, 0]) / 2
    assert inside.sum() > 100
    torch.testing.assert_close(out_da[0, 1:-1, 1:-1, 0][inside], across[inside], atol=2e-4, rtol=0.02)
    torch.testing.assert_close(out_da[0, 1:-1, 1:-1, 1][inside], down[inside], atol=2e-4, rtol=0.02)


def test_pixel_list_equals_image(raster):
    rast, rast_db, faces, vertices, g = scene()
    attributes = torch.randn(1, vertices, 4, generator=g)
    covered = torch.nonzero(rast[..., 3].reshape(-1) > 0)[:, 0]
    listed = [t.reshape(-1, 4).index_select(0, covered)[None, None] for t in (rast, rast_db)]
    image, image_da = raster.interpolate(attributes, rast, faces, rast_db, [0, 2])
    values, values_da = raster.interpolate(attributes, listed[0], faces, listed[1], [0, 2])
    assert torch.equal(values[0, 0], image.reshape(-1, 4)[covered])
    assert torch.equal(values_da[0, 0], image_da.reshape(-1, 4)[covered])


def test_constant_attribute_and_empty(raster):
    rast, _, faces, vertices, _ = scene()
    out, out_da = raster.interpolate(torch.full((1, vertices, 1), 0.75), rast, faces)
    torch.testing.assert_close(out[..., 0], 0.75 * (rast[..., 3] > 0), atol=1e-6, rtol=0)
    assert out_da.shape == (*rast.shape[:3], 0)
    attributes = torch.zeros(1, 0, 3, requires_grad=True)
    out, _ = raster.interpolate(attributes, torch.zeros(2, 4, 5, 4), torch.zeros(0, 3, dtype=torch.int32))
    out.sum().backward()
    assert out.shape == (2, 4, 5, 3) and (out == 0).all()
    out, _ = raster.interpolate(torch.randn(1, vertices, 2), torch.zeros(1, 1, 0, 4), faces)
    assert out.shape == (1, 1, 0, 2)


def test_same_bits_for_any_thread_count():
    rast, rast_db, faces, vertices, g = scene(resolution=(70, 81), count=60)
    attributes, weight = torch.randn(1, vertices, 5, generator=g), torch.randn(2, 70, 81, 5, generator=g)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, before, before):
            numba.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in (attributes, rast, rast_db)]
            out, out_da = interpolate(leaves[0], leaves[1], faces, leaves[2], [0, 4])
            ((out * weight).sum() + (out_da * weight[..., :4]).sum()).backward()
            results.append([out.detach(), out_da.detach(), *(leaf.grad for leaf in leaves)])
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_errors(own_raster):
    rast, rast_db, faces, vertices, _ = scene()
    attributes = torch.randn(1, vertices, 2)
    with pytest.raises(ValueError, match="batch 3"):
        own_raster.interpolate(attributes.expand(3, -1, -1), rast, faces)
    with pytest.raises(ValueError, match="need rast_db"):
        own_raster.interpolate(attributes, rast, faces, None, "all")
    with pytest.raises(ValueError, match="2 channels"):
        own_raster.interpolate(attributes, rast, faces, rast_db, [2])
    with pytest.raises(ValueError, match="must agree"):
        own_raster.interpolate(attributes, rast, faces, rast_db[:, 1:], [0])
    with pytest.raises(ValueError, match="there are 3 vertices"):
        own_raster.interpolate(attributes[:, :3], rast, faces)
