"""What a missing view changes: against a dense solution, and against maps that are fitted anew without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.optimize import confidence, removal
from stspbr.optimize.confidence import gather, information_maps, std_maps
from stspbr.optimize.loop import optimize
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.removal import FINENESS, information_without, without_views
from stspbr.optimize.views import ViewSet
from stspbr.settings import BakeSettings
from tests.optimize.conftest import CPU, photographed_jar


def dense(evidence, side):
    """``[3 N, 5 T]``: the derivatives of all pixels by all texels."""
    columns = []
    for place in range(side * side):
        unit = torch.zeros(side * side, 1)
        unit[place] = 1.0
        weight = evidence.reads.lookup([unit.view(side, side, 1)])
        own = evidence.jacobian
        parts = [torch.diag_embed(own.albedo), own.roughness[:, :, None], own.metallic[:, :, None]]
        columns.append((torch.cat(parts, dim=2) * weight[:, :, None]).reshape(-1, 5))
    return torch.cat(columns, dim=1).double().numpy()


def differences(reads, side):
    """``[5 N, 5 T]``: what all pixels read of all texels."""
    rows = []
    for place in range(side * side):
        unit = torch.zeros(side * side, 1)
        unit[place] = 1.0
        rows.append(
            torch.eye(5).repeat(len(reads.uv), 1) * reads.lookup([unit.view(side, side, 1)]).repeat_interleave(5, 0)
        )
    return torch.cat(rows, dim=1).double().numpy()


def test_it_is_the_difference_of_two_least_squares_problems(jar, monkeypatch):
    monkeypatch.setattr(confidence, "FINEST", 8)
    evidence = gather(jar, 900)
    change = without_views(jar, evidence, [2], steps=800)[0].reshape(-1).numpy()
    fit = removal._Fit.of(jar, evidence)
    stands = evidence.stands.double().numpy()
    pixels, residual = dense(evidence, 8), evidence.residual.double().reshape(-1).numpy()
    pairs = differences(fit.here, 8) - differences(fit.beside, 8)
    apart = pairs @ fit.maps[0].double().reshape(-1).numpy()
    prior = FINENESS * np.diag(np.tile(np.array(PRIOR_STD) ** -2, 64))
    of_pixel = (stands / (3 * np.maximum(np.abs(residual.reshape(-1, 3)), FINENESS))).reshape(-1)
    means = np.array([3.0, 3, 3, 2, 2])
    of_pair = (
        np.tile(stands, (3, 1)) / 3 * 0.03 / (means * np.maximum(np.abs(apart.reshape(-1, 5)), FINENESS))
    ).reshape(-1)

    def best(kept):
        p, q = np.repeat(kept, 3) * of_pixel, np.repeat(np.tile(kept, 3), 5) * of_pair
        matrix = pixels.T @ (p[:, None] * pixels) + pairs.T @ (q[:, None] * pairs) + prior
        return np.linalg.solve(matrix, pixels.T @ (p * residual) - pairs.T @ (q * apart))

    every = np.ones(len(evidence.seen))
    wanted = best(np.where(evidence.seen.view.numpy() == 2, 0.0, 1.0)) - best(every)
    assert np.linalg.norm(change - wanted) < 0.01 * np.linalg.norm(wanted) and np.abs(wanted).max() > 1e-3


def test_a_view_that_agrees_with_the_others_changes_nothing(jar, monkeypatch):
    evidence = gather(jar, 10**9)
    agreeing = replace(evidence, residual=torch.zeros_like(evidence.residual))
    even = removal._neighbours
    monkeypatch.setattr(removal, "_neighbours", lambda *how: 2 * even(*how)[:1])  # each place is its own neighbour
    assert float(without_views(jar, agreeing, [1])[0].abs().max()) == 0.0


def test_what_the_other_views_say_is_the_rest(jar):
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    rest = information_without(evidence, information, [0, 3])
    own = information_without(evidence, information, [k for k in range(len(jar.views)) if k not in (0, 3)])
    torch.testing.assert_close(rest[0] + own[0], information[0], rtol=1e-4, atol=1e-3)
    assert bool((std_maps(rest[0]) >= std_maps(information[0]) - 1e-6).all())


def fitted(jar, start, skip=None, steps=400):
    """``[T, 5]`` maps fitted from ``start`` by bake's own losses to all views at once but ``skip``, and the problem."""
    frames = [jar.views.frame(k, whole=False) for k in range(len(jar.views)) if k != skip]
    for own, (albedo, reflectance) in zip(jar.appearance.materials, start, strict=True):
        own.albedo.data.copy_(albedo)
        own.reflectance.data.copy_(reflectance)
    base = BakeSettings().optimize
    falling = {"rate": 0.01, "schedule": [(0.0, 1.0, "exponential"), (1.0, 0.01, "exponential")]}
    rates = {name: getattr(base.rates, name).model_copy(update=falling) for name in ("appearance", "reflectance")}
    many = {"batch": len(frames), "iterations": steps, "preview_every": 10**6}
    settings = base.model_copy(update={"rates": base.rates.model_copy(update=rates), **many})
    problem = Reconstruction(
        ViewSet(frames, 1, CPU), jar.geometry, jar.appearance, jar.light, settings=settings, backend=jar.backend, seed=0
    )
    optimize(problem, settings, reporter=SilentReporter(), checkpoints=None, resume=False, device=CPU)
    (own,) = jar.appearance.materials
    return torch.cat([own.albedo[0], own.reflectance[0]], dim=-1).detach().reshape(-1, 5).clone(), problem


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "seed", "view", "least"), [(0.01, 0, 0, 0.6), (0.02, 5, 3, 0.2)])
def test_it_is_what_a_new_fit_does(noise, seed, view, least):
    """Correlation over the texels: on the case that ε was chosen on, and on another, where it is far lower."""
    jar = photographed_jar(8, noise, seed)
    start = [(own.albedo.detach().clone(), own.reflectance.detach().clone()) for own in jar.appearance.materials]
    before, problem = fitted(jar, start)
    evidence = gather(problem, 10**9)
    predicted = without_views(problem, evidence, [view])[0].reshape(-1, 5)
    seen = evidence.reads.collected((evidence.seen.view == view).float()[:, None], [(32, 32)])[0].reshape(-1) > 0
    after, _ = fitted(jar, start, skip=view)
    found = np.corrcoef(predicted[seen, 3].numpy(), (after - before)[seen, 3].numpy())[0, 1]
    assert found > least
