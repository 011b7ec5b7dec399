"""How well a reconstruction explains the views that it has not seen."""

from __future__ import annotations

import numpy as np

from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.views import ViewSet


def validate(reconstruction: Reconstruction, views: ViewSet) -> dict[str, float]:
    """Mean and lowest PSNR over ``views``: on sRGB clipped to [0, 1], over the target's mask."""
    light = reconstruction.light.prefiltered()
    values = []
    for number in range(len(views)):
        batch, targets = views.batch([number])
        rgb = reconstruction.render(batch, light)["rgb"][0].cpu().numpy()
        values.append(psnr_srgb(targets.image[0].cpu().numpy(), rgb, targets.alpha[0].cpu().numpy()))
    return {"views": len(values), "psnr_mean": float(np.mean(values)), "psnr_min": float(np.min(values))}
