"""The partitions of a scene's vector, light | geometry | material, and how wide each of them is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stspbr.settings.scene_model import RepresentationSettings

FACTORS = ("light", "geometry", "material")
"""What a training batch varies, and what the partitions hold, in this order."""


class Partitions(nn.Module):
    """Learned intervals on the circle of channels, one per factor, with soft borders that sharpen over the training.

    In a batch that varies one factor only that factor's channels keep each scene's value; the others are replaced by
    the batch's mean, since there the scenes are equal. What a partition can say is thus what its factor varies.

    Args:
        adaptive: the widths are learned; else they are equal, with hard borders.
        empty: a further interval, which is always zero.
    """

    def __init__(self, settings: RepresentationSettings, adaptive: bool, empty: bool) -> None:
        super().__init__()
        self.settings, self.adaptive, self.empty = settings, adaptive, empty
        count = len(FACTORS) + int(empty)
        self.widths = nn.Parameter(torch.zeros(count), requires_grad=adaptive)

    def shares(self) -> Tensor:
        """``[3]``, or ``[4]`` with the empty one: the part of the channels of each interval; they sum to 1."""
        return torch.softmax(self.widths, dim=0)

    def ranges(self) -> list[tuple[int, int]]:
        """First channel and the one after the last of each interval, with hard borders."""
        size = self.settings.representation_dim
        cuts = [0, *(round(float(cut) * size) for cut in self.shares().detach().double().cumsum(0)[:-1]), size]
        return list(zip(cuts, cuts[1:], strict=False))

    def sharpness(self, step: int) -> float:
        """How hard borders are at a step: two linear ramps, then constant."""
        s = self.settings
        if step < s.sharpening:
            return s.start_sigmoid + (s.end_sigmoid - s.start_sigmoid) * step / s.sharpening
        last = min(1.0, (step - s.sharpening) / s.final_sharpening)
        return s.end_sigmoid + (s.sharpen_sigmoid - s.end_sigmoid) * last

    def masks(self, step: int) -> Tensor:
        """``[K, r]``: 0 inside of each interval, 1 outside, in between at its borders; the ends of the vector meet."""
        size = self.settings.representation_dim
        if not self.adaptive:
            masks = torch.ones(len(self.widths), size, device=self.widths.device)
            for mask, (first, end) in zip(masks, self.ranges(), strict=True):
                mask[first:end] = 0.0
            return masks
        place = torch.arange(1, size + 1, device=self.widths.device, dtype=self.widths.dtype) / size
        ends = self.shares().cumsum(0)[:, None]
        starts = ends - self.shares()[:, None]
        sharpness, masks = self.sharpness(step), torch.ones_like(ends * place)
        for turn in (0.0, -1.0, 1.0):
            rise = torch.sigmoid(sharpness * (place - starts - turn))
            masks = masks * (1.0 - rise + torch.sigmoid(sharpness * (place - ends - turn)))
        return masks

    def combined(self, vectors: Tensor, factor: int, step: int) -> Tensor:
        """One vector per scene.

        Args:
            vectors: ``[B, O, r, h, w]`` of every observation; factor: what the batch varies, −1: everything.

        Returns:
            ``[B, r, h, w]``. Where the batch's scenes are equal, the gradient can be replaced by the pull to the
            batch's mean (``gradient_reg``; Kulkarni et al. 2015, section 3.2).
        """
        own = vectors.amax(dim=1) if self.settings.aggregation_func == "max" else vectors.mean(dim=1)
        masks = self.masks(step)
        if factor >= 0:
            mask = masks[factor][:, None, None]
            rho = self.settings.gradient_reg
            if rho > 0.0 and own.requires_grad:
                pull, keep = _pull(own, mask, rho)
                own.register_hook(lambda gradient: pull + keep * gradient)
            own = (1.0 - mask) * own + mask * own.mean(dim=0, keepdim=True)
        if self.empty:
            own = own * masks[-1].clamp(0.0, 1.0)[:, None, None]
        return own

    def used(self) -> Tensor:
        """The part of the channels outside of the empty interval, which a loss makes small."""
        return 1.0 - self.shares()[-1] if self.empty else self.widths.new_ones(())


def swapped(vectors: Sequence[Tensor], ranges: Sequence[tuple[int, int]]) -> Tensor:
    """A vector whose partitions come from several scenes.

    Args:
        vectors: ``[B, r, h, w]`` per factor: the scene whose light, geometry and material is taken.
        ranges: of the partitions; channels of no factor come from the first.
    """
    out = vectors[0].clone()
    for vector, (first, end) in zip(vectors, ranges, strict=False):
        out[:, first:end] = vector[:, first:end]
    return out


def _pull(own: Tensor, mask: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """What is added to the gradient and by what it is multiplied before."""
    mask, value = mask.detach(), own.detach()
    return rho * mask * (value - value.mean(dim=0, keepdim=True)), 1.0 - rho * mask
