"""The cube map lookups against its double-precision twin: values, gradients, seams, corners, determinism."""

from __future__ import annotations

import numba
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render.cpu import cubemap
from stspbr.render.cpu.texture import build_mips
from stspbr.render.reference import texture as reference

FACE_CENTRES = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float32)


def random_chain(sizes=(8, 4, 2, 1), batch=1, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 6, n, n, channels, generator=generator) for n in sizes]


def random_directions(count, batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, count, 3, generator=generator)


def sample_cube(raster, levels, directions, level=None):
    return raster.texture(levels[0], directions, None, level, levels[1:], boundary_mode="cube")


def gradients(function, inputs, dtype, seed=2):
    """The output and the gradients of a fixed random projection of it."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in inputs]
    out = function(*inputs)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(out.dtype)
    return out.detach(), torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.parametrize(
    ("sizes", "batch", "views", "channels"),
    [((8, 4, 2, 1), 1, 1, 3), ((7, 3), 1, 3, 1), ((16, 8, 4), 2, 2, 4), ((1,), 1, 1, 3), ((5, 5, 2), 3, 3, 2)],
)
def test_values_and_gradients_match_the_reference(sizes, batch, views, channels, raster):
    if raster.name == "nvdiffrast" and any(b != max(1, a // 2) for a, b in zip(sizes, sizes[1:], strict=False)):
        pytest.skip("nvdiffrast: each level is half as large as the one before")
    levels = random_chain(sizes, batch, channels)
    directions = random_directions(400, views)
    level = torch.rand(views, 1, 400, generator=torch.Generator().manual_seed(3)) * (len(sizes) + 1) - 1

    def twin(directions, level, tex, *mip):
        return reference.texture(tex, directions, None, level, mip, "linear-mipmap-linear", "cube")

    def kernel(directions, level, tex, *mip):
        return raster.texture(tex, directions, None, level, list(mip), "linear-mipmap-linear", "cube")

    out, grads = gradients(kernel, [directions, level, *levels], torch.float32)
    expected, expected_grads = gradients(twin, [directions, level, *levels], torch.float64)
    assert out.shape == (views, 1, 400, channels)
    t = raster.tolerance
    torch.testing.assert_close(out.double(), expected, rtol=1e-5 * t, atol=2e-5 * t)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        scale = max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-4 * t, atol=1e-4 * t * scale)


@pytest.mark.parametrize("filter_mode", ["nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear"])
def test_filter_modes_and_built_mips(filter_mode, raster):
    if raster.name == "nvdiffrast" and filter_mode == "linear-mipmap-nearest":
        pytest.skip("nvdiffrast: it floors the level")
    tex, directions = random_chain((8,))[0], random_directions(300)
    level = torch.rand(1, 1, 300, generator=torch.Generator().manual_seed(3)) * 5 - 1
    bias = level if "mipmap" in filter_mode else None
    out, (grad,) = gradients(
        lambda t: raster.texture(t, directions, None, bias, None, filter_mode, "cube", 2), [tex], torch.float32
    )
    expected, (wanted,) = gradients(
        lambda t: reference.texture(t, directions, None, bias, None, filter_mode, "cube", 2), [tex], torch.float64
    )
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(grad.double(), wanted, rtol=1e-4, atol=1e-4)


def test_faces_are_opengl_s(raster):
    # the texel at row 0, column 0 of every face, as the directions of OpenGL's table of cube map coordinates
    tex = torch.arange(6.0).reshape(1, 6, 1, 1, 1).expand(1, 6, 4, 4, 1).clone()
    tex[:, :, 0, 0] += 10
    centres = raster.texture(tex, FACE_CENTRES.reshape(1, 1, 6, 3), boundary_mode="cube")
    assert centres.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    a = 0.75
    corners = torch.tensor([[1, a, a], [-1, a, -a], [-a, 1, -a], [-a, -1, a], [-a, a, 1], [a, a, -1]])
    values = raster.texture(tex, corners.reshape(1, 1, 6, 3), boundary_mode="cube")
    torch.testing.assert_close(values.flatten(), torch.arange(10.0, 16.0))


def test_length_of_directions_does_not_matter(own_raster):
    levels, directions = random_chain(), random_directions(200)
    scale = torch.rand(1, 1, 200, 1, generator=torch.Generator().manual_seed(5)) * 100 + 1e-3
    expected = sample_cube(own_raster, levels, directions)
    torch.testing.assert_close(sample_cube(own_raster, levels, directions * scale), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_both_sides_of_edges_and_corners_agree(size, own_raster):
    levels = random_chain((size,))
    generator = torch.Generator().manual_seed(7)
    along = torch.rand(500, generator=generator) * 2 - 1
    along[:100] = along[:100].sign() * (1 - 1e-4)  # next to a corner
    step = 1e-6
    for first in range(3):
        for second in range(first + 1, 3):
            third = 3 - first - second
            for sign_first in (-1, 1):
                for sign_second in (-1, 1):
                    near = torch.zeros(500, 3)
                    near[:, first], near[:, second], near[:, third] = sign_first, sign_second, along
                    far = near.clone()
                    near[:, first] *= 1 + step
                    far[:, second] *= 1 + step
                    a, b = (sample_cube(own_raster, levels, d.reshape(1, 1, -1, 3)) for d in (near, far))
                    torch.testing.assert_close(a, b, rtol=0, atol=2e-4 * size)


def test_a_corner_is_the_mean_of_its_three_texels(own_raster):
    (tex,) = random_chain((4,))
    # +X, +Y, +Z meet at (1, 1, 1): rows and columns by OpenGL's orientation
    mean = (tex[0, 0, 0, 0] + tex[0, 2, 3, 3] + tex[0, 4, 0, 3]) / 3
    for nudge in (torch.tensor([1e-6, 0, 0]), torch.tensor([0, 1e-6, 0]), torch.tensor([0, 0, 1e-6])):
        value = sample_cube(own_raster, [tex], (torch.ones(3) + nudge).reshape(1, 1, 1, 3))
        torch.testing.assert_close(value.flatten(), mean, rtol=0, atol=1e-4)


def test_constant_cube_is_constant_with_zero_direction_gradient(own_raster):
    levels = [torch.full((1, 6, n, n, 3), 0.7) for n in (4, 2, 1)]
    directions = random_directions(1000).requires_grad_()
    level = torch.linspace(0, 2, 1000).reshape(1, 1, -1).requires_grad_()
    out = sample_cube(own_raster, levels, directions, level)
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=1e-6)
    grads = torch.autograd.grad(out.sum(), [directions, level])
    assert all(grad.abs().max() < 1e-3 for grad in grads)


def test_texel_gradients_sum_to_the_incoming_gradient(own_raster):
    levels = [t.requires_grad_() for t in random_chain()]
    level = torch.linspace(-1, 4, 900).reshape(1, 1, -1)
    out = sample_cube(own_raster, levels, random_directions(900), level)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(out, levels, weight)
    torch.testing.assert_close(sum(grad.sum() for grad in grads), weight.sum(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("sizes", [(8, 4, 2), (128, 64)])
def test_bits_do_not_depend_on_runs_or_threads(sizes):
    levels, directions = random_chain(sizes), random_directions(20000)
    level = torch.rand(1, 1, 20000, generator=torch.Generator().manual_seed(3)) * 2

    def everything():
        lookup = lambda d, lod, *t: cubemap.sample_cube(t, d, lod)  # noqa: E731
        out, grads = gradients(lookup, [directions, level, *levels], torch.float32)
        return [out, *grads]

    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = everything()
        numba.set_num_threads(threads)
        several = [everything(), everything()]
    finally:
        numba.set_num_threads(threads)
    for run in several:
        assert all(torch.equal(a, b) for a, b in zip(one, run, strict=True))


def test_only_wanted_gradients_are_computed(own_raster):
    tex = random_chain((4,))[0].requires_grad_()
    mip = random_chain((2,))[0]
    out = sample_cube(own_raster, [tex, mip], random_directions(10), torch.full((1, 1, 10), 0.5))
    out.sum().backward()
    assert tex.grad is not None and mip.grad is None


def test_no_samples_and_strange_directions(own_raster):
    levels = [t.requires_grad_() for t in random_chain()]
    empty = sample_cube(own_raster, levels, torch.zeros(1, 1, 0, 3), torch.zeros(1, 1, 0))
    assert empty.shape == (1, 1, 0, 3)
    grads = torch.autograd.grad(empty.sum(), levels)
    assert all(torch.equal(grad, torch.zeros_like(t)) for grad, t in zip(grads, levels, strict=True))
    strange = torch.tensor([[0, 0, 0], [float("nan"), 0, 1], [float("inf"), 1, 0], [1e-30, 0, 0], [0, -1e30, 0]])
    strange_level = torch.tensor([0, 1, float("nan"), float("inf"), -1e9]).reshape(1, 1, 5)
    out = sample_cube(own_raster, levels, strange.reshape(1, 1, 5, 3), strange_level)
    assert torch.isfinite(out).all()


def test_clamped_levels_have_no_gradient(own_raster):
    levels = random_chain((4, 2))
    level = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 4).requires_grad_()
    (grad,) = torch.autograd.grad(sample_cube(own_raster, levels, random_directions(4), level).sum(), level)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_gradient_at_whole_levels_is_that_towards_the_next(own_raster):
    levels, directions = random_chain(), random_directions(40)
    level = torch.arange(40.0).reshape(1, 1, 40) % 4  # 0 and 3 are clamped
    _, (grad,) = gradients(lambda lod: sample_cube(own_raster, levels, directions, lod), [level], torch.float32)
    _, (wanted,) = gradients(
        lambda lod: reference.texture(levels[0], directions, None, lod, levels[1:], boundary_mode="cube"),
        [level],
        torch.float64,
    )
    torch.testing.assert_close(grad.double(), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(grad != 0, (level > 0) & (level < 3))


def test_build_mips_of_a_cube_map():
    tex = random_chain((8,), batch=2)[0]
    for ours, wanted in zip(build_mips(tex), reference.build_mips(tex.double()), strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-6, atol=1e-6)


def test_bad_input_is_refused_in_one_line(own_raster):
    tex, directions = random_chain((4,))[0], random_directions(3)
    bias = torch.zeros(1, 1, 3)
    for call in (
        lambda: own_raster.texture(tex[:, :5], directions, boundary_mode="cube"),
        lambda: own_raster.texture(tex, directions[..., :2], boundary_mode="cube"),
        lambda: own_raster.texture(tex, directions, torch.zeros(1, 1, 3, 4), boundary_mode="cube"),
        lambda: own_raster.texture(tex.double(), directions, boundary_mode="cube"),
        lambda: own_raster.texture(tex, directions, None, bias, [tex[:, :, :2, :2, :1]], boundary_mode="cube"),
        lambda: own_raster.texture(
            tex.expand(2, -1, -1, -1, -1), directions.expand(3, -1, -1, -1), boundary_mode="cube"
        ),
    ):
        with pytest.raises(StspbrError):
            call()
