"""What is done to frames before they are reconstructed from: all of it exact in the camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene.capture import Capture, Frame


def reduced(capture: Capture, scale: int) -> Capture:
    """Every frame with its sides divided by ``scale``, averaged over areas."""
    return capture if scale == 1 else replace(capture, frames=[_reduced(frame, scale) for frame in capture.frames])


def _reduced(frame: Frame, scale: int) -> Frame:
    """A frame whose sides are divided by ``scale``, averaged over areas."""
    h, w = frame.camera.height // scale, frame.camera.width // scale
    if (h * scale, w * scale) != (frame.camera.height, frame.camera.width):
        raise StspbrError(
            f"frame {frame.name}: image_scale={scale} does not divide {frame.camera.width}×{frame.camera.height}"
        )

    def mean(image: np.ndarray) -> np.ndarray:
        return image.reshape(h, scale, w, scale, -1).mean(axis=(1, 3))

    return replace(frame, camera=frame.camera.resized(w, h), image=mean(frame.image), alpha=mean(frame.alpha))
