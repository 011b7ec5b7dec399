"""Colours of vertices and faces, which our materials have no place for but as one colour."""

from __future__ import annotations

import numpy as np

from stspbr.notes import Notes

_SAME = 1.0 / 255.0


def one_colour(colours: np.ndarray, corners: np.ndarray, name: str, notes: Notes) -> np.ndarray:
    """The mean ``[3]`` of linear colours over triangles, by their area; with a note for ``name`` if they differ.

    Args:
        colours: ``[F, 3, 3]`` of each corner; corners: ``[F, 3, 3]`` positions.
    """
    flat = colours.reshape(-1, 3)
    if np.ptp(flat, axis=0).max() > _SAME:
        notes("the colours of its vertices or faces differ: their mean is the albedo", name)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weight = area / area.sum() if area.sum() > 0 else np.full(len(area), 1.0 / len(area))
    return np.einsum("f,fc->c", weight, colours.mean(axis=1))
