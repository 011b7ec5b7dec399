"""Rings of wire and a thin plate: how thin may a part be before a reconstruction loses it?"""

from __future__ import annotations

import numpy as np

from stspbr.procedural.charts import Chart, Patch, welded
from stspbr.procedural.objects import COPPER, GOLD, SILVER, STEEL
from stspbr.procedural.painting import paint, smoothstep
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material

_SCALE = 1.8  # all lengths below are fractions of the box's diagonal
_RINGS = ((0.28, 0.020, 16), (0.22, 0.010, 12), (0.18, 0.005, 8))  # radius, half thickness, columns around the wire
_TILTS = ((90.0, 0.0), (0.0, 90.0), (40.0, 25.0))  # degrees about X, then about Z
_PLATE, _PLATE_BOTTOM = (0.60, 0.02, 0.46), -0.3545
_ROWS = 120
_ATLAS = 1.0 / 1.82  # UV units per unit of length; across thin parts four times as many
_ACROSS = 4.0 * _ATLAS


def wires(resolution: int = 512) -> Asset:
    """Three rings, 4, 2 and 1 % of the diagonal thick, one inside another, over a plate of 2 %.

    Four parts that do not touch: three of genus 1 and one of genus 0. Copper and black paint on the thickest ring,
    gold and white enamel on the next, steel and red enamel on the thinnest, silver inlays in a brown plate.

    Args:
        resolution: side of the square maps.
    """
    charts = _charts()
    patches = [_ring(k, charts[k]) for k in range(3)] + _plate(charts[3:])
    albedo, roughness = np.full((resolution, resolution, 3), 0.5), np.full((resolution, resolution), 0.5)
    metallic = np.zeros((resolution, resolution))
    coats = (
        (COPPER, 0.30, (0.035, 0.034, 0.036), 0.15, 6.0),
        (GOLD, 0.18, (0.78, 0.77, 0.73), 0.12, 5.0),
        (STEEL, 0.22, (0.50, 0.06, 0.04), 0.35, 4.0),
    )
    for chart, (metal, metal_rough, colour, rough, count) in zip(charts, coats, strict=False):
        place, x, _ = chart.texels(resolution)
        turn = 2.0 * np.pi * x / chart.size[0]
        soft = 1.2 * np.pi * count / (chart.size[0] * chart.scale[0] * resolution)
        cover = smoothstep(0.2 - soft, 0.2 + soft, np.sin(count * turn))
        under = np.broadcast_to(metal, (*x.shape, 3)), metal_rough + 0.08 * np.sin(turn), np.ones_like(x)
        albedo[place], roughness[place], metallic[place] = paint(*under, cover, colour, rough, 0.0)
    for number, chart in enumerate(charts[3:]):
        place, x, y = chart.texels(resolution)
        waves = np.sin(31.0 * x + 9.0 * y) * np.sin(17.0 * y + 0.5)
        albedo[place] = np.array((0.33, 0.19, 0.10)) * (1.0 + 0.12 * waves[..., None])
        roughness[place], metallic[place] = 0.42 + 0.08 * waves, 0.0
        if number < 2:  # inlays on the plate's two faces
            soft = 1.2 / (_ATLAS * resolution)
            inside = 0.035 - np.maximum(np.abs(x % 0.12 - 0.06), np.abs(y % 0.115 - 0.0575))
            coat = paint(
                albedo[place], roughness[place], metallic[place], smoothstep(-soft, soft, inside), SILVER, 0.15, 1.0
            )
            albedo[place], roughness[place], metallic[place] = coat
    return Asset(
        welded(patches), [Material.of(albedo, roughness[..., None], metallic[..., None], name="wires")], name="wires"
    )


def _charts() -> list[Chart]:
    """The rings' charts, then those of the plate: top, bottom, front, back, right, left."""
    charts, gap, v = [], 0.02, 0.01
    for radius, half, _ in _RINGS:
        size = 2.0 * np.pi * radius, 2.0 * np.pi * half
        charts.append(Chart((gap * _ATLAS, v), size, (_ATLAS, _ACROSS)))
        v += size[1] * _ACROSS + gap * _ATLAS
    width, height, depth = _PLATE
    for sizes, across in (
        ([(width, depth)] * 2, _ATLAS),
        ([(width, height)] * 2, _ACROSS),
        ([(depth, height)] * 2, _ACROSS),
    ):
        u = gap * _ATLAS
        for size in sizes:
            charts.append(Chart((u, v), size, (_ATLAS, across)))
            u += (size[0] + gap) * _ATLAS
        v += sizes[0][1] * across + gap * _ATLAS
    return charts


def _ring(number: int, chart: Chart) -> Patch:
    """A torus: u runs along the wire, v around it."""
    radius, half, columns = _RINGS[number]
    along, around = np.arange(_ROWS + 1) % _ROWS / _ROWS, np.arange(columns + 1) % columns / columns
    phi, theta = np.meshgrid(2.0 * np.pi * along, 2.0 * np.pi * around)
    zero = 0.0 * phi
    axis = np.stack([np.cos(phi), zero, -np.sin(phi)], axis=-1)
    normals = np.cos(theta)[..., None] * axis - np.stack([zero, np.sin(theta), zero], axis=-1)
    tangents = np.stack([-np.sin(phi), zero, -np.cos(phi)], axis=-1)
    about_x, about_z = np.radians(_TILTS[number])
    c, s = np.cos(about_x), np.sin(about_x)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    c, s = np.cos(about_z), np.sin(about_z)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ turn
    points = (radius * axis + half * normals) @ turn.T
    x, y = np.meshgrid(*(np.linspace(0.0, size, n + 1) for size, n in zip(chart.size, (_ROWS, columns), strict=True)))
    return Patch(_placed(points), normals @ turn.T, tangents @ turn.T, chart.uvs(x, y))


def _plate(charts: list[Chart]) -> list[Patch]:
    x, y, z = np.eye(3)
    half = 0.5 * np.array(_PLATE)
    centre = np.array([0.0, _PLATE_BOTTOM + half[1], 0.0])
    patches = []
    for chart, right, down in zip(charts, (x, x, x, -x, -z, z), (z, -z, -y, -y, -y, -y), strict=True):
        out = np.cross(down, right)
        left_right, top_bottom = np.meshgrid((-1.0, 1.0), (-1.0, 1.0))
        corners = left_right[..., None] * right + top_bottom[..., None] * down + out
        uvs = chart.uvs(0.5 * (left_right + 1.0) * chart.size[0], 0.5 * (top_bottom + 1.0) * chart.size[1])
        patches.append(Patch.flat(_placed(centre + corners * half), uvs, right))
    return patches


def _placed(points: np.ndarray) -> np.ndarray:
    """From fractions of the diagonal with the rings' centre at the origin to the object, whose box is centred."""
    return _SCALE * (points - np.array([0.0, 0.5 * (_RINGS[0][0] + _RINGS[0][1] + _PLATE_BOTTOM), 0.0]))
