"""Compile every kernel beforehand: a tiny run of all stages in a temporary folder, which nobody keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stspbr.kernel_cache import CompileClock

if TYPE_CHECKING:
    from stspbr.settings import Recipe

_GRID = {"levels": 3, "log2_table_size": 10, "finest_resolution": 32}
_STEPS = {"iterations": 4, "batch": 2}  # all phases of a stage's schedule


def warm(announce: Callable[[str], None]) -> CompileClock:
    """Run all stages, once with a learned and once with a known light.

    Args:
        announce: called with a line for each stage.

    Returns:
        How many kernels were compiled, and how long that took.
    """
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    with CompileClock() as clock, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for mode in ("learned", "known"):
            session = Session.open(Path(folder) / mode, device="cpu", quiet=True)
            run_recipe(session, _recipe(mode), lambda line: announce(f"{line} ({clock.count} kernels compiled so far)"))
    return clock


def _recipe(light: str) -> Recipe:
    from stspbr.settings import (
        BakeSettings,
        CaptureMeshSettings,
        CoarseSettings,
        EvaluateSettings,
        Recipe,
        SpecializeSettings,
        settings_for,
    )

    demo = "procedural:demo"
    fields = {"appearance": _GRID, "reflectance": _GRID, "width": 8}
    coarse = {"geometry": {"resolution": 14}, "light": {"mode": light, "learned_resolution": 16}, "fields": fields}
    bake = {"texture_resolution": 64, "target_faces": 300, "padding": 2}
    return Recipe(
        name="warm",
        capture=CaptureMeshSettings(asset=demo, light=demo, views=4, test_views=1, resolution=32),
        coarse=settings_for(CoarseSettings, [], {**coarse, "optimize": _STEPS}),
        specialize=settings_for(SpecializeSettings, [], {"optimize": _STEPS}),
        bake=settings_for(BakeSettings, [], {**bake, "optimize": _STEPS}),
        evaluate=EvaluateSettings(samples=1000, views=1),
    )
