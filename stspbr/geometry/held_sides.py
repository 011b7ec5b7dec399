"""Vertices of a grid that stay on one side of the surface, whatever their distances are."""

from __future__ import annotations

import numpy as np
import torch

_LEAST = 1e-12  # distance of a vertex of the core: zero would count as outside


class HeldSides(torch.nn.Module):
    """The signed distances that count: those of the border are positive, those of the core negative.

    Args:
        border: ``[V]`` bool: vertices that are always outside, so that the surface closes there: their distance counts
            with its absolute value; or None.
        core: ``[V]`` bool: vertices that are always inside, likewise; or None.
    """

    border: torch.Tensor | None
    core: torch.Tensor | None

    def __init__(self, border: np.ndarray | None, core: np.ndarray | None) -> None:
        super().__init__()
        for name, given in (("border", border), ("core", core)):
            fixed = None if given is None else torch.from_numpy(np.ascontiguousarray(given, dtype=bool))
            self.register_buffer(name, fixed, persistent=False)

    def values(self, sdf: torch.Tensor) -> torch.Tensor:
        """``[V]``: the distances that count: ``|sdf|`` at the border, ``−|sdf|`` in the core, ``sdf`` elsewhere."""
        values = sdf if self.border is None else torch.where(self.border, sdf.abs(), sdf)
        return values if self.core is None else torch.where(self.core, -sdf.abs().clamp(min=_LEAST), values)

    def inside(self, sdf: torch.Tensor) -> torch.Tensor:
        """``[V]`` bool: which vertices are inside."""
        inside = sdf < 0 if self.border is None else (sdf < 0) & ~self.border
        return inside if self.core is None else inside | self.core
