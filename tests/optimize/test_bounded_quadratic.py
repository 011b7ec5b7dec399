"""Minimisation above a bound, against scipy's active-set method and the conditions of Karush, Kuhn and Tucker."""

import numpy as np
import pytest
import scipy.optimize
import torch

from stspbr.optimize.bounded_quadratic import minimize_above, optimality_gap


def random_problem(rows=40, columns=12):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    target = torch.randn(rows, generator=generator, dtype=torch.float64)
    return matrix, target


def test_it_is_the_least_squares_solution_that_is_nowhere_negative():
    matrix, target = random_problem()
    zero = torch.zeros(12, dtype=torch.float64)
    found = minimize_above(lambda x: matrix.T @ (matrix @ x), matrix.T @ target, zero + 1.0, zero, 200, 1e-12)
    wanted, _ = scipy.optimize.nnls(matrix.numpy(), target.numpy())
    assert (wanted == 0).sum() >= 3  # the bound matters
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)


def test_the_conditions_of_optimality_hold_above_any_bound():
    matrix, target = random_problem()
    bound = torch.linspace(-0.2, 0.3, 12, dtype=torch.float64)
    found = minimize_above(lambda x: matrix.T @ (matrix @ x), matrix.T @ target, bound - 1.0, bound, 300, 1e-12)
    gradient = matrix.T @ (matrix @ found - target)
    assert (found >= bound).all()
    assert float(optimality_gap(gradient, found, bound).abs().max()) < 1e-9
    held = found == bound
    assert held.any() and (gradient[held] >= -1e-9).all() and (gradient[~held].abs() < 1e-9).all()


def test_the_gap_is_not_zero_elsewhere():
    gradient = torch.tensor([1.0, -1.0, 1.0, -1.0])
    x, bound = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.zeros(4)
    assert optimality_gap(gradient, x, bound).tolist() == [0.0, -1.0, 1.0, -1.0]


@pytest.mark.parametrize("steps", [4, 8, 16])
def test_more_steps_lower_the_value(steps):
    matrix, target = random_problem(columns=30)

    def value(x):
        return float((matrix @ x - target).square().sum())

    def run(count):
        zero = torch.zeros(30, dtype=torch.float64)
        return minimize_above(lambda x: matrix.T @ (matrix @ x), matrix.T @ target, zero + 0.5, zero, count)

    assert value(run(steps)) < value(run(steps // 2))


def test_a_matrix_of_zeros_changes_nothing():
    zero = torch.zeros(4)
    assert torch.equal(minimize_above(lambda x: 0.0 * x, zero, zero + 0.5, zero, 5), zero + 0.5)
