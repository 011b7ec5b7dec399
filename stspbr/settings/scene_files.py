"""Configuration files of the compositional neural scenes; they have the published names and defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from stspbr.errors import StspbrError, did_you_mean
from stspbr.settings.parsing import Settings, parse_settings
from stspbr.settings.scene_model import OPTIONS_OF, GeneratorOptions, GeneratorSettings
from stspbr.settings.scenes import SceneConfig

_IGNORED = {
    "": ("job_group", "antialias"),
    "model": ("antialias",),
    "representations": ("observation_dim", "antialias"),
    "generators": ("query_dim", "output_dim", "antialias"),
}
"""Published keys that say nothing: what they name follows from the passes, or was never used."""


def load_scene_config(path: str | Path) -> tuple[SceneConfig, list[str]]:
    """A configuration file, and one note per key that was ignored.

    ``path`` can be the name of a shipped configuration, such as ``room_mini``.

    Raises:
        StspbrError: the file cannot be read, is no JSON, has an unknown key, or a value is not valid.
    """
    place = find_scene_config(path)
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a JSON file: {error}") from None
    return parse_scene_config(values, str(path))


def find_scene_config(path: str | Path) -> Path:
    """The file of a configuration: ``path``, or the shipped one of this name."""
    place = Path(path)
    if place.is_file():
        return place
    shipped = shipped_scene_configs()
    name = place.name.removesuffix(".json")
    if place.parent == Path() and name in shipped:
        return shipped[name]
    raise StspbrError(
        f"{path}: no such file or configuration; there are {', '.join(shipped)}{did_you_mean(name, shipped)}"
    )


def shipped_scene_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(__file__).parent.parent / "scenes" / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def parse_scene_config(values: Any, where: str) -> tuple[SceneConfig, list[str]]:
    """:func:`load_scene_config` of parsed JSON; ``where`` it is from, for errors."""
    if not isinstance(values, dict):
        raise StspbrError(f"{where}: a configuration is a JSON object, not a {type(values).__name__}")
    notes: list[str] = []
    cleaned = _cleaned(values, SceneConfig, "", "", where, notes)
    return parse_settings(SceneConfig, cleaned, where), notes


def _cleaned(values: Any, model: type[Settings], table: str, prefix: str, where: str, notes: list[str]) -> Any:
    """``values`` without ignored keys; an unknown key is an error that names the nearest."""
    if not isinstance(values, dict):
        return values
    out = {}
    for key, value in values.items():
        if key in _IGNORED.get(table, ()):
            notes.append(f"{where}: {prefix}{key} is ignored")
            continue
        field = model.model_fields.get(key)
        if field is None:
            raise StspbrError(f"{where}: {prefix}{key} is not a setting{did_you_mean(key, model.model_fields, prefix)}")
        nested = next((one for one in (*get_args(field.annotation), field.annotation) if _is_settings(one)), None)
        if nested is not None and isinstance(value, list):
            items = enumerate(value)
            out[key] = [_cleaned(item, nested, key, f"{prefix}{key}.{n}.", where, notes) for n, item in items]
        elif nested is not None:
            out[key] = _cleaned(value, nested, key, f"{prefix}{key}.", where, notes)
        else:
            out[key] = value
    if model is GeneratorSettings and isinstance(out.get("settings"), dict):
        kind = str(out.get("type"))
        for key in out["settings"]:
            # the files that we write hold all options: those of other types at their defaults
            default = GeneratorOptions.model_fields[key].default
            if kind in OPTIONS_OF and key not in OPTIONS_OF[kind] and out["settings"][key] != default:
                own = ", ".join(OPTIONS_OF[kind]) or "none"
                raise StspbrError(f"{where}: {prefix}settings.{key} is not a setting of {kind}; it has {own}")
    return out


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)
