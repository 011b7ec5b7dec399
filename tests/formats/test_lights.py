"""Layouts of lights: every direction keeps its radiance, other shapes are refused, clipping is named."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr, write_png8
from stspbr.formats.lights import read_light
from stspbr.notes import Notes
from stspbr.scene.light import latlong_to_direction

SIDE = 64


def radiance(direction):
    """Smooth, with another value in every direction."""
    return 2.0 + direction @ np.array([[0.9, 0.1, 0.2], [0.1, 0.8, -0.3], [-0.2, 0.3, 0.7]])


def face(right, up, out):
    """A square as it is seen from the middle of a cube, the given axes to its right and up."""
    at = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    u, v = at[None, :, None], -at[:, None, None]
    d = u * np.array(right) + v * np.array(up) + np.array(out, float)
    return radiance(d / np.linalg.norm(d, axis=-1, keepdims=True))


X, Y, Z = np.eye(3)
FRONT, BACK = face(X, Y, -Z), face(-X, Y, Z)
LEFT, RIGHT = face(-Z, Y, -X), face(Z, Y, X)
TOP, BOTTOM = face(X, Z, Y), face(X, -Z, -Y)
NONE = np.zeros_like(FRONT)


def disc(ball):
    """The angular map, or the mirroring ball as its reflections are."""
    at = (np.arange(2 * SIDE) + 0.5) / SIDE - 1
    u, v = np.meshgrid(at, -at)
    r = np.hypot(u, v)
    if ball:
        n = np.stack([u, v, np.sqrt(np.maximum(1 - r**2, 0))], -1)
        view = np.array([0, 0, -1.0])
        d = view - 2 * (n @ view)[..., None] * n
    else:
        s = np.sin(np.pi * r) / r
        d = np.stack([u * s, v * s, -np.cos(np.pi * r)], -1)
    return np.where((r <= 1)[..., None], radiance(d), 0)


LAYOUTS = {
    "cross 4:3": ("cross", [[NONE, TOP, NONE, NONE], [LEFT, FRONT, RIGHT, BACK], [NONE, BOTTOM, NONE, NONE]]),
    "cross 3:4": (
        "cross",
        [[NONE, TOP, NONE], [LEFT, FRONT, RIGHT], [NONE, BOTTOM, NONE], [NONE, BACK[::-1, ::-1], NONE]],
    ),
    "strip 6:1": ("strip", [[RIGHT, LEFT, TOP, BOTTOM, FRONT, BACK]]),
    "strip 1:6": ("strip", [[RIGHT], [LEFT], [TOP], [BOTTOM], [FRONT], [BACK]]),
}


def directions(height):
    uv = np.stack(np.meshgrid((np.arange(2 * height) + 0.5) / (2 * height), (np.arange(height) + 0.5) / height), -1)
    return latlong_to_direction(uv)


@pytest.mark.parametrize("name", LAYOUTS)
def test_cubes_keep_every_direction(tmp_path, name):
    layout, rows = LAYOUTS[name]
    write_exr(tmp_path / "a.exr", np.concatenate([np.concatenate(row, 1) for row in rows]))
    notes = Notes()
    light = read_light(tmp_path / "a.exr", layout, notes).radiance
    assert light.shape == (2 * SIDE, 4 * SIDE, 3)
    assert np.abs(light - radiance(directions(2 * SIDE))).max() < 0.02
    assert notes.lines() == [f"a.exr: the light is resampled from the layout {layout}"]
    with pytest.raises(StspbrError, match=f"twice as wide as high: give --light-layout {layout} if that is"):
        read_light(tmp_path / "a.exr")


@pytest.mark.parametrize(("layout", "dark"), [("angular", -Z), ("mirror-ball", Z)])
def test_probes_keep_every_direction_but_those_of_their_rim(tmp_path, layout, dark):
    write_exr(tmp_path / "a.exr", disc(layout == "mirror-ball"))
    light, there = read_light(tmp_path / "a.exr", layout).radiance, directions(2 * SIDE)
    middle = there @ dark > -0.9
    assert np.abs(light - radiance(there))[middle].max() < 0.03
    with pytest.raises(StspbrError, match="give --light-layout angular or mirror-ball if that is"):
        read_light(tmp_path / "a.exr")


def test_shapes_that_no_layout_has(tmp_path):
    write_exr(tmp_path / "a.exr", np.ones((10, 17, 3)))
    with pytest.raises(StspbrError, match="is 17x10, but a light of the layout latlong .*: convert it to a lat-long"):
        read_light(tmp_path / "a.exr")
    with pytest.raises(StspbrError, match="layout cross is 4:3 or 3:4"):
        read_light(tmp_path / "a.exr", "cross")


def test_clipped_lights_are_named_with_their_share(tmp_path):
    light = np.full((8, 16, 3), 0.5)
    light[:2, :8] = 3.0  # an eighth of the pixels
    write_png8(tmp_path / "a.png", light, srgb=True)
    write_exr(tmp_path / "b.exr", np.minimum(light, 1))
    write_exr(tmp_path / "c.exr", light)
    write_exr(tmp_path / "d.exr", np.minimum(3e4 * light, 65504))
    notes = Notes()
    for name in ("a.png", "b.exr", "c.exr", "d.exr"):
        read_light(tmp_path / name, notes=notes)
    first, second, third = notes.lines()
    assert first.startswith("a.png: the light is clipped at 1 (8 or 16 bits), 12.5% of its pixels are at that limit")
    assert second == "b.exr: the light seems to be clipped: 12.5% of its pixels are exactly 1 and none is above"
    assert third == "d.exr: the light seems to be clipped: 12.5% of its pixels are exactly 65504 and none is above"
