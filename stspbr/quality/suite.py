"""The scenes of the ladder: procedural objects under procedural lights, and assets from a folder of the user's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ASSETS_VARIABLE = "STSPBR_ASSETS"
"""The environment variable that names the folder of assets."""


@dataclass(frozen=True)
class Scene:
    """One object under one light.

    Attributes:
        object, light: names for the table.
        capture: the keys of ``CaptureMeshSettings`` that select object and light.
    """

    object: str
    light: str
    capture: dict[str, str | float]


_OBJECTS = ("ceramic-trim", "letters", "dark-gloss", "ramp")
FORMS = ("candlestick", "casket", "wires")
"""Objects whose form is the difficulty: tall and finely turned, sharp-edged and engraved, thin."""
DARK_METALS = ("iron-hoop", "gunmetal", "painted-steel")
"""Metals darker than most paint, beside paint as dark: only the strength of a highlight tells them apart."""
_LIGHTS = ("studio", "sunset", "window")
_WORKSHOP = "envs/aerodynamics_workshop_1k.hdr"
_ASSETS: dict[str, dict[str, str | float]] = {
    "spot": {"asset": "meshes/spot/spot.obj", "light": _WORKSHOP, "roughness": 0.15, "metallic": 0.0},
    "bob": {
        "asset": "restricted/materialsplit/bob_1/bob_tri.obj",
        "textures": "restricted/materialsplit/bob_1/textures",
        "light": _WORKSHOP,
    },
    "boombox": {"asset": "meshes/BoomBox.glb", "light": _WORKSHOP},
}
_PATHS = ("asset", "textures", "light")


def procedural_scenes(objects: tuple[str, ...] = _OBJECTS, lights: tuple[str, ...] = _LIGHTS) -> list[Scene]:
    """Every object under every light, all objects under the first light first."""
    pairs = [(name, light) for light in lights for name in objects]
    return [Scene(n, light, {"asset": f"procedural:{n}", "light": f"procedural:{light}"}) for n, light in pairs]


def asset_scenes() -> tuple[list[Scene], list[str]]:
    """The scenes of the folder that ``STSPBR_ASSETS`` names, and one line per skipped scene."""
    root = os.environ.get(ASSETS_VARIABLE)
    if not root:
        return [], [f"{name}: skipped, {ASSETS_VARIABLE} is not set" for name in _ASSETS]
    scenes, skipped = [], []
    for name, entry in _ASSETS.items():
        capture = {k: str(Path(root) / str(v)) if k in _PATHS else v for k, v in entry.items()}
        absent = [capture[key] for key in _PATHS if key in capture and not Path(str(capture[key])).exists()]
        if absent:
            skipped.append(f"{name}: skipped, {absent[0]} is missing")
        else:
            scenes.append(Scene(name, "workshop", capture))
    return scenes, skipped
