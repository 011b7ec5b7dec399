"""The hash grid's kernels against the plain torch twin in float64: values, gradients, layout, determinism."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.fields.hash_grid import HashGridEncoding

SMALL = dict(levels=4, log2_table_size=9, base_resolution=4, finest_resolution=50)


def encoding(seed=0, **settings):
    grid = HashGridEncoding(**{**SMALL, **settings}, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # the tiny initial values would hide errors behind absolute tolerances
        grid.table.mul_(1e4)
    return grid


def points(count, seed=1):
    # multiples of 2⁻¹²: float32 positions in the grids are then exact, and no point changes its cell by rounding
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 4096, (count, 3), generator=generator) + 0.5) / 4096


def run(grid, x, active_levels=None):
    x = x.detach().clone().requires_grad_()
    out = grid(x.to(grid.table.device), active_levels).cpu()
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out.dtype)
    return [out.detach(), *(grad.cpu() for grad in torch.autograd.grad((out * weight).sum(), [x, grid.table]))]


def double_twin(grid, **settings):
    twin = encoding(**settings, backend="torch").double()
    twin.load_state_dict({"table": grid.table.detach().double().cpu()})
    return twin


@pytest.mark.parametrize(
    "settings",
    [{}, dict(features=1), dict(features=4, levels=3), dict(levels=1), dict(log2_table_size=18), dict(levels=12)],
)
@pytest.mark.parametrize("active_levels", [None, 2])
def test_values_and_gradients_match_the_float64_twin(settings, active_levels, implementation):
    backend, device = implementation
    grid = encoding(**settings, backend=backend).to(device)
    error = 1e-4 if backend == "tinycudann" else 1e-5  # its levels are shifted there and back
    x = points(700)
    for ours, wanted in zip(
        run(grid, x, active_levels), run(double_twin(grid, **settings), x.double(), active_levels), strict=True
    ):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=error * max(1.0, wanted.abs().max().item()))


def test_without_a_gradient_to_the_points_or_the_table(implementation):
    backend, device = implementation
    if backend == "tinycudann" or device.type != "cpu":
        pytest.skip("sums of another order in each run")
    grid, x = encoding(backend=backend), points(50)
    _, at_points, at_table = run(grid, x)
    weight = torch.rand(50, grid.output_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64).float()
    assert torch.equal(torch.autograd.grad((grid(x) * weight).sum(), grid.table)[0], at_table)
    grid.table.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad((grid(leaf) * weight).sum(), leaf)[0], at_points)


def test_default_settings_match_the_float64_twin(implementation):
    backend, device = implementation
    if backend == "tinycudann":
        pytest.skip("its levels are shifted there and back")
    grid = encoding(levels=12, log2_table_size=15, base_resolution=16, finest_resolution=1024, backend=backend)
    grid = grid.to(device)
    settings = dict(levels=12, log2_table_size=15, base_resolution=16, finest_resolution=1024)
    x = points(3000)
    for ours, wanted in zip(run(grid, x), run(double_twin(grid, **settings), x.double()), strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=1e-5 * max(1.0, wanted.abs().max().item()))


def test_gradient_to_points_matches_central_differences():
    grid = encoding(backend="torch").double()
    x, step = points(50).double(), 1e-7
    _, grad, _ = run(grid, x)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        weight = torch.rand(50, grid.output_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        slope = ((grid(x + shift) - grid(x - shift)) * weight).sum(1) / (2 * step)
        torch.testing.assert_close(grad[:, axis], slope.detach(), rtol=1e-5, atol=1e-5)


def test_layout():
    grid = HashGridEncoding()
    assert grid.output_dim == 24 and grid.table.shape == (grid.sizes.sum(), 2)
    assert grid.resolutions[0] == 16 and grid.resolutions[-1] == 1024
    ratios = grid.resolutions[1:] / grid.resolutions[:-1]
    assert np.all(np.abs(ratios - 64 ** (1 / 11)) < 0.07)
    assert grid.sizes[0] == 17**3 and grid.sizes[-1] == 1 << 15
    assert np.array_equal(grid.offsets, np.concatenate([[0], np.cumsum(grid.sizes)[:-1]]))
    assert grid.table.abs().max() <= 1e-4 and grid.table.std() > 5e-5
    assert set(grid.state_dict()) == {"table"}


def test_vertices_of_a_dense_level_have_their_own_entries(implementation):
    backend, device = implementation
    grid = encoding(levels=1, base_resolution=4, finest_resolution=4, backend=backend).to(device)
    x, y, z = torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij")
    vertices = torch.stack([x, y, z], -1).reshape(-1, 3)
    entries = (vertices[:, 0] + 5 * vertices[:, 1] + 25 * vertices[:, 2]).long()
    found = grid((vertices / 4).to(device))
    torch.testing.assert_close(found, grid.table[entries.to(device)], rtol=0, atol=1e-6)


def test_a_hashed_level_uses_the_paper_s_hash(implementation):
    backend, device = implementation
    grid = encoding(levels=1, base_resolution=64, finest_resolution=64, backend=backend).to(device)
    vertices = torch.randint(0, 65, (200, 3), generator=torch.Generator().manual_seed(4))
    product = vertices.numpy().astype(np.uint64) * np.array([1, 2654435761, 805459861], dtype=np.uint64)
    entries = (np.bitwise_xor.reduce(product, axis=1) % np.uint64(512)).astype(np.int64)
    wanted = grid.table[torch.from_numpy(entries).to(device)]
    torch.testing.assert_close(grid((vertices / 64).to(device)), wanted, rtol=0, atol=1e-5)


def test_points_outside_are_clamped_and_nan_is_zero(implementation):
    backend, device = implementation
    grid = encoding(backend=backend).to(device)
    nan = torch.tensor([[float("nan"), 0.5, 0.5]])
    torch.testing.assert_close(run(grid, nan)[0], run(grid, torch.tensor([[0.0, 0.5, 0.5]]))[0])
    x = torch.tensor([[-0.5, 0.3, 0.7], [0.2, 1.5, 0.1], [0.4, 0.4, 9.0]])
    out, grad, _ = run(grid, x)
    torch.testing.assert_close(out, run(grid, x.clamp(0, 1))[0])
    assert grad[0, 0] == 0 and grad[1, 1] == 0 and grad[2, 2] == 0
    assert (grad != 0).sum() == 6


def test_inactive_levels_are_zero_and_get_no_gradient(implementation):
    backend, device = implementation
    grid = encoding(backend=backend)
    if device.type != "cpu":
        pytest.skip("sums of another order in each run")
    full, part = grid(points(100)), grid(points(100), active_levels=2)
    assert torch.equal(part[:, :4], full[:, :4]) and torch.equal(part[:, 4:], torch.zeros(100, 4))
    _, _, grad = run(grid, points(100), active_levels=2)
    assert torch.equal(grad[grid.offsets[2] :], torch.zeros_like(grad[grid.offsets[2] :]))
    assert grad[: grid.offsets[2]].abs().max() > 0
    assert torch.equal(grid(points(5), active_levels=0), torch.zeros(5, grid.output_dim))


def test_bits_do_not_depend_on_runs_or_threads(implementation):
    backend, device = implementation
    if device.type != "cpu":
        pytest.skip("sums of another order in each run")
    grid, x = encoding(backend=backend), points(20000)
    threads, torch_threads = numba.get_num_threads(), torch.get_num_threads()
    try:
        numba.set_num_threads(1)
        torch.set_num_threads(1)
        one = run(grid, x)
        numba.set_num_threads(threads)
        torch.set_num_threads(torch_threads)
        several = [run(grid, x), run(grid, x)]
    finally:
        numba.set_num_threads(threads)
        torch.set_num_threads(torch_threads)
    for result in several:
        assert all(torch.equal(a, b) for a, b in zip(one, result, strict=True))


def test_seeded_initialisation():
    a, b, c = (HashGridEncoding(**SMALL, generator=torch.Generator().manual_seed(s)).table for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_no_points_and_no_gradient_to_points(implementation):
    backend, device = implementation
    grid = encoding(backend=backend).to(device)
    out = grid(torch.zeros(0, 3, device=device))
    assert out.shape == (0, grid.output_dim)
    (grad,) = torch.autograd.grad(out.sum(), [grid.table])
    assert torch.equal(grad, torch.zeros_like(grad))
    x = points(10).to(device)
    grid(x).sum().backward()
    assert x.grad is None and grid.table.grad.abs().max() > 0


def test_nan_points_give_numbers(implementation):
    backend, device = implementation
    out = encoding(backend=backend).to(device)(torch.full((3, 3), float("nan"), device=device))
    assert torch.isfinite(out).all()


def test_auto_takes_torch_for_float64():
    grid = encoding().double()
    assert grid(points(4).double()).dtype == torch.float64


def test_bad_input_is_refused_in_one_line():
    for call in (
        lambda: HashGridEncoding(levels=0),
        lambda: HashGridEncoding(finest_resolution=8),
        lambda: HashGridEncoding(backend="cuda"),
        lambda: encoding()(torch.zeros(3)),
        lambda: encoding(backend="cpu")(torch.zeros(3, 3, dtype=torch.float64)),
        lambda: encoding(backend="warp")(torch.zeros(3, 3, dtype=torch.float64)),
    ):
        with pytest.raises(StspbrError):
            call()
