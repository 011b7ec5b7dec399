"""What a fleet is made of: a TOML file of objects, or folders of photographs, captures and meshes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.settings import FleetObject, FleetSettings
from stspbr.settings.parsing import parse_settings

_MESHES = (".glb", ".gltf", ".obj", ".usd", ".usda", ".usdc", ".usdz")
_PHOTOS = 3  # that make a folder one of photographs


def read_fleet(sources: Sequence[str | Path], given: FleetSettings) -> FleetSettings:
    """The objects of ``sources`` and the settings of the fleet.

    Args:
        sources: one TOML file, or folders.
        given: on the command line: what is set there replaces what the file says; ``set`` follows the file's.

    Raises:
        StspbrError: one line that names the file or folder and the object.
    """
    paths = [Path(source) for source in sources]
    files = [path for path in paths if path.suffix.lower() == ".toml"]
    if files:
        if len(paths) > 1:
            raise StspbrError(f"{files[0]}: give one file of objects, or folders, and not both")
        found = _read_file(files[0])
    else:
        found = FleetSettings(name=_name(paths), objects=_of_folders(paths))
    own = {name: value for name, value in given if value not in (None, [], {})}
    own["set"] = [*found.set, *given.set]
    found = found.model_copy(update=own)
    if not found.objects:
        raise StspbrError(f"{paths[0]} has no objects: add a table [[objects]] for each")
    names: dict[str, str] = {}
    for item in found.objects:
        if item.name.lower() in names:
            raise StspbrError(f"{paths[0]}: two objects are called {item.name}: names must differ, also without case")
        names[item.name.lower()] = item.name
    return found


def _read_file(path: Path) -> FleetSettings:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the objects: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a TOML file: {error}") from None
    objects = values.pop("objects", [])
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise StspbrError(f"{path}: objects must be tables [[objects]]")
    fleet = parse_settings(FleetSettings, {"name": path.stem, **values}, str(path))
    parsed = [_object(item, f"{path}: object {item.get('name', number)}") for number, item in enumerate(objects, 1)]
    return fleet.model_copy(update={"objects": parsed})


def _object(values: dict[str, Any], where: str) -> FleetObject:
    found = parse_settings(FleetObject, values, where)
    sources = [key for key in ("photos", "mesh", "capture") if getattr(found, key) is not None]
    if len(sources) > 1:
        raise StspbrError(f"{where}: {' and '.join(sources)}: an object has one of them")
    return found


def _name(folders: Sequence[Path]) -> str:
    return safe_name(folders[0].resolve().name if len(folders) == 1 else "fleet", set())


def _of_folders(folders: Sequence[Path]) -> list[FleetObject]:
    taken: set[str] = set()
    out = []
    for folder in folders:
        if not folder.is_dir():
            raise StspbrError(f"{folder} is neither a TOML file nor a folder: check the path")
        found = _of_folder(folder)
        below = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
        if not found:
            found = [item for place in below for item in _of_folder(place)]
        if not found:
            raise StspbrError(f"{folder}: neither it nor its folders contain photographs, a capture or meshes")
        for name, values in found:
            out.append(FleetObject(name=safe_name(name, taken), **values))
    return out


def _of_folder(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and source of the objects that lie in ``folder`` itself."""
    from stspbr.datasets.captures import kind_of
    from stspbr.photos.photographs import PHOTO_SUFFIXES

    name = folder.resolve().name
    versions = sorted((folder / "capture").glob("v*/transforms.json"))
    if versions:  # a run of ours
        return [(name, {"capture": {"kind": "nerfstudio", "folder": str(versions[-1].parent)}})]
    kind = kind_of(folder)
    if kind is not None:
        return [(name, {"capture": {"kind": kind, "folder": str(folder)}})]
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if sum(path.suffix.lower() in PHOTO_SUFFIXES for path in files) >= _PHOTOS:
        return [(name, {"photos": str(folder)})]
    return [(path.stem, {"mesh": str(path)}) for path in files if path.suffix.lower() in _MESHES]
