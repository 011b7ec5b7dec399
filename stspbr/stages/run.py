"""Run: all stages of a recipe in order; a stage whose inputs and settings have not changed is not run again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.settings import CaptureMeshSettings, Recipe, Settings
from stspbr.stages.bake import run_bake
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import run_evaluate
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.unpack_orm import run_unpack_orm


def run_recipe(session: Session, recipe: Recipe, announce: Callable[[str], None]) -> dict[str, Artifact]:
    """Run ``recipe`` in ``session.run``.

    Where the object was rendered from an asset, or the recipe names a reference, the result is compared with it.

    Args:
        announce: is told, a line at a time, which stage runs and which stands already.

    Returns:
        The artifact of each stage by name.
    """
    stages: list[tuple[str, Settings, Callable[[Session, Any], Artifact], str | None]] = [
        ("capture", recipe.capture, run_capture, None),
        ("coarse", recipe.coarse, run_coarse, "capture"),
        ("specialize", recipe.specialize, run_specialize, "coarse"),
        ("bake", recipe.bake, run_bake, "specialize"),
        ("unpack-orm", recipe.unpack_orm, run_unpack_orm, "bake"),
    ]
    evaluation = recipe.evaluate
    if evaluation.reference is None and isinstance(recipe.capture, CaptureMeshSettings):
        evaluation = evaluation.model_copy(update={"reference_capture": True})
    if evaluation.reference is not None or evaluation.reference_capture:
        stages.append(("evaluate", evaluation, run_evaluate, "bake"))

    done: dict[str, Artifact] = {}
    for name, settings, run, parent in stages:
        parents = [done[parent]] if parent else []
        found = session.ranks.first(partial(_standing, session, name, settings, parents))
        if found is not None:
            announce(f"{name}: {found.path} stands, settings and inputs have not changed")
        else:
            announce(f"{name}: running")
            found = run(session, settings)
        done[name] = found
        session.versions[name] = found.version
    return done


def _standing(session: Session, stage: str, settings: Settings, parents: list[Artifact]) -> Artifact | None:
    return session.store.find(stage, settings.model_dump(mode="json"), parents, session.seed)
