"""The room: five objects of random colour and shine in a box of coloured walls, under one or several small lights."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stspbr.scenes.description import Scene, SceneCamera, SceneLight, SceneMaterial, SceneShape, placed

OBJECTS = ("sphere", "cube", "dodecahedron", "cylinder", "teapot")
_WALLS = ("north", "east", "south", "west")
_SIZE, _FLOOR, _CEILING = 6.0, -0.5, 2.5
_REACH, _APART, _TRIES = 2.25, 1.55, 5
_LIGHT = 0.125
_PARKED = -50.0  # height at which an object that is not there waits, so that all rooms have the same shapes
_ROUGHNESS = (1.0, 0.5, 0.05)
_MANY = 10  # lights


@dataclass(frozen=True)
class RoomKind:
    """What is random in a room.

    Attributes:
        lights: number of lights; coloured: they have colours; materials: ``"normal"``, ``"few"`` (white and matt) or
            ``"many"`` (any colour and roughness); objects: how many of ``OBJECTS`` can appear.
    """

    lights: int = 1
    coloured: bool = False
    materials: str = "normal"
    objects: int = 5

    def light(self, random: np.random.Generator) -> tuple[SceneLight, ...]:
        """The lights."""
        out: list[SceneLight] = []
        for _ in range(self.lights):
            x, z = random.uniform(-_REACH, _REACH, 2)
            y = random.uniform(1.0, 1.85)
            if self.lights == 1:
                power = 35.0
            else:
                on, strength = random.uniform() < 0.5, random.uniform(0.1, 1.0)
                power = 15.0 * strength if on or not out else 0.0  # never all of them off
            tint = 0.5 + 0.5 * _hue(random.uniform()) if self.coloured else np.ones(3)
            out.append(SceneLight(position=_vector((x, y, z)), size=_LIGHT, emission=_vector(power * tint)))
        return tuple(out)

    def geometry(self, random: np.random.Generator) -> tuple[SceneShape, ...]:
        """The walls, and where which object stands."""
        half, height, middle = _SIZE / 2, _CEILING - _FLOOR, (_CEILING + _FLOOR) / 2
        shapes = [
            _wall("floor", placed((0.0, _FLOOR, 0.0), (_SIZE, 1.0, _SIZE))),
            _wall("ceiling", placed((0.0, _CEILING, 0.0), (_SIZE, 1.0, _SIZE), roll=180.0)),
        ]
        for k, name in enumerate(_WALLS):
            angle = 90.0 * k
            s, c = np.sin(np.radians(angle)), np.cos(np.radians(angle))
            place = (-half * s, middle, -half * c)
            shapes.append(_wall(name, placed(place, (_SIZE, 1.0, height), yaw=angle, pitch=90.0)))
        taken: list[np.ndarray] = []
        for name in OBJECTS[: self.objects]:
            shown, yaw, found = random.uniform() < 0.5, random.uniform(0.0, 360.0), None
            for candidate in random.uniform(-_REACH, _REACH, (_TRIES, 2)):
                if found is None and all(np.linalg.norm(candidate - other) >= _APART for other in taken):
                    found = candidate
            position = (0.0, _PARKED, 0.0)
            if shown and found is not None:
                taken.append(found)
                position = (float(found[0]), 0.0, float(found[1]))
            if name == "sphere":
                shape = SceneShape(type="sphere", transform=placed(position, 0.5), material=name, name=name)
            else:
                shape = SceneShape(
                    type="file", path=name, transform=placed(position, yaw=yaw), material=name, name=name
                )
            shapes.append(shape)
        return tuple(shapes)

    def material(self, random: np.random.Generator) -> dict[str, SceneMaterial]:
        """Colours and roughness; the numbers of the buffer ``id`` are always the same."""
        names = ("floor", "ceiling", *_WALLS, *OBJECTS[: self.objects])
        out = {}
        for number, name in enumerate(names):
            hue, level, saturation, value = random.uniform(size=4)
            roughness = _ROUGHNESS[int(level * len(_ROUGHNESS))]
            colour = _hue(hue)
            if self.materials == "many":
                colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
                roughness = 0.05 + 0.95 * level
            if name in ("floor", "ceiling"):
                colour = np.ones(3)
            elif self.materials == "few" and name in OBJECTS:
                colour, roughness = np.ones(3), 1.0
            if name not in OBJECTS:
                roughness = 1.0
            out[name] = SceneMaterial(color=_vector(colour), roughness=roughness, id=number)
        return out

    def camera(self, random: np.random.Generator) -> SceneCamera:
        """A view."""
        u = random.uniform(size=6)
        x, z = np.sin(2 * np.pi * u[0]) * (1.5 + 1.5 * u[1]), np.cos(2 * np.pi * u[2]) * (1.5 + 1.5 * u[3])
        aim = u[5]
        return SceneCamera(position=_vector((x, 1.0 + u[4], z)), lookat=_vector((aim, 2.0 * aim, aim)), fov=75.0)

    def scene(
        self, lights: tuple[SceneLight, ...], geometry: tuple[SceneShape, ...], materials: dict[str, SceneMaterial]
    ) -> Scene:
        """The three put together."""
        return Scene(bounces=4, lights=lights, geometry=geometry, materials=materials)


ROOMS: Mapping[str, RoomKind] = {
    "room": RoomKind(),
    "manylightroom": RoomKind(lights=_MANY),
    "fewmaterialroom": RoomKind(coloured=True, materials="few"),
    "manymaterialroom": RoomKind(materials="many"),
    "manymanyroom": RoomKind(lights=_MANY, materials="many"),
}
"""The room and its four variants."""


def _wall(name: str, transform: tuple) -> SceneShape:
    return SceneShape(type="grid", transform=transform, material=name, name=name)


def _hue(hue: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue, 1.0, 1.0))


def _vector(values: object) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, float).tolist()
    return x, y, z
