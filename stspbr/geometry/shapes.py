"""The kinds of implicit shapes, by the names that the settings have for them."""

from __future__ import annotations

from collections.abc import Mapping

from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.flexicubes import FlexiCubes
from stspbr.geometry.implicit_shape import ImplicitShape

SHAPES: Mapping[str, type[ImplicitShape]] = {"dmtet": DMTet, "flexicubes": FlexiCubes}
"""Classes by ``geometry.kind``."""
