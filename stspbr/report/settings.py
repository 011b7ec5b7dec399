"""Settings as rows of text, and the rows in which runs differ."""

from __future__ import annotations

import json
import re
from typing import Any

from stspbr.report.records import STAGES, RunRecord


def flat_settings(settings: dict[str, Any], path: str = "") -> dict[str, str]:
    """Nested settings as ``{"optimize.losses.mask": "1.0"}``; a list is one value."""
    out: dict[str, str] = {}
    for name, value in settings.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value:
            out |= flat_settings(value, place)
        else:
            out[place] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return out


def run_settings(record: RunRecord) -> dict[str, str]:
    """All settings of a run: ``stage.key`` to text, with seeds, devices and package versions."""
    out: dict[str, str] = {}
    for stage, artifact in record.artifacts.items():
        out |= {f"{stage}.{key}": text for key, text in flat_settings(artifact.settings).items()}
        manifest = artifact.manifest
        out[f"{stage}: seed"] = json.dumps(manifest.get("seed"))
        out[f"{stage}: device"] = f"{manifest.get('device', '?')}, {manifest.get('threads', '?')} threads"
        out[f"{stage}: package"] = str((manifest.get("package") or {}).get("version", "?"))
    return out


def differing(records: list[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """``(key, text of each run)`` of the settings that differ between runs; None if a run lacks the setting.

    A run without a stage has None for that stage's settings, which does not count as a difference.
    """
    tables = [run_settings(record) for record in records]
    out = []
    for key in dict.fromkeys(key for table in tables for key in table):
        stage = re.split(r"[.:]", key)[0]
        texts = [table.get(key) for table in tables]
        if len({text for text, record in zip(texts, records, strict=True) if stage in record.artifacts}) > 1:
            out.append((key, texts))
    order = {stage: k for k, stage in enumerate(STAGES)}
    return sorted(out, key=lambda row: order.get(re.split(r"[.:]", row[0])[0], len(order)))


def brief(record: RunRecord) -> list[str]:
    """The run in a few words: source, renderer, views, networks, steps, textures."""
    found = {stage: artifact.settings for stage, artifact in record.artifacts.items()}
    capture, coarse, bake = (found.get(stage, {}) for stage in ("capture", "coarse", "bake"))
    words = []
    source = capture.get("asset") or capture.get("folder")
    if source:
        words.append(str(source).replace("\\", "/").rstrip("/").rpartition("/")[2])
    kinds = {"mitsuba": ["path-traced capture"], "raster": ["same-shading capture"]}
    words += kinds.get(str(capture.get("renderer")), [])
    if (ground := record.json("bake", "metrics.json").get("ground")) is not None:
        words.append(f"floor of grey {sum(ground['grey']) / 3:.2f} at height {ground['height']:.3g}")
    if {"views", "test_views", "resolution"} <= capture.keys():
        words.append(f"{capture['views']} + {capture['test_views']} views of {capture['resolution']}²")
    fields, optimize = coarse.get("fields") or {}, coarse.get("optimize") or {}
    words += [f"{fields['mode']} networks"] if fields.get("mode") else []
    words += [f"{optimize['routing']} routing"] if optimize.get("routing") else []
    loops = [settings.get("optimize") or {} for settings in found.values()]
    steps = [str(loop["iterations"]) for loop in loops if "iterations" in loop]
    words += [f"{' + '.join(steps)} steps"] if steps else []
    if bake.get("texture_resolution"):
        side = bake["texture_resolution"]
        words.append(f"textures {side}" if side == "auto" else f"textures {side}²")
    return words
