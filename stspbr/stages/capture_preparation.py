"""Preparation of frames that were read, whatever they were read from: what every way in but rendering ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stspbr.capture_check.frames import place_object
from stspbr.capture_check.surface import proxy_surface, reduced_frames, relative_stops
from stspbr.datasets.preparation.prepare import prepare
from stspbr.errors import StspbrError
from stspbr.scene import Capture
from stspbr.settings import PreparationSettings

_UNSURE = 0.5  # stops of scatter


def prepared(capture: Capture, settings: PreparationSettings, on_warning: Callable[[str], None]) -> Capture:
    """:func:`stspbr.datasets.preparation.prepare.prepare`, with exposures estimated first where the settings say so."""
    if settings.exposure == "estimate":
        capture = with_estimated_exposure(capture, on_warning)
    return prepare(capture, settings, on_warning)


def with_estimated_exposure(capture: Capture, on_warning: Callable[[str], None] | None = None) -> Capture:
    """Each frame with the exposure at which it shows the surface as bright as the others do; the tint stays.

    Args:
        on_warning: called if the surface looks too different from each side to estimate exposures well.

    Raises:
        StspbrError: the object's place is unknown, or a frame shows too little of what others show.
    """
    place = place_object(capture.frames)
    if place is None:
        raise StspbrError("exposures cannot be estimated: masks and poses do not locate the object: give exposures")
    small = reduced_frames(capture.frames)
    fit = relative_stops(small, proxy_surface(small, place)[0])
    if fit.scatter > _UNSURE and on_warning is not None:
        on_warning(
            f"exposures are estimated on a surface that differs by {fit.scatter:.1f} stops from view to view, too "
            "shiny for a good estimate: give them, if you can"
        )
    frames = []
    for frame, stops in zip(capture.frames, fit.stops, strict=True):
        if stops is None:
            raise StspbrError(
                f"frame {frame.name}: shares too little with the other frames to estimate its exposure: "
                "leave it out, or give exposures"
            )
        frames.append(frame.with_fields(exposure=2.0**stops, white_balance=None))
    return replace(capture, frames=frames)
