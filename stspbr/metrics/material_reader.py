"""The values of an asset's maps at points of its surface, whatever its UV layout: bilinear, or over a small area."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.errors import StspbrError
from stspbr.metrics.sampling import face_areas
from stspbr.scene.asset import Asset
from stspbr.scene.attributes import mesh_normals
from stspbr.scene.bilinear import bilinear
from stspbr.scene.material import Material, is_constant
from stspbr.scene.mesh import Corners, Mesh

_CHANNELS = {"albedo": 3, "roughness": 1, "metallic": 1}


class SurfaceReader:
    """Reads albedo, roughness, metallic and shading normals of an asset at points given by face and barycentrics.

    Smooth normals and tangents are computed if the mesh has none, as the renderer does.

    Args:
        asset: one or several materials; StspbrError if it has textures but no UVs, or a face has a material that
            does not exist.
    """

    def __init__(self, asset: Asset) -> None:
        mesh = asset.mesh
        self.asset, self.owner = asset, mesh.material_of
        if len(mesh.faces) and self.owner.max() >= len(asset.materials):
            raise StspbrError(f"{asset.name}: a face has material {self.owner.max()} of {len(asset.materials)}")
        if mesh.uvs is None:
            for k in np.unique(self.owner):
                _check_constant(asset, asset.materials[k])
        self.pyramids: dict[tuple[int, str], list[np.ndarray]] = {}
        self._frames = _with_frames(asset)
        self._stretch: np.ndarray | None = None

    def read(self, face: np.ndarray, barycentric: np.ndarray, width: float = 0.0) -> dict[str, np.ndarray]:
        """The material at ``N`` points.

        Args:
            face: ``[N]``; barycentric: ``[N, 3]``.
            width: object-space side of the area that a lookup averages over (from mip levels, trilinear); up to
                the size of a texel, and so for 0, lookups are bilinear.

        Returns:
            ``albedo [N, 3]`` linear, ``roughness [N]``, ``metallic [N]`` and ``normal [N, 3]``: unit shading
            normals in object space, normal map included. float64.
        """
        mesh, frames, count = self.asset.mesh, self._frames, len(face)
        uv = np.zeros((count, 2)) if mesh.uvs is None else _interpolated(mesh.uvs, face, barycentric)
        out = {name: np.zeros((count, channels)) for name, channels in _CHANNELS.items()}
        out["normal"] = _interpolated(frames.required("normals"), face, barycentric)
        owner = self.owner[face]
        for k in np.unique(owner):
            own = np.flatnonzero(owner == k)
            for name in _CHANNELS:
                out[name][own] = self._lookup(k, name, uv[own], face[own], width)
            if self.asset.materials[k].normal is not None:
                bent = self._lookup(k, "normal", uv[own], face[own], width)
                tangent = _interpolated(frames.required("tangents"), face[own], barycentric[own])
                out["normal"][own] = _bent_normals(out["normal"][own], tangent, bent)
        out["normal"] /= np.maximum(np.linalg.norm(out["normal"], axis=-1, keepdims=True), 1e-30)
        out["roughness"], out["metallic"] = out["roughness"][:, 0], out["metallic"][:, 0]
        return out

    def _lookup(self, material: int, name: str, uv: np.ndarray, face: np.ndarray, width: float) -> np.ndarray:
        image = getattr(self.asset.materials[material], name)
        if is_constant(image):
            return np.broadcast_to(image.reshape(1, -1), (len(uv), image.shape[2]))
        if width <= 0:
            return bilinear(image, uv)
        pyramid = self.pyramids.setdefault((material, name), [image])
        texel = self._face_stretch()[face] / np.sqrt(image.shape[0] * image.shape[1])
        return _sample_pyramid(pyramid, uv, np.log2(np.maximum(width / np.maximum(texel, 1e-30), 1.0)))

    def _face_stretch(self) -> np.ndarray:
        """``[F]`` object-space length that a UV length of 1 spans; infinite (so: bilinear) without UV area."""
        if self._stretch is None:
            mesh = self.asset.mesh
            uvs = mesh.required("uvs")
            a, b, c = (uvs.values.astype(np.float64)[uvs.index[:, k]] for k in range(3))
            area = 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
            ratio = face_areas(mesh) / np.maximum(area, 1e-30)
            self._stretch = np.where(area > 1e-20, np.sqrt(ratio), np.inf)
        return self._stretch


def _sample_pyramid(pyramid: list[np.ndarray], uv: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Trilinear lookup at mip ``level`` ``[N]`` ≥ 0; ``pyramid`` grows as far as it is needed."""
    while len(pyramid) <= np.ceil(level.max(initial=0.0)) and max(pyramid[-1].shape[:2]) > 1:
        pyramid.append(_halved(pyramid[-1]))
    level = np.minimum(level, len(pyramid) - 1)
    lower = np.minimum(np.floor(level).astype(np.int64), max(len(pyramid) - 2, 0))
    out = np.zeros((len(uv), pyramid[0].shape[2]))
    for k in np.unique(lower):
        own = lower == k
        part = (level[own] - k)[:, None]
        out[own] = bilinear(pyramid[k], uv[own])
        if part.any():
            out[own] = out[own] * (1 - part) + bilinear(pyramid[k + 1], uv[own]) * part
    return out


def _halved(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 texels; an odd last row or column counts twice."""
    for axis in (0, 1):
        even = np.arange(0, image.shape[axis], 2)
        odd = np.minimum(even + 1, image.shape[axis] - 1)
        image = 0.5 * (np.take(image, even, axis) + np.take(image, odd, axis))
    return image


def _interpolated(corners: Corners[np.ndarray], face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    index = corners.index[face]
    return sum(corners.values[index[:, k]] * barycentric[:, k : k + 1] for k in range(3))


def _check_constant(asset: Asset, material: Material) -> None:
    if material.normal is not None or not all(
        map(is_constant, (material.albedo, material.roughness, material.metallic))
    ):
        raise StspbrError(f"{asset.name}: material {material.name} has textures but the mesh has no UVs")


def _with_frames(asset: Asset) -> Mesh:
    """The mesh with smooth normals, and with tangents where a normal map needs them."""
    mesh = asset.mesh
    if any(m.normal is not None for m in asset.materials) and mesh.uvs is not None:
        from stspbr.geometry.tangents import with_frames

        return with_frames(mesh)
    return replace(mesh, normals=mesh_normals(mesh))


def _bent_normals(normal: np.ndarray, tangent: np.ndarray, normal_map: np.ndarray) -> np.ndarray:
    import torch

    from stspbr.geometry.tangents import shading_normals

    values = (torch.as_tensor(np.ascontiguousarray(v, dtype=np.float64)) for v in (normal, tangent, normal_map))
    return shading_normals(*values).numpy()
