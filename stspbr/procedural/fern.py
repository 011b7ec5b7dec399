"""A potted fern: fronds are cards with cut-outs, as games have them, over a glazed pot without any."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.charts import Chart, Patch, welded
from stspbr.procedural.objects import COPPER
from stspbr.procedural.painting import paint, smoothstep
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

_FRONDS, _ROWS, _COLUMNS = 9, 14, 4
_LENGTH, _WIDTH = 1.15, 0.30  # of a card
_PINNAE = 9.0  # leaflets on either side of a stem
_POT, _CENTRE = (0.34, 0.30, 0.34), -0.55  # half axes of the pot, height of its centre
_RIM = _CENTRE + 0.26


def fern(resolution: int = 512) -> Asset:
    """Nine arching fronds over a copper-banded pot; a mask with a cutoff of 0.5 cuts the leaflets out of the cards.

    Args:
        resolution: side of the square maps.
    """
    cards = [_card_chart(number) for number in range(_FRONDS)]
    pot = Chart((0.01, 0.57), (2.0 * np.pi * _POT[0], np.pi * _POT[1]), (0.45, 0.42))
    albedo, roughness = np.full((resolution, resolution, 3), 0.3), np.full((resolution, resolution), 0.5)
    metallic, opacity = np.zeros((resolution, resolution)), np.zeros((resolution, resolution))
    for number, chart in enumerate(cards):
        place, x, y = chart.texels(resolution)
        along, across = 1.0 - y / _LENGTH, 2.0 * x / _WIDTH - 1.0
        vein = smoothstep(0.10, 0.03, np.abs(across))
        fresh = np.array((0.10, 0.26, 0.05)) + number / _FRONDS * np.array((0.06, 0.05, 0.01))
        albedo[place] = fresh * (0.75 + 0.5 * along[..., None]) + vein[..., None] * np.array((0.08, 0.10, 0.03))
        roughness[place] = 0.42 - 0.12 * vein
        opacity[place] = _leaflets(along, across, _WIDTH * chart.scale[0] * resolution)
    place, x, y = pot.texels(resolution)
    band = smoothstep(0.06, 0.05, np.abs(y / pot.size[1] - 0.35))
    glaze = np.broadcast_to((0.05, 0.11, 0.20), (*x.shape, 3)), np.full_like(x, 0.18), np.zeros_like(x)
    albedo[place], roughness[place], metallic[place] = paint(*glaze, band, COPPER, 0.30, 1.0)
    opacity[place] = 1.0
    mesh = _without_points(welded([*(_frond(number, chart) for number, chart in enumerate(cards)), _pot(pot)]))
    maps = albedo, roughness[..., None], metallic[..., None]
    return Asset(mesh, [Material.of(*maps, name="fern", opacity=opacity[..., None], cutoff=0.5)], name="fern")


def _leaflets(along: np.ndarray, across: np.ndarray, texels: float) -> np.ndarray:
    """Opacity where leaflets are, 0.5 on their outline; ``texels`` across a card set how soft it is."""
    reach = np.sin(np.pi * np.clip(along, 0.0, 1.0) ** 0.7) ** 0.8 * 0.95
    phase = _PINNAE * (along - 0.18 * np.abs(across))  # leaflets point forward
    leaf = 0.5 + 0.5 * np.cos(2.0 * np.pi * phase)
    inside = np.minimum(reach - np.abs(across), 0.22 * (leaf - 0.35))
    stem = 0.035 + 0.02 * (1.0 - along) - np.abs(across)
    return np.clip(0.5 + np.maximum(inside, stem) * texels / 6.0, 0.0, 1.0)


def _card_chart(number: int) -> Chart:
    scale = 0.52 / _LENGTH
    return Chart((0.012 + number * 0.109, 0.015), (_WIDTH, _LENGTH), (0.094 / _WIDTH, scale))


def _frond(number: int, chart: Chart) -> Patch:
    """An arc that rises from the rim, bends outwards and falls; the tip is at the chart's top."""
    turn = 2.0 * np.pi * (number + 0.3 * np.sin(5.0 * number)) / _FRONDS
    outward = np.array([np.sin(turn), 0.0, np.cos(turn)])
    right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
    climb = np.radians(78.0 - 9.0 * (number % 3))
    t = np.linspace(1.0, 0.0, _ROWS + 1)[:, None]  # from the tip
    fall = np.radians(105.0 + 10.0 * (number % 2))
    angle = climb - fall * t
    step = _LENGTH * np.linspace(0.0, 1.0, 257)
    slope = climb - fall * np.linspace(0.0, 1.0, 257)
    reach, rise = (np.concatenate([[0.0], np.cumsum(0.5 * (f[1:] + f[:-1]) * np.diff(step))])
                   for f in (np.cos(slope), np.sin(slope)))  # fmt: skip
    place = t[:, 0] * _LENGTH
    spine = np.interp(place, step, reach)[:, None] * outward + np.interp(place, step, rise)[:, None] * (0.0, 1.0, 0.0)
    side = np.linspace(-0.5, 0.5, _COLUMNS + 1)
    points = spine[:, None] + side[None, :, None] * _WIDTH * right
    points = points + 0.12 * outward + np.array([0.0, _RIM, 0.0])
    up = -np.sin(angle) * outward + np.cos(angle) * np.array([0.0, 1.0, 0.0])
    normals = np.broadcast_to(up[:, None], points.shape)
    x, y = np.meshgrid(np.linspace(0.0, _WIDTH, _COLUMNS + 1), np.linspace(0.0, _LENGTH, _ROWS + 1))
    return Patch(points, normals, np.broadcast_to(right, points.shape), chart.uvs(x, y))


def _pot(chart: Chart) -> Patch:
    around, down = np.meshgrid(np.linspace(0.0, 1.0, 49), np.linspace(0.0, 1.0, 25))
    phi, theta = 2.0 * np.pi * around, np.pi * down
    ball = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], axis=-1)
    normals = ball / np.array(_POT)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    tangents = np.stack([np.cos(phi), 0.0 * phi, -np.sin(phi)], axis=-1)
    uvs = chart.uvs(around * chart.size[0], down * chart.size[1])
    return Patch(ball * np.array(_POT) + np.array([0.0, _CENTRE, 0.0]), normals, tangents, uvs)


def _without_points(mesh: Mesh) -> Mesh:
    """Without the triangles that shrink to a line at the pot's poles."""
    a, b, c = mesh.faces.T
    kept = (a != b) & (b != c) & (c != a)

    def chosen(corners: Corners[np.ndarray] | None) -> Corners[np.ndarray] | None:
        return None if corners is None else Corners(corners.values, corners.index[kept])

    return Mesh(mesh.positions, mesh.faces[kept], chosen(mesh.uvs), chosen(mesh.normals), chosen(mesh.tangents))
