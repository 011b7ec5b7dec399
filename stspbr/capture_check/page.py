"""The page of a capture's check: cameras in 3D with what they saw, coverage, contact sheets, every frame's metrics."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from stspbr.capture_check.drawing import Frustum
from stspbr.capture_check.frames import ObjectPlace
from stspbr.capture_check.sheet import display_scale, thumbnail
from stspbr.report.gallery import Shot
from stspbr.report.page import render
from stspbr.report.pictures import Picture, data_uri
from stspbr.scene import Frame

_THUMBNAILS_BYTES = 6_000_000  # of all frames together
_QUALITY = 80


def capture_page(
    frames: Sequence[Frame],
    frusta: Sequence[Frustum],
    place: ObjectPlace | None,
    points: np.ndarray,
    *,
    title: str,
    findings: Sequence[str],
    notes: Sequence[str],
    photos: Sequence[str],
    facts: Sequence[tuple[str, str]],
    columns: Sequence[str],
    rows: Sequence[tuple[str, list[str]]],
    coverage: Any,
    sheets: Sequence[Any],
) -> str:
    """The HTML.

    Args:
        frames, frusta: of the same length and order; frusta empty where there is nothing to see in 3D.
        points: ``[N, 3]`` of the object's surface in object space, may be empty.
        notes: how the files were read; photos: what to photograph next, a line each.
        facts: label and value of the tiles at the top.
        columns, rows: of the table of frames; a row is a name and its cells.
        coverage: Pillow image, or None; sheets: Pillow images.
    """
    embedded = {}
    if frusta and place is not None:
        embedded["views"] = base64.b64encode(_views(frames, frusta, place, points).encode("utf-8")).decode("ascii")
    return render(
        "capture.html",
        viewer="frusta.js",
        title=title,
        findings=findings,
        notes=notes,
        photos=photos,
        facts=facts,
        columns=columns,
        rows=rows,
        embedded=embedded,
        coverage=None if coverage is None else _shot(coverage, "how many cameras see each direction of the object"),
        sheets=[_shot(sheet, f"contact sheet {number}") for number, sheet in enumerate(sheets, 1)],
    )


def _views(frames: Sequence[Frame], frusta: Sequence[Frustum], place: ObjectPlace, points: np.ndarray) -> str:
    """JSON of what the 3D view draws."""
    from PIL import Image

    scale = display_scale(frames)
    side = 160 if len(frames) <= 200 else 96
    cameras, total = [], 0
    for frame, frustum in zip(frames, frusta, strict=True):
        picture = ""
        if total < _THUMBNAILS_BYTES:
            picture = _jpeg(Image.fromarray(thumbnail(frame, side, scale, outlined=True)))
            total += len(picture)
        cameras.append({**vars(frustum), "points": np.round(frustum.points, 6).tolist(), "picture": picture})
    flat = np.round(points, 5).reshape(-1).tolist()
    value = {"centre": place.centre.tolist(), "radius": place.radius, "points": flat, "cameras": cameras}
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _jpeg(image: Any, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, **options)
    return data_uri(stream.getvalue(), "image/jpeg")


def _shot(image: Any, caption: str) -> Shot:
    return Shot(caption, Picture(_jpeg(image, subsampling=0), *image.size))
