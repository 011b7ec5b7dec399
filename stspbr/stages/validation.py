"""How well a reconstruction explains the views that it has not seen."""

from __future__ import annotations

import numpy as np

from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.views import ViewSet
from stspbr.recipe import OptimizeSettings
from stspbr.scene import Capture
from stspbr.stages.session import Session


def held_out_views(capture: Capture, settings: OptimizeSettings, session: Session) -> ViewSet | None:
    """The capture's held-out frames as tensors, reduced as the training frames are; None where there are none."""
    frames = capture.split("test")
    return ViewSet(frames, settings.image_scale, session.device) if frames else None


def validate(reconstruction: Reconstruction, views: ViewSet) -> dict[str, float]:
    """Mean and lowest PSNR over ``views``: on sRGB clipped to [0, 1], over the target's mask."""
    light = reconstruction.light.prefiltered()
    values = []
    for number in range(len(views)):
        batch, targets = views.batch([number])
        rgb = reconstruction.render(batch, light)["rgb"][0].cpu().numpy()
        values.append(psnr_srgb(targets.image[0].cpu().numpy(), rgb, targets.alpha[0].cpu().numpy()))
    return {"views": len(values), "psnr_mean": float(np.mean(values)), "psnr_min": float(np.min(values))}
