from __future__ import annotations

import math

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.metrics.similarity import ms_ssim, ssim_windows
from stspbr.optimize import losses
from stspbr.optimize.losses import (
    LOSSES,
    CompositeLoss,
    clamp_radiance,
    mask_loss,
    measure_exposure,
    metal_prior,
    register_loss,
    smoothness,
    tonemap,
    tonemap_slope,
)

PIXEL_LOSSES = [name for name, function in LOSSES.items() if not function.whole_image]


def pixels(count: int = 40, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiance over six decades, and something similar to it."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.exp(torch.randn(count, 3, generator=generator, dtype=torch.float64) * 2.5 - 1)
    rendered = target * torch.exp(torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.7)
    return rendered.to(dtype), target.to(dtype)


def images(height: int, width: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(2, height, width, 3, generator=generator, dtype=torch.float64)
    noise = torch.rand(2, height, width, 3, generator=generator, dtype=torch.float64)
    return (0.7 * target + 0.3 * noise), target


def srgb(u: float) -> float:
    return 1.055 * u ** (1 / 2.4) - 0.055 if u > 0.0031308 else 12.92 * u


def scalar_loss(name: str, x: float, y: float, exposure: float) -> float:
    """The formulas in plain Python."""
    tx, ty = srgb(math.log(x + 1)), srgb(math.log(y + 1))
    return {
        "mse": (x - y) ** 2,
        "l1": abs(x - y),
        "smape": abs(x - y) / (x + y + 0.01),
        "relmse": (x - y) ** 2 / (x * x + y * y + 0.01 * exposure),
        "logl1": abs(tx - ty),
        "logl2": (tx - ty) ** 2,
    }[name]


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_values_match_the_formulas(name):
    rendered, target = pixels()
    got = LOSSES[name](rendered, target, 0.37).flatten().tolist()
    expected = [
        scalar_loss(name, x, y, 0.37)
        for x, y in zip(rendered.flatten().tolist(), target.flatten().tolist(), strict=True)
    ]
    assert got == pytest.approx(expected, rel=1e-9)
    single = LOSSES[name](rendered.float(), target.float(), 0.37).double()
    assert torch.allclose(single.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_match_central_differences(name):
    if LOSSES[name].whole_image:
        rendered, target = images(23, 26)
    else:
        rendered, target = pixels()
    rendered = rendered.requires_grad_()
    LOSSES[name](rendered, target, 0.37).sum().backward()
    flat = rendered.detach().flatten()
    for index in range(0, flat.numel(), max(1, flat.numel() // 25)):
        step = 1e-6 * max(1e-3, float(flat[index]))
        high, low = flat.clone(), flat.clone()
        high[index] += step
        low[index] -= step
        above, below = (LOSSES[name](values.reshape(rendered.shape), target, 0.37) for values in (high, low))
        expected = float((above - below).sum()) / (2 * step)
        assert float(rendered.grad.flatten()[index]) == pytest.approx(expected, rel=2e-4, abs=2e-6)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_the_ends_of_the_range(name, dtype):
    ends = torch.tensor([0.0, 1e-30, 1e-8, 0.0031, 1.0, 65535.0, 1e30, float("inf"), -1.0], dtype=dtype)
    rendered, target = torch.meshgrid(ends, ends, indexing="ij")
    rendered = rendered.clone().requires_grad_()
    for exposure in (0.0, 1.0, 1e9):
        value = LOSSES[name](rendered, target, exposure)
        (gradient,) = torch.autograd.grad(value.sum(), rendered)
        assert torch.isfinite(value).all() and (value >= 0).all()
        assert torch.isfinite(gradient).all()
        assert (gradient[rendered < 0] == 0).all() and (gradient[rendered > 65535] == 0).all()


def test_a_nan_is_not_hidden():
    bad = torch.tensor([[0.5, float("nan"), 0.2]])
    for name in PIXEL_LOSSES:
        total, values = CompositeLoss({name: 1.0})(bad, torch.ones(1, 3), 3, 1.0, saturation=0.9)
        assert torch.isnan(total) and torch.isnan(values[name])


def test_tonemap_slope_is_its_derivative():
    x = torch.tensor([0.0, 1e-4, 0.003, 0.004, 0.1, 1.0, 30.0, 6e4], dtype=torch.float64, requires_grad=True)
    tonemap(x).sum().backward()
    torch.testing.assert_close(tonemap_slope(x.detach()), x.grad)


def test_tonemap_slope_at_black():
    x = torch.zeros(1, requires_grad=True)
    tonemap(clamp_radiance(x)).sum().backward()
    assert x.grad.item() == pytest.approx(12.92, rel=1e-5)
    assert tonemap(torch.tensor(1.0)).item() == pytest.approx(srgb(math.log(2)), rel=1e-5)


def test_relmse_is_relative_on_dark_paint_and_does_not_depend_on_the_light_level():
    generator = torch.Generator().manual_seed(3)
    target = torch.full((1000, 3), 0.01, dtype=torch.float64)  # black paint, with some highlights
    target[:20] = 30.0 * torch.rand(20, 3, generator=generator, dtype=torch.float64)
    rendered = target * 1.5
    exposure = measure_exposure(target)
    dark = LOSSES["relmse"](rendered, target, exposure)[500, 0].item()
    assert dark > 0.5 * 0.25 / 3.25  # half of the purely relative error; 4 % of it with a fixed epsilon of 0.01
    for scale in (1e-3, 50.0):
        scaled = LOSSES["relmse"](rendered * scale, target * scale, measure_exposure(target * scale))
        assert torch.allclose(scaled, LOSSES["relmse"](rendered, target, exposure), rtol=1e-6)


def test_exposure_of_constant_radiance_is_its_square():
    assert measure_exposure(torch.full((7, 3), 0.3)).item() == pytest.approx(0.09, rel=1e-5)


def test_composite_is_the_weighted_sum_over_pixels_divided_by_the_normalizer():
    rendered, target = pixels()
    loss = CompositeLoss({"logl1": 0.35, "smape": 0.15, "mse": 0.0})
    total, values = loss(rendered.requires_grad_(), target, 17.0, 1.0)
    expected = {name: LOSSES[name](rendered, target, 1.0).sum() / 17.0 for name in ("logl1", "smape")}
    assert set(values) == set(expected)  # weight 0 is left out
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-12)
        assert not values[name].requires_grad
    assert total.item() == pytest.approx(0.35 * expected["logl1"].item() + 0.15 * expected["smape"].item(), rel=1e-12)
    assert loss(rendered, target, torch.tensor(17.0), 1.0)[0].item() == pytest.approx(total.item(), rel=1e-12)


@pytest.fixture
def own_losses():
    """What a test registers is gone after it."""
    before = dict(LOSSES)
    yield
    losses._losses.clear()
    losses._losses.update(before)


def test_composite_takes_a_registered_loss(own_losses):
    register_loss("cubic", lambda x, y, exposure: (x - y).abs() ** 3)
    total, _ = CompositeLoss({"cubic": 2.0})(torch.tensor([[1.0]]), torch.tensor([[3.0]]), 4.0, 1.0)
    assert total.item() == pytest.approx(2 * 8 / 4)
    register_loss("brightest", lambda x, y, exposure: (x - y).abs().amax(dim=(1, 2, 3)), whole_image=True)
    loss = CompositeLoss({"brightest": 1.0, "cubic": 0.0})
    x, y = torch.tensor([1.0, 2.0, 6.0, 4.0]).reshape(2, 1, 2, 1), torch.zeros(2, 1, 2, 1)
    assert loss(torch.zeros(0, 1), torch.zeros(0, 1), 1.0, 1.0, images=(x, y))[0].item() == (2 + 6) / 2


def test_a_name_is_registered_once_and_only_by_register_loss(own_losses):
    before = LOSSES["mse"]
    with pytest.raises(StspbrError, match="'mse' is registered already: choose another name"):
        register_loss("mse", lambda x, y, exposure: x - y)
    assert LOSSES["mse"] is before
    with pytest.raises(TypeError):
        LOSSES["mine"] = before


def test_an_empty_list_of_pixels_gives_zero_with_a_gradient():
    rendered = torch.zeros(0, 3, requires_grad=True)
    total, _ = CompositeLoss({"mse": 1.0, "logl1": 1.0})(rendered, torch.zeros(0, 3), 0.0, 1.0)
    total.backward()
    assert total.item() == 0


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"vgg": 1.0}, "unknown loss 'vgg': choose from mse.*logl1"),
        ({"logl3": 1.0}, r"unknown loss 'logl3': choose from mse.*; did you mean logl[12]\?$"),
        ({"mse": -1.0}, "mse.*-1"),
        ({"mse": float("nan")}, "nan"),
        ({}, "needs a weight above 0"),
        ({"mse": 0.0}, "needs a weight above 0"),
    ],
)
def test_bad_terms_are_refused(terms, message):
    with pytest.raises(StspbrError, match=message):
        CompositeLoss(terms)


def test_where_both_are_saturated_there_is_no_error():
    target = torch.tensor([[1.0], [1.0], [0.5], [2.0]])
    rendered = torch.tensor([[7.0], [0.4], [7.0], [3.0]], requires_grad=True)
    saturation = torch.tensor([[1.0], [1.0], [1.0], [float("inf")]])  # the last one comes from an HDR file
    total, _ = CompositeLoss({"l1": 1.0})(rendered, target, 1.0, 1.0, saturation=saturation)
    assert total.item() == pytest.approx(0.6 + 6.5 + 1.0)
    total.backward()
    assert rendered.grad.flatten().tolist() == [0.0, -1.0, 1.0, 1.0]


def test_msssim_in_a_composite_compares_whole_images():
    loss = CompositeLoss({"msssim": 0.5, "mse": 1.0})
    rendered, target = images(32, 32)
    flat = rendered.reshape(-1, 3), target.reshape(-1, 3)
    assert loss.needs_images and not CompositeLoss({"mse": 1.0}).needs_images
    with pytest.raises(StspbrError, match="msssim.*without images"):
        loss(*flat, 100, 1.0)
    total, values = loss(*flat, 100, 1.0, images=(rendered.requires_grad_(), target))
    assert values["msssim"].item() == pytest.approx(1 - ms_ssim(tonemap(rendered), tonemap(target)).mean().item())
    assert total.item() == pytest.approx(0.5 * values["msssim"].item() + values["mse"].item())
    same, _ = loss(*flat, 100, 1.0, images=(target, target))
    assert same.item() == pytest.approx(values["mse"].item())
    total.backward()
    assert torch.isfinite(rendered.grad).all() and (rendered.grad != 0).any()


def test_msssim_pulls_at_the_coarse_octaves_when_the_finest_is_negative():
    ramp = torch.linspace(0.3, 0.9, 32, dtype=torch.float64)
    board = 0.2 * (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    low = (ramp[:, None] * ramp)[None, ..., None].expand(1, 32, 32, 3)
    target, rendered = low + board[..., None], (0.8 * low - board[..., None]).requires_grad_()
    _, contrast = ssim_windows(*(tonemap(image.detach()).permute(0, 3, 1, 2) for image in (rendered, target)))
    assert contrast.mean() < 0
    LOSSES["msssim"](rendered, target).sum().backward()
    assert torch.isfinite(rendered.grad).all() and rendered.grad.abs().max() > 1e-6


def test_losses_are_bit_identical_when_repeated():
    rendered, target = pixels(5000, dtype=torch.float32)
    results = []
    for _ in range(3):
        leaf = rendered.clone().requires_grad_()
        total, _ = CompositeLoss({name: 1.0 for name in PIXEL_LOSSES})(leaf, target, 100.0, 0.1)
        total.backward()
        results.append((total.item(), leaf.grad))
    assert all(total == results[0][0] and torch.equal(gradient, results[0][1]) for total, gradient in results)


def test_mask_loss_runs_over_the_whole_image():
    rendered, target = torch.zeros(1, 4, 4, 1), torch.zeros(1, 4, 4, 1)
    rendered[0, 0, 0] = 1.0
    target[0, 3, 3] = 0.5
    assert mask_loss(rendered, target).item() == pytest.approx(1.25 / 16)


def test_smoothness_is_a_weighted_mean():
    values = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    jittered = torch.tensor([[0.2, 0.4], [1.0, 0.0], [9.0, 9.0]])
    assert smoothness(values, jittered).item() == pytest.approx((0.3 + 0.5 + 4.0) / 3)
    for weights in (torch.tensor([[3.0], [1.0], [0.0]]), torch.tensor([3.0, 1.0, 0.0])):
        assert smoothness(values, jittered, weights).item() == pytest.approx((3 * 0.3 + 0.5) / 4)
    assert smoothness(values, jittered, torch.zeros(3, 1)).item() == 0


def test_metal_prior_charges_dark_metal_by_its_odds_and_leaves_bright_metal_alone():
    metallic = torch.tensor([[1.0], [0.5], [0.0]], requires_grad=True)
    black, gold = torch.zeros(3, 3), torch.tensor([[1.0, 0.71, 0.29]]).expand(3, 3)
    assert metal_prior(metallic, black, 10.0).item() == pytest.approx(0.5 * math.log(10.0))
    assert metal_prior(metallic, black, 1.0).item() == 0.0
    assert metal_prior(metallic, gold, 10.0).item() == 0.0
    half_way = torch.full((3, 3), (0.1 / 3.0) ** 0.5)
    assert metal_prior(metallic, half_way, 10.0).item() == pytest.approx(0.25 * math.log(10.0), rel=1e-4)


def test_metal_prior_does_not_brighten_the_albedo():
    albedo = torch.full((4, 3), 0.1, requires_grad=True)
    metallic = torch.full((4, 1), 0.7, requires_grad=True)
    metal_prior(metallic, albedo, 10.0).backward()
    assert albedo.grad is None and (metallic.grad > 0).all()
