"""Contact sheets of a capture: every frame with its mask outlined and its name, as many pages as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.datasets.preparation.resampling import area_resampled, reduced_size
from stspbr.scene import Frame
from stspbr.scene.object_sphere import COVERED

COLUMNS, ROWS = 6, 6
_TILE, _GAP, _LINE = 176, 10, 15
_PAPER, _INK, _FAINT, _WARN = (24, 24, 26), (232, 232, 232), (150, 156, 164), (255, 84, 84)
OUTLINE = (255, 60, 200)  # hardly a colour of any object
SPLITS = {"train": (90, 160, 255), "test": (255, 150, 60)}


def display_scale(frames: Sequence[Frame]) -> float:
    """One factor for all frames, so that their exposures can be compared: 1 where files clip at 1 (8 bits)."""
    if all(frame.saturation <= 1.0 for frame in frames):
        return 1.0
    values = []
    for frame in frames:
        pixels = frame.image[::8, ::8].reshape(-1, 3)
        values.append(pixels[np.isfinite(pixels).all(axis=1) & (pixels.sum(axis=1) > 0)])
    bright = np.concatenate(values)
    top = float(np.percentile(bright, 95)) if len(bright) else 1.0
    return 0.8 / top if top > 0 else 1.0


def thumbnail(frame: Frame, side: int, scale: float, *, outlined: bool) -> np.ndarray:
    """``[h, w, 3]`` uint8 with no side above ``side``: the frame times ``scale``, sRGB; NaN shows as magenta.

    Args:
        outlined: draw the mask's outline, where there is a mask.
    """
    height, width = frame.image.shape[:2]
    size = reduced_size(width, height, side)
    bad = ~np.isfinite(frame.image).all(axis=-1, keepdims=True)
    image = area_resampled(np.where(bad, np.float32(0), frame.image), (0, 0, width, height), size)
    shown = np.round(255 * linear_to_srgb(np.clip(image * scale, 0.0, 1.0))).astype(np.uint8)
    if bad.any():
        shown[area_resampled(bad.astype(np.float32), (0, 0, width, height), size)[..., 0] > 0] = (255, 0, 255)
    if outlined and frame.alpha.shape[:2] == (height, width):
        covered = area_resampled(np.nan_to_num(frame.alpha), (0, 0, width, height), size)[..., 0] > COVERED
        shown[_outline(covered)] = OUTLINE
    return shown


def contact_sheets(
    frames: Sequence[Frame], notes: Mapping[str, Sequence[str]], confidence: Mapping[str, float] | None = None
) -> list:
    """Pages of a contact sheet as Pillow images, ``COLUMNS`` by ``ROWS`` frames each.

    Args:
        notes: frame name to what is wrong with it; those frames are marked and carry the note.
        confidence: of the masks, in [0, 1], by frame name, if they were found; it stands below the frame's name.
    """
    scale = display_scale(frames)
    step = COLUMNS * ROWS
    sure = confidence or {}
    return [_page(frames[k : k + step], notes, sure, scale) for k in range(0, len(frames), step)]


def _page(frames: Sequence[Frame], notes: Mapping[str, Sequence[str]], confidence: Mapping[str, float], scale: float):
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=12)
    columns = min(COLUMNS, len(frames))
    tiles = [Image.fromarray(thumbnail(frame, _TILE, scale, outlined=True)) for frame in frames]
    for k, tile in enumerate(tiles):  # small images grow, their pixels stay visible
        if (grow := _TILE / max(tile.size)) > 1:
            size = max(1, round(tile.width * grow)), max(1, round(tile.height * grow))
            tiles[k] = tile.resize(size, Image.Resampling.NEAREST)
    cell = max(tile.height for tile in tiles)
    step_x, step_y = _TILE + _GAP, cell + 2 * _LINE + _GAP + 4
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, (frame, tile) in enumerate(zip(frames, tiles, strict=True)):
        x, y = _GAP + (k % columns) * step_x, _GAP + (k // columns) * step_y
        left, top = x + (_TILE - tile.width) // 2, y + (cell - tile.height) // 2
        sheet.paste(tile, (left, top))
        noted = notes.get(frame.name, ())
        colour = _WARN if noted else SPLITS.get(frame.split, _FAINT)
        pen.rectangle((left - 2, top - 2, left + tile.width + 1, top + tile.height + 1), outline=colour, width=2)
        pen.text((x, y + cell + 4), _fitted(frame.name, font, _TILE), fill=_INK, font=font)
        below = ", ".join(noted) if noted else "held out" if frame.split == "test" else frame.split
        below = f"mask {confidence[frame.name]:.0%}, {below}" if frame.name in confidence else below
        pen.text((x, y + cell + 4 + _LINE), _fitted(below, font, _TILE), fill=_WARN if noted else _FAINT, font=font)
    return sheet


def _outline(covered: np.ndarray) -> np.ndarray:
    """Covered pixels beside uncovered ones; at the image's border the outline stays open."""
    padded = np.pad(covered, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return covered & ~inner


def _fitted(text: str, font, width: int) -> str:
    """``text`` with its middle left out if it is too long: the end of a file's name matters most."""
    if font.getlength(text) <= width:
        return text
    shortened = (text[: keep // 3] + ".." + text[-(keep - keep // 3) :] for keep in range(len(text), 3, -1))
    return next((short for short in shortened if font.getlength(short) <= width), f"{text[:1]}..{text[-3:]}")
