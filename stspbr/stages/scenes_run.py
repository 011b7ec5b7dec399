"""A recipe of scenes: generate and train unless that is up to date, then measure and draw."""

from __future__ import annotations

from collections.abc import Callable

from stspbr.artifacts import Artifact
from stspbr.settings import SceneGenerateSettings, SceneRecipe, load_scene_config, train_settings
from stspbr.stages.scenes_evaluate import evaluate_scenes
from stspbr.stages.scenes_generate import STAGE as DATA
from stspbr.stages.scenes_generate import run_scenes_generate
from stspbr.stages.scenes_render import compose
from stspbr.stages.scenes_train import STAGE as MODEL
from stspbr.stages.scenes_train import run_scenes_train
from stspbr.stages.session import Session


def run_scene_recipe(session: Session, recipe: SceneRecipe, announce: Callable[[str], None]) -> list[Artifact]:
    """Run ``recipe`` in ``session.run``; writes ``scenes-figures.json`` and ``composition/``, too.

    Args:
        announce: called with one line per stage, and with the figures.
    """
    config, notes = load_scene_config(recipe.config)
    for note in notes:
        announce(note)
    generating = SceneGenerateSettings(config=config, batches=recipe.batches, test=recipe.test, size=recipe.size)
    training = train_settings(config, recipe.iterations)
    data = session.ranks.first(lambda: session.store.find(DATA, generating.model_dump(mode="json"), [], session.seed))
    announce(f"{DATA}: running" if data is None else f"{DATA}: {data.path} is up to date")
    data = data or run_scenes_generate(session, generating)
    session.versions[DATA] = data.version
    values = training.model_dump(mode="json")
    model = session.ranks.first(lambda: session.store.find(MODEL, values, [data], session.seed))
    announce(f"{MODEL}: running" if model is None else f"{MODEL}: {model.path} is up to date")
    model = model or run_scenes_train(session, training)
    session.versions[MODEL] = model.version

    def measured() -> list[str]:
        figures = evaluate_scenes(session, recipe.evaluated, config.samples_per_pixel)
        return [*figures.lines(), *compose(session, (0, 1, 2), recipe.compositions).lines()]

    for line in session.ranks.first(measured):
        announce(line)
    return [data, model]
