"""Generators: sums, copies, overrides, sides, latents."""

from __future__ import annotations

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.neural.losses import picture_losses
from stspbr.neural.model import SceneModel, Views, averaged
from stspbr.settings.scene_files import parse_scene_config
from stspbr.settings.scene_model import CHANNELS


def _config(generators, representations=None, **top):
    values = {
        "views_per_scene": 3,
        "latent_separation": True,
        "model": {
            "representations": representations
            or [{"type": "Pool", "observation_passes": ["beauty"], "representation_dim": 8, "render_size": 16}],
            "generators": generators,
        },
    }
    return parse_scene_config(values | top, "test")[0]


def _pixel(**more):
    settings = {"layers": 1, "hidden_units": 8, "loss": ["logl1", "logssim"]}
    return {"type": "PixelCNN", "query_passes": ["normal"], "render_size": 16, "settings": settings, **more}


def _views(config, side=16, scenes=4):
    generator = torch.Generator().manual_seed(3)
    shape = (scenes, config.views_per_scene)
    buffers = {name: torch.rand(*shape, CHANNELS[name], side, side, generator=generator) for name in config.passes}
    return Views(buffers, torch.rand(*shape, 16, generator=generator))


def _samples():
    return torch.Generator().manual_seed(5)


def test_a_sum_adds_predictions_that_replace_its_passes():
    config = _config(
        [
            _pixel(output_passes=["direct"], override_sample=True, override_train=True),
            _pixel(output_passes=["indirect"], override_sample=True, override_train=True),
            {"type": "Sum", "query_passes": ["direct", "indirect"], "render_size": 16},
        ]
    )
    model, views = SceneModel(config, _samples()), _views(config)
    vectors = model.represent(views.chosen([0, 1]))
    direct, indirect, total = model.generate(vectors, views.chosen([2]))
    torch.testing.assert_close(torch.expm1(total), torch.expm1(direct) + torch.expm1(indirect))
    torch.testing.assert_close(model.picture(vectors, views.chosen([2])), total)
    losses = model.losses(views, 0, 0, _samples())
    assert sorted(losses.parts) == ["0.logl1", "0.logssim", "1.logl1", "1.logssim"]


def test_without_override_later_passes_are_the_true_ones():
    config = _config([_pixel(output_passes=["direct"]), {"type": "Sum", "query_passes": ["direct"], "render_size": 16}])
    model, views = SceneModel(config), _views(config)
    total = model.generate(model.represent(views.chosen([0, 1])), views.chosen([2]))[1]
    torch.testing.assert_close(torch.expm1(total), views.buffers["direct"][:, 2])


def test_a_copy_has_no_weights_of_its_own():
    copy = {"type": "Copy", "query_passes": ["normal"], "render_size": 32, "settings": {"index": 0}}
    config = _config([_pixel(), copy])
    model, views = SceneModel(config), _views(config, 32)
    first, second = model.generate(model.represent(views.chosen([0, 1])), views.chosen([2]))
    assert first.shape[-1] == 16
    assert second.shape[-1] == 32
    assert sum(1 for _ in model.generators[1].parameters()) == 0


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("sharing", [False, True])
def test_a_gqn_draws_latents_from_its_generator_alone(cell, sharing):
    gqn = {
        "type": "GQN", "query_passes": ["normal"], "render_size": 16,
        "settings": {"cell_type": cell, "core_count": 2, "state_dim": 8, "weight_sharing": sharing},
    }  # fmt: skip
    config = _config([gqn])
    model, views = SceneModel(config), _views(config)
    vectors, query = model.represent(views.chosen([0, 1])), views.chosen([2])
    once, again = (model.generate(vectors, query, _samples())[0] for _ in range(2))
    mean = model.generate(vectors, query)[0]
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert (once - mean).abs().max() > 1e-4
    first, later = (sum(model.losses(views, 0, step, _samples()).parts.values()) for step in (0, 200_000))
    assert torch.isfinite(first)
    assert first != later  # the deviation has fallen
    assert model.losses(views, 0, 0, _samples()).parts["kl"] > 0


def test_towers_and_pyramids_encode_too():
    for kind, side in (("Tower", 4), ("Pyramid", 1)):
        rep = {"type": kind, "observation_passes": ["beauty"], "representation_dim": 8, "render_size": 16}
        config = _config([_pixel()], [rep])
        model, views = SceneModel(config), _views(config)
        assert model.encode(views.chosen([0, 1]))[0].shape == (4, 2, 8, side, side)
        assert model.picture(model.represent(views.chosen([0, 1])), views.chosen([2])).shape == (4, 3, 16, 16)


def test_losses_are_the_formulas():
    x, y = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    truth = torch.log1p(y)
    found = picture_losses("Unet", ["logl1", "logl2", "l1"], x, y)
    torch.testing.assert_close(found["logl1"], 2 * (x - truth).abs().mean())
    torch.testing.assert_close(found["logl2"], 500 * (x - truth).square().mean())
    torch.testing.assert_close(found["l1"], 0.5 * (x.exp() - 1 - y).abs().mean())
    assert picture_losses("PixelCNN", ["logssim"], truth, y)["logssim"].abs() < 1e-6


def test_a_missing_pass_or_a_wrong_side_is_one_line():
    config = _config([_pixel()])
    views = _views(config)
    with pytest.raises(StspbrError, match="no pass 'normal'"):
        SceneModel(config).losses(Views({"beauty": views.buffers["beauty"]}, views.poses), 0, 0, _samples())
    with pytest.raises(StspbrError, match="has 24 pixels"):
        averaged(torch.rand(1, 1, 3, 24, 24), 16)


def test_the_same_seed_gives_the_same_weights():
    config = _config([_pixel()])
    first, second = (SceneModel(config, torch.Generator().manual_seed(9)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
