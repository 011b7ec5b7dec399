"""How a run came about, in sentences: shadows and bounces, floor, cameras, and what its readers noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stspbr.report.records import RunRecord

Row = tuple[str, list[str]]
"""A label, and its lines."""


def circumstances(record: RunRecord) -> list[Row]:
    """What a reader has to know before the maps are judged; rows without figures in the run are left out."""
    rules: tuple[tuple[str, Callable[[RunRecord], list[str]]], ...] = (
        ("Notes of the readers", _notes),
        ("Shadows and bounces", _transport),
        ("Floor", _ground),
        ("Response of the cameras", _response),
        ("Poses and lenses", _poses),
    )
    return [(label, lines) for label, rule in rules if (lines := rule(record))]


def _notes(record: RunRecord) -> list[str]:
    """What the readers chose, converted or left out, and what they warned of."""
    return [str(line) for line in record.facts.get("capture", {}).get("warnings") or []]


def _transport(record: RunRecord) -> list[str]:
    settings = _settings(record, "coarse", "transport")
    mode = settings.get("mode")
    if mode is None:
        return []
    unshadowed = _settings(record, "capture").get("renderer") == "raster"
    if mode == "off":
        return ["off (transport.mode=off): what the object hides from itself counts as dark material"]
    if mode == "auto" and unshadowed:
        return ["off (transport.mode=auto): the capture was rendered without them"]
    if mode == "auto" and _settings(record, "coarse", "fields").get("alpha", "off") != "off":
        return ["off (transport.mode=auto): the object has cut-outs"]
    low, high = settings.get("ramp") or (0.0, 0.0)
    rays = settings.get("rays", "auto")
    return [f"on (transport.mode={mode}), rays by {rays}, faded in from {low:.0%} to {high:.0%} of coarse"]


def _ground(record: RunRecord) -> list[str]:
    found = record.json(record.asset_stage, "metrics.json").get("ground") or record.json("bake", "metrics.json").get(
        "ground"
    )
    if isinstance(found, dict):
        grey = ", ".join(f"{value:.2f}" for value in found["grey"])
        return [f"diffuse, albedo {grey} (red, green, blue), at height {found['height']:.3g}"]
    asked = _settings(record, "coarse", "transport").get("ground")
    if asked == "auto":
        return ["none: transport.ground=auto found no reason for one"]
    return ["none (transport.ground=none)"] if asked == "none" else []


def _response(record: RunRecord) -> list[str]:
    found = _camera(record).get("response")
    if not isinstance(found, dict):
        return []
    stops = [value for value in found.get("exposure_stops") or [] if isinstance(value, (int, float))]
    lines = [f"{found.get('cameras', 1)} fitted"]
    if stops:
        lines[0] += f"; exposures from {min(stops):+.2f} to {max(stops):+.2f} stops"
    corner = [min(row) if isinstance(row, list) else row for row in found.get("vignetting_at_corner") or []]
    if corner:
        lines[0] += f"; {100 * (1 - min(corner)):.0f} % darker in the corners at most"
    return [*lines, *([found["held_out"]] if found.get("held_out") else [])]


def _poses(record: RunRecord) -> list[str]:
    found = _camera(record).get("cameras")
    if isinstance(found, dict):
        turn, shift, focal = (found.get(key) for key in ("rotation_degrees", "translation_of_distance", "focal_factor"))
        if all(isinstance(value, (int, float)) for value in (turn, shift, focal)):
            return [
                f"refined: on the mean turned by {turn:.2f}° and moved by {100 * float(shift or 0):.2f} % of their "
                f"distance; focal lengths times {focal:.4f}"
            ]
    mode = _settings(record, "coarse", "camera", "poses").get("mode")
    return [] if mode is None else [f"as the capture has them (camera.poses.mode={mode})"]


def _camera(record: RunRecord) -> dict[str, Any]:
    """What the last stage that fitted cameras says of them."""
    for stage in (record.asset_stage, "bake", "specialize", "coarse"):
        found = record.json(stage, "metrics.json").get("camera")
        if isinstance(found, dict):
            return found
    return {}


def _settings(record: RunRecord, stage: str, *path: str) -> dict[str, Any]:
    artifact = record.artifacts.get(stage)
    found: Any = {} if artifact is None else artifact.settings
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
