"""Every setting of every stage as a row: for `stspbr settings`, for the options of the commands, and for the docs."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stspbr.errors import StspbrError, did_you_mean
from stspbr.settings.export import ExportDatasetSettings, ExportSettings
from stspbr.settings.parsing import Settings, every_setting, kinds_of, nested_models
from stspbr.settings.recipe import Recipe
from stspbr.settings.scenes import SceneConfig, SceneRecipe
from stspbr.settings.schedules import PRESETS, Schedule
from stspbr.settings.stages import RelightSettings
from stspbr.settings.texture import PriorTrainSettings

_NAMES = {int: "integer", float: "number", str: "text", bool: "true|false"}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        key: dotted, as in ``--set`` and in the stage's table of a recipe.
        type: its type, or its choices with ``|`` between them.
        default: as TOML, strings bare; ``required`` or ``none`` if there is no value.
        range: of a number, e.g. ``>= 1, <= 24``; empty if there is none.
    """

    key: str
    type: str
    default: str
    range: str
    description: str


def stages() -> dict[str, type[Settings]]:
    """The model of every stage by its name, e.g. ``capture.mesh``, ``coarse``, ``export.asset``."""
    out: dict[str, type[Settings]] = {"recipe": Recipe}
    for name, field in Recipe.model_fields.items():
        models = nested_models(field)
        if len(models) == 1:
            out[name] = models[0]
        else:
            out |= {f"{name}.{kind}": model for model in models for kind in kinds_of(model)}
    return out | {
        "relight": RelightSettings,
        "export.asset": ExportSettings,
        "export.dataset": ExportDatasetSettings,
        "prior": PriorTrainSettings,
        "scenes": SceneConfig,
        "scenes_recipe": SceneRecipe,
    }


def chosen_stages(stage: str | None = None) -> dict[str, type[Settings]]:
    """The stages called ``stage``, or all of a group such as ``capture``; None: all, each model once.

    Raises:
        StspbrError: there is no such stage; the line names the nearest.
    """
    found = stages()
    if stage is None:
        return {" ".join(name for name in found if found[name] is model): model for model in found.values()}
    wanted = stage.replace("-", "_")
    chosen = {name: model for name, model in found.items() if f"{name}.".startswith(f"{wanted}.")}
    if not chosen:
        near = did_you_mean(wanted, found) or f"; there are {', '.join(found)}"
        raise StspbrError(f"{stage} is not a stage{near}")
    return chosen


def rows(model: type[BaseModel]) -> Iterator[Row]:
    """All settings of a stage, nested ones with dotted keys; for the recipe those outside of stages."""
    for key, field, default in every_setting(model):
        if model is not Recipe or "." not in key:
            kind, shown = type_text(field.annotation), default_text(default)
            yield Row(key, kind, shown, range_text(field), field.description or "")


def markdown(stage: str | None = None) -> str:
    """A heading and a table per stage; see :func:`chosen_stages`."""
    out = []
    for name, model in chosen_stages(stage).items():
        out += [f"### {', '.join(f'`{one}`' for one in name.split())}", "", (model.__doc__ or "").splitlines()[0], ""]
        out += ["| key | type | default | range | description |", "|---|---|---|---|---|"]
        for row in rows(model):
            cells = [f"`{row.key}`", row.type, f"`{row.default}`" if row.default else "", row.range, row.description]
            out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        out.append("")
    return "\n".join(out)


def type_text(annotation: Any) -> str:
    """``integer``, ``number``, ``text``, ``true|false``; choices as ``a|b``, numbers as ``N,N`` for two or ``N,…``."""
    if annotation == Schedule:
        return "preset or knots"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, types.UnionType):
        return "|".join(type_text(part) for part in parts if part is not types.NoneType)
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin is tuple:
        return ",".join("N" * len(parts))
    if origin is list:
        return "text, …" if parts[0] is str or get_origin(parts[0]) is Literal else "N,…"
    if origin is dict:
        return f"table of {type_text(parts[1])}s"
    return _NAMES[annotation]


def default_text(value: Any) -> str:
    """A default as it is written in a recipe."""
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, str) or value is None:
        return value or "none"
    preset = next((name for name, knots in PRESETS.items() if knots == value), None)
    return preset or json.dumps(value)


def range_text(field: FieldInfo) -> str:
    """The bounds of a number, or of every item of a list."""
    bounds = [*field.metadata]
    if get_origin(field.annotation) is list:
        (item,) = get_args(field.annotation)
        bounds += [bound for info in get_args(item)[1:] for bound in getattr(info, "metadata", [])]
    found = {name: getattr(bound, name) for bound in bounds for name in _SIGNS if hasattr(bound, name)}
    return ", ".join(f"{_SIGNS[name]} {value}" for name, value in found.items())
