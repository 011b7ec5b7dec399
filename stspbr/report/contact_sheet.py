"""Contact sheets: a labelled grid of images in one PNG, ours beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError

_MARGIN, _INK, _PAPER, _EMPTY = 6, (232, 232, 232), (24, 24, 26), (44, 44, 48)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    row_labels: list[str],
    column_labels: list[str],
    path: str | Path,
    cell: int | None = None,
) -> Path:
    """Write a grid of images with labels above the columns and at the left of the rows.

    Args:
        rows: images ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]`` in [0, 1], already encoded for display; None
            leaves a cell empty. Rows may have different lengths.
        row_labels: one a row.
        column_labels: one a column.
        path: the PNG to write.
        cell: longer side of a cell in pixels; None takes the largest image's.

    Returns:
        ``path``.
    """
    from PIL import Image, ImageDraw, ImageFont

    if len(row_labels) != len(rows):
        raise StspbrError(f"the contact sheet has {len(rows)} rows but {len(row_labels)} row labels")
    if max((len(row) for row in rows), default=0) > len(column_labels):
        raise StspbrError(f"the contact sheet has more columns than its {len(column_labels)} column labels")
    tiles = [[None if image is None else Image.fromarray(_bytes(image)) for image in row] for row in rows]
    sizes = [tile.size for row in tiles for tile in row if tile is not None] or [(64, 64)]
    width, height = max(s[0] for s in sizes), max(s[1] for s in sizes)
    if cell is not None:
        shrink = cell / max(width, height)
        width, height = max(1, round(width * shrink)), max(1, round(height * shrink))

    font = ImageFont.load_default(size=max(12, min(20, height // 10)))
    left = 2 * _MARGIN + max((_text_size(font, label)[0] for label in row_labels), default=0)
    top = 2 * _MARGIN + max((_text_size(font, label)[1] for label in column_labels), default=0)
    step_x = max(width, max((_text_size(font, label)[0] for label in column_labels), default=0)) + _MARGIN
    step_y = height + _MARGIN
    sheet = Image.new("RGB", (left + step_x * len(column_labels), top + step_y * max(1, len(rows))), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for c, label in enumerate(column_labels):
        pen.text((left + c * step_x + width / 2, top - _MARGIN), label, fill=_INK, font=font, anchor="md")
    for r, (label, row) in enumerate(zip(row_labels, tiles, strict=True)):
        pen.text((_MARGIN, top + r * step_y + height / 2), label, fill=_INK, font=font, anchor="lm")
        for c, tile in enumerate(row):
            x, y = left + c * step_x, top + r * step_y
            pen.rectangle((x, y, x + width - 1, y + height - 1), fill=_EMPTY)
            if tile is None:
                continue
            fit = min(width / tile.width, height / tile.height)
            size = max(1, round(tile.width * fit)), max(1, round(tile.height * fit))
            if size != tile.size:
                tile = tile.resize(size, Image.Resampling.BOX if fit < 1 else Image.Resampling.NEAREST)
            sheet.paste(tile, (x + (width - tile.width) // 2, y + (height - tile.height) // 2))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG", optimize=True)
    return path


def _bytes(image: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8; NaN shows as magenta, since it must not pass unseen."""
    image = np.asarray(image, dtype=np.float64)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise StspbrError(f"a contact sheet shows [H, W], [H, W, 1] or [H, W, 3], not {image.shape}")
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    lost = np.isnan(image).any(axis=-1, keepdims=True)
    values = np.round(255.0 * np.clip(np.nan_to_num(image), 0.0, 1.0)).astype(np.uint8)
    return np.where(lost, np.array([255, 0, 255], np.uint8), values)


def _text_size(font, text: str) -> tuple[int, int]:
    box = font.getbbox(text, anchor="ls")
    ascent, descent = font.getmetrics()
    return int(np.ceil(box[2] - box[0])), ascent + descent
