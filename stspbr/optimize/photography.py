"""How renders are compared with photographs: as the cameras would have taken them, one-sided where these clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.optimize.camera_response import NEARLY_WHITE, CameraResponse, PixelPlaces
from stspbr.optimize.noise_model import NoiseModel, measure_noise
from stspbr.optimize.routing import Term
from stspbr.optimize.views import Targets, ViewSet
from stspbr.render.gbuffer import ViewBatch

_MEASURED = 12  # views in which noise is measured


class Photography(nn.Module):
    """The cameras' response, their noise, and their white, of a set of views.

    Args:
        response: of the views; its settings say what counts.
        noise: of the views at their full size; None: all pixels weigh the same.
    """

    def __init__(self, response: CameraResponse, noise: NoiseModel | None) -> None:
        super().__init__()
        self.response = response
        self.noise = noise

    @classmethod
    def of(cls, response: CameraResponse, views: ViewSet) -> Photography:
        """With the noise that ``views`` show, if the settings ask for it."""
        return cls(response, _noise_of(views, response) if response.settings.noise else None)

    def compared(
        self, image: Tensor, targets: Targets, views: ViewBatch, ids: Sequence[int], averaged: int
    ) -> tuple[Tensor, Tensor | None]:
        """Renders as they are compared with their targets, and the weight of each pixel.

        Args:
            image: ``[B, H, W, 4]`` radiance premultiplied by coverage, and coverage.
            ids: of the views ``[B]``; averaged: how many of their pixels one of these is the mean of.

        Returns:
            ``[B, H, W, 4]`` as photographed, and ``[B, H, W, 1]``; None: all weigh 1.
        """
        flat = image.reshape(-1, 4)
        index = torch.nonzero(flat[:, 3].detach() > 0).squeeze(1)
        listed = flat.index_select(0, index)
        cover = listed[:, 3:].clamp(min=1e-4)
        shown = self._shown(listed[:, :3] / cover, cover, targets, pixel_places(views, ids, index), index)
        out = flat.index_copy(0, index, torch.cat([shown, listed[:, 3:]], dim=1)).reshape(image.shape)
        if self.noise is None:
            return out, None
        stated = self.response.stated[torch.as_tensor(ids, device=image.device)][:, None, None]
        straight = targets.image / targets.alpha.clamp(min=1e-4) * stated
        return out, self.noise.of_means(averaged).weight(straight)

    def compared_pixels(
        self, radiance: Tensor, targets: Targets, views: ViewBatch, ids: Sequence[int], index: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """As ``compared``, of pixels that the object fills: ``radiance`` ``[N, 3]`` at ``index`` ``[N]`` int64."""
        places = pixel_places(views, ids, index)
        out = self._shown(radiance, radiance.new_ones(1, 1), targets, places, index)
        if self.noise is None:
            return out, None
        straight = targets.image.reshape(-1, 3).index_select(0, index) * self.response.stated[places.view]
        return out, self.noise.weight(straight)

    def radiance(
        self, pixels: Tensor, views: ViewBatch, ids: Sequence[int], index: Tensor, saturation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Radiance ``[N, 3]`` of straight ``pixels`` ``[N, 3]``, and ``[N]`` bool: not nearly white.

        Args:
            index: ``[N]`` int64 of the pixels in the views ``ids``; saturation: of the views, ``[B, 1, 1, 1]``.
        """
        places = pixel_places(views, ids, index)
        white = saturation.reshape(-1, 1)[torch.div(index, views.pixels, rounding_mode="floor")]
        stated = self.response.stated[places.view]
        clear = (pixels * stated < NEARLY_WHITE * white * stated.amax(dim=1, keepdim=True)).all(dim=1)
        return self.response.radiance(pixels, places), clear

    def regularizers(self) -> list[Term]:
        """Those of the response."""
        return self.response.regularizers()

    def constrain(self) -> None:
        """Fix the response's gauge."""
        self.response.constrain()

    def _shown(self, straight: Tensor, cover: Tensor, targets: Targets, places: PixelPlaces, index: Tensor) -> Tensor:
        """``[N, 3]`` as photographed, times ``cover``; the target, where that is nearly white and less bright."""
        out = self.response.photographed(straight.clamp(min=0.0), places) * cover
        if not self.response.settings.one_sided:
            return out
        target, mask = (v.reshape(-1, v.shape[-1]).index_select(0, index) for v in (targets.image, targets.alpha))
        stated = self.response.stated[places.view]
        saturation = targets.saturation.expand_as(targets.alpha).reshape(-1, 1).index_select(0, index)
        # a frame's saturation is that of the channel that was divided most
        white = saturation * stated.amax(dim=1, keepdim=True) / stated
        bright = (target >= NEARLY_WHITE * white * mask.clamp(min=1e-4)) & (out > target)
        return torch.where(bright, target, out)


def pixel_places(views: ViewBatch, ids: Sequence[int], index: Tensor) -> PixelPlaces:
    """Where the pixels ``index`` ``[N]`` int64 of the batch lie in the views ``ids``, crops or not."""
    height, width = views.resolution
    place = torch.div(index, views.pixels, rounding_mode="floor")
    row = torch.div(index % views.pixels, width, rounding_mode="floor")
    column = index % width
    if views.projection is None:
        raise ValueError("the views' projections are not known apart")
    projection = views.projection.index_select(0, place)
    x = ((2 * column + 1) / width - 1.0 + projection[:, 0, 2]) / projection[:, 0, 0]
    y = ((2 * row + 1) / height - 1.0 + projection[:, 1, 2]) / projection[:, 1, 1]
    view = torch.as_tensor(list(ids), dtype=torch.int64, device=index.device).index_select(0, place)
    return PixelPlaces(view, (x.square() + y.square())[:, None])


def _noise_of(views: ViewSet, response: CameraResponse) -> NoiseModel:
    """The noise in some of the views, as the camera wrote them."""
    chosen = range(0, len(views), -(-len(views) // _MEASURED))
    stated = [response.stated[number].cpu() for number in chosen]
    white = min(float(views.saturation[n]) * float(own.max()) for n, own in zip(chosen, stated, strict=True))

    def straight(number: int, divided: Tensor) -> tuple[Tensor, Tensor]:
        image, alpha = views.whole(number)
        filled = alpha[..., 0] > 0
        window = (_even_span(np.any(filled, axis=1)), _even_span(np.any(filled, axis=0)))
        cover = torch.from_numpy(alpha[window])
        return torch.from_numpy(image[window]) / cover.clamp(min=1e-4) * divided, cover

    return measure_noise((straight(n, own) for n, own in zip(chosen, stated, strict=True)), white)


def _even_span(filled: np.ndarray) -> slice:
    """From the first true place, or the one before it, so that squares of two by two pixels stay the same."""
    places = np.flatnonzero(filled)
    return slice(places[0] // 2 * 2, places[-1] + 1) if len(places) else slice(0, 0)
