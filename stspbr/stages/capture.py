"""Capture: frames with poses, masks and perhaps the light, whatever they come from."""

from __future__ import annotations

import sys
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.datasets.captures import read_capture
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.datasets.validation import check_capture
from stspbr.errors import StspbrError
from stspbr.formats.choices import FileChoices
from stspbr.notes import Notes
from stspbr.optimize.progress import Reporter
from stspbr.scene import Capture
from stspbr.settings import (
    CaptureDuplicatesSettings,
    CaptureMeshSettings,
    CapturePhotosSettings,
    CaptureSettings,
    CaptureUsdSettings,
)
from stspbr.stages.capture_mesh import render_capture
from stspbr.stages.capture_preparation import prepared
from stspbr.stages.session import Session, on_first_rank


@on_first_rank
def run_capture(session: Session, settings: CaptureSettings) -> Artifact:
    """Make a capture and write it: ``transforms.json``, linear EXR images, ``environment.exr`` where known."""
    notes = Notes()
    facts: dict[str, Any] = {}
    try:
        capture = _make(session, settings, notes, facts)
    except StspbrError:
        _print(session, notes.lines())  # they may have the cause
        raise
    left_out: list[str] = facts.pop("left_out", [])  # printed already
    write_more = facts.pop("write", None)
    with session.create("capture", settings) as draft:
        write_transforms(draft.path, capture)
        if write_more is not None:
            write_more(draft.path)
        # what is written is checked when it is: the pixels of stored frames are then there
        checks = check_capture(capture)
        warnings = list(dict.fromkeys([*notes.lines(), *checks]))
        draft.run.update(facts, warnings=[*left_out, *warnings])
    _print(session, warnings)
    return draft.artifact


def _print(session: Session, warnings: list[str]) -> None:
    if not session.quiet and not session.json_lines:
        for warning in warnings:
            sys.stderr.write(f"stspbr: warning: {warning}\n")


def _make(session: Session, settings: CaptureSettings, on_warning: Notes, facts: dict[str, Any]) -> Capture:
    """The capture; further content of ``run.json`` goes into ``facts``."""
    if isinstance(settings, CaptureMeshSettings):
        total = settings.views + settings.test_views
        with Reporter("capture", total, session.run / "logs" / "capture", quiet=session.quiet,
                      json_lines=session.json_lines, whole=session.whole) as reporter:  # fmt: skip
            return render_capture(session, settings, reporter, on_warning)
    if isinstance(settings, CapturePhotosSettings):
        from stspbr.stages.capture_photos import capture_photos

        capture, report = capture_photos(session, settings, on_warning)
        left_out = [f"left out: {line}" for line in report.left_out()]
        facts |= {"photos": report.facts(), "left_out": [*left_out, *report.notes]}
        # the images come reduced by the whole part of the scale already
        changes: dict[str, Any] = {"image_scale": settings.image_scale / int(settings.image_scale)}
        if report.turntable and settings.light_frame == "world":
            changes["light_frame"] = "camera"
        return prepared(capture, settings.model_copy(update=changes), on_warning)

    if isinstance(settings, CaptureDuplicatesSettings):
        from stspbr.stages.capture_duplicates import capture_duplicates

        capture, found = capture_duplicates(session, settings, on_warning)
        facts |= {"duplicates": found.facts(), "write": found.write, "left_out": found.left_out()}
        return prepared(capture, settings, on_warning)

    def say(line: str) -> None:
        if not session.quiet and not session.json_lines:
            sys.stdout.write(f"capture: {line}\n")

    options: dict[str, Any] = {"masks": settings.masks, "hold_out_every": settings.hold_out_every, "stream": say}
    options["choices"] = FileChoices(settings.layer, settings.mask_label, settings.invert_masks)
    if isinstance(settings, CaptureUsdSettings):
        from stspbr.datasets.usd_scene import read_usd_scene

        where = settings.file, settings.camera, settings.images, settings.frames, settings.object
        options |= {"fit": settings.fit, "light": settings.light}
        return prepared(read_usd_scene(*where, on_warning=on_warning, **options), settings, on_warning)
    options |= {"kind": settings.kind, "up": settings.up, "known_light": settings.known_light}
    return prepared(read_capture(settings.folder, on_warning, **options), settings, on_warning)
