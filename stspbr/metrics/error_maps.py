"""Truth, estimate and error as pictures on the reference's UVs, whatever the estimate's own UVs are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stspbr.metrics.image import display
from stspbr.metrics.material_reader import SurfaceReader
from stspbr.metrics.material_statistics import angles
from stspbr.metrics.sampling import diagonal, face_normals, surface_tree
from stspbr.scene.asset import Asset
from stspbr.scene.mesh import Corners
from stspbr.texture.atlas import Rasterize, rasterize_atlas

ERROR_PEAKS = {"albedo": 0.25, "roughness": 0.25, "metallic": 0.5, "normal": 30.0}
"""The error that is drawn white, by channel; the normal's in degrees."""

UNMATCHED = (0.55, 0.0, 0.55)
"""Where the estimate has no surface near, or only one that looks the other way."""

_RAMP = np.array([(0.02, 0.02, 0.06), (0.28, 0.10, 0.52), (0.80, 0.21, 0.36), (0.98, 0.62, 0.16), (1.0, 1.0, 0.92)])
_EMPTY = 0.16


@dataclass
class ErrorMap:
    """One channel on the reference's UVs: pictures ``[R, R, 3]`` in [0, 1], encoded for display.

    Attributes:
        reference, estimate: the values: albedo in sRGB, normals (object space) as ``(n + 1)/2``.
        error: ``heat`` of the error up to ``ERROR_PEAKS``; ``UNMATCHED`` where there is no estimate.
    """

    reference: np.ndarray
    estimate: np.ndarray
    error: np.ndarray


def error_maps(
    reference: Asset,
    estimate: Asset,
    rasterize: Rasterize,
    resolution: int = 512,
    max_distance_fraction: float = 0.02,
    device: torch.device | str = "cpu",
) -> dict[str, ErrorMap]:
    """Carry the estimate's material over to the reference's texels and compare there.

    Each covered texel is a point of the reference's surface and takes the nearest point of the estimate's. The
    maps of several materials share the picture, each in its own square of a grid.

    Args:
        reference: with UVs; faces whose UVs lie outside the unit square are moved back by whole numbers.
        estimate: in the same space.
        rasterize: the backend's ``rasterize``.
        resolution: side of the pictures.
        max_distance_fraction: as in ``material_error``.
        device: where ``rasterize`` works.

    Returns:
        By channel: ``albedo``, ``roughness``, ``metallic``, ``normal``. Nothing if the reference has no UVs.
    """
    mesh = reference.mesh
    if mesh.uvs is None:
        return {}
    texel, face, barycentric = _texels(reference, rasterize, resolution, device)
    corners = mesh.positions.astype(np.float64)[mesh.faces[face]]
    points = np.einsum("nk,nkd->nd", barycentric, corners)
    other, weights, distance = surface_tree(estimate.mesh).closest(points)
    cosine = np.einsum("nk,nk->n", face_normals(mesh)[face], face_normals(estimate.mesh)[other])
    matched = (distance <= max_distance_fraction * diagonal(mesh)) & (cosine > 0)
    truth = SurfaceReader(reference).read(face, barycentric)
    guess = SurfaceReader(estimate).read(other, weights)

    def picture(values: np.ndarray) -> np.ndarray:
        out = np.full((resolution * resolution, 3), _EMPTY)
        out[texel] = values
        return out.reshape(resolution, resolution, 3)

    out = {}
    for name, errors in material_differences(truth, guess).items():
        shown = np.where(matched[:, None], heat(errors, ERROR_PEAKS[name]), UNMATCHED)
        estimated = np.where(matched[:, None], _displayed(name, guess[name]), UNMATCHED)
        out[name] = ErrorMap(picture(_displayed(name, truth[name])), picture(estimated), picture(shown))
    return out


def material_differences(truth: dict[str, np.ndarray], guess: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``[N]`` by channel: mean absolute difference of linear albedo, of roughness, of metallic; normals' degrees."""
    return {
        "albedo": np.abs(guess["albedo"] - truth["albedo"]).mean(axis=-1),
        "roughness": np.abs(guess["roughness"] - truth["roughness"]),
        "metallic": np.abs(guess["metallic"] - truth["metallic"]),
        "normal": angles(truth["normal"], guess["normal"]),
    }


def heat(values: np.ndarray, peak: float) -> np.ndarray:
    """Colours ``[..., 3]`` of ``values`` ``[...]``: black at 0, over purple and orange to white at ``peak``."""
    place = np.clip(np.asarray(values, np.float64) / peak, 0.0, 1.0) * (len(_RAMP) - 1)
    return np.stack([np.interp(place, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)], axis=-1)


def _displayed(name: str, values: np.ndarray) -> np.ndarray:
    if name == "albedo":
        return display(values)
    if name == "normal":
        return 0.5 * values + 0.5
    return np.repeat(np.clip(values, 0.0, 1.0)[:, None], 3, axis=1)


def _texels(reference: Asset, rasterize: Rasterize, resolution: int, device: torch.device | str) -> list[np.ndarray]:
    """Covered texels: index into the picture, face, barycentrics; each material in its own square of a grid."""
    mesh = reference.mesh
    owner = mesh.material_of
    used = np.unique(owner)
    grid = int(np.ceil(np.sqrt(len(used))))
    side = resolution // grid
    uvs = mesh.required("uvs")
    corners = uvs.values.astype(np.float64)[uvs.index]
    corners -= np.floor(corners.mean(axis=1, keepdims=True))  # what then reaches over the border is cut off there
    parts = []
    for place, material in enumerate(used):
        own = np.flatnonzero(owner == material)
        index = np.arange(3 * len(own), dtype=np.int32).reshape(-1, 3)
        found = rasterize_atlas(Corners(corners[own].reshape(-1, 2), index), side, rasterize, device)
        row, column = np.divmod(found.texel.cpu().numpy(), side)
        texel = (row + place // grid * side) * resolution + column + place % grid * side
        parts.append((texel, own[found.triangle.cpu().numpy()], found.barycentric.cpu().numpy().astype(np.float64)))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
