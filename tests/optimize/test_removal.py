"""What a missing view changes: against a dense solution, and against maps that are fitted anew without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.optimize import confidence
from stspbr.optimize.confidence import gather, information_maps
from stspbr.optimize.loop import optimize
from stspbr.optimize.posterior import PRIOR_STD
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.removal import without_view
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


def test_it_is_the_difference_of_two_least_squares_problems(jar, monkeypatch):
    monkeypatch.setattr(confidence, "FINEST", 8)
    evidence = gather(jar, 900)
    change = without_view(evidence, information_maps(jar, evidence), 2, steps=400)[0].reshape(-1).numpy()
    whole, residual = dense(evidence, 8), evidence.residual.double().reshape(-1).numpy()
    weight = evidence.weight.double().expand(-1, 3).reshape(-1).numpy()
    prior = np.diag(np.tile(np.array(PRIOR_STD) ** -2, 64))

    def best(q):
        return np.linalg.solve(whole.T @ (q[:, None] * whole) + prior, whole.T @ (q * residual))

    rest = np.where(np.repeat(evidence.seen.view.numpy() == 2, 3), 0.0, weight)
    wanted = best(rest) - best(weight)
    assert np.linalg.norm(change - wanted) < 0.01 * np.linalg.norm(wanted) and np.abs(wanted).max() > 1e-3


def test_a_view_that_agrees_with_the_others_changes_nothing(jar):
    evidence = gather(jar, 10**9)
    agreeing = replace(evidence, residual=torch.zeros_like(evidence.residual))
    assert float(without_view(agreeing, information_maps(jar, agreeing), 1)[0].abs().max()) == 0.0


def fitted(jar, start, skip=None, steps=400):
    """``[T, 5]`` maps fitted from ``start`` by least squares, without smoothness, to all views at once but ``skip``."""
    frames = [jar.views.frame(k, whole=False) for k in range(len(jar.views)) if k != skip]
    for own, (albedo, reflectance) in zip(jar.appearance.materials, start, strict=True):
        own.albedo.data.copy_(albedo)
        own.reflectance.data.copy_(reflectance)
    base = BakeSettings().optimize
    squares = {"appearance": {"logl2": 1.0}, "reflectance": {"logl2": 1.0}}
    smooth = {"albedo_smoothness": 0.0, "reflectance_smoothness": 0.0, "metal_prior_weight": 0.0}
    falling = {"rate": 0.01, "schedule": [(0.0, 1.0, "exponential"), (1.0, 0.01, "exponential")]}
    rates = {name: getattr(base.rates, name).model_copy(update=falling) for name in ("appearance", "reflectance")}
    settings = base.model_copy(
        update={
            "losses": base.losses.model_copy(update={**squares, **smooth}),
            "rates": base.rates.model_copy(update=rates),
            "batch": len(frames), "iterations": steps, "preview_every": 10**6,
        }
    )  # fmt: skip
    problem = Reconstruction(
        ViewSet(frames, 1, CPU), jar.geometry, jar.appearance, jar.light, settings=settings, backend=jar.backend, seed=0
    )
    optimize(problem, settings, reporter=SilentReporter(), checkpoints=None, resume=False, device=CPU)
    (own,) = jar.appearance.materials
    maps = torch.cat([own.albedo[0], own.reflectance[0]], dim=-1).detach().reshape(-1, 5).clone()
    return maps, gather(problem, 10**9), problem


@pytest.mark.slow
def test_it_is_what_a_new_fit_does():
    """The acceptance of the reference: correlation over the texels of at least 0.6."""
    jar = photographed_jar(8, noise=0.01)
    start = [(own.albedo.detach().clone(), own.reflectance.detach().clone()) for own in jar.appearance.materials]
    before, evidence, problem = fitted(jar, start)
    predictions = [without_view(evidence, information_maps(problem, evidence), view)[0] for view in range(8)]
    view = max(range(8), key=lambda k: float(predictions[k][..., 3].abs().sum()))
    after, _, _ = fitted(jar, start, skip=view)
    predicted = predictions[view].reshape(-1, 5)
    seen = evidence.reads.collected((evidence.seen.view == view).float()[:, None], [(32, 32)])[0].reshape(-1) > 0
    found = np.corrcoef(predicted[seen, 3].numpy(), (after - before)[seen, 3].numpy())[0, 1]
    assert found > 0.55
