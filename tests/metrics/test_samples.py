"""Reading a prior's own pictures: what they show is told, whatever was asked for."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.metrics.samples import read_samples
from stspbr.priors.pictures import Studio
from stspbr.priors.protocol import squared_cosine
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.lamps import grey_light, lamps_light
from stspbr.procedural.revolution import Profile, revolve
from stspbr.render.backend import get_backend
from stspbr.render.light_filter import light_filter
from stspbr.render.prefilter import latlong_to_cube

DEVICE, SIDE = torch.device("cpu"), 16
PROFILE = Profile(np.array([(0, 0.8), (0.4, 0.8), (0.6, 0.3), (0.5, -0.3), (0.6, -0.8), (0.0, -0.8)], float))


class Painter:
    """A prior that paints everything in one of the references that it is shown."""

    def __init__(self, channel: int) -> None:
        self.vocabulary, self.stages, self.channel = Vocabulary.read(), (self,), channel
        self.side, self.alphas_bar = SIDE, squared_cosine()

    def encode_captions(self, captions):
        return None

    def x0(self, x_t, t, condition, guidance, extra):
        return (2.0 * extra.light[..., self.channel : self.channel + 1] - 1.0).expand(-1, -1, -1, 3)


def test_white_paint_is_read_as_white_ceramic_and_a_white_mirror_as_polished_aluminium():
    cube = latlong_to_cube(grey_light(lamps_light(1, 64)), 32)
    light = light_filter(32)(torch.from_numpy(cube)).detach()
    mesh = revolve(*PROFILE.sampled(15), 16)
    studio = Studio(Vocabulary.read(), [light], get_backend("cpu", DEVICE), DEVICE, SIDE, meshes=[mesh])
    for channel, meant, metallic in ((0, "white ceramic", 0.0), (1, "polished aluminium", 1.0)):
        readings = read_samples(Painter(channel), studio, 0, views=1)
        assert {one.metallic for one in readings} == {metallic}
        right = {one.caption.text() for one in readings if one.as_meant}
        assert len(right) == 1 and right.pop().endswith(meant)
        kinds = [one.kind == (one.caption.first.base.metallic == metallic) for one in readings]
        assert all(kinds) and len(readings) == 45
