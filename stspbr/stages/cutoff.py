"""The cutoff of a cut-out: where the edge of a learned opacity lies."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.reconstruction import Reconstruction

_CANDIDATES = np.linspace(0.1, 0.9, 17)
_VIEWS = 12


@torch.no_grad()
def best_cutoff(reconstruction: Reconstruction) -> float:
    """The cutoff whose coverage differs least from the masks, in up to 12 training views."""
    appearance, views = reconstruction.appearance, reconstruction.views
    assert isinstance(appearance, TextureAppearance)
    surface = reconstruction.geometry.surface()
    chosen = np.unique(np.linspace(0, len(views) - 1, min(_VIEWS, len(views))).astype(int)).tolist()
    errors = []
    before = appearance.cutoff
    for cutoff in _CANDIDATES:
        appearance.cutoff = float(cutoff)
        error = 0.0
        for number in chosen:
            batch, targets = views.batch([number])
            batch = reconstruction.seen(batch, [number])
            difference = (reconstruction.coverage(surface, batch) - targets.alpha).abs()
            error += float((difference if targets.known is None else difference * targets.known).mean())
        errors.append(error)
    appearance.cutoff = before
    return float(_CANDIDATES[int(np.argmin(errors))])
