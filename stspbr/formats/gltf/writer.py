"""Write an :class:`Asset` as glTF 2.0, one GLB or a ``.gltf`` with files beside it: same asset, same bytes.

Written by itself, not through trimesh, so that TANGENT, accessor bounds, 16-bit maps, nodes and names are exactly ours.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from stspbr.files import safe_name, write_file
from stspbr.formats.asset_checks import check_writable
from stspbr.formats.gltf.buffers import Buffers
from stspbr.formats.gltf.material_writer import MaterialWriter
from stspbr.formats.gltf.node_writer import write_nodes
from stspbr.scene.asset import Asset
from stspbr.version import __version__


def write_glb(path: str | Path, asset: Asset, texture_bits: int = 8, quantized: bool = False) -> list[str]:
    """Write nodes, meshes and materials as a binary glTF 2.0 file, atomically.

    Albedo goes out as an sRGB PNG, roughness and metallic (and occlusion, else 1) as one packed linear PNG, normals
    as a linear PNG. Maps with a single texel become factors, which are exact; if a packed PNG is written, its
    factors are 1. ``occlusionTexture`` is written only if something is occluded. Missing normals are written smooth.
    Tangents are written if a normal map uses them. Materials without triangles are left out.

    Args:
        texture_bits: 8, or 16 for PNGs that keep more (larger; many viewers read only 8).
        quantized: integers by ``KHR_mesh_quantization`` in about half the space. Errors are at most: positions
            a 65534th of the mesh's longest side, halved; normals 0.0016°; tangents 0.4°; UVs within [0, 1]
            1/131070 (others stay floats).

    Returns:
        Remarks for the user, e.g. on map sizes that are not powers of two.

    Raises:
        StspbrError: a textured material but no UVs; values that are not finite; a place that cannot be written.
    """
    content, binary, _, notes = _contents(path, asset, texture_bits, quantized, beside=None)
    write_file(path, _glb(content, binary))
    return notes


def write_gltf(path: str | Path, asset: Asset, texture_bits: int = 8, quantized: bool = False) -> list[str]:
    """As :func:`write_glb`, but as a ``.gltf`` of readable JSON with ``<name>.bin`` and ``<name>_<map>.png`` beside it.

    Each file is replaced atomically, the ``.gltf`` last.
    """
    path = Path(path)
    stem = safe_name(path.stem, set())
    content, binary, images, notes = _contents(path, asset, texture_bits, quantized, beside=stem)
    content["buffers"][0]["uri"] = quote(f"{stem}.bin")
    for name, data in {**images, f"{stem}.bin": binary}.items():
        write_file(path.parent / name, data)
    write_file(path, _encoded(content, indent=1) + b"\n")
    return notes


def _contents(
    path: str | Path, asset: Asset, bits: int, quantized: bool, beside: str | None
) -> tuple[dict[str, Any], bytes, dict[str, bytes], list[str]]:
    """The JSON, the binary buffer, the image files beside it (none in a GLB), and remarks."""
    check_writable(path, asset)
    owner = asset.mesh.material_of
    used, face_material = np.unique(owner, return_inverse=True)
    buffers = Buffers()
    writer = MaterialWriter(buffers, bits, has_uvs=asset.mesh.uvs is not None, beside=beside)
    materials = [writer.material(asset.materials[index]) for index in used]
    notes = writer.notes
    nodes, roots, meshes = write_nodes(asset, face_material.reshape(-1), materials, buffers, quantized, notes)
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"stspbr {__version__}", "extras": {"stspbr": __version__}},
        "scene": 0,
        "scenes": [{"nodes": roots}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": materials,
        "accessors": buffers.accessors,
        "bufferViews": buffers.views,
        "buffers": [{"byteLength": len(buffers.binary)}],
    }
    if quantized:
        content["extensionsUsed"] = content["extensionsRequired"] = ["KHR_mesh_quantization"]
    if writer.images:
        content["images"] = writer.images
        content["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}]
        content["textures"] = [{"sampler": 0, "source": index} for index in range(len(writer.images))]
    return content, bytes(buffers.binary), writer.files, notes


def _glb(content: dict[str, Any], binary: bytes) -> bytes:
    text = _encoded(content)
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _encoded(content: dict[str, Any], indent: int | None = None) -> bytes:
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, separators=separators, indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")
