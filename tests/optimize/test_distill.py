"""The distiller against an exact prior, whose optimum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.distill import Distillation, Weights
from stspbr.optimize.even_parts import EvenPart
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.pattern_survey import survey_pattern
from stspbr.optimize.picture_survey import survey_pictures
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.surface_noise import SurfaceNoise
from stspbr.optimize.texture_views import TextureViews, seen_texels
from stspbr.priors.bank import BankPrior
from stspbr.priors.lit_views import softened, view_word
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.lamps import grey_light, lamps_light, mean_radiance
from stspbr.procedural.revolution import Profile, revolve
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import latlong_to_cube
from stspbr.scene import Corners
from stspbr.settings import OptimizeSettings, Rate, RateSettings
from stspbr.texture.atlas import rasterize_layout

DEVICE = torch.device("cpu")
SIDE = 24
PROFILE = Profile(np.array([(0, 0.8), (0.4, 0.8), (0.6, 0.3), (0.5, -0.3), (0.6, -0.8), (0.0, -0.8)], float))


@pytest.fixture(scope="module")
def world():
    backend = get_backend("cpu", DEVICE)
    lights = []
    for seed in (1, 2):
        cube = latlong_to_cube(grey_light(lamps_light(seed, 64)), 32)
        lights.append(light_filter(32)(torch.from_numpy(cube)).detach())
    mesh = revolve(*PROFILE.sampled(15), 16)
    return Surface.of(mesh, DEVICE), lights, backend


def start(world, size=16):
    maps = MaterialMaps(torch.full((size, size, 3), 0.5), torch.full((size, size, 2), 0.5), None)
    return TextureAppearance([maps], roughness_range=(0.03, 1.0), joint=False, backend=world[2])


def texel_points(surface, size):
    """Points ``[N, 3]`` and numbers ``[N]`` of the texels that the surface covers."""
    layout = Corners(surface.uvs.values.numpy(), surface.uvs.index.numpy())
    found = rasterize_layout(layout, (size, size), None, 1)
    corners = surface.positions[surface.faces.long()[found.triangle]]
    return (corners * found.barycentric[..., None]).sum(1), found.texel


def problem(world, prompt, *, guidance=1.0, batch=2, prior=None, clamp=True, seed=0):
    prior = prior or BankPrior(Vocabulary.read(), SIDE)
    views = TextureViews(world[0], world[1], world[2], SIDE, soften=True)
    return Distillation(
        views, start(world), prior.stages[0], [lambda words: prior.encode([prompt] * len(words), words)],
        torch.tensor([0]), guidance=(guidance, guidance), weights=Weights(0.0, 0.0, 0.0, 0.0), batch=batch, seed=seed,
        clamp=clamp,
    )  # fmt: skip


def run(task, steps, before=None, resume=False, checkpoints=None):
    rate, none = Rate(rate=0.03), Rate(rate=0.0)
    rates = RateSettings(geometry=none, appearance=rate, reflectance=rate, joint=rate, light=none)
    settings = OptimizeSettings(iterations=steps, rates=rates, checkpoint_every=4, preview_every=10**6)
    optimize(
        task, settings, reporter=SilentReporter(), checkpoints=checkpoints, resume=resume, device=DEVICE, before=before
    )
    own = task.appearance.materials[0]
    seen = seen_texels(world_surface(task), task.appearance, task.views.backend, 64)[0]
    return own.albedo[0][seen].detach(), own.reflectance[0][seen].detach()


def world_surface(task):
    return task.views.surface


def test_materials_of_an_exact_prior_are_found(world):
    vocabulary = Vocabulary.read()
    task = problem(world, "polished brass")
    albedo, reflectance = run(task, 90)
    off = vocabulary.ranges(vocabulary.parse("polished brass").first).distance(
        albedo.mean(0).numpy(), float(reflectance[:, 0].mean()), float(reflectance[:, 1].mean())
    )
    assert off["metallic"] <= 0.10 and off["roughness"] <= 0.08 and off["albedo"] <= 0.06, off


def test_the_loss_is_the_stated_one(world):
    task = problem(world, "rough clay")
    terms = task.terms(3, 0.25, Stopwatch())
    look = task.views.draw(np.random.default_rng([0, 0, 3]), 2, 0.25)
    picture = task.views.picture(look, task.appearance)
    x, target, weight = task._target(look, picture, [0, 0], 3, 0.25)
    assert float(target.min()) >= -1.0 and float(target.max()) <= 1.0
    assert float(terms[0].value.detach()) == pytest.approx(
        float(weight * (x - target).detach().square().sum() / 2), rel=1e-5
    )
    assert 0 < weight <= 0.25  # ½ √(ā (1 − ā))


def test_attached_noise_is_normal_and_the_same_from_all_sides(world):
    noise = SurfaceNoise((np.zeros(3), 1.0), SIDE, 3, DEVICE)
    views = TextureViews(world[0], world[1], world[2], SIDE, soften=False)
    look = views.draw(np.random.default_rng(0), 6)
    first, again = (noise.seen(look.gbuffer, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    mask = views.coverage(look) > 0.999
    assert torch.equal(first[mask], again[mask]) and not torch.equal(first[~mask], again[~mask])
    assert abs(float(first[mask].std()) - 1.0) < 0.05 and abs(float(first[mask].mean())) < 0.1


def test_a_pattern_is_sought_behind_falling_noise(world):
    asked = []
    prior = BankPrior(Vocabulary.read(), SIDE)
    views = TextureViews(world[0], world[1], world[2], SIDE, soften=False)
    task = Distillation(
        views, start(world), prior.stages[0], [lambda words: prior.encode(["brass"] * len(words), words)],
        torch.tensor([0]), guidance=(1.0, 1.0), weights=Weights(0, 0, 0, 0), batch=1, seed=0, pattern=True,
    )  # fmt: skip
    task.stage.x0 = lambda x_t, t, *rest: asked.append(t) or x_t
    for progress in (0.0, 0.5, 0.9):
        task.terms(int(progress * 10), progress, Stopwatch())
    assert asked == [950, 600, 320]


def test_views_of_parts_drive_their_own_maps_only(world):
    surface, lights, backend = world
    owner = (surface.positions[surface.faces.long()].mean(1)[:, 1] > 0).long()
    maps = [MaterialMaps(torch.full((8, 8, 3), 0.5), torch.full((8, 8, 2), 0.5), None) for _ in range(2)]
    appearance = TextureAppearance(maps, roughness_range=(0.03, 1.0), joint=False, backend=backend, face_material=owner)
    prior = BankPrior(Vocabulary.read(), SIDE)
    condition = lambda words: prior.encode(["brass"] * len(words), words)  # noqa: E731
    views = TextureViews(surface, lights, backend, SIDE, soften=False)
    task = Distillation(
        views, appearance, prior.stages[0], [condition, condition], torch.tensor([0, 1]), guidance=(1.0, 1.0),
        weights=Weights(0, 0, 0, 0), batch=1, seed=0,
    )  # fmt: skip
    for step in (0, 1):
        (term,) = task.terms(step, 0.5, Stopwatch())
        found = torch.autograd.grad(term.value, [own.albedo for own in appearance.materials], allow_unused=True)
        moved = [gradient is not None and bool(gradient.any()) for gradient in found]
        assert moved == [step == 0, step == 1]


def test_a_step_with_a_target_that_is_not_finite_is_left_out(world):
    task = problem(world, "rough clay")
    task.stage.x0 = lambda x_t, *rest: x_t * float("nan")
    terms = task.terms(0, 0.0, Stopwatch())
    assert float(terms[0].value.detach()) == 0.0 and int(task.skipped) == 1


def test_the_survey_brings_lost_roughness_back(world):
    task = problem(world, "polished brass", batch=4)
    own = task.appearance.materials[0]
    with torch.no_grad():
        own.reflectance[..., 0], own.reflectance[..., 1] = 0.95, 0.0
    texel = torch.arange(256)
    line = survey_pictures(task, [(texel, torch.zeros(256, 3))], [True], 5)
    assert line.startswith("survey: 0 of 1")
    reflectance = own.reflectance[0].detach()
    assert float(reflectance[..., 0].max()) <= 0.3 and float(reflectance[..., 1].min()) == 1.0
    again = own.albedo.detach().clone(), own.reflectance.detach().clone()
    assert survey_pictures(task, [(texel, torch.zeros(256, 3))], [True], 5)
    assert torch.allclose(own.reflectance.detach(), again[1], atol=0.15)  # a good state is not lost


def test_the_survey_of_a_pattern_finds_both_materials_and_where_each_shows(world, monkeypatch):
    """A prior that expects a brass body with a black lid, on maps that know nothing."""
    size = 32
    task = problem(world, "brass with black plastic spots", batch=4)
    task.appearance, truth = start(world, size), start(world, size)
    row = (torch.arange(size * size) // size).view(size, size)
    black = (row < size // 3)[..., None]
    brass, plastic = torch.tensor([0.88, 0.68, 0.35]), torch.full((3,), 0.03)
    with torch.no_grad():
        truth.materials[0].albedo[0] = torch.where(black, plastic, brass)
        truth.materials[0].reflectance[0] = torch.where(black, torch.tensor([0.7, 0.0]), torch.tensor([0.3, 1.0]))
    alone = {0: (brass, 0.3, 1.0), 1: (plastic, 0.7, 0.0)}

    def expected(look, picture, parts, t, guidance, level, generator, noise=None, condition=None):
        found = task.views.picture(look, truth) if condition is None else task.views.uniform(look, *alone[condition])
        return 2.0 * found - 1.0

    monkeypatch.setattr(task, "expected", expected)
    points, texel = texel_points(world[0], size)
    line = survey_pattern(task, [(texel, points)], [(lambda words: 0, lambda words: 1)], 5, 0.5)
    assert line.startswith("pattern: the second material shows on")
    own, wanted = task.appearance.materials[0], truth.materials[0]
    # unseen poles and the texels that the border runs through may differ
    albedo = (own.albedo - wanted.albedo).detach()[0].flatten(0, 1)[texel].abs().amax(1)
    metallic = (own.reflectance - wanted.reflectance).detach()[0].flatten(0, 1)[texel, 1].abs()
    assert float((albedo < 0.1).float().mean()) > 0.9 and float((metallic < 0.1).float().mean()) > 0.9
    roughness = own.reflectance.detach()[0].flatten(0, 1)[texel, 0]
    right = wanted.reflectance.detach()[0].flatten(0, 1)[texel, 0]
    assert float((roughness - right)[albedo < 0.1].abs().max()) < 0.12


def test_an_even_part_is_the_mean_of_its_covered_texels(world):
    maps = [MaterialMaps(torch.rand(4, 4, 3), torch.rand(4, 4, 2), None) for _ in range(3)]
    appearance = TextureAppearance(
        maps, roughness_range=(0.03, 1.0), joint=False, backend=world[2],
        face_material=torch.zeros(len(world[0].faces), dtype=torch.int64),
    )  # fmt: skip
    before = [(own.albedo.detach().clone(), own.reflectance.detach().clone()) for own in appearance.materials]
    texels = [torch.tensor([0, 5]), torch.tensor([3])]
    EvenPart([0, 2], texels, roughness=False).hold(appearance)
    colours = torch.cat([before[k][0][0].flatten(0, 1)[t] for k, t in zip((0, 2), texels, strict=True)])
    for number in (0, 2):
        own = appearance.materials[number]
        assert torch.allclose(own.albedo, colours.mean(0).expand_as(own.albedo))
        assert torch.equal(own.reflectance[..., 0], before[number][1][..., 0])  # a pattern of roughness stays
        assert float(own.reflectance[..., 1].detach().std()) == 0.0
    assert torch.equal(appearance.materials[1].albedo, before[1][0])
    EvenPart([1], [torch.arange(16)], roughness=True).hold(appearance)
    assert torch.allclose(
        appearance.materials[1].reflectance[0], before[1][1][0].mean((0, 1)).expand(4, 4, 2), atol=1e-6
    )


def test_lights_hold_a_lamp_and_soften(world):
    for seed in range(5):
        light = lamps_light(seed, 64)
        assert light.radiance.max() > 20.0 * mean_radiance(light.radiance)
        assert np.ptp(light.radiance, axis=-1).max() == 0.0
    fine = world[1][0]
    assert softened(fine, 0) is fine
    assert softened(fine, 1).specular[0].max() < fine.specular[0].max()


def test_words_mean_the_front_of_the_object():
    ways = {
        "front": (0, 0, 1),
        "back": (0, 0, -1),
        "right side": (1, 0, 0),
        "left side": (-1, 0.2, 0),
        "top": (0.1, 1, 0),
    }
    for word, way in ways.items():
        assert view_word(np.array(way, float) / np.linalg.norm(way)) == word
