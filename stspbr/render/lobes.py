"""The glTF lobes as a few look-ups into prefiltered levels: the table, and the definition of its cells.

For a roughness and an N·V, ``LOOKUPS`` kernels of ``prefilter.WIDTHS`` in the plane of incidence and the clamped cosine
around ``n`` (the diffuse cube) replace the lobes times ``n·l``. Look-up k has the direction
``(1 − q_k)·n + q_k·r`` with ``r`` the mirrored view, the level ``c_k`` in units of ``WIDTHS`` and three weights: ``A``
(specular, 1 − Fc part), ``B`` (specular, Fc part), ``C`` (diffuse, 1 − Fc part). The weights of each kind sum to the
exact directional albedo, so a white sky is shaded exactly; none is negative, so no light is shaded below black.

The grid is uniform in roughness and in √(N·V), both from 0 to 1 at its ends.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LOOKUPS = 4
GRID = 33
TABLE_FILE = Path(__file__).with_name("lobe_table.npz")


@dataclass(frozen=True)
class LobeTable:
    """Entries on the grid, float32.

    Attributes:
        values: ``[GRID, GRID, 2·K + 3·(K + 1)]`` by roughness, then by √(N·V): ``q`` of K look-ups, ``c`` of K,
            then ``A``, ``B`` and ``C`` of the K look-ups and of the cosine.
        on_device: cache of the values as torch tensors by device and type.
    """

    values: np.ndarray
    on_device: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def lookups(self) -> int:
        """K, the look-ups into specular levels."""
        return (self.values.shape[2] - 3) // 5


@functools.lru_cache(maxsize=1)
def load_lobe_table() -> LobeTable:
    """The table that is shipped with the package (made by ``python -m stspbr.render.lobe_fit``)."""
    with np.load(TABLE_FILE) as stored:
        return LobeTable(np.ascontiguousarray(stored["values"], np.float32))


def grid_coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Roughness of each row and N·V of each column of the grid, ``[GRID]`` each; the column at 0 has N·V 1e-4."""
    steps = np.linspace(0.0, 1.0, GRID)
    return steps, np.maximum(steps**2, 1e-4)
