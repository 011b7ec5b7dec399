"""What a prior is told of a view: the same while it is trained and while it is asked, and enough for every material."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.optimize.texture_views import TextureViews
from stspbr.priors.lit_views import REFERENCES, ROUGHNESSES, draw_views, reference_values, shaded_values
from stspbr.priors.mixes import MIX, encoded
from stspbr.priors.nets import Mixer, _evidence
from stspbr.priors.pictures import VIEWS, Studio
from stspbr.priors.protocol import Extra
from stspbr.priors.small import PLANS, Plan, SmallPrior, planar, save_prior
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.lamps import grey_light, lamps_light
from stspbr.procedural.revolution import Profile, revolve
from stspbr.render.backend import get_backend
from stspbr.render.display import display_curve, radiance_of
from stspbr.render.gbuffer import Surface, render_gbuffer
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import latlong_to_cube

DEVICE, SIDE = torch.device("cpu"), 24
PROFILE = Profile(np.array([(0, 0.8), (0.4, 0.8), (0.6, 0.3), (0.5, -0.3), (0.6, -0.8), (0.0, -0.8)], float))


@pytest.fixture(scope="module")
def world():
    lights = []
    for seed in (1, 2):
        cube = latlong_to_cube(grey_light(lamps_light(seed, 64)), 32)
        lights.append(light_filter(32)(torch.from_numpy(cube)).detach())
    return revolve(*PROFILE.sampled(15), 16), lights, get_backend("cpu", DEVICE)


def test_the_distiller_tells_a_prior_what_its_training_told_it(world):
    mesh, lights, backend = world
    studio = Studio(Vocabulary.read(), lights, backend, DEVICE, SIDE, meshes=[mesh])
    trained = studio.chunk(5, 3)
    rng = np.random.default_rng([3, 5])
    rng.integers(1)  # the studio's choice of a shape
    views = TextureViews(Surface.of(mesh, DEVICE), lights, backend, SIDE, soften=True)
    told = views.extra(views.draw(rng, VIEWS, progress=1.0), frozenset({"normals", "light"}))
    assert torch.equal(told.geometry, trained.geometry[:VIEWS])
    assert torch.equal(told.light, trained.light[:VIEWS])
    soft = views.extra(views.draw(rng, VIEWS, progress=0.0), frozenset({"normals", "light"}))
    assert not torch.equal(soft.light, told.light)  # where the pictures are under softer lights, so is what is told


def test_every_uniform_material_is_a_sum_of_the_references(world):
    mesh, lights, backend = world
    lit = draw_views(np.random.default_rng(4), 2, 48, 2, (np.zeros(3), 1.0), DEVICE)
    gbuffer = render_gbuffer(Surface.of(mesh, DEVICE), lit.views, backend)
    shown = reference_values(gbuffer, lit, lights, backend.texture)
    assert shown.shape == (len(gbuffer.covered), REFERENCES)
    radiance = radiance_of(shown)
    white, count, one = radiance[:, :1], len(ROUGHNESSES), torch.ones(len(shown), 1)
    below = (shown < 0.99).all(1)  # brighter ones lose their digits in the shoulder of the curve
    assert float(below.float().mean()) > 0.8
    for number, value in enumerate(ROUGHNESSES):
        mirror, gloss = (radiance[:, k : k + 1] for k in (1 + number, 1 + count + number))
        slope = (mirror - gloss) / 0.96
        for albedo, metallic in (((0.02, 0.03, 0.05), 0.0), ((0.9, 0.5, 0.3), 1.0)):
            colour = torch.tensor(albedo)
            material = (gbuffer.normal, colour.expand(len(one), 3).contiguous(), one * value, one * metallic)
            wanted = shaded_values(gbuffer, lit, lights, material, backend.texture)
            mix = slope * colour + mirror - slope if metallic else white * colour + gloss
            off = (display_curve(mix) - wanted).abs()[below].max()
            assert float(off) < 2e-3, (value, metallic, float(off))


def test_black_gloss_is_visible_in_a_reference_of_its_own(world):
    """A lamp's reflection in a white metal is as white as its surroundings; in black paint it stands out."""
    mesh, lights, backend = world
    lit = draw_views(np.random.default_rng(4), 2, 48, 2, (np.zeros(3), 1.0), DEVICE)
    gbuffer = render_gbuffer(Surface.of(mesh, DEVICE), lit.views, backend)
    shown = reference_values(gbuffer, lit, lights, backend.texture)
    metal, gloss = shown[:, 1], shown[:, 1 + len(ROUGHNESSES)]
    lamps = metal > metal.quantile(0.95)
    assert float(gloss[lamps].std()) > 5.0 * float(metal[lamps].std())


@pytest.mark.parametrize("plan", PLANS)
def test_a_net_believes_the_noisy_picture_as_far_as_its_noise_allows(plan: Plan):
    torch.manual_seed(0)
    net = Mixer(plan.channels, 7, plan.low)
    size, words = (2, 3, 16, 16), torch.zeros(2, 2, 7 + MIX)
    clean = torch.rand(size) * 2 - 1
    geometry, light = torch.ones(2, 4, 16, 16), torch.full((2, REFERENCES, 16, 16), 0.5)
    more = (clean * 0.0, torch.full((2,), 0.4)) if plan.low else ()
    with torch.no_grad():
        near = net(clean, torch.full((2,), 0.0), words, geometry, light, *more)
        far = net(torch.randn(size), torch.full((2,), 0.98), words, geometry, light, *more)
    assert float((near - clean).abs().max()) < 0.05  # hardly any noise: the picture itself
    assert float(far.std(dim=(1, 2, 3)).max()) < 0.1  # hardly anything but noise: what the words say


def test_a_net_without_light_reads_none_and_comes_back_from_its_file(tmp_path):
    torch.manual_seed(0)
    vocabulary = Vocabulary.read()
    plans = [replace(plan, light=False) for plan in PLANS]
    nets = [plan.net(len(vocabulary.words)) for plan in plans]
    for net in nets:
        torch.nn.init.normal_(net.last.weight, std=0.1)
    save_prior(tmp_path / "blind.safetensors", vocabulary, plans, [net.half().float().state_dict() for net in nets])
    loaded = SmallPrior.load(tmp_path / "blind.safetensors")
    assert [stage.uses for stage in loaded.stages] == [{"normals"}, {"normals", "low"}]
    x_t, geometry = torch.randn(2, 16, 16, 3), torch.rand(2, 16, 16, 4)
    condition = loaded.encode(["satin brass", "rough clay with satin brass spots"], ["front", "front"])
    for stage, plan, net in zip(loaded.stages, plans, nets, strict=True):
        low = torch.randn(2, 16, 16, 3) if plan.low else None
        found = stage.x0(x_t, 700, condition, 1.0, Extra(geometry, None, low=low, level=200 if plan.low else None))
        words, given = condition.text, [planar(x_t), torch.full((2,), 0.7), condition.text, planar(geometry)]
        more = [planar(low), torch.full((2,), 0.2)] if plan.low else []
        with torch.no_grad():
            one = net(*given, torch.rand(2, REFERENCES, 16, 16), *more)
            other = net(*given[:2], words.roll(1, 0), given[3], None, *more)
        assert torch.allclose(found, one.permute(0, 2, 3, 1), atol=1e-5)  # the light makes no difference
        assert not torch.allclose(other, one, atol=1e-3)  # the words do


def test_a_second_material_shows_only_where_the_words_name_one():
    torch.manual_seed(0)
    net = Mixer((8, 8), len(Vocabulary.read().words), False)
    with torch.no_grad():
        net.last.bias[net.sizes[0]] = 9.0  # cover everything
    vocabulary = Vocabulary.read()
    captions = [vocabulary.parse(text) for text in ("rough clay", "rough clay with satin brass spots", "satin brass")]
    words = torch.stack([torch.as_tensor(encoded(vocabulary, caption)) for caption in captions])
    geometry, light = torch.ones(2, 4, 8, 8), torch.rand(1, REFERENCES, 8, 8).expand(2, -1, 8, 8)
    with torch.no_grad():
        one, two = net(torch.zeros(2, 3, 8, 8), torch.full((2,), 0.95), words[:2], geometry, light)
        first = net(torch.zeros(1, 3, 8, 8), torch.full((1,), 0.95), words[:1], geometry[:1], light[:1])[0]
        second = net(torch.zeros(1, 3, 8, 8), torch.full((1,), 0.95), words[2:], geometry[:1], light[:1])[0]
    assert torch.allclose(one, first, atol=1e-6)
    assert torch.allclose(two, second, atol=0.02) and not torch.allclose(two, first, atol=0.02)


def test_the_evidence_of_noisy_pixels_says_which_material_shows():
    generator = torch.Generator().manual_seed(0)
    painted = torch.stack([torch.full((1, 3, 32, 32), 0.3), torch.full((1, 3, 32, 32), 0.7)], dim=1)
    truth = torch.rand(1, 1, 32, 32, generator=generator) > 0.5
    clean = 2.0 * torch.where(truth, painted[:, 1], painted[:, 0]) - 1.0
    seen = clean + 0.3 * torch.randn(clean.shape, generator=generator)
    found = _evidence(seen, painted, torch.full((1, 1, 1, 1), 0.09))
    assert float(((found > 0) == truth).float().mean()) > 0.97
    unlike = ((seen - 2 * painted[:, 0] + 1).square() - (seen - 2 * painted[:, 1] + 1).square()).sum(1, True) / 0.18
    assert torch.allclose(found, 4.0 * torch.tanh(unlike / 4.0), atol=1e-4)
