"""A living room with a dining group, of our own furniture: a window, a lamp that moves, and a mirror on one wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.scenes.description import Scene, SceneCamera, SceneLight, SceneMaterial, SceneShape, placed

_X, _Y, _Z = 7.0, 2.6, 6.5
_ABSENT = 1.0 / 8.0
_PARKED = -50.0
_WALLS = ("north", "east", "south", "west")
_WALLPAPERS = ("stripes", "checks", "dots", "zigzag")
_TABLES = ("dining_table_long", "dining_table_square", "dining_table_round")
_SOFAS = ("sofa_wide", "sofa_small")
_COFFEE = ("coffee_table", "coffee_table_round")
_CHAIRS = 6
# palettes a + b·cos 2π(ct + d)
_WOOD = ((0.5, 0.4, 0.0), (0.47, 0.5, 0.8), (0.10, 0.10, 0.10), (0.05, 0.10, 0.25))
_CLOTH = ((0.5, 0.5, 0.5), (0.45, 0.45, 0.45), (1.0, 1.0, 1.0), (0.0, 0.33, 0.67))
_NAMES = (
    "floor", "ceiling", *_WALLS, "frame", "mirror", "table", "chair", "sofa", "armchair", "rug", "coffee", "teapot",
)  # fmt: skip


@dataclass(frozen=True)
class Archviz:
    """The living room; every kind of furniture is always there, perhaps out of sight under the floor."""

    def light(self, random: np.random.Generator) -> tuple[SceneLight, ...]:
        """The window in the west wall, and the lamp under the ceiling."""
        day, lamp = random.uniform(size=3), random.uniform(size=3)
        x, z = random.uniform(-_X / 2 + 1.0, _X / 2 - 1.0), random.uniform(-_Z / 2 + 1.0, _Z / 2 - 1.0)
        return (
            SceneLight(
                type="quad", position=(-_X / 2 + 0.02, 1.4, float(random.uniform(-1.5, 1.5))),
                direction=(1.0, 0.0, 0.0), size=1.0, emission=_triple(15.0 + 8.5 * day),
            ),
            SceneLight(
                type="quad", position=(float(x), _Y - 0.02, float(z)), direction=(0.0, -1.0, 0.0), size=0.1,
                emission=_triple(10.0 + 6.0 * lamp),
            ),
        )  # fmt: skip

    def geometry(self, random: np.random.Generator) -> tuple[SceneShape, ...]:
        """Which furniture stands where: the two groups on either side by coin."""
        middle = _Y / 2
        shapes = [
            _grid("floor", (0.0, 0.0, 0.0), (_X, 1.0, _Z)),
            _grid("ceiling", (0.0, _Y, 0.0), (_X, 1.0, _Z), roll=180.0),
            _grid("north", (0.0, middle, -_Z / 2), (_X, 1.0, _Y), pitch=90.0),
            _grid("south", (0.0, middle, _Z / 2), (_X, 1.0, _Y), yaw=180.0, pitch=90.0),
            _grid("west", (-_X / 2, middle, 0.0), (_Z, 1.0, _Y), yaw=90.0, pitch=90.0),
            _grid("east", (_X / 2, middle, 0.0), (_Z, 1.0, _Y), yaw=270.0, pitch=90.0),
        ]
        side = 1.0 if random.uniform() < 0.5 else -1.0
        dining, living = np.array([1.2, 0.0, side * 1.55]), np.array([1.0, 0.0, -side * 1.45])
        # the mirror hangs on the wall behind the dining group
        turn = 180.0 if side > 0 else 0.0
        for name, depth, size in (("frame", 0.012, (1.3, 1.0, 0.9)), ("mirror", 0.02, (1.2, 1.0, 0.8))):
            at = (float(dining[0]), 1.55, side * (_Z / 2 - depth))
            shapes.append(_grid(name, at, size, yaw=turn, pitch=90.0))
        shapes += self._dining(random, dining) + self._living(random, living, side)
        return tuple(shapes)

    def _dining(self, random: np.random.Generator, centre: np.ndarray) -> list[SceneShape]:
        there, which = random.uniform() >= _ABSENT, int(random.integers(len(_TABLES)))
        turn = random.uniform(-8.0, 8.0)
        shapes = [_file(name, "table", centre, turn, there and k == which) for k, name in enumerate(_TABLES)]
        reach = {
            "dining_table_long": (0.45, 0.68),
            "dining_table_square": (0.0, 0.80),
            "dining_table_round": (0.0, 0.82),
        }
        spread, away = reach[_TABLES[which]]
        places = [(-spread, away, 180), (spread, away, 180), (-spread, -away, 0), (spread, -away, 0)]
        places += [(1.15 if spread else away, 0.0, 270), (-1.15 if spread else -away, 0.0, 90)]
        for k, (x, z, yaw) in enumerate(places[:_CHAIRS]):
            double = not spread and k in (1, 3)  # short tables have one chair on each side
            pushed = random.uniform(0.0, 0.15)
            at = centre + np.array([x, 0.0, z + np.sign(z) * pushed])
            shown = random.uniform() >= _ABSENT and there and not double
            shapes.append(_file("chair", "chair", at, yaw + random.uniform(-12.0, 12.0), shown, f"chair{k}"))
        aside = random.uniform(-0.2, 0.2, 2)
        pot = centre + np.array([aside[0], 0.74, aside[1]])
        shown = there and random.uniform() >= _ABSENT
        return [*shapes, _file("small_teapot", "teapot", pot, random.uniform(0.0, 360.0), shown)]

    def _living(self, random: np.random.Generator, centre: np.ndarray, side: float) -> list[SceneShape]:
        facing = 0.0 if side > 0 else 180.0  # the sofa's back is at the wall
        back = centre + np.array([0.0, 0.0, -side * 1.1])
        which, there = int(random.integers(len(_SOFAS))), random.uniform() >= _ABSENT
        shapes = [_file(name, "sofa", back, facing, there and k == which) for k, name in enumerate(_SOFAS)]
        chair = centre + np.array([1.55, 0.0, random.uniform(-0.3, 0.3)])
        shapes.append(_file("armchair", "armchair", chair, -90.0 + random.uniform(-20, 20), _shown(random)))
        shapes.append(_file("rug", "rug", centre, random.uniform(-5, 5), _shown(random)))
        kind, here = int(random.integers(len(_COFFEE))), _shown(random)
        lifted = centre + np.array([random.uniform(-0.2, 0.2), 0.012, 0.0])
        turn = random.uniform(-10, 10)
        return shapes + [_file(name, "coffee", lifted, turn, here and k == kind) for k, name in enumerate(_COFFEE)]

    def material(self, random: np.random.Generator) -> dict[str, SceneMaterial]:
        """Tinted wallpapers, wood and cloth."""
        out = {}
        for number, name in enumerate(_NAMES):
            t, shine, pick = random.uniform(size=3)
            colour, roughness, texture, frequency = np.full(3, 0.8), 1.0, "", 1.0
            if name in _WALLS:
                texture, frequency = _WALLPAPERS[int(pick * len(_WALLPAPERS))], 12.0
                colour = 0.4 + 0.6 * random.uniform(size=3)
            elif name in ("floor", "table", "chair", "coffee", "frame"):
                colour, roughness = _palette(_WOOD, t), 0.35 + 0.6 * shine
                texture, frequency = ("stripes", 14.0) if name == "floor" else ("", 1.0)
            elif name in ("sofa", "armchair", "rug"):
                colour = _palette(_CLOTH, t)
                texture, frequency = ("checks", 6.0) if name == "rug" else ("", 1.0)
            elif name == "teapot":
                colour, roughness = _palette(_CLOTH, t), 0.1 + 0.5 * shine
            elif name == "mirror":
                roughness = 0.05
            out[name] = SceneMaterial(
                color=_triple(colour), roughness=float(roughness), texture=texture, texture_frequency=frequency,
                id=number,
            )  # fmt: skip
        return out

    def camera(self, random: np.random.Generator) -> SceneCamera:
        """A view from the side of the window."""
        u = random.uniform(size=6)
        position = (-3.0 + 2.5 * u[0], 0.9 + 0.9 * u[1], -2.4 + 4.8 * u[2])
        target = (0.6 + 1.4 * u[3], 0.3 + 0.7 * u[4], -1.6 + 3.2 * u[5])
        return SceneCamera(position=_triple(position), lookat=_triple(target), fov=45.0)

    def scene(
        self, lights: tuple[SceneLight, ...], geometry: tuple[SceneShape, ...], materials: dict[str, SceneMaterial]
    ) -> Scene:
        """The three put together."""
        return Scene(bounces=8, lights=lights, geometry=geometry, materials=materials)


def _shown(random: np.random.Generator) -> bool:
    return bool(random.uniform() >= _ABSENT)


def _palette(palette: tuple, t: float) -> np.ndarray:
    a, b, c, d = (np.array(part) for part in palette)
    return np.clip(a + b * np.cos(2.0 * np.pi * (c * t + d)), 0.02, 0.95)


def _grid(name: str, at: tuple, size: tuple, **turn: float) -> SceneShape:
    return SceneShape(type="grid", transform=placed(at, size, **turn), material=name, name=name)


def _file(path: str, material: str, at: np.ndarray, yaw: float, shown: bool, name: str = "") -> SceneShape:
    position = at if shown else np.array([0.0, _PARKED, 0.0])
    transform = placed([float(v) for v in position], yaw=float(yaw))
    return SceneShape(type="file", path=path, transform=transform, material=material, name=name or path)


def _triple(values: object) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, float).tolist()
    return x, y, z
