"""The objects and lights that stspbr makes itself, by name: ``procedural:NAME`` instead of a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from stspbr.errors import StspbrError
from stspbr.procedural.candlestick import candlestick
from stspbr.procedural.casket import casket
from stspbr.procedural.dark_metals import gunmetal, iron_hoop, painted_steel
from stspbr.procedural.fern import fern
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.procedural.lights import studio_light, sunset_light, window_light
from stspbr.procedural.objects import dark_gloss, letters, ramp
from stspbr.procedural.packages import crate, label_can
from stspbr.procedural.teapot import knob, teapot
from stspbr.procedural.wires import wires
from stspbr.scene.asset import Asset
from stspbr.scene.light import EnvironmentLight

PREFIX = "procedural:"

OBJECTS: Mapping[str, Callable[[], Asset]] = {
    "demo": demo_asset,
    "dark-gloss": dark_gloss,
    "ceramic-trim": lambda: replace(demo_asset(), name="ceramic-trim"),
    "letters": letters,
    "ramp": ramp,
    "candlestick": candlestick,
    "casket": casket,
    "wires": wires,
    "fern": fern,
    "label-can": label_can,
    "crate": crate,
    "iron-hoop": iron_hoop,
    "gunmetal": gunmetal,
    "painted-steel": painted_steel,
    "teapot": teapot,
    "knob": knob,
}
LIGHTS: Mapping[str, Callable[[], EnvironmentLight]] = {
    "demo": demo_light,
    "studio": studio_light,
    "sunset": sunset_light,
    "window": window_light,
}


def is_procedural(name: str) -> bool:
    """Whether ``name`` is an object or light made in code, not a file."""
    return name.startswith(PREFIX)


def procedural_asset(name: str) -> Asset:
    """The object ``procedural:NAME``; always the same one.

    Raises:
        StspbrError: no object has this name.
    """
    return _find(OBJECTS, name, "object")()


def procedural_light(name: str) -> EnvironmentLight:
    """The light ``procedural:NAME``, 512×256 (width × height).

    Raises:
        StspbrError: no light has this name.
    """
    return _find(LIGHTS, name, "light")()


def _find(table: Mapping[str, Callable], name: str, what: str) -> Callable:
    if name.removeprefix(PREFIX) not in table:
        raise StspbrError(f"{name}: no such {what}; choose from {', '.join(PREFIX + key for key in table)}")
    return table[name.removeprefix(PREFIX)]
