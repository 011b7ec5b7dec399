"""What a prior's own pictures show: each is compared with renders of every material that its vocabulary knows.

It tells a prior that does not know a word from a distiller that does not do what the prior says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.metrics.prompt import TOLERANCE
from stspbr.priors.bank import BankPrior
from stspbr.priors.lit_views import condition_images, draw_views, picture_of, shaded_values
from stspbr.priors.pictures import Studio
from stspbr.priors.protocol import Extra
from stspbr.priors.sampling import ddim
from stspbr.priors.small import SmallPrior
from stspbr.priors.vocabulary import Caption
from stspbr.render.gbuffer import render_gbuffer

_PER_CAPTION = 3  # materials of each caption that a picture is compared with


@dataclass(frozen=True)
class Reading:
    """The material that a sample looks most like: ``albedo`` ``[3]`` linear, ``roughness``, ``metallic``.

    Attributes:
        caption: that was asked for; kind, finish, colour: whether metallic, roughness and albedo are within its words'
            ranges (albedo: within a tolerance, since black plastic and black ceramic look alike).
    """

    caption: Caption
    albedo: tuple[float, ...]
    roughness: float
    metallic: float
    kind: bool
    finish: bool
    colour: bool

    @property
    def as_meant(self) -> bool:
        return self.kind and self.finish and self.colour


@torch.no_grad()
def read_samples(prior: SmallPrior, studio: Studio, seed: int, views: int = 2) -> list[Reading]:
    """Pictures out of noise of every base in every finish, ``views`` of each, on the studio's first shape, read.

    A picture's reading is the render of a uniform material that is nearest to it (mean squared display values on the
    object) in the same view under the same light.
    """
    stage, rng = prior.stages[0], np.random.default_rng([seed, 11])
    lit = draw_views(rng, views, 2 * stage.side, len(studio.lights), studio.spheres[0], studio.device)
    gbuffer = render_gbuffer(studio.surfaces[0], lit.views, studio.backend)
    extra = Extra(*condition_images(gbuffer, lit, studio.lights, studio.backend.texture, stage.side))
    assert extra.geometry is not None
    mask = extra.geometry[..., 3:]
    bank = BankPrior(prior.vocabulary, stage.side, spread=_PER_CAPTION).stages[0]
    one = torch.ones_like(gbuffer.position[:, :1])

    def rendered(albedo: Tensor, roughness: float, metallic: float) -> Tensor:
        material = (gbuffer.normal, albedo.expand(len(one), 3).contiguous(), one * roughness, one * metallic)
        values = shaded_values(gbuffer, lit, studio.lights, material, studio.backend.texture)
        return picture_of(gbuffer, lit, values, stage.side)

    shown = torch.stack([rendered(one.new_tensor(a), r, m) for a, r, m in bank.materials])  # [K, views, H, W, 3]
    generator = torch.Generator(device=studio.device).manual_seed(seed)
    out = []
    for caption in prior.vocabulary.every_plain():
        noise = torch.randn((views, stage.side, stage.side, 3), generator=generator, device=studio.device)
        found = 0.5 * (ddim(stage, prior.encode_captions([caption] * views), extra, noise) + 1.0)
        distance = ((shown - found[None]).square() * mask[None]).sum(dim=(2, 3, 4))
        for number in distance.argmin(0).tolist():
            albedo, roughness, metallic = bank.materials[number]
            off = prior.vocabulary.ranges(caption.first).distance(np.array(albedo), roughness, metallic)
            out.append(
                Reading(
                    caption, tuple(albedo), roughness, metallic,
                    off["metallic"] == 0.0, off["roughness"] == 0.0, off["albedo"] <= TOLERANCE["albedo"],
                )
            )  # fmt: skip
    return out
