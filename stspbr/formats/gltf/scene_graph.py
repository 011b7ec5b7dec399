"""The default scene of a glTF file: its nodes, and where they show which mesh, instances and skins included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stspbr.formats.gltf.document import Document
from stspbr.scene.asset import Node

Json = dict[str, Any]
_INSTANCING, _VISIBILITY = "EXT_mesh_gpu_instancing", "KHR_node_visibility"


@dataclass
class Shown:
    """One showing of a mesh.

    Attributes:
        node: its number among the scene's nodes; entry: its JSON.
        matrix: ``[4, 4]`` from the mesh's space to the scene's; skins replace it.
        joints: ``[J, 4, 4]`` likewise of each joint of the node's skin; None without one.
    """

    node: int
    entry: Json
    matrix: np.ndarray
    joints: np.ndarray | None = None


def read_scene(document: Document) -> tuple[list[Node], list[Shown]]:
    """The nodes of the default scene, parents before children, without what is hidden, and all that they show."""
    content = document.json
    entries = content.get("nodes", [])
    scenes = content.get("scenes", [])
    if scenes:
        roots = scenes[content.get("scene", 0)].get("nodes", [])
    else:
        children = {child for node in entries for child in node.get("children", [])}
        roots = [index for index in range(len(entries)) if index not in children]
    nodes: list[Node] = []
    shown: list[Shown] = []
    worlds: dict[int, np.ndarray] = {}
    stack: list[tuple[int, int | None, np.ndarray, bool]] = [(i, None, np.eye(4), True) for i in reversed(roots)]
    while stack:
        index, parent, above, visible = stack.pop()
        entry = entries[index]
        local = node_matrix(entry)
        matrix = above @ local
        if index in worlds:
            raise ValueError("a node is reached twice: the node tree has a cycle")
        worlds[index] = matrix
        if visible and not entry.get("extensions", {}).get(_VISIBILITY, {}).get("visible", True):
            document.notes("hidden nodes (KHR_node_visibility) are left out, with all below them")
            visible = False
        number = parent
        if visible:
            mesh = None
            if "mesh" in entry:
                mesh = content["meshes"][entry["mesh"]].get("name") or f"mesh_{entry['mesh']}"
                shown += [Shown(len(nodes), entry, one) for one in _instances(document, entry, matrix)]
            number = len(nodes)
            nodes.append(Node(entry.get("name") or mesh or f"node_{index}", local, parent, mesh))
        stack += [(child, number, matrix, visible) for child in reversed(entry.get("children", []))]
    if any("mesh" in entry and index not in worlds for index, entry in enumerate(entries)):
        document.notes("meshes outside of the default scene are left out")
    for one in shown:
        if "skin" in one.entry:
            one.joints = _joints(document, content["skins"][one.entry["skin"]], worlds)
    return nodes, shown


def node_matrix(node: Json) -> np.ndarray:
    """``[4, 4]`` float64 from a node's space to its parent's."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    turn = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    return _composed(node.get("translation", (0.0,) * 3), turn, node.get("scale", (1.0,) * 3))


def _composed(translation: Any, rotation: Any, scale: Any) -> np.ndarray:
    length = float(np.linalg.norm(np.asarray(rotation, np.float64))) or 1.0
    x, y, z, w = np.asarray(rotation, np.float64) / length  # quantised ones are not of unit length
    out = np.eye(4)
    out[0, :3] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
    out[1, :3] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    out[2, :3] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
    out[:3, :3] *= np.asarray(scale, np.float64)
    out[:3, 3] = translation
    return out


def _instances(document: Document, entry: Json, matrix: np.ndarray) -> list[np.ndarray]:
    """Where a node shows its mesh: once, or as often as EXT_mesh_gpu_instancing has it."""
    attributes = entry.get("extensions", {}).get(_INSTANCING, {}).get("attributes")
    if not attributes:
        return [matrix]
    read = {key: document.accessor(index).astype(np.float64) for key, index in attributes.items() if key[0] != "_"}
    counts = {len(values) for values in read.values()}
    if len(counts) > 1:
        raise ValueError("the attributes of instances differ in number")
    count = counts.pop() if counts else 0
    move = read.get("TRANSLATION", np.zeros((count, 3)))
    turn = read.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1)))
    size = read.get("SCALE", np.ones((count, 3)))
    if any(key[0] == "_" for key in attributes):
        document.notes("attributes of instances other than their place are left out")
    return [matrix @ _composed(*row) for row in zip(move, turn, size, strict=True)]


def _joints(document: Document, skin: Json, worlds: dict[int, np.ndarray]) -> np.ndarray:
    """``[J, 4, 4]`` of a skin as its joints stand; the transform of the node that has the skin does not count."""
    joints = skin["joints"]
    inverse = np.tile(np.eye(4), (len(joints), 1, 1))
    if "inverseBindMatrices" in skin:
        inverse = document.accessor(skin["inverseBindMatrices"]).astype(np.float64)
        inverse = inverse[: len(joints)].reshape(len(joints), 4, 4).transpose(0, 2, 1)
    return np.stack([worlds[joint] for joint in joints]) @ inverse
