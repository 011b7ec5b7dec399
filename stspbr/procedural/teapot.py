"""A teapot of two materials, and a knob on a plate: made in code, with UVs, for textures from a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.procedural.revolution import Profile, revolve
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh

_BODY = Profile(
    np.array(
        [
            (0.00, 0.700), (0.07, 0.700), (0.11, 0.660), (0.10, 0.610), (0.06, 0.575), (0.10, 0.550),  # lid's button
            (0.25, 0.510), (0.37, 0.440), (0.41, 0.410), (0.44, 0.405), (0.44, 0.380), (0.41, 0.370),  # lid, rim
            (0.46, 0.340), (0.62, 0.180), (0.70, -0.040), (0.68, -0.260), (0.55, -0.440),  # belly
            (0.44, -0.500), (0.43, -0.530), (0.46, -0.570), (0.44, -0.600), (0.30, -0.600), (0.00, -0.600),  # foot
        ]
    )
)  # fmt: skip
_HANDLE = np.array([(-0.58, 0.24), (-0.76, 0.34), (-0.98, 0.30), (-1.02, 0.06), (-0.92, -0.16), (-0.62, -0.26)])
_SPOUT = np.array([(0.58, -0.24), (0.78, -0.20), (0.84, 0.04), (0.92, 0.26), (1.06, 0.36)])
_PLATE = Profile(
    np.array(
        [
            (0.00, -0.30), (0.30, -0.30), (0.60, -0.31), (0.80, -0.36), (0.86, -0.42), (0.86, -0.48), (0.80, -0.52),
            (0.40, -0.52), (0.00, -0.52),
        ]
    )
)  # fmt: skip
_KNOB = Profile(
    np.array(
        [
            (0.00, 0.62), (0.22, 0.61), (0.44, 0.52), (0.54, 0.34), (0.50, 0.14), (0.34, 0.00), (0.20, -0.10),
            (0.18, -0.20), (0.24, -0.29), (0.24, -0.34), (0.00, -0.34),
        ]
    )
)  # fmt: skip


def teapot() -> Asset:
    """A teapot, 2.1 × 1.3 × 1.4: a turned ``body`` with lid and spout, and a ``handle`` on −X; both grey.

    Body and spout share the first material's UV square: the body has its left four fifths.
    """
    body = _placed(revolve(*_BODY.sampled(49), 64), (0.0, 0.8))
    spout = _placed(_tube(_SPOUT, np.array([0.17, 0.15, 0.11, 0.085, 0.08])), (0.82, 1.0))
    handle = _tube(_HANDLE, np.full(len(_HANDLE), 0.065))
    return _asset("teapot", [(body, 0), (spout, 0), (handle, 1)], ("body", "handle"))


def knob() -> Asset:
    """A door knob, 1.7 × 1.2 × 1.7: a turned ``knob`` on a ``plate``; both grey."""
    parts = [(revolve(*_KNOB.sampled(41), 56), 0), (revolve(*_PLATE.sampled(41), 56), 1)]
    return _asset("knob", parts, ("knob", "plate"))


def _asset(name: str, parts: Sequence[tuple[Mesh, int]], materials: Sequence[str]) -> Asset:
    """One asset of several meshes, each with the number of its material."""
    grey = [
        Material.of(np.full((1, 1, 3), 0.5), np.full((1, 1, 1), 0.5), np.zeros((1, 1, 1)), name=n) for n in materials
    ]
    mesh = parts[0][0]
    owner = [np.full(len(mesh.faces), parts[0][1], np.int32)]
    for other, material in parts[1:]:
        mesh = _joined(mesh, other)
        owner.append(np.full(len(other.faces), material, np.int32))
    mesh.face_material = np.concatenate(owner)
    return Asset(mesh, grey, name=name)


def _joined(a: Mesh, b: Mesh) -> Mesh:
    def both(first: Corners[np.ndarray], second: Corners[np.ndarray]) -> Corners[np.ndarray]:
        index = np.concatenate([first.index, second.index + len(first.values)]).astype(np.int32)
        return Corners(np.concatenate([first.values, second.values]), index)

    points = both(Corners(a.positions, a.faces), Corners(b.positions, b.faces))
    uvs, normals = both(a.required("uvs"), b.required("uvs")), both(a.required("normals"), b.required("normals"))
    return Mesh(points.values, points.index, uvs, normals)


def _placed(mesh: Mesh, span: tuple[float, float]) -> Mesh:
    """``mesh`` with its u squeezed into ``span`` of the square, so that another part can lie beside it."""
    uvs = mesh.required("uvs")
    values = uvs.values.copy()
    values[:, 0] = span[0] + (span[1] - span[0]) * values[:, 0]
    return Mesh(mesh.positions, mesh.faces, Corners(values, uvs.index), mesh.normals)


def _tube(way: np.ndarray, radius: np.ndarray, along: int = 32, around: int = 20) -> Mesh:
    """A bent tube in the plane z = 0 through the control points ``way [N, 2]``, open at its ends."""
    fine = np.linspace(0.0, 1.0, along + 1)
    knots = np.linspace(0.0, 1.0, len(way))
    from scipy.interpolate import CubicSpline

    curve = CubicSpline(knots, way)
    centre, slope = curve(fine), curve(fine, 1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    thick = np.interp(fine, knots, radius)[:, None, None]
    angle = 2 * np.pi * np.arange(around + 1) / around
    across = np.stack([-slope[:, 1], slope[:, 0], np.zeros(along + 1)], axis=-1)[:, None]
    normals = across * np.cos(angle)[None, :, None] + np.array([0.0, 0.0, 1.0]) * np.sin(angle)[None, :, None]
    points = np.concatenate([centre, np.zeros((along + 1, 1))], axis=1)[:, None] + thick * normals
    grid = np.arange((along + 1) * around).reshape(along + 1, around)
    texels = np.arange((along + 1) * (around + 1)).reshape(along + 1, around + 1)
    faces, uv_faces = [], []
    for row in range(along):
        for k in range(around):
            j = (k + 1) % around
            faces += [
                (grid[row, k], grid[row, j], grid[row + 1, j]),
                (grid[row, k], grid[row + 1, j], grid[row + 1, k]),
            ]
            a, b, c, d = texels[row, k], texels[row, k + 1], texels[row + 1, k + 1], texels[row + 1, k]
            uv_faces += [(a, b, c), (a, c, d)]
    uvs = np.stack(np.broadcast_arrays((angle / (2 * np.pi))[None], fine[:, None]), axis=-1).reshape(-1, 2)
    index = np.array(faces, np.int32)
    return Mesh(
        points[:, :around].reshape(-1, 3).astype(np.float32),
        index,
        Corners(uvs.astype(np.float32), np.array(uv_faces, np.int32)),
        Corners(normals[:, :around].reshape(-1, 3).astype(np.float32), index),
    )
