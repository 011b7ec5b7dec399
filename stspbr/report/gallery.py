"""The pictures of a run: held-out views, maps beside the truth, relit views, the light, previews."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.images import read_image
from stspbr.report.pictures import Picture, light_exposure, light_picture, picture
from stspbr.report.records import RunRecord

CHANNELS = ("albedo", "roughness", "metallic", "normal", "occlusion", "opacity")
_VIEW_PARTS = ("target", "result", "error", "material_error")
_MAP_PARTS = ("reference", "estimate", "error")
_MAP_TITLES = {"reference": "truth", "estimate": "result", "error": "error"}


@dataclass(frozen=True)
class Shot:
    """A picture with its caption."""

    caption: str
    picture: Picture


@dataclass
class Row:
    """Pictures side by side, by part (``target``, ``result``, …)."""

    title: str
    shots: dict[str, Shot] = field(default_factory=dict)


@dataclass(frozen=True)
class Light:
    """The light of the bake, and the true one if the capture has it.

    ``known``: whether the optimisation was given the capture's light; None if that is not recorded.
    """

    recovered: np.ndarray
    shots: list[Shot]
    known: bool | None


def view_rows(record: RunRecord) -> list[Row]:
    """Target, result, error and material error of the held-out views in the evaluation."""
    pattern = r"views/(?P<row>.+?)_(?P<part>target|result|material_error|error)\.png"
    return _rows(record, "views", pattern, _VIEW_PARTS)


def relit_rows(record: RunRecord) -> list[Row]:
    """Truth and result under lights that the run never saw; a row's title is ``light, frame`` if both are known."""
    rows = _rows(record, "relit", r"relit/(?P<row>.+)_(?P<part>truth|result)\.png", ("truth", "result"))
    lights = sorted((record.errors or {}).get("relighting") or {}, key=len, reverse=True)
    for row in rows:
        light = next((name for name in lights if row.title.startswith(f"{name}_")), None)
        if light is not None:
            row.title = f"{light}, {row.title[len(light) + 1 :]}"
            row.shots = {part: Shot(f"{row.title}: {part}", shot.picture) for part, shot in row.shots.items()}
    return rows


def map_rows(record: RunRecord, side: int = 768) -> list[Row]:
    """Truth, result and error of each channel on the reference's UVs; else the bake's own maps alone."""
    pattern = r"maps/(?P<part>reference|estimate|error)_(?P<row>.+)\.png"
    rows = _rows(record, "maps", pattern, _MAP_PARTS, side)
    if not rows:
        rows = [Row(channel, _own_map(record, channel, side)) for channel in CHANNELS]
    order = {channel: k for k, channel in enumerate(CHANNELS)}
    rows.sort(key=lambda row: (order.get(row.title, len(order)), row.title))
    return [row for row in rows if row.shots]


def confidence_shots(record: RunRecord, side: int = 768) -> list[Shot]:
    """How sure each channel of the asset's maps is, on its own UVs; of each material if there are several."""
    shots = []
    for material in record.json(record.asset_stage, "confidence.json").get("materials") or []:
        for channel, name in (material.get("files") or {}).items():
            path = record.file(record.asset_stage, name) if name.endswith(".png") else None
            whose = f"{material.get('name')}, " if name != f"confidence/{channel}.png" else ""
            shot = None if path is None else _shot(f"{whose}{channel}: white is sure, black is the prior", path, side)
            shots += [shot] if shot else []
    return shots


def contact_sheet(record: RunRecord) -> Shot | None:
    """The evaluation's contact sheet."""
    path = record.file("evaluate", "contact_sheet.png")
    return None if path is None else _shot("contact sheet: result and truth", path, 2400, 1_500_000)


def copies_sheet(record: RunRecord) -> Shot | None:
    """The photo of a capture from duplicates, with the outline of every copy."""
    path = record.file("capture", "contact_sheet.png")
    caption = (
        "blue: the mask's outline; green: registered, yellow: rescued, as the hull lies in its pose; red: rejected"
    )
    return None if path is None else _shot(caption, path, 1400, 1_500_000)


def copies_rows(record: RunRecord) -> list[tuple[str, ...]]:
    """Of each copy: label, state, coherence and likeness in percent, and the reason if it was rejected."""
    rows = []
    for copy in record.json("capture", "duplicates.json").get("copies", []):
        shares = [f"{100.0 * copy[key]:.1f}" if key in copy else "" for key in ("coherence", "likeness")]
        rows.append((str(copy["label"]), copy["state"], *shares, copy.get("reason", "")))
    return rows


def preview_shots(previews: dict[str, Path]) -> list[Shot]:
    """The last preview of each stage; the caption comes from the file's name, which lists the parts."""
    shots = []
    for stage, path in previews.items():
        name, _, step = path.stem.rpartition("_")
        caption = f"{stage}, step {int(step)}: {name.replace('_', ' | ')}" if step.isdecimal() else f"{stage}: {name}"
        shot = _shot(caption, path, 1600, 600_000)
        shots += [shot] if shot else []
    return shots


def read_run_light(record: RunRecord) -> Light | None:
    """The bake's light beside the true one, both at the exposure of the true one; None if there is no light."""
    path = record.file(record.asset_stage, "light.hdr")
    if path is None:
        return None
    try:
        recovered = read_image(path)[0]
    except StspbrError as error:
        record.notices.append(str(error))
        return None
    true_light = _true_light(record)
    coarse = record.artifacts.get("coarse")
    mode = coarse.settings.get("light", {}).get("mode") if coarse is not None else None
    known = None if mode is None or "capture" not in record.artifacts else true_light is not None and mode != "learned"
    exposure = light_exposure(recovered if true_light is None else true_light)
    title = "the light, known and given" if known else "light recovered" if known is False else "light of the bake"
    shots = [Shot(title, light_picture(recovered, exposure))]
    if true_light is not None and not known:
        shots.append(Shot("true light", light_picture(true_light, exposure)))
    return Light(recovered, shots, known)


def _true_light(record: RunRecord) -> np.ndarray | None:
    capture = record.artifacts.get("capture")
    if capture is None or "transforms.json" not in capture.files:
        return None
    try:
        name = json.loads(capture.file("transforms.json").read_text(encoding="utf-8")).get("environment")
        return None if name is None else read_image(capture.file(name))[0]
    except StspbrError as error:
        record.notices.append(str(error))
        return None


def _rows(record: RunRecord, folder: str, pattern: str, parts: tuple[str, ...], side: int = 768) -> list[Row]:
    artifact = record.artifacts.get("evaluate")
    peaks = (record.errors or {}).get("error_peaks") or {}
    rows: dict[str, Row] = {}
    if artifact is None:
        return []
    for name in artifact.files:
        match = re.fullmatch(pattern, name) if name.startswith(f"{folder}/") else None
        if match is None:
            continue
        row = rows.setdefault(match["row"], Row(match["row"]))
        title = _MAP_TITLES.get(match["part"], match["part"]) if folder == "maps" else match["part"]
        title = title.replace("_", " ")
        if folder == "maps" and match["part"] == "error" and isinstance(peaks.get(match["row"]), (int, float)):
            title += f" (white: {peaks[match['row']]:g}{'°' if match['row'] == 'normal' else ''} and more)"
        shot = _shot(f"{match['row']}: {title}", artifact.file(name), side)
        if shot is not None:
            row.shots[match["part"]] = shot
    for row in rows.values():
        row.shots = {part: row.shots[part] for part in parts if part in row.shots}
    return [rows[name] for name in sorted(rows)]


def _own_map(record: RunRecord, channel: str, side: int) -> dict[str, Shot]:
    names = [name for name in getattr(record.artifacts.get(record.asset_stage), "files", []) if name.startswith("obj/")]
    name = next((name for name in names if name.endswith(f"_{channel}.png")), None)
    path = None if name is None else record.file(record.asset_stage, name)
    shot = None if path is None else _shot(f"{channel}: result, own UVs", path, side)
    return {} if shot is None else {"estimate": shot}


def _shot(caption: str, path: Path, side: int, limit: int | None = None) -> Shot | None:
    made = picture(path, side) if limit is None else picture(path, side, limit)
    return None if made is None else Shot(caption, made)
