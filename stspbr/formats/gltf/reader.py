"""Read glTF 2.0 (``.glb`` and ``.gltf``) as an :class:`Asset`: exact about factors, colour spaces and tangents.

Read by itself over NumPy, not through trimesh, which drops TANGENT, texture coordinate sets and node details that
the shading depends on. The scene's nodes, names and transforms come along; skins stand as their joints do, morph
targets at their default weights. ``asset.extras["notes"]`` lists what is left out.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, first_line
from stspbr.files import read_file
from stspbr.formats.gltf.document import Document
from stspbr.formats.gltf.materials import Key, content_of, material_name, read_materials
from stspbr.formats.gltf.primitives import read_primitive
from stspbr.formats.gltf.scene_graph import read_scene
from stspbr.scene.asset import Asset, without_offset
from stspbr.scene.attributes import MOST_TRIANGLES, ONE_SIDED, joined, open_faces, weld
from stspbr.scene.mesh import Mesh
from stspbr.scene.vertex_colour import one_colour

_SUPPORTED = {
    "KHR_texture_transform", "KHR_mesh_quantization", "KHR_materials_emissive_strength", "KHR_node_visibility",
    "KHR_materials_pbrSpecularGlossiness", "EXT_mesh_gpu_instancing",
}  # fmt: skip
_LEFT_OUT = {
    "KHR_lights_punctual": "lights (KHR_lights_punctual) are left out",
    "KHR_materials_variants": "material variants are left out: the materials that are read are those without a choice",
}
_REMEDY = {
    "KHR_draco_mesh_compression": "export it without Draco compression",
    "EXT_meshopt_compression": "export it without meshopt compression",
    "KHR_texture_basisu": "export its textures as PNG or JPEG",
    "EXT_texture_webp": "export its textures as PNG or JPEG",
}


def read_gltf(path: str | Path) -> Asset:
    """Read the default scene of a glTF 2.0 file.

    Node transforms are applied, identical positions welded, factors multiplied into the maps; base colour comes
    out linear. Primitives without normals are flat-shaded, as the standard requires; without TANGENT, ``tangents``
    is None. If only some primitives have TANGENT, the rows of the others are zeros, unless one of those has a
    normal map: then all frames are to be computed. ``nodes`` is the scene's whole tree without what is hidden, parents
    before children; a mesh that several nodes or instances show occurs as often. Specular-glossiness is converted.

    Raises:
        StspbrError: missing, truncated or corrupt file; an extension that it requires and that is not supported;
            maps of one material, other than occlusion and normal, on different texture coordinates; nothing to draw.
    """
    document = _open(Path(path))
    try:
        return _asset(document)
    except StspbrError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StspbrError(
            f"{path} is not valid glTF ({type(error).__name__}: {first_line(error)}): export it again"
        ) from error


def _open(path: Path) -> Document:
    data, glb_buffer = read_file(path), None
    if data[:4] == b"glTF":
        data, glb_buffer = _chunks(path, data)
    elif path.suffix.lower() == ".glb":
        raise StspbrError(f"{path} is truncated or not a GLB file: export or copy it again")
    try:
        content = json.loads(data.rstrip(b"\0 \t\r\n"))  # some exporters pad with zeros in place of blanks
        version = str(content["asset"]["version"])
    except (ValueError, LookupError, TypeError, RecursionError):
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
    nodes, shown = read_scene(document)
    parts: list[Mesh] = []
    owners: list[Key] = []
    triangles = 0
    for one in shown:
        mesh = content["meshes"][one.entry["mesh"]]
        weights = one.entry.get("weights", mesh.get("weights", []))
        for primitive in mesh["primitives"]:
            part = read_primitive(document, primitive, one, weights)
            if part is None:
                continue
            part.face_node = np.full(len(part.faces), one.node, np.int32)
            parts.append(part)
            owners.append((primitive.get("material", -1), _colour(document, primitive, part)))
            triangles += len(part.faces)
            if triangles > MOST_TRIANGLES:
                raise StspbrError(f"{document.path} shows more than {MOST_TRIANGLES} triangles: export less at once")
    of_materials = {name for entry in content.get("materials", []) for name in entry.get("extensions", {})}
    for name in sorted({*content.get("extensionsUsed", []), *content.get("extensions", {})}):
        if name in _LEFT_OUT:
            document.notes(_LEFT_OUT[name])
        elif name not in {*_SUPPORTED, *_REMEDY, *of_materials} and not name.startswith("KHR_materials_"):
            document.notes(f"the extension {name} is left out")
    if content.get("animations"):
        document.notes("animations are left out: nodes are where the file puts them without")
    if not parts:
        raise StspbrError(f"{document.path} holds no triangles: export a mesh")
    used = sorted(set(owners), key=lambda key: (key[0], key[1] or ()))
    materials = read_materials(document, used)
    fill_tangents = True
    for part, owner in zip(parts, map(used.index, owners), strict=True):
        part.face_material = np.full(len(part.faces), owner, np.int32)
        fill_tangents &= part.tangents is not None or materials[owner].normal is None
    mesh, nodes, origin = without_offset(joined(parts, fill_tangents), nodes)
    mesh = weld(mesh)
    if len(mesh.faces) == 0:
        raise StspbrError(f"{document.path} holds no triangles with an area: export a mesh")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError(f"{document.path} has positions that are not finite: export it again")
    both_sides = [index >= 0 and content["materials"][index].get("doubleSided", False) for index, _ in used]
    for index in np.unique(mesh.material_of[open_faces(mesh)]) if any(both_sides) else ():
        if both_sides[index]:
            document.notes(ONE_SIDED, materials[index].name)
    drawn = set(np.unique(mesh.node_of).tolist())
    for index, node in enumerate(nodes):
        if index not in drawn:
            node.mesh = None
    lines = document.notes.lines()
    return Asset(mesh, materials, document.path.stem, nodes, {"notes": lines} if lines else {}, origin)


def _colour(document: Document, primitive: dict[str, Any], part: Mesh) -> tuple[float, float, float] | None:
    """The colour of a primitive's vertices, the mean if they differ; None if it is white or absent."""
    if "COLOR_0" not in primitive["attributes"]:
        return None
    values = document.accessor(primitive["attributes"]["COLOR_0"]).astype(np.float64)
    index = primitive.get("material", -1)
    name = material_name(document, index)
    mode = content_of(document, index).get("alphaMode", "OPAQUE")
    if mode != "OPAQUE" and values.shape[1] == 4 and values[:, 3].min(initial=1.0) < 1.0 - 1e-3:
        document.notes(f"transparency (alphaMode {mode}) of vertices is left out", name)
    mean = one_colour(values[part.faces, :3], part.positions[part.faces], name, document.notes)
    red, green, blue = np.round(mean, 6).tolist()
    return None if (red, green, blue) == (1.0, 1.0, 1.0) else (red, green, blue)
