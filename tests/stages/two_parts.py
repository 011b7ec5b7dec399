"""A GLB with two parts that tests give to the stages: a hierarchy with transforms, and a crate whose UVs repeat."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from stspbr.formats.gltf_writer import write_glb
from stspbr.scene.asset import Asset, Material, Mesh
from stspbr.texture.tangents import with_frames

NODES = [
    {"name": "still life", "children": [1, 2], "translation": [0.5, 0.0, -0.25], "rotation": [0.0, 0.5**0.5, 0.0, 0.5**0.5]},
    {"name": "top", "mesh": 0, "scale": [0.8, 0.8, 0.8]},
    {"name": "crate node", "mesh": 1, "translation": [0.1, -1.45, 0.0], "scale": [1.0, 0.5, 1.25]},
]  # fmt: skip


def crate(size: int = 64, repeats: float = 2.0, normal_map: bool = True) -> Asset:
    """A cube of side 1.4: the same boards on each of its sides, ``repeats`` times over."""
    positions, faces, uvs = [], [], []
    square = np.array([(0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
    for axis in range(3):
        for sign in (1.0, -1.0):
            out = np.eye(3)[axis] * sign
            across = np.eye(3)[(axis + 1) % 3]
            up = np.cross(out, across)
            faces += [np.array([[0, 1, 2], [0, 2, 3]]) + len(positions)]
            positions += [0.7 * (out + across * x + up * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            uvs.append(square * repeats - 0.25)
    faces, positions = np.concatenate(faces).astype(np.int32), np.array(positions, np.float32)
    mesh = Mesh(positions, faces, np.concatenate(uvs).astype(np.float32), faces)
    mesh.normals = np.repeat(np.concatenate([np.eye(3)[[a, a]] * [[1], [-1]] for a in range(3)]), 4, axis=0)
    mesh.normals, mesh.normal_faces = mesh.normals.astype(np.float32), faces
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    board = (np.floor(4 * y) % 2)[..., None]
    grain = (0.5 + 0.5 * np.sin(40 * y + 3 * np.sin(6.3 * x)))[..., None]
    albedo = np.array([0.45, 0.22, 0.08]) * (0.6 + 0.4 * grain) * (0.6 + 0.4 * board)
    roughness, metallic = 0.35 + 0.3 * board, np.zeros_like(board)
    nail = ((x % 0.5 - 0.1) ** 2 + (y % 0.25 - 0.06) ** 2 < 0.03**2)[..., None]
    albedo, roughness = np.where(nail, 0.6, albedo), np.where(nail, 0.25, roughness)
    metallic = np.where(nail, 1.0, metallic)
    normal = None
    if normal_map:
        slope = 0.35 * np.cos(2 * np.pi * 4 * y)
        normal = np.stack([np.zeros_like(slope), slope, np.ones_like(slope)], axis=-1)
        normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)
    maps = (m.astype(np.float32) for m in (albedo, roughness, metallic))
    return Asset(with_frames(mesh) if normal_map else mesh, [Material(*maps, normal=normal, name="boards")], name="crate")


def write_parts(path: Path, assets: list[Asset], nodes: list[dict] = NODES) -> Path:
    """One GLB of several assets, the k-th being mesh k of ``nodes``; the first node is the root."""
    content: dict = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": nodes, "meshes": []}
    lists = ("materials", "accessors", "bufferViews", "images", "textures", "samplers")
    content |= {name: [] for name in lists}
    binary = b""
    for asset in assets:
        write_glb(path, asset)
        data = path.read_bytes()
        size = struct.unpack_from("<I", data, 12)[0]
        one, blob = json.loads(data[20 : 20 + size]), data[28 + size :]
        base = {name: len(content[name]) for name in lists}
        for view in one["bufferViews"]:
            view["byteOffset"] += len(binary)
        for accessor in one["accessors"]:
            accessor["bufferView"] += base["bufferViews"]
        for image in one.get("images", []):
            image["bufferView"] += base["bufferViews"]
        for texture in one.get("textures", []):
            texture["source"] += base["images"]
            texture["sampler"] += base["samplers"]
        for material in one["materials"]:
            pbr = material["pbrMetallicRoughness"]
            infos = [pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture")]
            for info in [*infos, material.get("normalTexture"), material.get("occlusionTexture")]:
                if info is not None:
                    info["index"] += base["textures"]
        for primitive in one["meshes"][0]["primitives"]:
            primitive["attributes"] = {k: v + base["accessors"] for k, v in primitive["attributes"].items()}
            primitive["indices"] += base["accessors"]
            primitive["material"] += base["materials"]
        content["meshes"] += one["meshes"]
        for name in lists:
            content[name] += one.get(name, [])
        binary += blob + b"\0" * (-len(blob) % 4)
    content = {name: value for name, value in content.items() if value != []}
    content["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + 8 + len(binary))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(head + chunks)
    return path
