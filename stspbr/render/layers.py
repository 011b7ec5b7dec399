"""Cut-outs and blended surfaces: what is seen through a surface is rendered behind it, layer by layer.

Everitt 2001, "Interactive Order-Independent Transparency": each layer is rasterised behind the one before it. Layers
are laid over each other from the back and antialiased one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, render_gbuffer
from stspbr.render.raster_backend import RasterBackend

MOST_LAYERS = 8
"""What lies behind so many layers is not seen."""
OPACITY_WIDTH = 0.5
"""Of a pixel, the part over which opacity maps are averaged: one mip level finer than colours, whose blur of two pixels
would close the gaps between leaves."""
_UNSEEN = 1.0 / 512.0  # of the light from behind: half a step of an 8-bit image


@dataclass
class Layer:
    """One layer of the surface.

    Attributes:
        gbuffer: of the layer; opacity: ``[N, 1]`` in [0, 1] at its covered pixels.
    """

    gbuffer: GBuffer
    opacity: Tensor


def layers_of(
    surface: Surface, views: ViewBatch, backend: RasterBackend, opacity: Callable[[GBuffer], Tensor]
) -> Iterator[Layer]:
    """The layers of ``surface`` from the front, each only where light comes through those before it.

    Args:
        opacity: ``[N, 1]`` at the covered pixels of a layer.
    """
    gbuffer = render_gbuffer(surface, views, backend)
    through = torch.ones(gbuffer.rast[..., 0].numel(), 1, device=gbuffer.rast.device)
    for number in range(MOST_LAYERS):
        if number > 0 and len(gbuffer.covered) == 0:
            return
        alpha = opacity(gbuffer)
        yield Layer(gbuffer, alpha)
        left = through.index_select(0, gbuffer.covered) * (1.0 - alpha.detach())
        through = torch.zeros_like(through).index_copy(0, gbuffer.covered, left)
        if not bool((left > _UNSEEN).any()):
            return
        front = gbuffer.rast.detach() * (through > _UNSEEN).view(*gbuffer.rast.shape[:3], 1)
        gbuffer = render_gbuffer(surface, views, backend, behind=front)


def compose_layers(layers: Sequence[Layer], values: Sequence[Tensor], backend: RasterBackend) -> Tensor:
    """Images of the layers' per-pixel ``values`` ``[N, C]``, the first layer in front; what ``compose`` is for one.

    Each layer's outline is antialiased against what is seen beside it, so that the edge of a card that is cut out
    there does not show.

    Returns:
        ``[B, H, W, C + 1]``: values premultiplied by coverage, then the coverage in [0, 1].
    """
    out: Tensor | None = None
    for layer, own in zip(reversed(layers), reversed(values), strict=True):
        image, gbuffer = layer.gbuffer.image(own, layer.opacity), layer.gbuffer
        out = image if out is None else image + (1.0 - image[..., -1:]) * out
        out = backend.antialias(out, gbuffer.rast, gbuffer.clip, gbuffer.faces)
    assert out is not None
    return out
