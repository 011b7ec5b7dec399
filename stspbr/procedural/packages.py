"""Printed packages, of which there are many alike: a can with a label, and a crate with one print on two sides."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.objects import GOLD, STEEL
from stspbr.procedural.painting import paint, smoothstep
from stspbr.procedural.printed_paper import printed_paper
from stspbr.procedural.revolution import Profile, revolve
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

_CAN = Profile(
    np.array(
        [
            (0.00, 0.800), (0.20, 0.800), (0.46, 0.800), (0.50, 0.805), (0.52, 0.840), (0.545, 0.840),  # lid, rim
            (0.560, 0.815), (0.560, 0.780), (0.560, 0.700), (0.560, 0.40), (0.560, 0.00), (0.560, -0.40),
            (0.560, -0.700), (0.560, -0.780), (0.560, -0.815), (0.545, -0.840), (0.50, -0.840), (0.30, -0.830),
            (0.00, -0.830),
        ]
    )
)  # fmt: skip
_MARKS = (6.0, 60.0)  # as large as the letters and pictures of a label
_DENSE = 2.0
_LABEL = 0.76  # half its height
_CRATE = np.array([0.75, 0.5, 0.6])  # half its sides
# of each side: its axis, its sign, and the print that it has; the first two have the same one
_SIDES = ((0, 1, 0), (0, -1, 0), (1, 1, 1), (1, -1, 2), (2, 1, 3), (2, -1, 4))


def label_can(resolution: int = 1024) -> Asset:
    """A steel can, 1.12 wide and 1.68 high, in a label whose print does not repeat: paint with patches of gold foil.

    Args:
        resolution: side of the square maps.
    """
    x, y, z = np.moveaxis(_CAN.texels(resolution), -1, 0)
    soft = 1.2 * _CAN.length / resolution
    print_ = printed_paper(resolution, 11, _MARKS, _DENSE).astype(np.float64)
    waves = np.sin(6.1 * x + 3.0 * y + 0.5) * np.sin(5.3 * z - 4.1 * y) + 0.5 * np.sin(9.0 * x - 7.0 * z + 5.0 * y)
    foil = smoothstep(0.55 - 4 * soft, 0.55 + 4 * soft, waves)
    rough = 0.36 + 0.05 * np.clip(waves, -1.0, 1.0)
    tinted = print_ / np.maximum(print_.max(axis=-1, keepdims=True), 1e-3) * 0.5 + 0.5  # foil takes on some of the ink
    albedo, rough, metal = paint(print_, rough, np.zeros_like(x), foil, tinted * np.array(GOLD), 0.28, 1.0)
    side = np.hypot(x, z) > 0.55
    bare = 1.0 - side * smoothstep(_LABEL + soft, _LABEL - soft, np.abs(y))
    albedo, rough, metal = paint(albedo, rough, metal, bare, STEEL, 0.30, 1.0)
    material = Material.of(albedo, rough[..., None], metal[..., None], name="label")
    return Asset(revolve(*_CAN.sampled(41), 72), [material], name="label-can")


def crate(resolution: int = 1024) -> Asset:
    """A box, 1.5 × 1.0 × 1.2, printed on all sides; the sides at +X and −X have the same print.

    Args:
        resolution: side of the square maps.
    """
    tile = resolution // 3
    albedo = np.full((resolution, resolution, 3), 0.5, np.float32)
    prints = [printed_paper(tile, 20 + k, _MARKS, _DENSE) for k in range(5)]
    positions, normals, uvs = [], [], []
    for number, (axis, sign, print_) in enumerate(_SIDES):
        row, column = divmod(number, 3)
        albedo[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = prints[print_]
        normal = np.eye(3)[axis] * sign
        right = np.roll(np.eye(3)[axis], 1)
        up = np.cross(normal, right)
        for u, v in ((0, 0), (0, 1), (1, 1), (1, 0)):
            positions.append((normal + (2 * u - 1) * right - (2 * v - 1) * up) * _CRATE)
            # half a texel inside, so that nothing of the neighbours shows
            inset = 0.5 + np.array([u, v]) * (tile - 1)
            uvs.append((np.array([column, row]) * tile + inset) / resolution)
        normals.append(normal)
    faces = np.array([(4 * k + a, 4 * k + b, 4 * k + c) for k in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))])
    faces, f32 = faces.astype(np.int32), np.float32
    mesh = Mesh(np.array(positions, f32), faces, Corners(np.array(uvs, f32), faces),
                Corners(np.array(normals, f32), faces // 4))  # fmt: skip
    rough = np.full((1, 1, 1), 0.45, f32)
    return Asset(mesh, [Material.of(albedo, rough, 0.0 * rough, name="print")], name="crate")
