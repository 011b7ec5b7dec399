"""The 2D texture lookups against its double-precision twin and torch's grid_sample."""

from __future__ import annotations

import numba
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render.cpu.texture import build_mips, texture
from stspbr.render.reference import texture as reference

BOUNDARIES = ["wrap", "clamp", "zero"]


def random_chain(sizes=((8, 16), (4, 8), (2, 4), (1, 2)), batch=1, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, h, w, channels, generator=generator) for h, w in sizes]


def random_samples(count, batch=1, seed=1):
    """uv well beyond [0, 1], footprints of every size and shape, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    uv = torch.rand(batch, 1, count, 2, generator=generator) * 4 - 1.5
    size = torch.exp2(torch.rand(batch, 1, count, 1, generator=generator) * 8 - 6)
    uv_da = torch.randn(batch, 1, count, 4, generator=generator) * size * 0.3
    bias = torch.rand(batch, 1, count, generator=generator) - 0.5
    return uv, uv_da, bias


def gradients(function, inputs, dtype, seed=2):
    """The output and the gradients of a fixed random projection of it."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in inputs]
    out = function(*inputs)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(out.dtype)
    return out.detach(), torch.autograd.grad((out * weight).sum(), inputs)


def compare(raster, call, inputs):
    out, grads = gradients(lambda *x: call(raster.texture, *x), inputs, torch.float32)
    expected, expected_grads = gradients(lambda *x: call(reference.texture, *x), inputs, torch.float64)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5 * raster.tolerance, atol=5e-5 * raster.tolerance)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        scale = max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-3, atol=1e-4 * scale * raster.tolerance)
    return out, grads


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("sizes", "batch", "views", "channels"),
    [
        (((8, 16), (4, 8), (2, 4), (1, 2)), 1, 1, 3),
        (((7, 5), (3, 2), (1, 1)), 2, 2, 1),
        (((9, 4), (4, 2)), 1, 3, 6),
        (((1, 1),), 1, 1, 2),
    ],
)
def test_trilinear_values_and_gradients_match_the_reference(boundary, sizes, batch, views, channels, raster):
    def call(function, uv, uv_da, bias, tex, *mip):
        return function(tex, uv, uv_da, bias, list(mip), "linear-mipmap-linear", boundary)

    out, _ = compare(raster, call, [*random_samples(500, views), *random_chain(sizes, batch, channels)])
    assert out.shape == (views, 1, 500, channels)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", [(8, 16), (5, 7), (1, 3)])
def test_bilinear_matches_the_reference(boundary, size, raster):
    inputs = [random_samples(500)[0], *random_chain((size,))]
    compare(raster, lambda f, uv, tex: f(tex, uv, boundary_mode=boundary), inputs)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", ["nearest", "linear-mipmap-nearest"])
def test_nearest_filters_match_the_reference(boundary, filter_mode, raster):
    if raster.name == "nvdiffrast" and filter_mode != "nearest":
        pytest.skip("nvdiffrast: it floors the level")
    uv, uv_da, _ = random_samples(500)
    uv_da = None if filter_mode == "nearest" else uv_da
    compare(raster, lambda f, tex: f(tex, uv, uv_da, None, None, filter_mode, boundary), random_chain(((8, 16),)))


@pytest.mark.parametrize("level_from", ["uv_da", "bias"])
def test_one_source_of_the_level_and_built_mips(level_from, raster):
    uv, uv_da, _ = random_samples(500)
    bias = torch.rand(1, 1, 500, generator=torch.Generator().manual_seed(4)) * 6 - 1
    if level_from == "uv_da":
        compare(raster, lambda f, da, tex: f(tex, uv, da, max_mip_level=2), [uv_da, *random_chain(((16, 8),))])
    else:
        compare(raster, lambda f, b, tex: f(tex, uv, None, b, max_mip_level=2), [bias, *random_chain(((16, 8),))])


@pytest.mark.parametrize(("boundary", "padding"), [("clamp", "border"), ("zero", "zeros")])
def test_bilinear_is_grid_sample(boundary, padding, own_raster):
    (tex,) = random_chain(((6, 9),), channels=4)
    uv = random_samples(400)[0]

    def grid_sample(uv, tex):
        out = torch.nn.functional.grid_sample(
            tex.permute(0, 3, 1, 2), uv * 2 - 1, "bilinear", padding, align_corners=False
        )
        return out.permute(0, 2, 3, 1)

    lookup = lambda uv, tex: own_raster.texture(tex, uv, boundary_mode=boundary)  # noqa: E731
    out, grads = gradients(lookup, [uv, tex], torch.float32)
    expected, expected_grads = gradients(grid_sample, [uv, tex], torch.float64)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-3, atol=1e-4)


def test_texel_centres_give_texels(raster):
    (tex,) = random_chain(((4, 8),))
    v, u = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(8) + 0.5) / 8, indexing="ij")
    uv = torch.stack([u, v], -1)[None]
    for boundary in BOUNDARIES:
        torch.testing.assert_close(raster.texture(tex, uv, boundary_mode=boundary), tex, rtol=0, atol=1e-6)
        assert torch.equal(raster.texture(tex, uv, filter_mode="nearest", boundary_mode=boundary), tex)


def test_level_is_the_major_axis_of_the_footprint(raster):
    levels = [torch.full((1, 16 >> i, 32 >> i, 1), float(i)) for i in range(5)]
    # 1 pixel = 8 × 2 texels, turned by 30°: the ellipse's major axis is 8 texels long, level 3
    angle = torch.tensor(torch.pi / 6)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    texels = torch.diag(torch.tensor([8.0, 2.0])) @ turn
    uv_da = (texels / torch.tensor([[32.0], [16.0]])).reshape(1, 1, 1, 4)
    uv = torch.full((1, 1, 1, 2), 0.4)
    assert raster.texture(levels[0], uv, uv_da, mip=levels[1:]).item() == pytest.approx(3.0, abs=1e-5)
    biased = raster.texture(levels[0], uv, uv_da, torch.full((1, 1, 1), -0.75), mip=levels[1:])
    assert biased.item() == pytest.approx(2.25, abs=1e-5)


def test_gradient_at_whole_levels_is_that_towards_the_next(raster):
    if raster.name == "nvdiffrast":
        pytest.skip("nvdiffrast: the slope at a whole level may be either side's")
    uv = random_samples(40)[0]
    level = torch.arange(40.0).reshape(1, 1, 40) % 4  # 0 and 3 are clamped
    _, (grad, *_) = compare(raster, lambda f, b, tex, *mip: f(tex, uv, None, b, mip), [level, *random_chain()])
    assert torch.equal(grad != 0, (level > 0) & (level < 3))


def test_zero_footprint_is_level_zero_with_finite_gradients(own_raster):
    levels = [t.requires_grad_() for t in random_chain()]
    uv, uv_da = torch.rand(1, 1, 5, 2), torch.zeros(1, 1, 5, 4, requires_grad=True)
    out = own_raster.texture(levels[0], uv, uv_da, mip=levels[1:])
    torch.testing.assert_close(out, own_raster.texture(levels[0], uv))
    (grad,) = torch.autograd.grad(out.sum(), uv_da)
    assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (2, 16), (5, 4), (1, 1)])
def test_build_mips(size):
    tex = torch.rand(2, *size, 3, generator=torch.Generator().manual_seed(0))
    ours, wanted = build_mips(tex), reference.build_mips(tex.double())
    assert [t.shape for t in ours] == [t.shape for t in wanted]
    if not ours:
        return
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)
    _, (grad,) = gradients(lambda t: build_mips(t)[-1], [tex], torch.float32)
    _, (expected,) = gradients(lambda t: reference.build_mips(t)[-1], [tex], torch.float64)
    torch.testing.assert_close(grad.double(), expected, rtol=1e-5, atol=1e-7)


def test_mips_stop_where_a_side_is_odd():
    assert [tuple(t.shape[1:3]) for t in build_mips(torch.zeros(1, 24, 8, 1))] == [(12, 4), (6, 2), (3, 1)]
    assert [tuple(t.shape[1:3]) for t in build_mips(torch.zeros(1, 4, 1, 1))] == [(2, 1), (1, 1)]
    assert len(build_mips(torch.zeros(1, 64, 64, 1), 2)) == 2


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_bits_do_not_depend_on_runs_or_threads(boundary):
    inputs = [*random_samples(20000), *random_chain(((64, 64), (32, 32), (16, 16)))]

    def everything():
        call = lambda uv, da, b, tex, *mip: texture(tex, uv, da, b, mip, boundary_mode=boundary)  # noqa: E731
        out, grads = gradients(call, inputs, torch.float32)
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


def test_a_batch_is_its_images_one_by_one(raster):
    levels, (uv, uv_da, bias) = random_chain(batch=3), random_samples(50, batch=3)
    out = raster.texture(levels[0], uv, uv_da, bias, levels[1:])
    for i in range(3):
        tex, *mip = (t[i : i + 1] for t in levels)
        one = raster.texture(tex, uv[i : i + 1], uv_da[i : i + 1], bias[i : i + 1], mip)
        assert torch.equal(out[i : i + 1], one)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_no_samples_and_strange_coordinates(boundary, own_raster):
    levels = [t.requires_grad_() for t in random_chain()]
    empty = torch.zeros(1, 1, 0, 2), torch.zeros(1, 1, 0, 4)
    none = own_raster.texture(levels[0], *empty, mip=levels[1:], boundary_mode=boundary)
    assert none.shape == (1, 1, 0, 3)
    grads = torch.autograd.grad(none.sum(), levels)
    assert all(torch.equal(grad, torch.zeros_like(t)) for grad, t in zip(grads, levels, strict=True))
    inf, nan = float("inf"), float("nan")
    uv = torch.tensor([[nan, 0], [inf, 0.5], [0.5, -inf], [1e30, -1e30], [-1e-12, 1.0]]).reshape(1, 1, 5, 2)
    level = torch.tensor([nan, inf, -inf, 0.5, 1.0]).reshape(1, 1, 5)
    for filter_mode in ("nearest", "linear", "linear-mipmap-linear"):
        bias = level if "mipmap" in filter_mode else None
        out = own_raster.texture(levels[0], uv, None, bias, levels[1:], filter_mode, boundary)  # must not read outside
        assert torch.isfinite(out[..., 3:, :]).all()
        torch.autograd.grad(out.sum(), levels, allow_unused=True)


def test_only_wanted_gradients_are_computed(own_raster):
    levels = random_chain()
    levels[1].requires_grad_()
    own_raster.texture(levels[0], torch.rand(1, 1, 9, 2), None, torch.full((1, 1, 9), 0.5), levels[1:]).sum().backward()
    assert levels[1].grad is not None and levels[0].grad is None and levels[2].grad is None


def test_layouts_that_are_not_contiguous_are_taken(own_raster):
    (tex,) = random_chain(((8, 8),))
    uv = random_samples(20)[0]
    flipped = tex.transpose(1, 2)
    assert torch.equal(own_raster.texture(flipped, uv), own_raster.texture(flipped.contiguous(), uv))


def test_bad_input_is_refused_in_one_line(own_raster):
    (tex,) = random_chain(((4, 4),))
    uv = torch.rand(1, 1, 3, 2)
    for call in (
        lambda: own_raster.texture(tex[0], uv),
        lambda: own_raster.texture(tex, uv[..., :1]),
        lambda: own_raster.texture(tex, uv, filter_mode="cubic"),
        lambda: own_raster.texture(tex, uv, boundary_mode="mirror"),
        lambda: own_raster.texture(tex, uv, filter_mode="linear-mipmap-linear"),
        lambda: own_raster.texture(tex, uv, torch.zeros(1, 1, 2, 4)),
        lambda: own_raster.texture(tex, uv, None, torch.zeros(3)),
        lambda: own_raster.texture(tex.double(), uv),
        lambda: own_raster.texture(tex[:, :0], uv),
        lambda: own_raster.texture(tex, uv, None, torch.zeros(1, 1, 3), max_mip_level=-1),
    ):
        with pytest.raises(StspbrError):
            call()


@pytest.mark.parametrize(("size", "batch", "limit"), [((64, 64), 1, None), ((24, 8), 2, None), ((4, 1), 1, None),
                                                      ((64, 32), 1, 2)])  # fmt: skip
def test_its_own_mips_are_those_of_build_mips(size, batch, limit):
    """Without ``mip`` the lookup builds the chain and collects its gradients itself: the same bits."""
    uv, uv_da, bias = random_samples(3000, batch)
    tex = torch.rand(batch, *size, 3, generator=torch.Generator().manual_seed(4))
    threads = numba.get_num_threads()
    runs = []
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            runs.append(gradients(lambda t: texture(t, uv, uv_da, bias, max_mip_level=limit), [tex], torch.float32))
    finally:
        numba.set_num_threads(threads)
    apart = gradients(lambda t: texture(t, uv, uv_da, bias, build_mips(t, limit)), [tex], torch.float32)
    for out, (grad,) in runs:
        assert torch.equal(out, apart[0])
        assert torch.equal(grad, apart[1][0])
    _, (expected,) = gradients(
        lambda t: reference.texture(t, uv.double(), uv_da.double(), bias.double(), max_mip_level=limit),
        [tex],
        torch.float64,
    )
    torch.testing.assert_close(runs[0][1][0].double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
