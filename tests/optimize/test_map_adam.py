"""Adam for maps against a slow reference, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize.map_adam import MapAdam, Visited, mean_square_torch, move_texels_torch
from stspbr.optimize.map_adam_kernels import mean_square, move_texels
from stspbr.threads import set_threads

RATE = 0.01


def _made(values, maps=True, **others):
    parameter = torch.nn.Parameter(torch.as_tensor(values, dtype=torch.float32).clone())
    groups = [{"params": [parameter], "lr": RATE, "name": "appearance"}]
    return parameter, MapAdam(groups, [parameter] if maps else [], eps=1e-15, fused=True, **others)


def _gradients(steps, shape, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(steps, *shape)) * rng.uniform(0.01, 10.0, shape)
    found[:, :, :8] = 0.0  # rows that are never seen
    found[rng.uniform(size=(steps, *shape[:-1])) < 0.4] = 0.0  # not seen at this step
    return found.astype(np.float32)


def _run(gradients, values, threads=1):
    set_threads(threads)
    parameter, optimizer = _made(values)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    set_threads(1)
    return parameter.detach().numpy()


def test_steps_equal_the_formula_in_double_precision():
    shape = (1, 24, 30, 3)
    gradients, values = _gradients(25, shape), np.random.default_rng(1).uniform(size=shape)
    expected, m, v, w = values.astype(np.float32).astype(np.float64), 0.0, 0.0, 0.0
    for n, g in enumerate(gradients.astype(np.float64), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        seen = (g != 0).any(axis=-1)
        w = 0.95 * w + 0.05 * (g[seen] ** 2).mean(axis=0)
        size = np.sqrt(v / (1 - 0.999**n) + w / (1 - 0.95**n))
        expected = expected - RATE * m / (1 - 0.9**n) / (size + 1e-15)
    found = _run(gradients, values)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - values).max() > 0.05
    np.testing.assert_array_equal(found[:, :8], values.astype(np.float32)[:, :8])  # unseen texels stay


def test_steps_that_draw_a_part_equal_the_formula():
    shape, shares = (1, 24, 30, 3), (1.0, 0.0625, 0.25)
    gradients, values = _gradients(25, shape), np.random.default_rng(1).uniform(size=shape)
    expected, m, v, w = values.astype(np.float32).astype(np.float64), 0.0, 0.0, 0.0
    parameter, optimizer = _made(values)
    for n, g in enumerate(gradients, 1):
        optimizer.share, optimizer.progress = shares[n % 3], n / 25
        parameter.grad = torch.from_numpy(g)
        optimizer.step()
        g, spread = g.astype(np.float64), optimizer.share * g.astype(np.float64)
        m, v = 0.9 * m + 0.1 * g * optimizer.share**optimizer.progress, 0.999 * v + 0.001 * spread**2
        w = 0.95 * w + 0.05 * (spread[(g != 0).any(axis=-1)] ** 2).mean(axis=0)
        size = np.sqrt(v / (1 - 0.999**n) + w / (1 - 0.95**n))
        expected = expected - RATE * m / (1 - 0.9**n) / (size + 1e-15)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=2e-5)


def test_at_first_crops_move_a_map_as_far_as_whole_views_do():
    """A sixteenth of the texels per step, with gradients that are sixteen times as large: as far on average."""
    shape, parts = (1, 32, 32, 3), 16
    slope = torch.from_numpy(np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32))
    whole, first = _made(np.zeros(shape))
    cropped, second = _made(np.zeros(shape))
    rng = np.random.default_rng(1)
    for step in range(160):
        whole.grad = slope.clone()
        first.step()
        crops = step % 2 == 1
        second.share = 1.0 / parts if crops else 1.0
        drawn = torch.from_numpy(rng.permutation(32 * 32).reshape(1, 32, 32, 1) % parts == 0)
        cropped.grad = torch.where(drawn, parts * slope, 0.0) if crops else slope.clone()
        second.step()
    far, near = whole.detach().mean(), cropped.detach().mean()
    assert float(far) < -0.9 * 160 * RATE / np.sqrt(2.0)
    assert float(near) == pytest.approx(float(far), rel=0.15)


def _after_few_visits(falls: bool, known: bool) -> float:
    """Mean of |x − target|, the loss of each texel, each of which one step in eight has seen.

    Args:
        falls: whether steps shrink over the stage; known: whether the losses of the texels are told.
    """
    shape, parts, steps = (1, 32, 32, 3), 8, 160
    target = torch.from_numpy(np.random.default_rng(0).uniform(-0.2, 0.2, shape).astype(np.float32))
    values, optimizer = _made(np.zeros(shape))
    rng = np.random.default_rng(1)
    for step in range(steps):
        optimizer.share, optimizer.progress = 1.0 / parts, step / steps if falls else 0.0
        drawn = torch.from_numpy(rng.permutation(32 * 32).reshape(1, 32, 32, 1) % parts == 0)
        away = values.detach() - target
        values.grad = torch.where(drawn, parts * away.sign(), 0.0)
        probe = torch.zeros(1, 32, 32, 1, requires_grad=True)
        probe.grad = torch.where(drawn, parts * away.abs().sum(dim=3, keepdim=True), 0.0)
        optimizer.visited = [Visited([values], probe)] if known else []
        optimizer.step()
    return float((values.detach() - target).abs().mean())


def test_few_visits_find_a_minimum_whose_gradient_is_a_sign():
    """Steps that shrink find it, steps of one length do not."""
    shrinking, even = (_after_few_visits(falls, known=False) for falls in (True, False))
    assert shrinking < 0.5 * even and shrinking < 2.0 * RATE


def test_steps_end_where_the_losses_of_the_pixels_end():
    """Two maps that are read together, in double precision: one scale per texel, none without a loss."""
    rng, sizes = np.random.default_rng(3), (3, 2)
    shapes = [(1, 12, 15, channels) for channels in sizes]
    values = [rng.uniform(size=shape) for shape in shapes]
    made = [torch.nn.Parameter(torch.as_tensor(own, dtype=torch.float32)) for own in values]
    optimizer = MapAdam([{"params": made, "lr": RATE, "name": "appearance"}], made, eps=1e-15, fused=True)
    expected = [own.astype(np.float32).astype(np.float64) for own in values]
    m, v, w = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    cut = 0
    for n, drawn in enumerate(zip(*(_gradients(24, shape, seed=k) for k, shape in enumerate(shapes)), strict=True), 1):
        optimizer.share, optimizer.progress = (0.125, n / 24) if n % 2 == 0 else (1.0, n / 24)
        loss = (0.02 * rng.uniform(size=(1, 12, 15, 1)) * (rng.uniform(size=(1, 12, 15, 1)) < 0.8)).astype(np.float32)
        probe = torch.zeros(1, 12, 15, 1, requires_grad=True)
        probe.grad = torch.from_numpy(loss)
        optimizer.visited = [Visited(made, probe)] if n % 2 == 0 else []
        for own, g in zip(made, drawn, strict=True):
            own.grad = torch.from_numpy(g)
        optimizer.step()
        ways, gained = [], 0.0
        for k, g in enumerate(g.astype(np.float64) for g in drawn):
            spread = optimizer.share * g
            felt = 1.0 if n % 2 else loss > 0
            v[k] = 0.999 * v[k] + 0.001 * felt * spread**2
            w[k] = 0.95 * w[k] + 0.05 * (spread[(g != 0).any(axis=-1)] ** 2).mean(axis=0)
            ways.append(np.sqrt(v[k] / (1 - 0.999**n) + w[k] / (1 - 0.95**n)) + 1e-15)
            gained = gained + (RATE * g * g / ways[k]).sum(axis=-1, keepdims=True)
        limit = np.minimum(loss / np.maximum(gained, 1e-30), 1.0) if n % 2 == 0 else 1.0
        cut += int((limit < 1).sum()) if n % 2 == 0 else 0
        for k, g in enumerate(drawn):
            m[k] = 0.9 * m[k] + 0.1 * g.astype(np.float64) * limit
            expected[k] = expected[k] - RATE * m[k] / (1 - 0.9**n) / ways[k]
    assert 100 < cut < 12 * 180 - 100  # texels whose step was shortened, and others
    for own, value in zip(made, expected, strict=True):
        np.testing.assert_allclose(own.detach().numpy(), value, atol=2e-5)
        assert own.grad is not None


def test_few_visits_end_closer_to_a_minimum_if_the_losses_are_known():
    """Closer than by steps that shrink."""
    told, shrinking = (_after_few_visits(True, known) for known in (True, False))
    assert told < 0.5 * shrinking


def test_the_kernels_equal_their_twins_for_other_devices():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 3, generator=generator)
    rows[:9] = 0.0
    square = mean_square_torch(rows)
    np.testing.assert_allclose(mean_square(rows.numpy()), square.numpy(), rtol=1e-6)
    assert (mean_square_torch(torch.zeros(5, 2)) == 0).all() and (mean_square(np.zeros((5, 2), np.float32)) == 0).all()
    one = [torch.rand(40, 3, generator=generator) for _ in range(3)]
    two = [own.clone() for own in one]
    numbers = (0.9, 0.999, 0.03, 0.2, 1e-15, 0.25)
    move_texels(one[0].numpy(), rows.numpy(), one[1].numpy(), one[2].numpy(), square.numpy(), *numbers)
    move_texels_torch(two[0], rows, two[1], two[2], square, *numbers)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_results_do_not_depend_on_threads():
    shape = (1, 160, 160, 2)
    gradients, values = _gradients(4, shape), np.zeros(shape)
    np.testing.assert_array_equal(_run(gradients, values, 1), _run(gradients, values, 2))


def test_other_parameters_are_updated_by_adam():
    gradients = _gradients(6, (1, 8, 9, 2))
    ours, optimizer = _made(np.zeros((1, 8, 9, 2)), maps=False)
    theirs = torch.nn.Parameter(torch.zeros(1, 8, 9, 2))
    adam = torch.optim.Adam([theirs], lr=RATE, eps=1e-15, fused=True)
    for gradient in gradients:
        ours.grad, theirs.grad = torch.from_numpy(gradient), torch.from_numpy(gradient)
        optimizer.step()
        adam.step()
    assert torch.equal(ours, theirs)


def test_a_map_without_any_gradient_stays():
    parameter, optimizer = _made(np.full((1, 4, 4, 3), 0.5))
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (parameter == 0.5).all()
    assert parameter.grad is not None  # the gradient is still there for whoever reads it


def test_saved_moments_continue_bit_for_bit():
    shape = (1, 20, 20, 3)
    gradients, values = _gradients(8, shape), np.ones(shape)
    whole = _run(gradients, values)
    parameter, optimizer = _made(values)
    for gradient in gradients[:5]:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    saved = optimizer.state_dict()
    again, other = _made(parameter.detach().numpy())
    other.load_state_dict(saved)
    for gradient in gradients[5:]:
        again.grad = torch.from_numpy(gradient)
        other.step()
    np.testing.assert_array_equal(again.detach().numpy(), whole)


@pytest.mark.parametrize("maps", [True, False])
def test_texels_that_few_pixels_see_do_not_follow_their_noise(maps):
    """Half of the texels are seen by a hundredth of the pixels: their gradients are small, and their noise is not."""
    generator = torch.Generator().manual_seed(0)
    parameter, optimizer = _made(torch.zeros(1, 64, 64, 1), maps)
    looks = torch.ones(1, 64, 64, 1)
    looks[:, :32] = 0.01
    for _ in range(200):
        noise = torch.randn(looks.shape, generator=generator)
        parameter.grad = looks * (parameter.detach() - 0.1 + noise)
        optimizer.step()
    with torch.no_grad():
        weak, strong = parameter[:, :32], parameter[:, 32:]
        assert abs(float(strong.mean()) - 0.1) < 0.02  # what is seen well is learned
        assert (float(weak.std()) < 0.1 * float(strong.std())) == maps
