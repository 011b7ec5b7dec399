"""Read glTF 2.0 (``.glb`` and ``.gltf``) as an :class:`Asset`: exact about factors, colour spaces and tangents.

Read by itself over NumPy, not through trimesh, which drops TANGENT, texture coordinate sets and node details that
the shading depends on. The scene's nodes, names and transforms come along. Animation, skins, morph targets, emission
and vertex colours are left out; ``asset.extras["notes"]`` lists what was left out.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import read_file
from stspbr.formats.gltf.document import Document
from stspbr.formats.gltf.materials import read_materials, repeats, texture_transform, used_texcoord
from stspbr.scene.asset import Asset, Node
from stspbr.scene.attributes import flat_normals, joined, moved_tangents, unit, weld
from stspbr.scene.mesh import Corners, Mesh

_SUPPORTED = {"KHR_texture_transform", "KHR_mesh_quantization", "KHR_materials_emissive_strength"}
_BORDER = 1e-3  # UVs that leave the unit square by less need no second tile
_REMEDY = {
    "KHR_draco_mesh_compression": "export it without Draco compression",
    "EXT_meshopt_compression": "export it without meshopt compression",
    "KHR_texture_basisu": "export its textures as PNG or JPEG",
    "EXT_texture_webp": "export its textures as PNG or JPEG",
    "KHR_materials_pbrSpecularGlossiness": "convert it to metallic-roughness",
}


def read_gltf(path: str | Path) -> Asset:
    """Read the default scene of a glTF 2.0 file.

    Node transforms are applied, identical positions welded, factors multiplied into the maps; base colour comes
    out linear. Primitives without normals are flat-shaded, as the standard requires; without TANGENT, ``tangents``
    is None. If only some primitives have TANGENT, the rows of the others are zeros, unless one of those has a
    normal map: then all frames are to be computed. ``nodes`` is the scene's whole tree, parents before children; a
    mesh that several nodes show occurs once per node.

    Raises:
        StspbrError: missing, truncated or corrupt file; an extension that it requires and that is not supported;
            maps of one material on different texture coordinates; nothing to draw.
    """
    document = _open(Path(path))
    try:
        return _asset(document)
    except StspbrError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise StspbrError(f"{path} is not valid glTF ({type(error).__name__}: {error}): export it again") from error


def _open(path: Path) -> Document:
    data, glb_buffer = read_file(path), None
    if data[:4] == b"glTF":
        data, glb_buffer = _chunks(path, data)
    elif path.suffix.lower() == ".glb":
        raise StspbrError(f"{path} is truncated or not a GLB file: export or copy it again")
    try:
        content = json.loads(data)
        version = str(content["asset"]["version"])
    except (ValueError, KeyError, TypeError):
        raise StspbrError(f"{path} is truncated or not glTF (unreadable JSON): export or copy it again") from None
    if not version.startswith("2"):
        raise StspbrError(f"{path} is glTF {version}: only glTF 2 is supported, convert it")
    for name in content.get("extensionsRequired", []):
        if name not in _SUPPORTED:
            raise StspbrError(f"{path} requires {name}: {_REMEDY.get(name, 'export it without that extension')}")
    return Document(path, content, glb_buffer)


def _chunks(path: Path, data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and binary chunks of a GLB."""
    broken = StspbrError(f"{path} is truncated or corrupt: export or copy it again")
    if len(data) < 20:
        raise broken
    _, version, length = struct.unpack_from("<III", data)
    if version != 2:
        raise StspbrError(f"{path} is GLB version {version}: only glTF 2 is supported, convert it")
    if length > len(data):
        raise broken
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > length:
            raise broken
        found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    if b"JSON" not in found:
        raise broken
    return found[b"JSON"], found.get(b"BIN\0")


def _asset(document: Document) -> Asset:
    content = document.json
    nodes, instances = _scene(content)
    parts: list[Mesh] = []
    owners: list[int] = []
    for number, mesh_index, matrix in instances:
        for primitive in content["meshes"][mesh_index]["primitives"]:
            part = _primitive(document, primitive, matrix)
            if part is not None:
                part.face_node = np.full(len(part.faces), number, np.int32)
                parts.append(part)
                owners.append(primitive.get("material", -1))
    if not parts:
        raise StspbrError(f"{document.path} holds no triangles: export a mesh")
    used = sorted(set(owners))
    materials = read_materials(document, used)
    fill_tangents = True
    for part, owner in zip(parts, map(used.index, owners), strict=True):
        part.face_material = np.full(len(part.faces), owner, np.int32)
        fill_tangents &= part.tangents is not None or materials[owner].normal is None
    mesh = weld(joined(parts, fill_tangents))
    if len(mesh.faces) == 0:
        raise StspbrError(f"{document.path} holds no triangles with an area: export a mesh")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError(f"{document.path} has positions that are not finite: export it again")
    drawn = set(np.unique(mesh.node_of).tolist())
    for index, node in enumerate(nodes):
        if index not in drawn:
            node.mesh = None
    extras = {"notes": list(dict.fromkeys(document.notes))} if document.notes else {}
    return Asset(mesh, materials, name=document.path.stem, nodes=nodes, extras=extras)


def _scene(content: dict[str, Any]) -> tuple[list[Node], list[tuple[int, int, np.ndarray]]]:
    """The default scene's nodes, and of every mesh in it ``(node, mesh index, object-from-node matrix [4, 4])``."""
    entries = content.get("nodes", [])
    scenes = content.get("scenes", [])
    if scenes:
        roots = scenes[content.get("scene", 0)].get("nodes", [])
    else:
        children = {child for node in entries for child in node.get("children", [])}
        roots = [index for index in range(len(entries)) if index not in children]
    nodes: list[Node] = []
    instances = []
    stack: list[tuple[int, int | None, np.ndarray]] = [(index, None, np.eye(4)) for index in reversed(roots)]
    while stack:
        index, parent, above = stack.pop()
        entry = entries[index]
        local = _node_matrix(entry)
        matrix = above @ local
        mesh = None
        if "mesh" in entry:
            mesh = content["meshes"][entry["mesh"]].get("name") or f"mesh_{entry['mesh']}"
            instances.append((len(nodes), entry["mesh"], matrix))
        nodes.append(Node(entry.get("name") or mesh or f"node_{index}", local, parent, mesh))
        stack += [(child, len(nodes) - 1, matrix) for child in reversed(entry.get("children", []))]
        if len(nodes) > len(entries):
            raise ValueError("a node is reached twice: the node tree has a cycle")
    return nodes, instances


def _node_matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    out = np.eye(4)
    out[0, :3] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
    out[1, :3] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    out[2, :3] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
    out[:3, :3] *= np.asarray(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    out[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return out


def _primitive(document: Document, primitive: dict[str, Any], matrix: np.ndarray) -> Mesh | None:
    """One primitive with its transform applied; None if there is nothing to draw."""
    attributes = primitive["attributes"]
    mode = primitive.get("mode", 4)
    if mode not in (4, 5, 6) or "POSITION" not in attributes:
        document.notes.append("points and lines are left out")
        return None
    positions = document.accessor(attributes["POSITION"]).astype(np.float64)
    count = len(positions)
    indexed = "indices" in primitive
    index = document.accessor(primitive["indices"])[:, 0].astype(np.int64) if indexed else np.arange(count)
    faces = _triangles(index, mode)
    if len(faces) == 0:
        return None
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError("an index points past the vertices")
    material = primitive.get("material", -1)
    for key, what in (("COLOR_0", "vertex colours"), ("JOINTS_0", "skins")):
        if key in attributes:
            document.notes.append(f"{what} are left out")
    if primitive.get("targets"):
        document.notes.append("morph targets are left out")

    linear = matrix[:3, :3]
    mirrored = np.linalg.det(linear) < 0
    placed = (positions @ linear.T + matrix[:3, 3]).astype(np.float32)
    if mirrored:
        faces = faces[:, [0, 2, 1]]
    mesh = Mesh(placed, faces)

    if "NORMAL" in attributes:
        normals = document.accessor(attributes["NORMAL"]).astype(np.float64)
        mesh.normals = Corners(unit(normals @ np.linalg.pinv(linear), (0.0, 1.0, 0.0)), faces)
        if "TANGENT" in attributes:
            tangents = document.accessor(attributes["TANGENT"]).astype(np.float64)
            mesh.tangents = Corners(moved_tangents(tangents, linear, mirrored), faces)
    else:
        mesh.normals = flat_normals(placed, faces)
        document.notes.append("primitives without normals are flat-shaded, as glTF requires")

    entry = document.json["materials"][material] if material >= 0 else {}
    uv_name = f"TEXCOORD_{used_texcoord(document, entry)}"
    if uv_name in attributes:
        uvs = document.accessor(attributes[uv_name]).astype(np.float64)
        uvs = texture_transform(document, entry, uvs).astype(np.float32)
        mesh.uvs = Corners(uvs, faces)
        if not repeats(document, entry) and (uvs.min() < -_BORDER or uvs.max() > 1 + _BORDER):
            name = entry.get("name", "a material")
            document.notes.append(f"{name}: textures that clamp or mirror outside of the unit square repeat here")
    return mesh


def _triangles(index: np.ndarray, mode: int) -> np.ndarray:
    """``[F, 3]`` corners of a list, a strip (every second triangle turned) or a fan."""
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if mode == 6:
        return np.stack([np.full(max(len(index) - 2, 0), index[0]), index[1:-1], index[2:]], axis=1)
    out = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    out[1::2] = out[1::2][:, [1, 0, 2]]
    return out
