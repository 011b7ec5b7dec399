"""Which part of each view a step draws: where the object is, and more often where the error is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.distributed import Ranks
from stspbr.optimize.losses import clamp_radiance, tonemap
from stspbr.optimize.views import Targets, ViewSet, Window, crop_share

_CELL = 8  # pixels of the overview along a side of a cell of the error map
_UNSEEN = 2.0  # what a cell without a known error counts as, in mean errors: look there soon
_MOST = 4.0  # mean errors that count at most, so that no view is reduced to its worst spot
_MEMORY = 0.5  # weight of what was known of a cell when it is seen again


class Crops:
    """Draws the crops of a step, and remembers the errors that were found in them.

    A cell of a view is drawn in proportion to its coverage times (1 + its error over the mean error) / 2; a crop is
    centred at a random pixel of the cell and moved into the view. All numbers are functions of seed, step and errors.

    Args:
        views: with crops. seed: of the draws.

    Attributes:
        error: ``[V, R, C]`` float32 on the CPU, mean difference of tonemapped radiance in each cell of each view;
            −1: not known yet.
        share: the part of the object's pixels in a view that are in a crop of it, a mean over the views.
    """

    def __init__(self, views: ViewSet, seed: int) -> None:
        self._seed = seed
        self._cell = _CELL * views.overview
        self._full = views.full
        self._sides = tuple(min(views.crop, side) for side in views.full)
        pooled = torch.nn.functional.avg_pool2d(views.alpha.movedim(-1, 1).cpu(), _CELL, ceil_mode=True)
        self._coverage = pooled[:, 0].double().numpy()
        self.share = crop_share(views.alpha[..., 0].cpu().numpy(), views.crop, views.overview)
        self.error = torch.full(pooled[:, 0].shape, -1.0)

    def draw(self, step: int, ids: Sequence[int]) -> list[Window] | None:
        """The window of one crop of each of the views ``ids``; None: this step draws them whole, reduced.

        Every second step draws crops. The steps between them reach all of the surface, which crops reach seldom.
        """
        if step % 2 == 0:
            return None
        generator = np.random.Generator(np.random.Philox(key=[self._seed, step], counter=2))
        mean = self._mean()
        windows = []
        for number in ids:
            error = self.error[number].double().numpy()
            share = np.where(error < 0, _UNSEEN, np.minimum(error / mean, _MOST))
            weight = np.cumsum(self._coverage[number] * (0.5 + 0.5 * share))
            spot, down, across = generator.random(3)
            # an empty mask has no better place than another
            cell = int(np.searchsorted(weight, spot * weight[-1], side="right")) if weight[-1] > 0 else 0
            row, column = divmod(min(cell, weight.size - 1), error.shape[1])
            centre = ((row + down) * self._cell, (column + across) * self._cell)
            top, left = (
                int(min(max(round(middle - 0.5 * side), 0), whole - side))
                for middle, side, whole in zip(centre, self._sides, self._full, strict=True)
            )
            windows.append((left, top))
        return windows

    @torch.no_grad()
    def learn(
        self,
        ids: Sequence[int],
        windows: Sequence[Window],
        places: Sequence[int],
        image: Tensor | None,
        targets: Targets | None,
        ranks: Ranks,
    ) -> None:
        """Take the errors of a step's crops into the map; all ranks call this and have the same map afterwards.

        Args:
            ids, windows: of the whole batch. places: of this rank's crops in it.
            image: ``[B, H, W, 3 or 4]`` rendered, and its targets; None: this rank has no crop.
        """
        count = [side // self._cell + 2 for side in self._sides]
        sums = np.zeros((2, len(ids), *count))
        if image is not None and targets is not None:
            shown, seen = (tonemap(clamp_radiance(values[..., :3])) for values in (image, targets.image))
            difference = (shown - seen).abs().mean(dim=3) * (targets.alpha[..., 0] > 0)
            for values, place in zip(difference.cpu().numpy(), places, strict=True):
                sums[0, place] = self._by_cell(values, windows[place], count)
            for values, place in zip(targets.alpha[..., 0].cpu().numpy(), places, strict=True):
                sums[1, place] = self._by_cell(values, windows[place], count)
        if ranks.size > 1:
            sums = np.sum(ranks.gather(*sums.ravel()), axis=0).reshape(sums.shape)
        for place, (number, (left, top)) in enumerate(zip(ids, windows, strict=True)):
            row, column = top // self._cell, left // self._cell
            known = self.error[number, row : row + count[0], column : column + count[1]]
            found, weight = (torch.from_numpy(of[place, : known.shape[0], : known.shape[1]]) for of in sums)
            new = (found / weight.clamp(min=1e-9)).float()
            mixed = torch.where(known < 0, new, _MEMORY * known + (1.0 - _MEMORY) * new)
            known.copy_(torch.where(weight >= 1.0, mixed, known))

    def _mean(self) -> float:
        known = self.error[self.error >= 0]
        return max(float(known.double().mean()), 1e-9) if len(known) else 1.0

    def _by_cell(self, values: np.ndarray, window: Window, count: Sequence[int]) -> np.ndarray:
        """Sums of ``values [H, W]`` over the cells that the window touches, ``count`` of them, the rest 0."""
        out = values.astype(np.float64)
        for axis, start in ((0, window[1]), (1, window[0])):
            first = start // self._cell * self._cell - start
            edges = np.arange(first, out.shape[axis], self._cell).clip(min=0)
            out = np.add.reduceat(out, edges, axis=axis)
        return np.pad(out, [(0, most - have) for most, have in zip(count, out.shape, strict=True)])
