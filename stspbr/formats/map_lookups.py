"""One lookup for all maps of a material: files give each map its own coordinates and transform, a material has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.notes import Notes

_MAY_BE_LEFT_OUT = ("occlusion", "normal", "opacity")
_MOST_TILES, _LARGEST = 64, 16384


@dataclass(frozen=True)
class Lookup:
    """Where a map is looked up.

    Attributes:
        coordinates: name of the set of texture coordinates.
        matrix: ``[2, 3]`` row by row, from these coordinates to those of the map.
    """

    coordinates: str
    matrix: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    @classmethod
    def of(cls, coordinates: str, matrix: np.ndarray) -> Lookup:
        """A lookup through ``matrix`` ``[2, 3]``."""
        return cls(coordinates, tuple(float(value) for value in np.ravel(matrix)))

    def applied(self, uvs: np.ndarray) -> np.ndarray:
        """The coordinates of the map ``[N, 2]`` for ``uvs`` ``[N, 2]``."""
        return uvs if self.matrix == Lookup.matrix else uvs @ self._rows[:, :2].T + self._rows[:, 2]

    def tiles(self, other: Lookup) -> tuple[int, int] | None:
        """How often (in u, v) the map of ``other`` repeats within the map of this lookup; None if not whole times."""
        if self.coordinates != other.coordinates or abs(np.linalg.det(self._rows[:, :2])) < 1e-12:
            return None
        linear = other._rows[:, :2] @ np.linalg.inv(self._rows[:, :2])
        offset = other._rows[:, 2] - linear @ self._rows[:, 2]
        counts = np.rint(np.diag(linear))
        exact = np.abs(linear - np.diag(counts)).max() < 1e-5 and np.abs(offset - np.rint(offset)).max() < 1e-5
        return (int(counts[0]), int(counts[1])) if exact and 1 <= counts.min() <= counts.max() <= _MOST_TILES else None

    @property
    def _rows(self) -> np.ndarray:
        return np.array(self.matrix).reshape(2, 3)


def common_lookup(
    found: dict[str, Lookup], where: str, name: str, notes: Notes
) -> tuple[Lookup | None, dict[str, tuple[int, int]]]:
    """The lookup that all maps of a material can share, and how often each map is then repeated in it.

    Args:
        found: by the name of the map, the most important one first.
        where, name: the file and the material, for errors and notes.

    Returns:
        The lookup (None without maps), and the tiles in u and v of each map. A map of occlusion, normals or opacity
        that fits no common lookup is absent there, with a note.

    Raises:
        StspbrError: another map does not fit.
    """
    if not found:
        return None, {}
    fitting = [one for one in found.values() if all(one.tiles(other) for other in found.values())]
    chosen = fitting[0] if fitting else next(iter(found.values()))
    tiles = {kind: chosen.tiles(lookup) for kind, lookup in found.items()}
    for kind, lookup in found.items():
        if tiles[kind] is None:
            what = "set of texture coordinates" if lookup.coordinates != chosen.coordinates else "texture transform"
            if kind not in _MAY_BE_LEFT_OUT:
                raise StspbrError(f"{where}: the {kind} map of {name} has its own {what}: export the material with one")
            notes(f"the {kind} map has its own {what} and is left out", name)
    return chosen, {kind: counts for kind, counts in tiles.items() if counts is not None}


def tiled(image: np.ndarray, counts: tuple[int, int], where: str) -> np.ndarray:
    """``image`` ``[H, W, C]`` repeated ``counts`` times in u and v; StspbrError if it becomes too large."""
    height, width = image.shape[0] * counts[1], image.shape[1] * counts[0]
    if counts == (1, 1) or image.shape[:2] == (1, 1):
        return image
    if max(height, width) > _LARGEST:
        size = f"{width}x{height}"
        raise StspbrError(f"{where}: a map that repeats within another one would have {size} texels: bake it into one")
    return np.tile(image, (counts[1], counts[0], 1))
