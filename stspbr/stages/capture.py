"""Capture: frames with poses, masks and perhaps the light, whatever they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.capture_checks import check_capture
from stspbr.formats.captures import read_capture
from stspbr.formats.transforms import write_transforms
from stspbr.optimize.progress import Reporter
from stspbr.recipe import CaptureMeshSettings, CaptureSettings
from stspbr.scene import Capture
from stspbr.scene.preparation import prepare
from stspbr.stages.capture_mesh import render_capture
from stspbr.stages.session import Session


def run_capture(session: Session, settings: CaptureSettings) -> Artifact:
    """Make a capture and write it: ``transforms.json``, linear EXR images, ``environment.exr`` where known."""
    warnings: list[str] = []
    capture = _make(session, settings, warnings.append)
    warnings += check_capture(capture)
    if not session.quiet and not session.json_lines:
        for warning in warnings:
            sys.stderr.write(f"stspbr: warning: {warning}\n")
    with session.store.create(
        "capture",
        settings=settings.model_dump(mode="json"),
        device=str(session.device),
        threads=session.threads,
        seed=session.seed,
    ) as draft:
        write_transforms(draft.path, capture)
        draft.run["warnings"] = warnings
    return draft.artifact


def _make(session: Session, settings: CaptureSettings, on_warning: Callable[[str], None]) -> Capture:
    if isinstance(settings, CaptureMeshSettings):
        total = settings.views + settings.test_views
        with Reporter("capture", total, session.run / "logs" / "capture", quiet=session.quiet,
                      json_lines=session.json_lines) as reporter:  # fmt: skip
            return render_capture(session, settings, reporter)
    capture = read_capture(settings.folder, kind=settings.kind)
    if settings.exposure == "estimate":
        capture = with_estimated_exposure(capture)
    return prepare(capture, settings, on_warning)


def with_estimated_exposure(capture: Capture) -> Capture:
    """Each frame with the exposure at which it shows the surface as bright as the others do; the tint stays.

    Raises:
        StspbrError: nobody knows where the object is, or a frame shows too little of what others show.
    """
    from stspbr.metrics.capture_frames import place_object
    from stspbr.metrics.capture_surface import proxy_surface, reduced_frames, relative_stops

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
