"""The base of all settings, how they are validated, and their command-line overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.fields import FieldInfo

from stspbr.errors import StspbrError, did_you_mean

SettingsType = TypeVar("SettingsType", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_settings(
    model: type[SettingsType], values: Mapping[str, Any], where: str, options: Mapping[str, str] | None = None
) -> SettingsType:
    """Validate ``values``; every fault becomes one line that names the key, ``where`` it is, and the nearest choice.

    Args:
        options: what the user typed for keys that came from command-line options, e.g. ``{"up": "--up west"}``.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a key is missing if mistyped
        raise StspbrError(_fault(model, first, where, options or {}) + more) from None


def settings_for(
    model: type[SettingsType],
    overrides: list[str],
    base: Mapping[str, Any] | None = None,
    where: str | None = None,
    options: Mapping[str, str] | None = None,
) -> SettingsType:
    """Settings of one stage: the defaults, then ``base``, then the overrides; nested keys merge.

    ``where`` and ``options`` are named in errors as in :func:`parse_settings`; the default is the model's name.
    """
    values = apply_overrides(with_defaults(model, base or {}), overrides)
    return parse_settings(model, values, where or model.__name__.removesuffix("Settings").lower(), options)


def with_defaults(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` over the model's defaults; tables merge key by key (a loss of weight 0 is switched off)."""
    fields = {name: field.get_default() for name, field in model.model_fields.items() if not field.is_required()}
    defaults = {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in fields.items()}
    return merged(defaults, values)


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """``values`` with ``key.sub=value`` overrides applied; values are TOML, bare words are strings."""
    out = deepcopy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise StspbrError(f"--set {override}: expected key=value, e.g. optimize.iterations=500")
        *tables, last = key.strip().split(".")
        node = out
        for part in tables:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise StspbrError(f"--set {override}: {part} is a value, not a table")
        node[last] = parse_value(text)
    return out


def parse_value(text: str) -> Any:
    """``text`` as a TOML value; what is not one is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def nested_models(field: FieldInfo) -> list[type[Settings]]:
    """The settings models that a field holds: one, several for a choice of kinds, none for a plain value."""
    candidates = get_args(field.annotation) or (field.annotation,)
    return [model for model in candidates if isinstance(model, type) and issubclass(model, Settings)]


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The values of ``kind`` that choose this model among others."""
    return get_args(model.model_fields["kind"].annotation)


def every_setting(
    model: type[BaseModel], values: BaseModel | None = None, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Dotted key, field and default of every plain value; of nested models with the defaults that ``values`` hold."""
    for name, field in model.model_fields.items():
        default = field.get_default() if values is None else getattr(values, name)
        models = nested_models(field)
        for nested in models:
            yield from every_setting(nested, default if isinstance(default, nested) else None, f"{prefix}{name}.")
        if not models:
            yield f"{prefix}{name}", field, default


def or_else(message: str) -> WrapValidator:
    """A validator that replaces all that can be wrong with a value by one ``message``."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(message) from None

    return WrapValidator(validate)


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``extra`` over ``base``; tables merge key by key."""
    out = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def _fault(model: type[BaseModel], error: Mapping[str, Any], where: str, options: Mapping[str, str]) -> str:
    """One line for one of pydantic's errors."""
    key, last, beside = _key(model, error["loc"])
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        table = key.removesuffix(last)
        near = did_you_mean(last, beside, table) or did_you_mean(key, [name for name, _, _ in every_setting(model)])
        return f"{where}: {key} is not a setting{near or '; `stspbr settings` lists all of them'}"
    if kind.startswith("union_tag"):
        key, value = f"{key}.kind", context.get("tag")
    option = next((text for name, text in options.items() if f"{key}.".startswith(f"{name}.")), None)
    if kind in ("missing", "union_tag_not_found"):
        return f"{option or where}: {key} is missing"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not key:
        return message if kind == "value_error" else f"{where}: {message}"
    shown = f"={value}" if isinstance(value, str | int | float) else ""
    if expected := context.get("expected") or context.get("expected_tags"):
        choices = expected.replace("'", "")
        message = f"choose {choices}{did_you_mean(str(value), choices.replace(' or ', ', ').split(', '))}"
    return f"{option or f'{where}: {key}{shown}'}: {message}"


def _key(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, str, list[str]]:
    """An error's dotted key without the kind that pydantic inserts, its last part, and the fields beside it."""
    models: list[type[BaseModel]] = [model]
    parts: list[str] = []
    fields: Mapping[str, FieldInfo] = {}
    for part in location:
        if len(models) > 1:
            models = [one for one in models if part in kinds_of(one)]
            continue
        fields = models[0].model_fields if models else {}
        models = [*nested_models(fields[part])] if part in fields else []
        parts.append(str(part))
    return ".".join(parts), parts[-1] if parts else "", list(fields)
