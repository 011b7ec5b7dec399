"""Run: all stages of a recipe in order, except those that are up to date."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.settings import Recipe, TextureSettings, stages_until
from stspbr.stages.bake import run_bake
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import run_evaluate
from stspbr.stages.orb import run_orb
from stspbr.stages.refine import run_refine
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.texture import run_texture
from stspbr.stages.unpack_orm import run_unpack_orm

_RUN: dict[str, Callable[[Session, Any], Artifact]] = {
    "capture": run_capture,
    "coarse": run_coarse,
    "specialize": run_specialize,
    "bake": run_bake,
    "refine": run_refine,
    "unpack-orm": run_unpack_orm,
    "evaluate": run_evaluate,
    "orb": run_orb,
}


def run_recipe(
    session: Session,
    recipe: Recipe,
    announce: Callable[[str], None],
    capture: Artifact | None = None,
    without: Container[str] = (),
    after: Mapping[str, Callable[[Artifact], None]] | None = None,
    anew: Container[str] = (),
    until: str | None = None,
) -> dict[str, Artifact]:
    """Run the stages of ``recipe`` (see ``planned_stages``) in ``session.run``, except those that are up to date.

    Args:
        announce: called with one line per stage: it runs, or it is up to date.
        capture: takes the place of the recipe's capture.
        without: stages to leave out.
        after: called with the artifact of a stage as soon as there is one, up to date or not.
        anew: stages that are run though a version of them has these settings and inputs.
        until: the last stage to run; None: all.

    Returns:
        The artifact of each stage by name.

    Raises:
        StspbrError: the recipe has no stage ``until``; and as the stages do.
    """
    done: dict[str, Artifact] = {}
    for stage in stages_until(recipe, until):
        name, settings = stage.name, stage.settings
        if name in without:
            continue
        if session.whole is not None:
            session.whole.start(name)
        values, parents = settings.model_dump(mode="json"), [done[stage.parent]] if stage.parent else []
        find = partial(session.store.find, name, values, parents, session.seed)
        found = capture if name == "capture" and capture else None
        if found is None and name not in anew:
            found = session.ranks.first(find)
        worked = found is None
        if found is not None:
            announce(f"{name}: {found.path} is up to date")
        else:
            announce(f"{name}: running")
            run = run_texture if isinstance(settings, TextureSettings) else _RUN[name]
            found = run(session, settings)
        done[name] = found
        session.versions[name] = found.version
        if session.whole is not None:
            session.whole.done(worked=worked)
        if after is not None and name in after:
            after[name](found)
    return done
