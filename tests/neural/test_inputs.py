"""What networks see: buffers of a common size, and a pixel's network as the plain convolution that it stands for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as functional

from stspbr.neural.encoders import tiled
from stspbr.neural.generators import PixelNetwork
from stspbr.neural.inputs import conditioned
from stspbr.neural.model import SceneModel, Views
from stspbr.settings.scene_files import load_scene_config
from stspbr.settings.scene_model import GeneratorSettings


def test_buffers_are_brought_to_a_common_size_by_pass():
    values = torch.zeros(1, 1, 8, 2, 2)
    values[0, 0, 0] = 100.0  # a red spot
    values[0, 0, 3] = -3.0  # a wall's x
    values[0, 0, 7] = 0.9
    seen = conditioned(values, ["beauty", "position", "shadows", "id"])[0, 0, :, 0, 0]
    expected = [(math.log(101.0) - 0.35) / 0.2, -1.75, -1.75, -1.0, 0.0, 0.0, -1.0, 2.0]
    torch.testing.assert_close(seen, torch.tensor(expected))
    normal = torch.randn(1, 2, 3, 2, 2)
    torch.testing.assert_close(conditioned(normal, ["normal"]), normal)
    assert conditioned(torch.full((1, 1, 3, 1, 1), -1e-4), ["beauty"]).isfinite().all()


def _plain(network, buffers, pose, vector):
    """The published layers: everything is spread over the pixels, joined and convolved."""
    options = network.options
    pose, vector = tiled(pose, buffers), tiled(vector, buffers)
    hidden = functional.leaky_relu(network.first(torch.cat([buffers, pose, vector], dim=1)), 0.01)
    more = [buffers] * options.propagate_buffers + [vector] * options.propagate_representation
    more += [pose] * options.propagate_viewpoint
    for layer in network.layers:
        hidden = functional.leaky_relu(layer(torch.cat([hidden, *more], dim=1)), 0.01)
    out = network.last(hidden)
    return functional.relu(out) if options.end_relu else out


@pytest.mark.parametrize("side", [1, 3])
def test_a_pixels_network_is_the_plain_convolution(side):
    generator = torch.Generator().manual_seed(1)
    for buffers, representation, viewpoint, rectified in itertools.product((False, True), repeat=4):
        options = {
            "layers": 2, "hidden_units": 6, "end_relu": rectified, "propagate_buffers": buffers,
            "propagate_representation": representation, "propagate_viewpoint": viewpoint,
        }  # fmt: skip
        settings = GeneratorSettings(type="PixelCNN", query_passes=["normal", "id"], settings=options)
        network = PixelNetwork(settings, 5, 16).double()
        inputs = [
            torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
            for shape in ((2, 4, 6, 6), (2, 16), (2, 5, side, side))
        ]
        weights = list(network.parameters())
        found, expected = network(*inputs), _plain(network, *inputs)
        torch.testing.assert_close(found, expected)
        factor = torch.randn(found.shape, generator=generator, dtype=torch.float64)
        gradients = (torch.autograd.grad((one * factor).sum(), [*inputs, *weights]) for one in (found, expected))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)


def test_colours_reach_the_vector_of_a_new_model():
    """Walls of another colour move an untrained vector more than a step to the side does."""
    config = load_scene_config("room_mini")[0]
    model, random = SceneModel(config, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    shape, side = (24, 1), 16
    position = (2.0 * torch.rand(*shape, 3, 1, 1, generator=random) - 1.0).expand(*shape, 3, side, side)
    fixed = {"normal": torch.zeros(*shape, 3, side, side), "id": torch.full((*shape, 1, side, side), 0.5)}
    grey = torch.full((*shape, 3, side, side), 0.4)
    coloured = grey + 0.4 * (torch.rand(*shape, 3, 1, 1, generator=random) - 0.5)
    spread = {}
    for name, beauty, place in (("colour", coloured, position[:1]), ("place", grey, position)):
        buffers = {**fixed, "beauty": beauty, "position": place.expand(*shape, 3, side, side)}
        with torch.no_grad():
            found = model.represent(Views(buffers, torch.zeros(*shape, 16)))[0].flatten(1)
        spread[name] = float(found.std(dim=0).mean())
    assert spread["colour"] > spread["place"]
