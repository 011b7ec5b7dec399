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
        opaque_parts_of: the file whose opaque parts the captured asset is; None: the asset is there.
        relit_by: a light that no capture was made with, for the evaluation; None: it is not relit.
    """

    object: str
    light: str
    capture: dict[str, str | float]
    opaque_parts_of: str | None = None
    relit_by: str | None = None


_OBJECTS = ("ceramic-trim", "letters", "dark-gloss", "ramp")
FORMS = ("candlestick", "casket", "wires")
"""Objects whose form is the difficulty: tall and finely turned, sharp-edged and engraved, thin."""
DARK_METALS = ("iron-hoop", "gunmetal", "painted-steel")
"""Metals darker than most paint, beside paint as dark: only the strength of a highlight tells them apart."""
_LIGHTS = ("studio", "sunset", "window")
_WORKSHOP, _OTHER = "envs/aerodynamics_workshop_1k.hdr", "envs/potsdamer_platz_1k.hdr"
_COATED = {"roughness": 0.15, "metallic": 0.0}  # of assets that have colours alone
_ASSETS: dict[str, dict[str, str | float]] = {
    "spot": {"asset": "meshes/spot/spot.obj", **_COATED},
    "bob": {"asset": "meshes/bob/bob_tri.obj", **_COATED},
    "boombox": {"asset": "meshes/BoomBox.glb"},
    "waterbottle": {"asset": "meshes/WaterBottle.glb"},
    "teapot": {"asset": "meshes/FancyTeapot.glb"},
    "suzanne": {"asset": "meshes/Suzanne.glb"},
    "avocado": {"asset": "meshes/Avocado.glb"},
    "helmet": {"asset": "meshes/FlightHelmet.glb"},
    "duck": {
        "asset": "restricted/materialsplit/bob_1/bob_tri.obj",
        "textures": "restricted/materialsplit/bob_1/textures",
    },
}
ASSET_NAMES = tuple(_ASSETS)
_PATHS = ("asset", "textures")
EVALUATION_ONLY = ("duck",)
"""Assets whose licence allows measuring, but no pictures in a page."""
_OPAQUE = ("helmet",)
"""Assets of which the opaque parts alone are captured."""


def procedural_scenes(objects: tuple[str, ...] = _OBJECTS, lights: tuple[str, ...] = _LIGHTS) -> list[Scene]:
    """Every object under every light, all objects under the first light first."""
    pairs = [(name, light) for light in lights for name in objects]
    return [Scene(n, light, {"asset": f"procedural:{n}", "light": f"procedural:{light}"}) for n, light in pairs]


def asset_scenes(made: Path) -> tuple[list[Scene], list[str]]:
    """The scenes of the folder that ``STSPBR_ASSETS`` names, and one line per skipped scene.

    Args:
        made: folder of the assets that are made of those there, when a job needs them.
    """
    root = os.environ.get(ASSETS_VARIABLE)
    if not root:
        return [], [f"{name}: skipped, {ASSETS_VARIABLE} is not set" for name in _ASSETS]
    light, other = (str(Path(root) / name) for name in (_WORKSHOP, _OTHER))
    relit_by = other if Path(other).exists() else None
    scenes, skipped = [], [] if relit_by else [f"relighting: skipped, {other} is missing"]
    for name, entry in _ASSETS.items():
        capture = {k: str(Path(root) / str(v)) if k in _PATHS else v for k, v in entry.items()} | {"light": light}
        absent = [capture[key] for key in (*_PATHS, "light") if key in capture and not Path(str(capture[key])).exists()]
        if absent:
            skipped.append(f"{name}: skipped, {absent[0]} is missing")
            continue
        source = None
        if name in _OPAQUE:
            source, capture["asset"] = str(capture["asset"]), str(made / f"{name}.glb")
        scenes.append(Scene(name, "workshop", capture, source, relit_by))
    return scenes, skipped
