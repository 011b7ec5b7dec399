"""Capture: frames with poses, masks and perhaps the light, whatever they come from."""

from __future__ import annotations

import sys
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.formats.capture_checks import check_capture
from stspbr.formats.captures import read_capture
from stspbr.formats.transforms import write_transforms
from stspbr.optimize.progress import Reporter
from stspbr.recipe import CaptureFolderSettings, CaptureMeshSettings, CapturePhotosSettings, CaptureSettings
from stspbr.scene import Capture
from stspbr.scene.preparation import reduced
from stspbr.stages.capture_mesh import render_capture
from stspbr.stages.session import Session


def run_capture(session: Session, settings: CaptureSettings) -> Artifact:
    """Make a capture and write it: ``transforms.json``, linear EXR images, ``environment.exr`` where known."""
    facts: dict[str, Any] = {}
    capture = _make(session, settings, facts)
    warnings = check_capture(capture)
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
        draft.run |= facts
    return draft.artifact


def _make(session: Session, settings: CaptureSettings, facts: dict[str, Any]) -> Capture:
    """The capture; what else is to stand in ``run.json`` goes into ``facts``."""
    if isinstance(settings, CaptureMeshSettings):
        total = settings.views + settings.test_views
        with Reporter("capture", total, session.run / "logs" / "capture", quiet=session.quiet,
                      json_lines=session.json_lines) as reporter:  # fmt: skip
            return render_capture(session, settings, reporter)
    if isinstance(settings, CapturePhotosSettings):
        from stspbr.stages.capture_photos import capture_photos

        capture, report = capture_photos(session, settings)
        facts["photos"] = report.facts()
        return capture
    return _read_folder(settings)


def _read_folder(settings: CaptureFolderSettings) -> Capture:
    return reduced(read_capture(settings.folder, kind=settings.kind), settings.image_scale)
