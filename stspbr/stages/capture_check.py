"""Capture check: report what is wrong with a capture before hours are spent on it. The capture is not changed."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import MANIFEST, RUN_FACTS, ArtifactStore
from stspbr.capture_check.coverage import SEEN, Coverage, direction_words, measure_coverage
from stspbr.capture_check.drawing import Frustum, draw_cameras, draw_coverage, frustum_points
from stspbr.capture_check.findings import Comparisons, Finding, compare_frames, find
from stspbr.capture_check.frames import FrameMetrics, ObjectPlace, frame_metrics, place_object
from stspbr.capture_check.page import capture_page
from stspbr.capture_check.sheet import contact_sheets
from stspbr.capture_check.surface import ExposureFit, ProxySurface, proxy_surface, reduced_frames, relative_stops
from stspbr.datasets.captures import read_capture
from stspbr.datasets.json_frames import read_json
from stspbr.datasets.preparation.exposure import divided, relative_factors
from stspbr.datasets.validation import RefusedCapture
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.scene import Capture, Frame
from stspbr.version import __version__

SCHEMA = 1
UNSURE = 0.85  # of a mask that was found: below, it gets a warning
CONFIDENCE = "confidence.json"
COLUMNS = ("split", "size", "mask %", "azimuth", "elevation", "sharpness", "stops", "clipped %", "warnings")
_SHEET = re.compile(r"contact-sheet-\d+\.png")


@dataclass(frozen=True)
class CaptureCheck:
    """What a check found.

    Attributes:
        source: the folder that was read.
        frames, comparisons: metrics of the frames, in order.
        coverage: by the training cameras; None if the place of the object is unknown.
        place, surface: the object as estimated from masks and cameras; None if that failed.
        findings: the warnings.
        light: whether the capture stores its light.
        notes: how its files were read, one line per kind.
        photos: to be taken next, as a run's ``confidence.json`` has them; empty if no run was named.
        mask_confidence: of masks that `capture photos` found, in [0, 1], by frame name.
    """

    source: Path
    frames: list[FrameMetrics]
    comparisons: Comparisons
    coverage: Coverage | None
    place: ObjectPlace | None
    surface: ProxySurface | None
    findings: list[Finding]
    light: bool
    notes: list[str] = field(default_factory=list)
    photos: list[dict[str, Any]] = field(default_factory=list)
    mask_confidence: dict[str, float] = field(default_factory=dict)


def run_capture_check(
    path: str | Path, out: str | Path | None = None, version: str | None = None, after: str | Path | None = None
) -> tuple[CaptureCheck, Path]:
    """Check a capture; write a page, contact sheets, pictures of cameras and coverage, and all metrics.

    Args:
        path: a run, a capture artifact, or any folder that :func:`stspbr.datasets.captures.read_capture` reads.
        out: the folder to write to; default ``capture-check`` in the run, or in the working directory.
        version: of the run's capture; default the newest.
        after: a run with a bake, which says from where to take five more photographs.

    Returns:
        The :class:`CaptureCheck` and the folder.

    Raises:
        StspbrError: ``path`` cannot be read, or ``out`` cannot be written. A capture that `stspbr capture` would
            refuse (no masks, a wrong pose) is checked, too; the reason becomes its first finding.
    """
    source, default = _source(Path(path), version)
    out = default if out is None else Path(out)
    photos = [] if after is None else photos_after(after)
    notes = _recorded_notes(source)
    capture, refusal = _read(source, notes.append)
    check = replace(check_frames(capture, source, refusal), notes=list(dict.fromkeys(notes)), photos=photos)
    check = with_mask_confidence(check, _recorded_confidence(source))
    write_check(check, capture.frames, out)
    return check, out


def check_frames(capture: Capture, source: Path = Path("."), refusal: str = "") -> CaptureCheck:
    """The check itself; nothing is written.

    Args:
        refusal: why `stspbr capture` would refuse the capture; empty if it would not.
    """
    frames = capture.frames
    place = place_object(frames)
    metrics = frame_metrics(frames, place)
    findings = [Finding("refused", f"the capture would be refused: {refusal}")] if refusal else []
    surface, exposure = None, ExposureFit([None] * len(frames), 0.0)
    if place is not None:
        small = reduced_frames(frames)
        surface, fault = proxy_surface(small, place)
        if fault:
            findings.append(Finding("masks-contradict", f"masks and poses contradict each other: {fault}"))
        exposure = relative_stops(_evened(small, findings), surface)
    comparisons = compare_frames(metrics, exposure, rough=surface is None or not surface.from_masks)
    directions = [f.direction for f in metrics if f.direction is not None and f.split == "train"]
    coverage = measure_coverage(np.array(directions)) if directions else None
    findings += find(metrics, comparisons, coverage, place)
    return CaptureCheck(source, metrics, comparisons, coverage, place, surface, findings, capture.light is not None)


def with_mask_confidence(check: CaptureCheck, known: dict[str, float]) -> CaptureCheck:
    """The check with the masks' confidence by photo, and a finding about those that are not sure."""
    by_photo = {Path(name).with_suffix("").as_posix(): value for name, value in known.items()}
    photos = {frame.name: Path(frame.name.removeprefix("images/")).with_suffix("").as_posix() for frame in check.frames}
    by_frame = {name: by_photo[photo] for name, photo in photos.items() if photo in by_photo}
    unsure = sorted((name for name, value in by_frame.items() if value < UNSURE), key=lambda name: by_frame[name])
    if not unsure:
        return replace(check, mask_confidence=by_frame)
    text = (
        f"{len(unsure)} masks that were found without help meet those of the other photos by less than {UNSURE:.0%} "
        f"({', '.join(unsure[:3])}{', …' if len(unsure) > 3 else ''}): look at them; --masks DIR replaces them"
    )
    return replace(check, mask_confidence=by_frame, findings=[*check.findings, Finding("unsure-mask", text, unsure)])


def photos_after(run: str | Path) -> list[dict[str, Any]]:
    """The photographs that a run's newest asset lacks most: ``direction``, ``where``, ``azimuth``, ``elevation``, ….

    Raises:
        StspbrError: no run, no bake, or a bake that does not say how sure it is.
    """
    if not Path(run).is_dir():
        raise StspbrError(f"--after {run}: no such folder; give the folder of a run")
    artifact = ArtifactStore(Path(run)).finished()
    if CONFIDENCE not in artifact.files:
        raise StspbrError(
            f"--after {run}: {artifact.stage}/{artifact.version} does not say how sure its maps are "
            "(confidence.maps=false, or an older version): bake again"
        )
    return read_json(artifact.file(CONFIDENCE))["next_photos"]


def photo_lines(photos: list[dict[str, Any]]) -> list[str]:
    """A line per photograph to take."""
    return [
        f"{k}. from the {photo['where']}: azimuth {photo['azimuth']:.0f}°, elevation {photo['elevation']:.0f}°"
        for k, photo in enumerate(photos, 1)
    ]


def as_json(check: CaptureCheck) -> dict[str, Any]:
    """All metrics as plain values."""
    compared = check.comparisons
    frames = []
    for k, metrics in enumerate(check.frames):
        extra = {
            "relative_stops": compared.exposure.stops[k],
            "relative_sharpness": compared.usual_sharpness[k],
            "sharpness_to_neighbours": compared.sharpness[k],
            "area_to_neighbours": compared.area[k],
            "mask_confidence": check.mask_confidence.get(metrics.name),
        }
        frames.append(asdict(metrics) | extra)
    coverage = check.coverage and {
        "seen_within_degrees": SEEN,
        "cells": len(check.coverage.counts),
        "unseen_share": check.coverage.unseen,
        "share_seen_by_fewer_than_three": check.coverage.thin,
        "counts": check.coverage.counts.tolist(),
        "gaps": [
            {"direction": g.direction.tolist(), "where": direction_words(g.direction), "degrees": g.angle}
            for g in check.coverage.gaps
        ],
    }
    place = check.place and {
        "centre": check.place.centre.tolist(),
        "radius": check.place.radius,
        "from_masks": check.place.from_masks,
    }
    return {
        "schema": SCHEMA,
        "package": __version__,
        "source": str(check.source),
        "known_light": check.light,
        "object": place,
        "coverage": coverage,
        "exposure_spread_stops": compared.exposure.spread,
        "exposure_scatter_stops": compared.exposure.scatter,
        "findings": [asdict(finding) for finding in check.findings],
        "notes": check.notes,
        "next_photos": check.photos,
        "frames": frames,
    }


def facts(check: CaptureCheck) -> list[tuple[str, str]]:
    """The capture in a few lines: label and value."""
    frames, compared = check.frames, check.comparisons
    sizes = sorted({(f.width, f.height) for f in frames})
    masked = [f for f in frames if f.mask == "mask"]
    train, test = (sum(f.split == split for f in frames) for split in ("train", "test"))
    out = [
        ("training / held-out views", f"{train} / {test}"),
        ("image size", f"{sizes[0][0]}×{sizes[0][1]}" + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else "")),
        ("with a mask", f"{len(masked)} of {len(frames)}"),
    ]
    if masked:
        out.append(("object fills", f"{100 * np.median([f.covered for f in masked]):.0f} % of the image"))
    if check.coverage is not None:
        gap = check.coverage.gaps[0]
        out.append(("widest gap", f"{gap.angle:.0f}° ({direction_words(gap.direction)})"))
        out.append(("seen by three or more", f"{100 * (1 - check.coverage.thin):.0f} % of directions"))
    if compared.exposure.spread is not None:
        rough = " (rough)" if compared.rough else ""
        out.append(("exposure spread", f"{compared.exposure.spread:.2f} stops{rough}"))
    clipped = [f.clipped for f in frames if f.clipped is not None]
    if clipped:
        out.append(("clipped, at most", f"{100 * max(clipped):.1f} % of the object"))
    out.append(("light", "known" if check.light else "unknown"))
    return out


def frame_rows(check: CaptureCheck) -> list[tuple[str, list[str]]]:
    """Name and the cells of ``COLUMNS`` for every frame."""
    noted = _notes(check)

    def text(value: float | None, form: str, factor: float = 1.0) -> str:
        return "–" if value is None else format(factor * value, form)

    rows = []
    for k, f in enumerate(check.frames):
        mask = format(100 * f.covered, ".1f") if f.mask == "mask" else f.mask
        cells = [f.split, f"{f.width}×{f.height}", mask, text(f.azimuth, ".0f"), text(f.elevation, ".0f")]
        cells += [text(check.comparisons.usual_sharpness[k], ".2f"), text(check.comparisons.exposure.stops[k], "+.2f")]
        rows.append((f.name, [*cells, text(f.clipped, ".1f", 100), ", ".join(noted.get(f.name, []))]))
    return rows


def _source(path: Path, version: str | None) -> tuple[Path, Path]:
    """The folder to read, and the default one to write to."""
    if not (path / "transforms.json").is_file() and (path / "capture").is_dir():
        return ArtifactStore(path).resolve("capture", version).path, path / "capture-check"
    if version is not None:
        raise StspbrError(f"{path} is not a run: --from picks a version of a run's capture")
    return path, Path("capture-check")


def _recorded_notes(source: Path) -> list[str]:
    """What was noted when a capture artifact was made; nothing for another folder."""
    facts = source / RUN_FACTS
    recorded = read_json(facts).get("warnings") if (source / MANIFEST).is_file() and facts.is_file() else None
    return [str(line) for line in recorded or []]


def _recorded_confidence(source: Path) -> dict[str, float]:
    """The confidence of the masks that were found when a capture artifact was made, by photo."""
    facts = source / RUN_FACTS
    if not ((source / MANIFEST).is_file() and facts.is_file()):
        return {}
    photos = read_json(facts).get("photos")
    known = photos.get("mask_confidence") if isinstance(photos, dict) else None
    return {str(k): float(v) for k, v in known.items()} if isinstance(known, dict) else {}


def _read(source: Path, on_warning: Callable[[str], None]) -> tuple[Capture, str]:
    try:
        capture = read_capture(source, on_warning)
    except RefusedCapture as refused:
        if not refused.capture.frames or not all(map(_posed, refused.capture.frames)):
            raise  # without poses there is nothing to check
        return refused.capture, str(refused)
    return capture, ""


def _posed(frame: Frame) -> bool:
    """Whether the poses of camera and object can be inverted, and the camera has a focal length."""
    matrices = [np.asarray(m, np.float64) for m in (frame.camera.camera_to_world, frame.object_to_world)]
    if not all(m.shape == (4, 4) and np.isfinite(m).all() and abs(np.linalg.det(m)) > 1e-12 for m in matrices):
        return False
    camera = frame.camera
    return bool(np.isfinite([camera.fx, camera.fy, camera.cx, camera.cy]).all()) and min(camera.fx, camera.fy) > 0


def _evened(frames: list[Frame], findings: list[Finding]) -> list[Frame]:
    """The frames with the data's own exposures divided out, as preparation does."""
    try:
        factors = relative_factors(frames)
    except StspbrError as error:
        findings.append(Finding("exposure-partial", str(error)))
        return frames
    if factors is None:
        return frames
    return [divided(frame, factor) for frame, factor in zip(frames, factors, strict=True)]


def _notes(check: CaptureCheck) -> dict[str, list[str]]:
    """Frame name to codes of findings, except for findings that concern all frames."""
    notes: dict[str, list[str]] = defaultdict(list)
    for finding in check.findings:
        for name in finding.frames if len(finding.frames) < len(check.frames) else ():
            notes[name].append(finding.code)
    return notes


def write_check(check: CaptureCheck, frames: list[Frame], out: Path) -> None:
    """Write everything into ``out`` and remove pictures of an earlier check that this one lacks."""
    notes = _notes(check)
    sheets = contact_sheets(frames, notes, check.mask_confidence)
    pictures: dict[str, Any] = {f"contact-sheet-{k:02d}.png": sheet for k, sheet in enumerate(sheets, 1)}
    frusta: list[Frustum] = []
    points, place = np.zeros((0, 3)), check.place
    if place is not None:
        points = check.surface.points if check.surface is not None and check.surface.from_masks else points
        distances = [f.distance for f in check.frames if f.distance is not None]
        depth = 0.25 * float(np.median(distances)) if distances else place.radius
        frusta = [
            Frustum(f.name, f.split, frustum_points(f.camera, f.object_to_world, depth), f.name in notes)
            for f in frames
        ]
        pictures["cameras.png"] = draw_cameras(frusta, points, place.centre, place.radius)
    if check.coverage is not None:
        seen = [(np.array(f.direction), f.split) for f in check.frames if f.direction is not None]
        pictures["coverage.png"] = draw_coverage(check.coverage, seen)
    html = capture_page(
        frames,
        frusta,
        place,
        points,
        title=f"Capture check: {check.source}",
        findings=[finding.text for finding in check.findings],
        notes=check.notes,
        photos=photo_lines(check.photos),
        facts=facts(check),
        columns=COLUMNS,
        rows=frame_rows(check),
        coverage=pictures.get("coverage.png"),
        sheets=sheets,
    )
    for name, picture in pictures.items():
        with atomic_path(out / name) as temporary:
            picture.save(temporary, format="PNG")
    with atomic_path(out / "check.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    with atomic_path(out / "check.json") as temporary:
        temporary.write_text(json.dumps(as_json(check), indent=1, allow_nan=False) + "\n", "utf-8")
    for old in out.iterdir():  # an earlier check may have had more frames
        stale = _SHEET.fullmatch(old.name) or old.name in ("cameras.png", "coverage.png")
        if stale and old.name not in pictures:
            old.unlink()
