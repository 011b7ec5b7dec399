"""Write an :class:`Asset` as one GLB file: the same asset gives the same bytes.

Written by itself, not through trimesh, so that TANGENT, accessor bounds, 16-bit maps and names are exactly ours.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

import stspbr
from stspbr.errors import StspbrError
from stspbr.formats.attributes import smooth_normals, unique_rows, unit
from stspbr.formats.images import atomic_path, encode_png
from stspbr.formats.orm import pack_orm
from stspbr.scene.asset import Asset, Material, Mesh

_ARRAY, _ELEMENTS = 34962, 34963  # what a buffer view is for
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125


def write_glb(path: str | Path, asset: Asset, texture_bits: int = 8) -> list[str]:
    """Write mesh and materials as a binary glTF 2.0 file, atomically.

    Albedo goes out as an sRGB PNG, roughness and metallic (and occlusion, else 1) as one packed linear PNG, normals
    as a linear PNG. Maps with a single texel become factors, which are exact; where a packed PNG is written its
    factors are 1. Missing normals are written smooth.

    Args:
        texture_bits: 8, or 16 for PNGs that keep more (larger; many viewers read only 8).

    Returns:
        Remarks for the user, e.g. on map sizes that are no powers of two.

    Raises:
        StspbrError: a textured material but no UVs; values that are not finite; a place that cannot be written.
    """
    writer = _Writer(texture_bits)
    notes: list[str] = []
    _check(path, asset)
    materials = [writer.material(material, notes) for material in asset.materials]
    primitives = writer.primitives(asset.mesh, len(materials))
    with atomic_path(path) as temporary:
        temporary.write_bytes(writer.glb(asset.name, materials, primitives))
    return notes


class _Writer:
    """The growing JSON lists and the binary chunk."""

    def __init__(self, bits: int):
        self.bits = bits
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []

    def primitives(self, mesh: Mesh, material_count: int) -> list[dict[str, Any]]:
        """One primitive a material that has faces, each with vertices of its own."""
        normals, normal_faces = mesh.normals, mesh.normal_faces
        if normals is None:
            normals, normal_faces = smooth_normals(mesh.positions, mesh.faces), mesh.faces
        normals = unit(normals, (0.0, 1.0, 0.0))
        tables = [("POSITION", mesh.positions, mesh.faces), ("NORMAL", normals, normal_faces)]
        if mesh.tangents is not None:
            tables.append(("TANGENT", mesh.tangents, mesh.tangent_faces))
        if mesh.uvs is not None:
            tables.append(("TEXCOORD_0", mesh.uvs, mesh.uv_faces))
        owner = np.zeros(len(mesh.faces), np.int32) if mesh.face_material is None else mesh.face_material
        out = []
        for material in range(material_count):
            chosen = owner == material
            if not chosen.any():
                continue
            corners = np.stack([faces[chosen].reshape(-1) for _, _, faces in tables], axis=1).astype(np.int32)
            vertices, index = unique_rows(corners)
            rows = {name: np.asarray(table, np.float32)[vertices[:, k]] for k, (name, table, _) in enumerate(tables)}
            if "TANGENT" in rows:
                rows["TANGENT"] = _sound_tangents(rows["TANGENT"], rows["NORMAL"])
            attributes = {name: self._attribute(values, bounds=name == "POSITION") for name, values in rows.items()}
            out.append({"attributes": attributes, "indices": self._indices(index, len(vertices)), "material": material})
        return out

    def material(self, material: Material, notes: list[str]) -> dict[str, Any]:
        """The JSON of one material; its images go into the binary chunk."""
        pbr: dict[str, Any] = {}
        if _constant(material.albedo):
            pbr["baseColorFactor"] = [*(float(v) for v in np.clip(material.albedo[0, 0], 0, 1)), 1.0]
        else:
            pbr["baseColorTexture"] = self._texture(material, "albedo", material.albedo, True, notes)
        out: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": pbr}
        textured_occlusion = material.occlusion is not None and not (material.occlusion >= 1.0).all()
        if _constant(material.roughness) and _constant(material.metallic) and not textured_occlusion:
            pbr["roughnessFactor"] = float(np.clip(material.roughness[0, 0, 0], 0, 1))
            pbr["metallicFactor"] = float(np.clip(material.metallic[0, 0, 0], 0, 1))
        else:
            packed = pack_orm(material.occlusion, material.roughness, material.metallic)
            pbr["metallicRoughnessTexture"] = self._texture(material, "orm", packed, False, notes)
            pbr["roughnessFactor"] = pbr["metallicFactor"] = 1.0
            if material.occlusion is not None:
                out["occlusionTexture"] = dict(pbr["metallicRoughnessTexture"])
        if material.normal is not None:
            out["normalTexture"] = self._texture(material, "normal", material.normal * 0.5 + 0.5, False, notes)
        return out

    def glb(self, name: str, materials: list[dict[str, Any]], primitives: list[dict[str, Any]]) -> bytes:
        """The file's bytes."""
        content: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": f"stspbr {getattr(stspbr, '__version__', '')}".strip()},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": name, "mesh": 0}],
            "meshes": [{"name": name, "primitives": primitives}],
            "materials": materials,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.binary)}],
        }
        if self.images:
            content["images"] = self.images
            content["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}]
            content["textures"] = [{"sampler": 0, "source": index} for index in range(len(self.images))]
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
        head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
        return b"".join(
            (head, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", len(binary), b"BIN\0"), binary)
        )

    def _texture(
        self, material: Material, kind: str, image: np.ndarray, srgb: bool, notes: list[str]
    ) -> dict[str, Any]:
        height, width = image.shape[:2]
        if width & (width - 1) or height & (height - 1):
            notes.append(
                f"{material.name}: the {kind} map is {width}×{height}, no power of two; some viewers resample it"
            )
        data = encode_png(image, bits=self.bits, srgb=srgb)
        self.images.append({"name": f"{material.name}_{kind}", "mimeType": "image/png", "bufferView": self._view(data)})
        return {"index": len(self.images) - 1}

    def _attribute(self, values: np.ndarray, *, bounds: bool) -> int:
        values = np.ascontiguousarray(values, "<f4")
        kind = {2: "VEC2", 3: "VEC3", 4: "VEC4"}[values.shape[1]]
        view = self._view(values.tobytes(), _ARRAY)
        entry: dict[str, Any] = {"bufferView": view, "componentType": _FLOAT, "count": len(values), "type": kind}
        if bounds:
            entry["min"], entry["max"] = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def _indices(self, index: np.ndarray, vertex_count: int) -> int:
        short = vertex_count <= 65535  # 65535 itself is the restart value and never an index
        view = self._view(index.astype("<u2" if short else "<u4").tobytes(), _ELEMENTS)
        component = _USHORT if short else _UINT
        self.accessors.append({"bufferView": view, "componentType": component, "count": len(index), "type": "SCALAR"})
        return len(self.accessors) - 1

    def _view(self, data: bytes, target: int | None = None) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        entry: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        if target is not None:
            entry["target"] = target
        self.binary += data
        self.views.append(entry)
        return len(self.views) - 1


def _check(path: str | Path, asset: Asset) -> None:
    mesh = asset.mesh
    if len(mesh.faces) == 0:
        raise StspbrError(f"cannot write {path}: the mesh has no triangles")
    for name in ("positions", "uvs", "normals", "tangents"):
        table = getattr(mesh, name)
        if table is not None and not np.isfinite(table).all():
            raise StspbrError(f"cannot write {path}: {name} are not all finite")
    owner = np.zeros(1, np.int32) if mesh.face_material is None else mesh.face_material
    if owner.min() < 0 or owner.max() >= len(asset.materials):
        raise StspbrError(f"cannot write {path}: a triangle points to material {owner.max()}, which is not there")
    for material in asset.materials:
        maps = (material.albedo, material.roughness, material.metallic, material.occlusion, material.normal)
        maps = [image for image in maps if image is not None]
        if not all(np.isfinite(image).all() for image in maps):
            raise StspbrError(f"cannot write {path}: the maps of {material.name} are not all finite")
        if mesh.uvs is None and not all(_constant(image) for image in maps):
            raise StspbrError(f"cannot write {path}: {material.name} has maps but the mesh has no UVs: unwrap it first")


def _constant(image: np.ndarray) -> bool:
    return image.shape[:2] == (1, 1)


def _sound_tangents(tangents: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Unit tangents with ±1 handedness; where one has no direction, any that is square to the normal."""
    axis = np.eye(3, dtype=np.float32)[np.abs(normals).argmin(axis=1)]
    spare = unit(np.cross(normals, axis), (1.0, 0.0, 0.0))
    lost = ~(np.linalg.norm(tangents[:, :3], axis=1) > 1e-20)
    direction = np.where(lost[:, None], spare, unit(tangents[:, :3], (1.0, 0.0, 0.0)))
    return np.concatenate([direction, np.where(tangents[:, 3:] < 0, -1.0, 1.0)], axis=1).astype(np.float32)
