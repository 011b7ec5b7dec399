"""Same-shading captures with a path tracer's noise, so that they compare with path-traced captures at equal noise.

The noise is measured, not modelled. Two path-traced images a and b of each view, of independent seeds, have as many
paths per pixel as the path-traced capture, and so the same strata. Then (a − b) / √2 has zero mean and, pixel by pixel,
the variance of that capture's noise. It is added to the rasterised image where the object covers the pixel at all, and
the sum is clipped at 0. The rest of the image and the coverage stay as they are. Two properties are not those of the
path-traced capture: the noise is symmetric, while rare bright paths make a path tracer's noise skewed; and clipping
adds a little light to pixels that are darker than their noise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.datasets.validation import check_capture
from stspbr.optimize.progress import SilentReporter
from stspbr.render.mitsuba_scene import render_each
from stspbr.scene import Capture
from stspbr.settings import CaptureMeshSettings
from stspbr.stages.capture_mesh import load_asset, load_light, render_capture
from stspbr.stages.session import Session


def run_noisy_capture(session: Session, settings: CaptureMeshSettings) -> Artifact:
    """The rasterised capture of ``settings`` with the noise of its path-traced counterpart, as an artifact."""
    capture = with_noise(render_capture(session, settings, SilentReporter()), settings, session.seed)
    with session.create("capture", settings) as draft:
        write_transforms(draft.path, capture)
        draft.run.update(warnings=check_capture(capture), noise=f"of {settings.samples} paths per pixel")
    return draft.artifact


def with_noise(capture: Capture, settings: CaptureMeshSettings, seed: int) -> Capture:
    """``capture`` with the noise of ``settings.samples`` paths per pixel of up to ``settings.max_depth`` segments.

    Args:
        capture: rasterised from the asset and light of ``settings``.
        seed: of the path-traced capture; the noise takes the two seeds after it.
    """
    asset, light = load_asset(settings), load_light(settings.light)
    cameras = [frame.camera for frame in capture.frames]
    renders = [
        render_each(asset, light, cameras, spp=settings.samples, max_depth=settings.max_depth, seed=seed + step)
        for step in (1, 2)
    ]
    frames = []
    for frame, (a, _), (b, _) in zip(capture.frames, *renders, strict=True):
        noise = (a - b) / np.float32(np.sqrt(2.0))
        image = np.where(frame.alpha > 0, np.maximum(frame.image + noise, 0.0), frame.image)
        frames.append(replace(frame, image=image.astype(np.float32)))
    return replace(capture, frames=frames)
