"""What a photo that is compared with the table's look says of the object: where it stands out, and where not."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes

from stspbr.photos import grabcut
from stspbr.photos.table_look import Likeness
from stspbr.photos.thin_parts import seen_through, thin_parts

DIFFERENT, ALIKE = 2.5, 1.3
"""Times the usual difference from the table: something else; surely the table."""
GAP = 5.0
"""Pixels: a narrower place that looks like the table is no hole; what is thinner can be missed by a hull."""


def stands_out(own: Likeness) -> np.ndarray:
    """``[H, W]`` bool: what is unlike the table or of whose table nothing is known, without gaps.

    A gap that is wide stays: it may be a hole that the table is seen through, which other photos must confirm.
    """
    with np.errstate(invalid="ignore"):
        table = own.proven | (own.difference < ALIKE)
    stands = binary_closing(~table, iterations=2)
    holes = binary_fill_holes(np.pad(stands, 1))[1:-1, 1:-1] & ~stands
    return stands | (holes & ~seen_through(holes, GAP))


def looks_alike(compared: list[Likeness], shapes: list[np.ndarray]) -> float:
    """The share of the object's middle that looks like the table."""
    alike = total = 0
    for own, shape in zip(compared, shapes, strict=True):
        core = grabcut.dilated(shape, -0.35 * float(np.sqrt(shape.sum() / np.pi)))
        known = core & np.isfinite(own.difference)
        alike += int((own.difference[known] < ALIKE).sum())
        total += int(known.sum())
    return alike / max(total, 1)


def sure_of(mask: np.ndarray, own: Likeness | None, shape: np.ndarray, plain: bool) -> tuple[np.ndarray, np.ndarray]:
    """``[H, W]`` bool each: what a photo shows of the object, and of the table, that no hull of cells can show.

    Thin parts that the photos agreed upon, ``shape``, and this one shows; and holes through which it shows the table.
    """
    if own is None:
        return np.zeros_like(mask), np.zeros_like(mask)
    thin = mask & thin_parts(mask, GAP) & shape & (own.difference > DIFFERENT)
    holes = binary_fill_holes(mask) & ~mask & (own.difference < ALIKE)
    return thin, seen_through(holes, GAP) if plain else np.zeros_like(mask)
