"""One primitive of a glTF mesh as triangles in the scene's space: morph targets, skin and transform applied."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.gltf.document import Document
from stspbr.formats.gltf.materials import map_lookup, material_name, repeats
from stspbr.formats.gltf.scene_graph import Shown
from stspbr.scene.attributes import UNDIRECTED, flat_normals, moved_tangents, smooth_normals, undirected, unit
from stspbr.scene.mesh import Corners, Mesh

_DRACO = "KHR_draco_mesh_compression"
_BORDER = 1e-3  # UVs that leave the unit square by less need no second tile


def read_primitive(document: Document, primitive: dict[str, Any], shown: Shown, weights: list[float]) -> Mesh | None:
    """One primitive with float64 positions; None if there is nothing to draw.

    Args:
        weights: of its morph targets.
    """
    attributes = primitive["attributes"]
    mode = primitive.get("mode", 4)
    if mode not in (4, 5, 6) or "POSITION" not in attributes:
        document.notes("points and lines are left out")
        return None
    if (
        _DRACO in primitive.get("extensions", {})
        and "bufferView" not in document.json["accessors"][attributes["POSITION"]]
    ):
        raise StspbrError(f"{document.path} is compressed by Draco: export it without")
    positions = _morphed(document, primitive, "POSITION", weights)
    count = len(positions)
    indexed = "indices" in primitive
    index = document.accessor(primitive["indices"])[:, 0].astype(np.int64) if indexed else np.arange(count)
    faces = _triangles(index, mode)
    if len(faces) == 0:
        return None
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError("an index points past the vertices")
    if primitive.get("targets"):
        document.notes("morph targets stay at their default weights")

    matrices = shown.matrix[None] if shown.joints is None else _skinned(document, attributes, shown.joints, count)
    linear = matrices[:, :3, :3]
    mirrored = bool(np.median(np.linalg.det(linear)) < 0)
    placed = _each(linear, positions) + matrices[:, :3, 3]
    if mirrored:
        faces = faces[:, [0, 2, 1]]
    mesh = Mesh(placed, faces)

    if "NORMAL" in attributes:
        normals = _turned(linear, _morphed(document, primitive, "NORMAL", weights))
        lost = undirected(normals)
        if lost[faces].any():
            normals = np.where(lost[:, None], smooth_normals(placed, faces), normals)
            document.notes(UNDIRECTED)
        mesh.normals = Corners(unit(normals, (0.0, 1.0, 0.0)), faces)
        if "TANGENT" in attributes:
            tangents = document.accessor(attributes["TANGENT"]).astype(np.float64)
            tangents[:, :3] = _each(linear, tangents[:, :3])
            mesh.tangents = Corners(moved_tangents(tangents, np.eye(3), mirrored), faces)
    else:
        mesh.normals = flat_normals(placed, faces)
        document.notes("primitives without normals are flat-shaded, as glTF requires")

    material = primitive.get("material", -1)
    lookup, _ = map_lookup(document, material)
    name = "TEXCOORD_0" if lookup is None else lookup.coordinates
    if name in attributes:
        uvs = document.accessor(attributes[name]).astype(np.float64)
        uvs = (uvs if lookup is None else lookup.applied(uvs)).astype(np.float32)
        mesh.uvs = Corners(uvs, faces)
        entry = document.json["materials"][material] if material >= 0 else {}
        if not repeats(document, entry) and (uvs.min() < -_BORDER or uvs.max() > 1 + _BORDER):
            where = material_name(document, material)
            document.notes("textures that clamp or mirror outside of the unit square repeat here", where)
    elif lookup is not None:
        where = material_name(document, material)
        document.notes(f"meshes without the {name} that its maps need show one texel of them", where)
    return mesh


def _morphed(document: Document, primitive: dict[str, Any], name: str, weights: list[float]) -> np.ndarray:
    """An attribute ``[N, 3]`` float64 with its morph targets."""
    out = document.accessor(primitive["attributes"][name]).astype(np.float64)
    for weight, target in zip(weights, primitive.get("targets", []), strict=False):
        if weight and name in target:
            out = out + float(weight) * document.accessor(target[name])
    return out


def _skinned(document: Document, attributes: dict[str, int], joints: np.ndarray, count: int) -> np.ndarray:
    """``[N, 4, 4]``: the mean of its joints' matrices for each vertex."""
    document.notes("skins are left out: their meshes stand as the joints do")
    out, total = np.zeros((count, 4, 4)), np.zeros(count)
    number = 0
    while f"JOINTS_{number}" in attributes:
        index = document.accessor(attributes[f"JOINTS_{number}"]).astype(np.int64)
        weights = document.accessor(attributes[f"WEIGHTS_{number}"]).astype(np.float64)
        for joint, weight in zip(index.T, weights.T, strict=True):
            out += joints[joint] * weight[:, None, None]
            total += weight
        number += 1
    sound = total > 0
    out[sound] /= total[sound, None, None]
    out[~sound] = np.eye(4)
    same = (out == out[:1]).all()
    return out[:1] if same else out


def _each(linear: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``[N, 3]`` vectors under one matrix ``[1, 3, 3]`` or one each ``[N, 3, 3]``."""
    return vectors @ linear[0].T if len(linear) == 1 else np.einsum("nij,nj->ni", linear, vectors)


def _turned(linear: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Normals ``[N, 3]`` under matrices as :func:`_each` has them, not of unit length."""
    if len(linear) == 1:
        return normals @ np.linalg.pinv(linear[0])
    # rows of cofactors: the inverse transpose times the determinant, which may be 0
    rows = [np.cross(linear[:, (k + 1) % 3], linear[:, (k + 2) % 3]) for k in range(3)]
    turned = np.stack([np.einsum("ni,ni->n", row, normals) for row in rows], axis=1)
    return turned * np.where(np.linalg.det(linear) < 0, -1.0, 1.0)[:, None]


def _triangles(index: np.ndarray, mode: int) -> np.ndarray:
    """``[F, 3]`` corners of a list, a strip (every second triangle turned) or a fan."""
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if mode == 6:
        return np.stack([np.full(max(len(index) - 2, 0), index[0]), index[1:-1], index[2:]], axis=1)
    out = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    out[1::2] = out[1::2][:, [1, 0, 2]]
    return out
