"""The closed form of a texel's posterior against numpy's dense algebra in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize.posterior import (
    PRIOR_STD,
    Jacobian,
    covariance,
    error_variances,
    matrix,
    outer,
    prior,
    prior_shares,
    quadratic,
    variances,
)


def jacobian(count: int, seed: int = 0) -> Jacobian:
    generator = torch.Generator().manual_seed(seed)
    return Jacobian(*(torch.randn(count, 3, generator=generator, dtype=torch.float64) for _ in range(3)))


def dense(own: Jacobian) -> np.ndarray:
    """``[N, 3, 5]``: the same derivatives as whole matrices."""
    out = np.zeros((len(own.albedo), 3, 5))
    for k in range(3):
        out[:, k, k] = own.albedo[:, k]
    out[..., 3], out[..., 4] = own.roughness, own.metallic
    return out


def posterior(own: Jacobian, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    information = np.einsum("n,nki,nkj->ij", weight, dense(own), dense(own))
    return information, np.linalg.inv(information + np.diag(np.array(PRIOR_STD) ** -2.0))


@pytest.mark.parametrize("count", [1, 2, 40, 4000])
def test_covariance_is_that_of_a_linear_gaussian_model(count):
    own, weight = jacobian(count), torch.rand(count, 1, dtype=torch.float64) * 100
    packed = own.information(weight).sum(0)
    information, expected = posterior(own, weight[:, 0].numpy())
    np.testing.assert_allclose(matrix(packed), information, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(covariance(packed), expected, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(variances(packed), np.diag(expected), rtol=1e-8)


def test_the_mean_of_many_simulated_fits_scatters_as_the_covariance_says():
    own, sigma = jacobian(12, seed=3), 0.05
    rng = np.random.default_rng(0)
    whole = dense(own).reshape(-1, 5)
    cov = covariance(own.information(torch.full((12, 1), sigma**-2.0, dtype=torch.float64)).sum(0)).numpy()
    truth = rng.normal(size=(20_000, 5)) * np.array(PRIOR_STD)  # drawn from the prior, whose mean is 0
    seen = truth @ whole.T + sigma * rng.normal(size=(20_000, len(whole)))
    found = seen / sigma**2 @ whole @ cov
    np.testing.assert_allclose(np.cov((found - truth).T), cov, rtol=0.05, atol=0.02 * cov.max())


def test_a_texel_that_nobody_saw_has_the_prior_s_std():
    nothing = torch.zeros(7, 12)
    np.testing.assert_allclose(variances(nothing).sqrt(), np.tile(PRIOR_STD, (7, 1)), rtol=1e-12)
    np.testing.assert_allclose(prior_shares(nothing), 1.0, rtol=1e-12)


def test_equal_looks_divide_the_variance():
    look = jacobian(6).information(torch.full((6, 1), 1e6, dtype=torch.float64)).sum(0)
    once, four = variances(look), variances(4 * look)
    np.testing.assert_allclose(once / four, 4.0, rtol=1e-3)  # the prior counts for next to nothing here
    assert bool((variances(look + jacobian(1, seed=9).information(torch.ones(1, 1)).sum(0)) < once).all())


def test_prior_shares_are_between_the_variance_s_ratio_and_one():
    own = jacobian(500, seed=5)
    packed = own.information(10 ** (4 * torch.rand(500, 1, dtype=torch.float64) - 1))
    share, ratio = prior_shares(packed), variances(packed) / torch.tensor(PRIOR_STD, dtype=torch.float64) ** 2
    assert bool((share <= 1 + 1e-9).all()) and bool((share >= ratio - 1e-9).all())
    first, cov = packed[0], covariance(packed[0]).numpy()
    np.testing.assert_allclose(share[0], np.diag(cov @ np.diag(np.array(PRIOR_STD) ** -2.0) @ cov) / np.diag(cov))
    # shares of the prior and of the photographs are all of the variance
    column = torch.as_tensor(cov[:, 3])
    assert float(quadratic(first, column)) / cov[3, 3] + float(share[0, 3]) == pytest.approx(1.0, abs=1e-10)


def test_packed_quadratic_forms():
    packed, vector = jacobian(1).information(torch.ones(1, 1, dtype=torch.float64))[0], torch.randn(5).double()
    whole = matrix(packed)
    assert float(quadratic(packed, vector)) == pytest.approx(float(vector @ whole @ vector))
    assert float((outer(vector) * prior(packed)).sum()) == pytest.approx(
        float((vector.square() / torch.tensor(PRIOR_STD, dtype=torch.float64) ** 2).sum())
    )


def test_transposed_jacobian():
    own, values = jacobian(30), torch.randn(30, 3).double()
    np.testing.assert_allclose(own.transposed(values), np.einsum("nki,nk->ni", dense(own), values), rtol=1e-12)


def told(std_of_metallic: float, by_albedo: float = 0.0) -> torch.Tensor:
    """``[12]``: information that leaves metallic this std, and couples it to red."""
    packed = torch.zeros(12, dtype=torch.float64)
    packed[0], packed[6] = 1e4, by_albedo
    packed[11] = std_of_metallic**-2.0 - PRIOR_STD[4] ** -2.0 + by_albedo**2 / (1e4 + PRIOR_STD[0] ** -2.0)
    return packed


def test_errors_of_a_sure_kind_are_the_posterior_s_cut_off_at_the_bound():
    packed, at_bound, inside = told(0.1), torch.zeros(1), torch.full((1,), 0.2)
    assert variances(packed)[4].item() == pytest.approx(0.01)
    # half of a Gaussian has the same second moment
    assert error_variances(packed, at_bound)[4].item() == pytest.approx(0.01, rel=1e-3)
    # 0.2 is two std from the kind that it must be: that error, and the spread within the bounds
    found = error_variances(packed, inside)[4].item()
    assert 0.04 < found < 0.04 + 0.01


def test_a_half_metal_is_wrong_by_a_half_however_sure_its_fit():
    for std in (0.001, 0.01, 0.1):
        found = error_variances(told(std), torch.full((1,), 0.5))[4].sqrt().item()
        assert found == pytest.approx(min(0.5, (0.25 + std**2) ** 0.5), abs=1e-3)


def test_what_nobody_saw_has_the_prior_s_error_whatever_was_guessed():
    for guess in (0.0, 0.3, 0.5, 1.0):
        found = error_variances(torch.zeros(12), torch.full((1,), guess)).sqrt()
        assert found.tolist() == pytest.approx(list(PRIOR_STD))


def test_albedo_is_off_as_it_follows_a_wrong_metallic():
    packed = told(0.02, by_albedo=3e3)
    sigma = covariance(packed)
    follows = (sigma[0, 4] / sigma[4, 4]).item()
    found = error_variances(packed, torch.full((1,), 0.5))
    assert abs(follows) > 0.1
    assert (
        error_variances(told(0.02, by_albedo=3e4), torch.full((1,), 0.5)) <= 1.0001 * torch.tensor(PRIOR_STD) ** 2
    ).all()
    assert found[0].item() == pytest.approx(sigma[0, 0].item() + follows**2 * (0.25 - 0.0004), rel=1e-3)
    assert found[1].item() == pytest.approx(sigma[1, 1].item())
