"""The published configurations: they load, build, have section 2's sizes, and take a step."""

from __future__ import annotations

import json

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.neural.encoders import Encoder
from stspbr.neural.model import SceneModel, Views, parameter_count
from stspbr.settings.scene_files import load_scene_config, parse_scene_config
from stspbr.settings.scene_model import CHANNELS, RepresentationSettings
from tests.conftest import ASSETS

_FOLDER = ASSETS / "cnsr_configs"
_FILES = sorted(_FOLDER.glob("*.json"))
_MILLIONS = {"PixelCNN": 4.20, "Unet": 80.6, "GQN": 147.7}


def _views(config, scenes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side, views = max(config.sizes), config.views_per_scene
    buffers = {
        name: torch.rand(scenes, views, CHANNELS[name], side, side, generator=generator) for name in config.passes
    }
    return Views(buffers, torch.rand(scenes, views, 16, generator=generator))


@pytest.mark.skipif(len(_FILES) < 8, reason="the published configurations are not here")
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_published_configurations_load_with_the_published_sizes(path):
    config, notes = load_scene_config(path)
    assert all("is ignored" in note for note in notes)
    with torch.device("meta"):
        model = SceneModel.__new__(SceneModel)
        torch.nn.Module.__init__(model)
        encoder = Encoder(config.model.representations[0], 16)
        model.config = config
        generator = model._made(config.model.generators[0])
    assert round(parameter_count(encoder) / 1e6, 2) == 2.00
    kind = config.model.generators[0].type
    if path.stem.startswith("save"):  # these were only for storing data: no buffers are propagated
        return
    digits = 2 if kind == "PixelCNN" else 1
    assert round(parameter_count(generator) / 1e6, digits) == _MILLIONS[kind]


def test_a_pyramid_has_the_published_size():
    settings = RepresentationSettings(
        type="Pyramid", observation_passes=["beauty", "normal", "position", "id"], representation_dim=256
    )
    assert round(parameter_count(Encoder(settings, 16)) / 1e6, 2) == 2.14


@pytest.mark.slow
@pytest.mark.skipif(len(_FILES) < 8, reason="the published configurations are not here")
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_one_step_of_each_published_configuration(path):
    config, _ = load_scene_config(path)
    model = SceneModel(config)
    losses = model.losses(_views(config), 1, 0, torch.Generator().manual_seed(0))
    total = sum(losses.parts.values())
    total.backward()
    assert torch.isfinite(total)
    assert model.partitions[0].widths.grad is not None
    moved = [parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in model.parameters()]
    assert sum(moved) > 0.9 * len(moved)


def _published():
    return {
        "iterations": 10,
        "model": {
            "representations": [{"type": "Pool", "observation_passes": ["beauty"], "observation_dim": 3}],
            "generators": [{"type": "PixelCNN", "query_passes": ["normal"], "settings": {"layers": 2}}],
        },
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(iteratoins=3), ["iteratoins", "iterations"]),
        (lambda v: v["model"]["representations"][0].update(representation_dmi=3), ["representation_dim?"]),
        (lambda v: v["model"]["generators"][0]["settings"].update(core_count=3), ["core_count", "PixelCNN"]),
        (lambda v: v["model"]["generators"][0]["settings"].update(loss=["vgg"]), ["vgg", "not supported"]),
        (lambda v: v["model"]["generators"][0]["settings"].update(loss=["logl3"]), ["logl3", "did you mean"]),
        (lambda v: v["model"]["generators"][0].update(representations=[1]), ["no encoder 1"]),
        (lambda v: v["model"]["generators"][0].update(type="Unet", render_size=48, settings={}), ["multiples of 64"]),
        (lambda v: v.update(dataset="rooms"), ["rooms", "room"]),
        (lambda v: v.update(model=3), ["model"]),
    ],
)
def test_a_bad_configuration_is_one_line(change, words):
    values = json.loads(json.dumps(_published()))
    change(values)
    with pytest.raises(StspbrError) as caught:
        parse_scene_config(values, "c.json")
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_stale_keys_are_ignored_with_a_note():
    config, notes = parse_scene_config(_published() | {"job_group": "x"}, "c.json")
    assert config.iterations == 10
    assert notes == ["c.json: model.representations.0.observation_dim is ignored", "c.json: job_group is ignored"]
