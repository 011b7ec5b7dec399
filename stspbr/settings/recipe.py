"""Recipes: a whole pipeline in one TOML file."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field

from stspbr.errors import StspbrError
from stspbr.settings.capture import CaptureSettings
from stspbr.settings.parsing import Settings, apply_overrides, nested_models, parse_settings, with_defaults
from stspbr.settings.stages import BakeSettings, CoarseSettings, EvaluateSettings, SpecializeSettings, UnpackSettings


class Recipe(Settings):
    """A whole pipeline: which stages to run, in order, with which settings."""

    name: str = Field(description="the default folder is runs/NAME")
    seed: int = Field(0, description="seed of everything random")
    capture: CaptureSettings = Field(discriminator="kind", description="how the frames come in")
    coarse: CoarseSettings = Field(CoarseSettings(), description="geometry and colour settle")
    specialize: SpecializeSettings = Field(SpecializeSettings(), description="roughness and metallic")
    bake: BakeSettings = Field(BakeSettings(), description="mesh, UVs and textures")
    unpack_orm: UnpackSettings = Field(UnpackSettings(), description="one grey map per channel")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="comparison with the known asset")


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Read a TOML recipe; overrides are addressed by stage, e.g. ``coarse.optimize.iterations=200``.

    Paths are relative to the working directory; ``${NAME}`` in a string is that environment variable.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a TOML file: {error}") from None
    values = _expand(apply_overrides(values, overrides), path)
    for name, field in Recipe.model_fields.items():
        models = nested_models(field)
        if len(models) == 1 and isinstance(values.get(name), dict):
            values[name] = with_defaults(models[0], values[name])
    return parse_settings(Recipe, values, str(path))


def _expand(value: Any, path: Path) -> Any:
    """``${NAME}`` in strings replaced by environment variables."""
    if isinstance(value, dict):
        return {k: _expand(v, path) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    for name in re.findall(r"\$\{(\w+)\}", value):
        if name not in os.environ:
            raise StspbrError(f"{path}: {value}: set the environment variable {name} to the folder that is meant")
        value = value.replace("${" + name + "}", os.environ[name])
    return value
