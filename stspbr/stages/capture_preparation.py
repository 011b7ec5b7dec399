"""Preparation of frames that were read, whatever they were read from: what every way in but rendering ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stspbr.errors import StspbrError
from stspbr.metrics.capture_frames import place_object
from stspbr.metrics.capture_surface import proxy_surface, reduced_frames, relative_stops
from stspbr.recipe import PreparationSettings
from stspbr.scene import Capture
from stspbr.scene.preparation import prepare


def prepared(capture: Capture, settings: PreparationSettings, on_warning: Callable[[str], None]) -> Capture:
    """:func:`stspbr.scene.preparation.prepare`, with exposures estimated first where the settings say so."""
    if settings.exposure == "estimate":
        capture = with_estimated_exposure(capture)
    return prepare(capture, settings, on_warning)


def with_estimated_exposure(capture: Capture) -> Capture:
    """Each frame with the exposure at which it shows the surface as bright as the others do; the tint stays.

    Raises:
        StspbrError: nobody knows where the object is, or a frame shows too little of what others show.
    """
    place = place_object(capture.frames)
    if place is None:
        raise StspbrError("exposures cannot be estimated: where the object is cannot be told from masks and poses")
    small = reduced_frames(capture.frames)
    frames = []
    for frame, stops in zip(capture.frames, relative_stops(small, proxy_surface(small, place)[0]), strict=True):
        if stops is None:
            raise StspbrError(
                f"frame {frame.name}: shares too little with the other frames to estimate its exposure: "
                "leave it out, or give exposures"
            )
        frames.append(replace(frame, exposure=2.0**stops, white_balance=None))
    return replace(capture, frames=frames)
