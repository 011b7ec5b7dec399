"""Run: all stages of a recipe in order, except those that are up to date."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.settings import CaptureMeshSettings, Recipe, Settings, TextureSettings
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

_Stage = tuple[str, Settings, Callable[[Session, Any], Artifact], str | None]
"""Name, settings, what runs it, and the stage that it builds on."""


def run_recipe(
    session: Session,
    recipe: Recipe,
    announce: Callable[[str], None],
    capture: Artifact | None = None,
    without: Container[str] = (),
    after: Mapping[str, Callable[[Artifact], None]] | None = None,
    anew: Container[str] = (),
) -> dict[str, Artifact]:
    """Run ``recipe`` in ``session.run``.

    If the capture was rendered from an asset, or the recipe names a reference, the result is compared with it.

    Args:
        announce: called with one line per stage: it runs, or it is up to date.
        capture: takes the place of the recipe's capture.
        without: stages to leave out.
        after: called with the artifact of a stage as soon as there is one, up to date or not.
        anew: stages that are run though a version of them has these settings and inputs.

    Returns:
        The artifact of each stage by name.
    """
    if recipe.texture is not None:
        return _run_texture(session, recipe, recipe.texture, announce, without, after, anew)
    assert recipe.capture is not None
    stages: list[_Stage] = [
        ("capture", recipe.capture, run_capture, None),
        ("coarse", recipe.coarse, run_coarse, "capture"),
        ("specialize", recipe.specialize, run_specialize, "coarse"),
        ("bake", recipe.bake, run_bake, "specialize"),
    ]
    if recipe.refine is not None:
        stages.append(("refine", recipe.refine, run_refine, "bake"))
    finished = stages[-1][0]
    stages.append(("unpack-orm", recipe.unpack_orm, run_unpack_orm, finished))
    evaluation = recipe.evaluate
    if evaluation.reference is None and isinstance(recipe.capture, CaptureMeshSettings):
        evaluation = evaluation.model_copy(update={"reference_capture": True})
    if evaluation.reference is not None or evaluation.reference_capture:
        stages.append(("evaluate", evaluation, run_evaluate, finished))
    if evaluation.orb is not None:
        stages.append(("orb", evaluation, run_orb, finished))

    return _run_all(session, stages, announce, capture, without, after, anew)


def _run_texture(
    session: Session,
    recipe: Recipe,
    texture: TextureSettings,
    announce: Callable[[str], None],
    without: Container[str],
    after: Mapping[str, Callable[[Artifact], None]] | None,
    anew: Container[str],
) -> dict[str, Artifact]:
    """The stages of a recipe without frames."""
    stages: list[_Stage] = [
        ("bake", texture, run_texture, None),
        ("unpack-orm", recipe.unpack_orm, run_unpack_orm, "bake"),
    ]
    if recipe.evaluate.prompt:
        stages.append(("evaluate", recipe.evaluate, run_evaluate, "bake"))
    return _run_all(session, stages, announce, None, without, after, anew)


def _run_all(
    session: Session,
    stages: list[_Stage],
    announce: Callable[[str], None],
    capture: Artifact | None,
    without: Container[str],
    after: Mapping[str, Callable[[Artifact], None]] | None,
    anew: Container[str],
) -> dict[str, Artifact]:
    """Run every stage that is not up to date."""
    done: dict[str, Artifact] = {}
    for name, settings, run, parent in stages:
        if name in without:
            continue
        if session.whole is not None:
            session.whole.start(name)
        values, parents = settings.model_dump(mode="json"), [done[parent]] if parent else []
        find = partial(session.store.find, name, values, parents, session.seed)
        found = capture if name == "capture" and capture else None
        if found is None and name not in anew:
            found = session.ranks.first(find)
        worked = found is None
        if found is not None:
            announce(f"{name}: {found.path} is up to date")
        else:
            announce(f"{name}: running")
            found = run(session, settings)
        done[name] = found
        session.versions[name] = found.version
        if session.whole is not None:
            session.whole.done(worked=worked)
        if after is not None and name in after:
            after[name](found)
    return done
