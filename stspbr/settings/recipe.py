"""Recipes: a whole pipeline in one TOML file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import Field

from stspbr.errors import StspbrError, did_you_mean
from stspbr.settings.capture import CaptureDuplicatesSettings, CaptureMeshSettings, CaptureSettings
from stspbr.settings.parsing import Settings, apply_overrides, nested_models, parse_settings, with_defaults
from stspbr.settings.scenes import SceneRecipe
from stspbr.settings.stages import (
    BakeSettings,
    CoarseSettings,
    EvaluateSettings,
    RefineSettings,
    SpecializeSettings,
    UnpackSettings,
)
from stspbr.settings.texture import TextureSettings


class Recipe(Settings):
    """A whole pipeline: the settings of every stage."""

    name: str = Field(description="name of the run; its default folder is runs/NAME")
    seed: int = Field(0, description="seed of everything random")
    capture: CaptureSettings | None = Field(
        None, discriminator="kind", description="how the frames come in; none: texture makes the maps from a text"
    )
    texture: TextureSettings | None = Field(None, description="maps from a text on a given mesh, in place of frames")
    coarse: CoarseSettings = Field(CoarseSettings(), description="geometry and colour")
    specialize: SpecializeSettings = Field(SpecializeSettings(), description="roughness and metallic")
    bake: BakeSettings = Field(BakeSettings(), description="mesh, UVs and textures")
    refine: RefineSettings | None = Field(None, description="refinement by path tracing; none: left out")
    unpack_orm: UnpackSettings = Field(UnpackSettings(), description="one grey map per channel")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="comparison with the known asset")


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a recipe: its name, its settings, and the stage that it builds on (None: the first)."""

    name: str
    settings: Settings
    parent: str | None


def planned_stages(recipe: Recipe) -> list[PlannedStage]:
    """The stages of ``recipe`` in their order.

    If the capture is rendered from an asset or shows a procedural pile, or the recipe names a reference, the result is
    compared with it.
    """
    if recipe.texture is not None:
        stages = [PlannedStage("bake", recipe.texture, None), PlannedStage("unpack-orm", recipe.unpack_orm, "bake")]
        return [*stages, PlannedStage("evaluate", recipe.evaluate, "bake")] if recipe.evaluate.prompt else stages
    assert recipe.capture is not None
    stages = [
        PlannedStage("capture", recipe.capture, None),
        PlannedStage("coarse", recipe.coarse, "capture"),
        PlannedStage("specialize", recipe.specialize, "coarse"),
        PlannedStage("bake", recipe.bake, "specialize"),
    ]
    if recipe.refine is not None:
        stages.append(PlannedStage("refine", recipe.refine, "bake"))
    finished = stages[-1].name
    stages.append(PlannedStage("unpack-orm", recipe.unpack_orm, finished))
    evaluation = recipe.evaluate
    made = isinstance(recipe.capture, CaptureDuplicatesSettings) and recipe.capture.photo.startswith("procedural:")
    if evaluation.reference is None and (made or isinstance(recipe.capture, CaptureMeshSettings)):
        evaluation = evaluation.model_copy(update={"reference_capture": True})
    if evaluation.reference is not None or evaluation.reference_capture:
        stages.append(PlannedStage("evaluate", evaluation, finished))
    if evaluation.orb is not None:
        stages.append(PlannedStage("orb", evaluation, finished))
    return stages


def stages_until(recipe: Recipe, until: str | None) -> list[PlannedStage]:
    """The stages of ``recipe`` up to ``until``, that included; None: all.

    Raises:
        StspbrError: the recipe has no such stage.
    """
    stages = planned_stages(recipe)
    names = [stage.name for stage in stages]
    if until is None:
        return stages
    if until not in names:
        hint = did_you_mean(until, names)
        raise StspbrError(f"--until {until}: {recipe.name} has no such stage: choose {', '.join(names)}{hint}")
    return stages[: names.index(until) + 1]


def shipped_recipes() -> dict[str, Traversable]:
    """The recipes that come with the package: name to TOML file, in alphabetical order."""
    found = [file for file in (files("stspbr") / "pipelines").iterdir() if file.name.endswith(".toml")]
    return dict(sorted((file.name.removesuffix(".toml"), file) for file in found))


def find_recipe(recipe: str | Path) -> Traversable:
    """The file of ``recipe``, which is the name of a shipped recipe or the path of a TOML file.

    Raises:
        StspbrError: neither exists.
    """
    shipped = shipped_recipes()
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    path = Path(recipe)
    if not path.exists():
        hint = did_you_mean(path.stem, shipped)
        raise StspbrError(f"{recipe}: no such file or recipe; `stspbr recipes` lists the recipes{hint}")
    return path


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; the keys of overrides start with the stage, e.g. ``coarse.optimize.iterations=200``.

    Its paths are relative to the working directory; ``${NAME}`` in a string is an environment variable.

    Args:
        recipe: see :func:`find_recipe`.

    Raises:
        StspbrError: there is no such recipe, the file cannot be read or is not TOML, or a setting is not valid.
    """
    found = load_any_recipe(recipe, overrides)
    if isinstance(found, SceneRecipe):
        raise StspbrError(f"{recipe}: a recipe of scenes has no capture and no asset; `stspbr run {recipe}` runs it")
    return found


def load_any_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe | SceneRecipe:
    """:func:`load_recipe`, of scenes, too: these have ``kind = "scenes"``."""
    path = find_recipe(recipe)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a TOML file: {error}") from None
    values = _expand(apply_overrides(values, list(overrides)), path)
    if values.get("kind") == "scenes":
        return parse_settings(SceneRecipe, values, str(path))
    for name, field in Recipe.model_fields.items():
        models = nested_models(field)
        if len(models) == 1 and isinstance(values.get(name), dict):
            values[name] = with_defaults(models[0], values[name])
    found = parse_settings(Recipe, values, str(path))
    if found.capture is None and found.texture is None:
        raise StspbrError(f"{path}: capture is missing (or texture, for maps from a text)")
    if found.capture is not None and found.texture is not None:
        raise StspbrError(f"{path}: capture and texture: a recipe has one of them")
    return found


def _expand(value: Any, path: Traversable) -> Any:
    """``${NAME}`` in strings replaced by environment variables."""
    if isinstance(value, dict):
        return {k: _expand(v, path) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    for name in re.findall(r"\$\{(\w+)\}", value):
        if name not in os.environ:
            raise StspbrError(f"{path}: {value}: the environment variable {name} is not set; set it to that folder")
        value = value.replace("${" + name + "}", os.environ[name])
    return value
