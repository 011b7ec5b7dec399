"""What is done to frames before they are reconstructed from: all of it exact in the camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

from stspbr.datasets.preparation.exposure import divided, relative_factors
from stspbr.datasets.preparation.framing import plan_framing
from stspbr.datasets.preparation.light_frame import LightFrame, in_light_frame
from stspbr.datasets.preparation.resampling import resampled
from stspbr.scene.capture import Capture, Frame


class Preparation(Protocol):
    """What can be chosen; :class:`stspbr.settings.capture.PreparationSettings` describes each field."""

    @property
    def image_scale(self) -> float: ...
    @property
    def max_side(self) -> int | None: ...
    @property
    def crop(self) -> bool: ...
    @property
    def crop_margin(self) -> float: ...
    @property
    def exposure(self) -> Literal["given", "estimate", "ignore"]: ...
    @property
    def light_frame(self) -> LightFrame: ...


def prepare(capture: Capture, settings: Preparation, on_warning: Callable[[str], None] | None = None) -> Capture:
    """Frames of one size and one exposure, in the frame of the light; in this order:

    1. exposure and white balance are divided out, relative to their medians
       (:mod:`stspbr.datasets.preparation.exposure`);
    2. every image is cut, padded and reduced in one area filter (:mod:`stspbr.datasets.preparation.framing`);
    3. the world is put where the light is fixed (:mod:`stspbr.datasets.preparation.light_frame`).

    The plan is made from poses and masks first and then carried out frame by frame, for stored frames not before their
    pixels are asked for; images that need nothing are shared with ``capture``.

    Args:
        on_warning: called with one line per remark for the user.

    Raises:
        StspbrError: exposures or gains of some frames only; a crop without masks.
    """
    factors = relative_factors(capture.frames) if settings.exposure != "ignore" else None
    framing = plan_framing(
        capture.frames,
        image_scale=settings.image_scale,
        max_side=settings.max_side,
        crop=settings.crop,
        crop_margin=settings.crop_margin,
        on_warning=on_warning,
    )
    frames: list[Frame] = []
    for number, frame in enumerate(capture.frames):
        if factors is not None:
            frame = divided(frame, factors[number])
        frame = frame.with_fields(exposure=None, white_balance=None)  # settled: nobody divides by them later
        frames.append(resampled(frame, framing.boxes[number], framing.sizes[number]))
    return in_light_frame(replace(capture, frames=frames), settings.light_frame)
