"""Cameras around an object, and what they cover, drawn without a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.capture_check.coverage import SEEN, Coverage
from stspbr.capture_check.sheet import SPLITS
from stspbr.scene import Camera, direction_to_latlong, look_at

_PAPER, _INK, _FAINT = (250, 250, 252), (40, 46, 54), (170, 176, 184)
_AXES = ((210, 60, 60), (60, 160, 70), (60, 100, 220))
_WARN = (214, 40, 120)
_RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)


@dataclass(frozen=True)
class Frustum:
    """One camera in object space: its centre and the four corners of its image, ``[5, 3]``."""

    name: str
    split: str
    points: np.ndarray
    noted: bool


def frustum_points(camera: Camera, object_to_world: np.ndarray, depth: float) -> np.ndarray:
    """``[5, 3]`` in object space: the camera's centre, then its image's corners at ``depth``, clockwise.

    The first corner is the image's top left.
    """
    to_object = np.linalg.inv(np.asarray(object_to_world, np.float64)) @ np.asarray(camera.camera_to_world, np.float64)
    corners = np.array([(0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height)], np.float64)
    local = np.zeros((5, 3))
    local[1:, :2] = (corners - (camera.cx, camera.cy)) / (camera.fx, -camera.fy) * depth
    local[1:, 2] = -depth
    return local @ to_object[:3, :3].T + to_object[:3, 3]


def draw_cameras(frusta: Sequence[Frustum], points: np.ndarray, centre: np.ndarray, radius: float, side: int = 720):
    """Two views side by side, from the front and above, and straight from above; a Pillow image.

    Args:
        points: ``[N, 3]`` of the object's surface, may be empty.
        centre, radius: the object's sphere, drawn as three great circles.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    sheet = Image.new("RGB", (2 * side, side + 34), _PAPER)
    views = (
        ((0.75, 0.6, 1.0), (0, 1, 0), "from the front and above"),
        ((0, 1, 0), (0, 0, -1), "from above, front below"),
    )
    for number, (place, up, title) in enumerate(views):
        view = look_at(centre + np.asarray(place, np.float64), centre, up)
        panel = _panel(frusta, points, centre, radius, view, side)
        sheet.paste(panel, (number * side, 0))
        ImageDraw.Draw(sheet).text((number * side + 12, 10), title, fill=_INK, font=font)
    pen, x = ImageDraw.Draw(sheet), 12
    legend = [("training", SPLITS["train"]), ("held out", SPLITS["test"]), ("with a warning", _WARN)]
    for text, colour in [*legend, *zip(("+X right", "+Y up", "+Z front"), _AXES, strict=True)]:
        pen.rectangle((x, side + 12, x + 12, side + 24), fill=colour)
        pen.text((x + 18, side + 9), text, fill=_INK, font=font)
        x += 40 + int(font.getlength(text))
    return sheet


def draw_coverage(coverage: Coverage, directions: Sequence[tuple[np.ndarray, str]], width: int = 960):
    """The counts over a lat-long map with the cameras on it and the widest gap marked; a Pillow image.

    Args:
        directions: unit vector and split of each camera.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = width // 2
    top = max(1, int(coverage.counts_map.max()))
    colours = _ramp(coverage.counts_map / top)
    colours[coverage.counts_map == 0] = (30, 30, 34)
    field = Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)
    sheet = Image.new("RGB", (width, height + 62), _PAPER)
    sheet.paste(field, (0, 0))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for degrees in (-60, -30, 0, 30, 60):
        y = height * (0.5 - degrees / 180)
        pen.line((0, y, width, y), fill=(255, 255, 255) if degrees == 0 else (120, 120, 130), width=1)
        pen.text((4, y + 1), f"{degrees:+d}°" if degrees else "0°", fill=(255, 255, 255), font=font)
    for direction, split in directions:
        x, y = direction_to_latlong(np.asarray(direction, np.float64)) * (width, height)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=SPLITS.get(split, _FAINT), outline=(0, 0, 0))
    gap = coverage.gaps[0]
    x, y = direction_to_latlong(gap.direction) * (width, height)
    pen.line((x - 8, y - 8, x + 8, y + 8), fill=(255, 70, 70), width=3)
    pen.line((x - 8, y + 8, x + 8, y - 8), fill=(255, 70, 70), width=3)
    names = (("front", 0.0), ("left", 0.25), ("back", 0.5), ("right", 0.75), ("front", 1.0))
    for name, place in names:
        anchor = "la" if place == 0.0 else "ra" if place == 1.0 else "ma"
        pen.text((place * width + (4 if place == 0 else -4 if place == 1 else 0), height + 4), name, fill=_INK,
                 font=font, anchor=anchor)  # fmt: skip
    bar = np.broadcast_to(_ramp(np.linspace(0, 1, 160))[None], (12, 160, 3))
    x = 4.0
    for text in (f"training cameras within {SEEN:.0f}°:  0", None, str(top), "    red cross: the widest gap, "
                 f"{gap.angle:.0f}° to the nearest of them"):  # fmt: skip
        if text is None:
            sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (int(x) + 6, height + 34))
            x += 172
        else:
            pen.text((x, height + 32), text, fill=_INK, font=font)
            x += font.getlength(text)
    return sheet


def _panel(frusta, points, centre, radius, view, side):
    """One orthographic view, far things first; drawn at twice its size for smooth lines."""
    from PIL import Image, ImageDraw

    inverse = np.linalg.inv(view)
    double = 2 * side
    sphere = centre + radius * np.concatenate([np.eye(3), -np.eye(3)])
    extent = np.concatenate([f.points for f in frusta] + [sphere]) @ inverse[:3, :3].T + inverse[:3, 3]
    low, high = extent.min(axis=0), extent.max(axis=0)
    zoom = 0.88 * double / max(high[0] - low[0], high[1] - low[1])
    middle = 0.5 * (low + high)

    def screen(place: np.ndarray) -> np.ndarray:
        local = np.atleast_2d(place) @ inverse[:3, :3].T + inverse[:3, 3] - middle
        return np.stack([side + zoom * local[:, 0], side - zoom * local[:, 1], local[:, 2]], axis=1)

    panel = Image.new("RGB", (double, double), _PAPER)
    pen = ImageDraw.Draw(panel)
    turn = np.linspace(0, 2 * math.pi, 97)
    for plane in ((0, 2), (0, 1), (1, 2)):
        ring = np.zeros((len(turn), 3))
        ring[:, plane[0]], ring[:, plane[1]] = np.cos(turn), np.sin(turn)
        pen.line([tuple(p[:2]) for p in screen(centre + radius * ring)], fill=_FAINT, width=2)
    for axis, colour in enumerate(_AXES):
        ends = screen(np.stack([centre, centre + 1.4 * radius * np.eye(3)[axis]]))
        pen.line([tuple(p[:2]) for p in ends], fill=colour, width=5)
    placed = screen(points) if len(points) else np.zeros((0, 3))
    far = placed[:, 2].min() if len(placed) else 0.0
    span = max(float(np.ptp(placed[:, 2])), 1e-12) if len(placed) else 1.0
    for x, y, z in placed[np.argsort(placed[:, 2])]:
        grey = int(205 - 120 * (z - far) / span)
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(grey, grey, grey))
    for frustum in sorted(frusta, key=lambda frustum: float(screen(frustum.points).mean(axis=0)[2])):
        colour = _WARN if frustum.noted else SPLITS.get(frustum.split, _FAINT)
        p = [tuple(q[:2]) for q in screen(frustum.points)]
        for k in range(1, 5):
            pen.line((p[0], p[k]), fill=colour, width=3)
        pen.line((p[1], p[2], p[3], p[4], p[1]), fill=colour, width=4)
        pen.line((p[1], p[2]), fill=tuple(c // 2 for c in colour), width=7)  # the image's top edge
    return panel.resize((side, side), Image.Resampling.BOX)


def _ramp(values: np.ndarray) -> np.ndarray:
    """uint8 colours of values in [0, 1]."""
    place = np.clip(values, 0.0, 1.0) * (len(_RAMP) - 1)
    channels = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)
