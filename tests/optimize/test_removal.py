"""What a missing view changes: against maps that are fitted anew without it, and what the others still say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize import removal
from stspbr.optimize.cell_fits import ROUGHNESSES
from stspbr.optimize.confidence import gather, information_maps, jacobian_of, std_maps
from stspbr.optimize.loop import optimize
from stspbr.optimize.losses import tonemap
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.removal import information_without, without_views
from stspbr.optimize.views import ViewSet
from stspbr.settings import BakeSettings
from tests.optimize.conftest import CPU, photographed_jar


def first_maps(jar, seed: int = 0):
    """``[1, 32, 32, 5]``: maps to begin with, off by 0.05 in waves."""
    (own,) = jar.appearance.materials
    generator = torch.Generator().manual_seed(seed)
    waves = torch.nn.functional.interpolate(torch.randn(1, 5, 6, 6, generator=generator), size=32, mode="bilinear")
    today = torch.cat([own.albedo, own.reflectance], dim=-1).detach()
    return (today + 0.05 * waves.permute(0, 2, 3, 1)).clamp(0.03, 1.0)


def fitted(jar, start, steps, without=None):
    """``[32, 32, 5]`` maps from ``start`` by bake's own steps, one view perhaps unknown, and the problem."""
    (own,) = jar.appearance.materials
    own.albedo.data.copy_(start[..., :3])
    own.reflectance.data.copy_(start[..., 3:])
    frames = [jar.views.frame(k, whole=False) for k in range(len(jar.views))]
    if without is not None:
        frames[without] = frames[without].with_fields(known=np.zeros_like(frames[without].alpha))
    settings = BakeSettings().optimize.model_copy(update={"iterations": steps, "preview_every": 10**6})
    problem = Reconstruction(
        ViewSet(frames, 1, CPU), jar.geometry, jar.appearance, jar.light, settings=settings, backend=jar.backend, seed=0
    )
    optimize(problem, settings, reporter=SilentReporter(), checkpoints=None, resume=False, device=CPU)
    return torch.cat([own.albedo[0], own.reflectance[0]], dim=-1).detach().clone(), problem


def seen_by(evidence, view: int):
    """``[32, 32]`` bool: the texels that a view shows."""
    own = (evidence.seen.view == view).float()[:, None]
    return evidence.reads.collected(own, [(32, 32)])[0][..., 0] > 0


def correlation(one, two, mask, columns) -> float:
    return float(np.corrcoef(one[mask][:, columns].reshape(-1), two[mask][:, columns].reshape(-1))[0, 1])


@pytest.mark.parametrize(("noise", "seed", "view"), [(0.01, 0, 0), (0.02, 5, 3)])
def test_it_is_what_a_new_fit_does(noise, seed, view):
    jar = photographed_jar(8, noise, seed)
    start = first_maps(jar, seed)
    after, _ = fitted(jar, start, 30, without=view)
    before, problem = fitted(jar, start, 30)
    evidence = gather(problem, 10**9)
    predicted = without_views(problem, evidence, [start[0]], [view])[0]
    seen = seen_by(evidence, view)
    for columns in (slice(0, 3), slice(3, 4), slice(4, 5)):
        assert correlation(predicted, after - before, seen, columns) > 0.6
    assert 0.3 < float(predicted[seen].std() / (after - before)[seen].std()) < 3.0


def test_the_way_is_gone_again_to_where_the_fit_went():
    jar = photographed_jar(8, 0.01)
    start = first_maps(jar)
    before, problem = fitted(jar, start, 30)
    model = removal._Model.of(problem, gather(problem, 10**9))
    again = model.fitted([start[0]], frozenset())[0]
    every = torch.ones(32, 32, dtype=torch.bool)
    assert correlation(again - start[0], before - start[0], every, slice(0, 5)) > 0.9


def test_without_no_view_nothing_changes(jar):
    start = first_maps(jar)
    evidence = gather(jar, 10**9)
    jar.settings = jar.settings.model_copy(update={"iterations": 4})
    assert float(without_views(jar, evidence, [start[0]], [])[0].abs().max()) == 0.0
    change = without_views(jar, evidence, [start[0]], [2, 5])[0]
    assert change.shape == (32, 32, 5) and float(change.abs().max()) > 0
    nothing = removal._Model.of(jar, evidence).fitted([start[0]], frozenset(range(len(jar.views))))[0]
    assert torch.equal(nothing, start[0])


def test_a_pixel_is_shaded_as_in_the_render_whatever_material_it_reads(jar):
    evidence = gather(jar, 10**9)
    model = removal._Model.of(jar, evidence)
    here = evidence.seen.view == 2
    pixels, seen, material = model.views[2], evidence.seen.at(here), evidence.material[here]
    torch.testing.assert_close(pixels.residual(material), evidence.residual[here], rtol=0, atol=1e-6)
    generator = torch.Generator().manual_seed(1)
    for level in (0.2, 0.3, 0.237):
        other = torch.rand(material.shape, generator=generator)
        other[:, 3] = level
        shaded = jacobian_of(seen, other, jar.light.prefiltered(), jar.backend.texture)[1]
        off = (tonemap(pixels._radiance(other)) - tonemap(shaded)).abs()
        assert float(off.mean()) < (1e-6 if level in ROUGHNESSES else 2e-3)
        changed = tonemap(shaded) - tonemap(evidence.value[here])
        assert float(off.mean()) < 0.05 * float(changed.abs().mean())


def test_what_the_other_views_say_is_the_rest(jar):
    evidence = gather(jar, 10**9)
    information = information_maps(jar, evidence)
    rest = information_without(evidence, information, [0, 3])
    own = information_without(evidence, information, [k for k in range(len(jar.views)) if k not in (0, 3)])
    torch.testing.assert_close(rest[0] + own[0], information[0], rtol=1e-4, atol=1e-3)
    assert bool((std_maps(rest[0]) >= std_maps(information[0]) - 1e-6).all())
