"""A casket of flat faces with sharp edges, bevels, and engravings that are in its normal map only."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.charts import Chart, Patch, welded
from stspbr.procedural.objects import GOLD, STEEL
from stspbr.procedural.painting import paint, smoothstep
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material

_SCALE = 1.4
_HALF, _CHAMFER = np.array([0.5, 0.3]), 0.04  # half width and depth; leg of the bevel along the upright edges
# height and inset of each level, from the lid's top to the floor
_LEVELS = np.array(
    [
        (0.300, 0.090), (0.250, 0.012), (0.238, 0.000), (0.170, 0.000), (0.158, 0.012), (0.150, 0.040),  # lid
        (0.130, 0.040), (0.122, 0.026), (-0.220, 0.026), (-0.232, 0.014), (-0.240, 0.000),  # gap, body
        (-0.290, 0.000), (-0.300, 0.010),  # foot
    ]
)  # fmt: skip
_LID, _BODY = (0.150, 0.301), (-0.220, 0.122)  # heights
_ATLAS, _GAP = 1.0 / 2.12, 0.03
_DEPTH, _WIDTH = 0.008, 0.012  # of an engraved line: its deepest and the distance at which 37 % are left


def casket(resolution: int = 512) -> Asset:
    """The casket, 1.4 × 0.84 × 0.84: eight sides of twelve bevelled bands each, a lid and a floor.

    Normals are split at every edge. Red lacquer on body and lid, brass on bands and bevels, and engraved panels of
    steel, whose lines have slopes up to 30°.

    Args:
        resolution: side of the square maps.
    """
    sides, caps = _charts()
    albedo, roughness = np.full((resolution, resolution, 3), 0.5), np.full((resolution, resolution), 0.5)
    metallic, normal = np.zeros((resolution, resolution)), np.zeros((resolution, resolution, 3))
    normal[..., 2] = 1.0
    soft = 1.2 / (_ATLAS * resolution)
    for number, chart in enumerate(sides + caps):
        place, x, y = chart.texels(resolution)
        x, y = x - 0.5 * chart.size[0], y - 0.5 * chart.size[1]
        if number < len(sides):
            s = _profile(number)
            height = np.interp(y + 0.5 * chart.size[1], s, _LEVELS[:, 0])
            bottom, top = np.interp(_BODY[::-1], _LEVELS[::-1, 0], s[::-1])[::-1] - 0.5 * chart.size[1]
            y = y - 0.5 * (bottom + top)  # the panel is in the middle of the body
            panel = 0.5 * chart.size[0] - 0.09, 0.5 * (bottom - top) - 0.035
            lacquer = np.maximum(_between(height, *_BODY, soft), _between(height, *_LID, soft))
        else:
            panel = 0.5 * chart.size[0] - 0.10, 0.5 * chart.size[1] - 0.10
            lacquer = np.ones_like(x)
        distance = np.maximum(np.abs(x) - panel[0], np.abs(y) - panel[1])  # to the panel's border, negative inside
        has_panel = number >= len(sides) or number % 2 == 0
        cloud = np.sin(23.0 * x + 3.0 * y) * np.sin(19.0 * y - 5.0 * x)
        brass = np.array(GOLD) * np.ones_like(albedo[place])
        red = np.array((0.33, 0.06, 0.045)) * (1.0 + 0.1 * cloud[..., None])
        colour, rough, metal = paint(brass, 0.22 + 0.05 * cloud, np.ones_like(x), lacquer, red, 0.14, 0.0)
        if has_panel:
            cover = smoothstep(soft, -soft, distance)
            colour, rough, metal = paint(colour, rough, metal, cover, STEEL, 0.26, 1.0)
            normal[place] = _engraved(x, y, distance, min(panel) - 0.07, 1.0 / (_ATLAS * resolution))
        albedo[place], roughness[place], metallic[place] = colour, rough, metal
    material = Material.of(albedo, roughness[..., None], metallic[..., None], None, normal, name="casket")
    return Asset(welded(_patches(sides, caps)), [material], name="casket")


def _charts() -> tuple[list[Chart], list[Chart]]:
    """The eight sides' charts (even: the large ones, front, right, back, left), and those of lid and floor."""
    sides, width = [], (2.0 * (_HALF - _CHAMFER)).tolist()
    bevel = float(np.sqrt(2.0)) * _CHAMFER
    for number in range(8):
        kind, height = number // 2, float(_profile(number)[-1])
        if number % 2 == 0:
            corner = (_GAP + kind % 2 * (width[0] + _GAP), _GAP + kind // 2 * 0.76)
        else:
            corner = (3 * _GAP + sum(width) + kind * (bevel + _GAP), _GAP)
        size = width[kind % 2] if number % 2 == 0 else bevel, height
        sides.append(Chart((corner[0] * _ATLAS, corner[1] * _ATLAS), size, (_ATLAS, _ATLAS)))
    caps, u = [], _GAP
    for level in (0, -1):
        width, depth = (2.0 * (_HALF - _LEVELS[level, 1])).tolist()
        caps.append(Chart((u * _ATLAS, 1.53 * _ATLAS), (width, depth), (_ATLAS, _ATLAS)))
        u += width + _GAP
    return sides, caps


def _profile(number: int) -> np.ndarray:
    """``[levels]`` length along a side from the lid's edge down to each level."""
    slope = 1.0 if number % 2 == 0 else np.sqrt(2.0)  # a bevelled corner recedes farther
    return np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(_LEVELS[:, 0]), slope * np.diff(_LEVELS[:, 1])))])


def _patches(sides: list[Chart], caps: list[Chart]) -> list[Patch]:
    patches = []
    rings = np.stack([_ring(level) for level in range(len(_LEVELS))])
    for number, chart in enumerate(sides):
        edges = _SCALE * rings[:, [number, (number + 1) % 8]]
        right = edges[0, 1] - edges[0, 0]
        right = right / np.linalg.norm(right)
        along = _profile(number)
        across = ((edges - edges[:, :1].mean(0, keepdims=True)) @ right) / _SCALE
        across += 0.5 * chart.size[0] - across.mean(axis=1, keepdims=True)
        for k in range(len(_LEVELS) - 1):
            uvs = chart.uvs(across[k : k + 2], np.repeat(along[k : k + 2, None], 2, axis=1))
            patches.append(Patch.flat(edges[k : k + 2], uvs, right))
    for level, chart, order in ((0, caps[0], (5, 4, 6, 3, 7, 2, 0, 1)), (-1, caps[1], (0, 1, 7, 2, 6, 3, 5, 4))):
        corners = rings[level][list(order)].reshape(4, 2, 3)
        down = corners[-1, 0] - corners[0, 0]
        x, y = corners[..., 0] + 0.5 * chart.size[0], corners[..., 2] * np.sign(down[2]) + 0.5 * chart.size[1]
        patches.append(Patch.flat(_SCALE * corners, chart.uvs(x, y), np.array([1.0, 0.0, 0.0])))
    return patches


def _ring(level: int) -> np.ndarray:
    """``[8, 3]`` corners of a level; the front's (+Z) left and right ones first, then on to +X, −Z and −X."""
    height, inset = _LEVELS[level]
    (a, c), short = _HALF - inset, _CHAMFER
    corners = [(short - a, c), (a - short, c), (a, c - short), (a, short - c),
               (a - short, -c), (short - a, -c), (-a, short - c), (-a, c - short)]  # fmt: skip
    return np.array([(x, height, z) for x, z in corners])


def _between(height: np.ndarray, low: float, high: float, soft: float) -> np.ndarray:
    return smoothstep(low - soft, low + soft, height) * smoothstep(high + soft, high - soft, height)


def _engraved(x: np.ndarray, y: np.ndarray, distance: np.ndarray, size: float, texel: float) -> np.ndarray:
    """Normals ``[R, C, 3]`` of a panel: two frames, and a rosette of radius ``size`` over diagonal lines inside."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    steep = np.hypot(1.0, 1.08 * size * np.sin(6.0 * angle) / np.maximum(radius, 0.2 * size))
    rosette = np.abs(radius - size * (0.6 + 0.18 * np.cos(6.0 * angle))) / steep
    pitch = 0.055
    diagonals = (np.abs((x + sign * y) / np.sqrt(2.0) % pitch - 0.5 * pitch) for sign in (1, -1))
    inside = np.minimum(rosette, np.maximum(np.minimum(*diagonals), size - radius))
    frames = np.minimum(np.abs(distance + 0.02), np.abs(distance + 0.05))
    lines = np.minimum(frames, np.maximum(inside, distance + 0.07))
    depth = -_DEPTH * np.exp(-((lines / _WIDTH) ** 2))
    down, right = np.gradient(depth, texel)
    out = np.stack([-right, down, np.ones_like(depth)], axis=-1)
    return out / np.linalg.norm(out, axis=-1, keepdims=True)
