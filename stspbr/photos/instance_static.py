"""Matches of what stays in the photo when the object turns: highlights, rims, the outline of an axial shape.

Upright cans all have the same bright rim, whatever way they face. Its key points match from every copy to every other
at the same place, and say that nothing has turned. Print stays at its place in two copies that face the same way; a
place where matches stay in many pairs shows no print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stspbr.photos.instance_features import Features, Matches
from stspbr.photos.instance_pairs import Pair
from stspbr.photos.instances import Instance

_CELLS = 24  # along a copy's width
_STAYS = 0.06  # of a copy's width: as far as places may differ
_NEAR = 0.15  # the same, of the two boxes, which can be covered in part
_FEW, _SHARE = 4, 0.18  # pairs, and share of all pairs, in which matches stay at a place
_LEAST = 4  # matches of a pair that stay alike


def moving_matches(
    features: Mapping[int, Features], matches: Mapping[Pair, Matches], copies: list[Instance]
) -> dict[Pair, Matches]:
    """The matches without those that stay where matches of many pairs do."""
    places = {copy.number: _places(features[copy.number].points, copy) for copy in copies}
    still: dict[Pair, np.ndarray] = {}
    shown: dict[tuple[int, int], set[Pair]] = {}
    for (a, b), found in matches.items():
        ends = places[a][found.pairs[:, 0]], places[b][found.pairs[:, 1]]
        still[a, b] = _staying(ends[1] - ends[0])
        for own in ends:
            for cell in np.unique(np.floor(own[still[a, b]] * _CELLS).astype(int), axis=0).tolist():
                shown.setdefault((cell[0], cell[1]), set()).add((a, b))
    many = max(_FEW, _SHARE * len(matches))
    fixed = {
        (i + down, j + right)
        for (i, j), pairs in shown.items()
        if len(pairs) >= many
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    out = {}
    for (a, b), found in matches.items():
        ends = places[a][found.pairs[:, 0]], places[b][found.pairs[:, 1]]
        inside = [np.array([(int(i), int(j)) in fixed for i, j in np.floor(own * _CELLS)], bool) for own in ends]
        dropped = (inside[0] | inside[1]) & still[a, b]
        both = np.flatnonzero(inside[0] & inside[1])  # print may outnumber what stays, elsewhere
        dropped[both] |= _staying((ends[1] - ends[0])[both])
        out[a, b] = replace(found, pairs=found.pairs[~dropped])
    return out


def _places(points: np.ndarray, copy: Instance) -> np.ndarray:
    """``[K, 2]`` from the middle of the upper edge of a copy's box, in widths of it."""
    left, top, right, _ = copy.box
    return (points - (0.5 * (left + right), top)) / (right - left)


def _staying(moved: np.ndarray) -> np.ndarray:
    """``[M]`` bool: of displacements ``[M, 2]`` those about the small one that most have."""
    near = np.flatnonzero(np.abs(moved).max(axis=1, initial=0.0) <= _NEAR)
    if len(near) < _LEAST:
        return np.zeros(len(moved), bool)
    apart = np.linalg.norm(moved[near][:, None] - moved[near][None], axis=2)
    counts = (apart <= _STAYS).sum(axis=1)
    if counts.max() < _LEAST:
        return np.zeros(len(moved), bool)
    return np.linalg.norm(moved - moved[near[counts.argmax()]], axis=1) <= _STAYS
