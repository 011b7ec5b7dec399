"""The base of all settings, how they are validated, and their command-line overrides."""

from __future__ import annotations

import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stspbr.errors import StspbrError

SettingsType = TypeVar("SettingsType", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_settings(model: type[SettingsType], values: dict[str, Any], where: str) -> SettingsType:
    """Validate ``values``; every fault becomes one line that names the key and ``where`` it stands."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise StspbrError(f"{where}: {key}: {first['msg'].lower()}{more}") from None


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """``values`` with ``key.sub=value`` overrides applied; values are TOML, bare words are strings."""
    out = _copy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise StspbrError(f"--set {override}: expected key=value, e.g. optimize.iterations=500")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        node, *rest = out, *key.strip().split(".")
        for part in rest[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise StspbrError(f"--set {override}: {part} is a value, not a table")
        node[rest[-1]] = value
    return out


def settings_for(model: type[SettingsType], overrides: list[str], base: dict[str, Any] | None = None) -> SettingsType:
    """Settings of one stage: the defaults, then ``base``, then the overrides; nested keys merge."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    values = {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in defaults.items()}
    values = apply_overrides(_merge(values, base or {}), overrides)
    return parse_settings(model, values, model.__name__.removesuffix("Settings").lower())


def _copy(values: Any) -> Any:
    return {k: _copy(v) for k, v in values.items()} if isinstance(values, dict) else values


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``extra`` laid over it; tables merge key by key (a loss of weight 0 is switched off)."""
    out = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out
