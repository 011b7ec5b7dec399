"""The fixed settings of benchmarks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stspbr.errors import StspbrError


@dataclass(frozen=True)
class BenchSettings:
    """One fixed amount of work; results are comparable only at equal settings.

    Attributes:
        name: the value of ``--settings``.
        device: "cpu" or "cuda".
        resolution: side of the square images; batch: views per step; views: of the capture.
        around, along: columns and rows of the refined mesh, ``2·around·(along − 1)`` triangles.
        grid: cells along an axis of the coarse step's tetrahedral grid.
        texture_resolution: side of the refined maps.
        light_resolution: side of the known light's cube.
        points: for the comparison of encodings.
    """

    name: str
    device: str
    resolution: int
    batch: int
    views: int
    around: int
    along: int
    grid: int
    texture_resolution: int
    light_resolution: int
    points: int

    @property
    def triangles(self) -> int:
        return 2 * self.around * (self.along - 1)


SETTINGS: Mapping[str, BenchSettings] = {
    s.name: s
    for s in (
        BenchSettings("cpu", "cpu", 256, 4, 12, 100, 101, 78, 1024, 256, 65_536),
        BenchSettings("gpu", "cuda", 512, 8, 24, 100, 101, 64, 2048, 256, 1_048_576),
        BenchSettings("tiny", "cpu", 32, 2, 4, 16, 13, 12, 32, 128, 1024),
    )
}
"""``cpu`` and ``gpu`` are for results; ``tiny`` only tests that everything runs."""


def bench_settings(name: str) -> BenchSettings:
    """The settings of this name.

    Raises:
        StspbrError: the name is unknown.
    """
    if name not in SETTINGS:
        raise StspbrError(f"--settings {name}: unknown; choose {', '.join(SETTINGS)}")
    return SETTINGS[name]
