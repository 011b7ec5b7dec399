"""An asset's nodes and what hangs on them: local transforms, and vertices put back into each node's own space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.formats.gltf.buffers import Buffers, Json, normalized_integers
from stspbr.scene.asset import Asset, Node
from stspbr.scene.attributes import mesh_normals, unique_rows, unit
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.origin import shift

_SKEW = 1e-5  # a matrix that is farther from translation · rotation · scale is none


def write_nodes(
    asset: Asset, face_material: np.ndarray, materials: list[Json], buffers: Buffers, quantized: bool, notes: list[str]
) -> tuple[list[Json], list[int], list[Json]]:
    """The JSON of nodes, the scene's roots and the JSON of meshes: one mesh per node, one primitive per material.

    Args:
        face_material: ``[F]`` into ``materials``, which is glTF's list.
        quantized: positions, normals, tangents and UVs as integers; the mesh then hangs on a node that undoes the
            positions' scale: a further child if the node has children or a transform of its own.
        notes: remarks are appended.
    """
    asset = _with_nodes(asset)
    mesh = replace(asset.mesh, normals=mesh_normals(asset.mesh))
    nodes: list[Json] = []
    worlds: list[np.ndarray] = []
    roots: list[int] = []
    for index, node in enumerate(asset.nodes):
        offset = shift(asset.origin) if node.parent is None else np.eye(4)
        entry, local, exact = _transform(offset @ node.local_to_parent)
        local = shift(-offset[:3, 3]) @ local
        if not exact:
            notes.append(f"{node.name}: a transform that glTF cannot hold; the vertices keep what its node lacks")
        nodes.append({"name": node.name, **entry})
        worlds.append(local if node.parent is None else worlds[node.parent] @ local)
        if node.parent is None:
            roots.append(index)
        else:
            nodes[node.parent].setdefault("children", []).append(index)
    meshes: list[Json] = []
    for index, node in enumerate(asset.nodes):
        chosen = mesh.node_of == index
        if not chosen.any():
            continue
        tables = _corner_tables(mesh, chosen, worlds[index])
        holder = nodes[index]
        if quantized:
            centre, half = _box(tables["POSITION"])
            tables["POSITION"] = normalized_integers((tables["POSITION"] - centre) / half, "i2")
            if len(holder) > 1:  # more than a name
                holder.setdefault("children", []).insert(0, len(nodes))
                holder = {"name": f"{node.mesh or node.name} (quantised)"}
                nodes.append(holder)
            holder |= {"translation": centre.tolist(), "scale": [half] * 3}
        holder["mesh"] = len(meshes)
        primitives = _primitives(tables, face_material[chosen], materials, buffers, quantized)
        meshes.append({"name": node.mesh or node.name, "primitives": primitives})
    return nodes, roots, meshes


def _with_nodes(asset: Asset) -> Asset:
    """The asset with a node for every triangle: one of its own name if it has none."""
    if asset.nodes and asset.mesh.face_node is not None:
        return asset
    added = Node(asset.name, np.eye(4), mesh=asset.name)
    owner = np.full(len(asset.mesh.faces), len(asset.nodes), np.int32)
    return replace(asset, mesh=replace(asset.mesh, face_node=owner), nodes=[*asset.nodes, added])


def _corner_tables(mesh: Mesh, chosen: np.ndarray, world: np.ndarray) -> dict[str, np.ndarray]:
    """Attributes ``[3F, C]`` of the chosen faces' corners in the space of a node at ``world``."""
    normals = mesh_normals(mesh)
    attributes = {
        "POSITION": Corners(mesh.positions, mesh.faces),
        "NORMAL": Corners(unit(normals.values, (0.0, 1.0, 0.0)), normals.index),
        "TANGENT": mesh.tangents,
        "TEXCOORD_0": mesh.uvs,
    }
    linear = world[:3, :3]
    turned = bool(np.linalg.det(linear) < 0)
    order = [0, 2, 1] if turned else [0, 1, 2]  # mirroring turns the winding
    out = {
        name: np.asarray(corners.values, np.float32)[corners.index[chosen][:, order].reshape(-1)]
        for name, corners in attributes.items()
        if corners is not None
    }
    if not np.array_equal(world, np.eye(4)):
        back = np.linalg.inv(world)
        out["POSITION"] = (out["POSITION"].astype(np.float64) @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
        out["NORMAL"] = unit(out["NORMAL"].astype(np.float64) @ linear, (0.0, 1.0, 0.0))
        if "TANGENT" in out:
            along = out["TANGENT"][:, :3].astype(np.float64) @ back[:3, :3].T
            hand = out["TANGENT"][:, 3:] * (-1.0 if turned else 1.0)
            out["TANGENT"] = np.concatenate([along, hand], axis=1).astype(np.float32)
    return out


def _primitives(
    tables: dict[str, np.ndarray], face_material: np.ndarray, materials: list[Json], buffers: Buffers, quantized: bool
) -> list[Json]:
    """One primitive per material that has faces, each with vertices of its own."""
    out = []
    for material in np.unique(face_material).tolist():
        corner = np.nonzero(np.repeat(face_material == material, 3))[0]
        rows = {name: table[corner] for name, table in tables.items()}
        if "normalTexture" not in materials[material]:
            rows.pop("TANGENT", None)
        elif "TANGENT" in rows:
            rows["TANGENT"] = _sound_tangents(rows["TANGENT"], rows["NORMAL"])
        if "TEXCOORD_0" not in rows and _textured(materials[material]):
            rows["TEXCOORD_0"] = np.zeros((len(corner), 2), np.float32)  # one-texel maps that are not factors
        if quantized:
            rows = {name: _quantized(name, values) for name, values in rows.items()}
        vertices, index = _vertices(rows)
        attributes = {key: buffers.attribute(table[vertices], bounds=key == "POSITION") for key, table in rows.items()}
        indices = buffers.indices(index, len(vertices))
        out.append({"attributes": attributes, "indices": indices, "material": material})
    return out


def _vertices(rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A corner for each distinct vertex in the order of appearance, and ``[N]`` int32 which one each corner is."""
    numbers = np.stack([unique_rows(values)[1] for values in rows.values()], axis=1)
    _, index = unique_rows(numbers)
    first = np.full(int(index.max()) + 1, len(index), np.int64)
    np.minimum.at(first, index, np.arange(len(index)))
    return first, index


def _quantized(name: str, values: np.ndarray) -> np.ndarray:
    if name == "NORMAL":
        return normalized_integers(values, "i2")  # mirrors show the steps that 8 bits make
    if name == "TANGENT":
        return normalized_integers(values, "i1")
    if name == "TEXCOORD_0" and values.min() >= 0.0 and values.max() <= 1.0:
        return normalized_integers(values, "u2")
    return values


def _box(positions: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre ``[3]`` float64 and half the longest side: one scale for all axes leaves directions as they are."""
    low, high = positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)
    return 0.5 * (low + high), max(float(0.5 * (high - low).max()), 1e-30)


def _transform(matrix: np.ndarray) -> tuple[Json, np.ndarray, bool]:
    """glTF's translation, rotation and scale, the matrix that they make, and whether it is the one given.

    A skewed matrix gives the nearest rotation, one without volume only its translation.
    """
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(matrix, np.float64)
    if np.array_equal(matrix, np.eye(4)):
        return {}, np.eye(4), True
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    volume = np.linalg.det(matrix[:3, :3])
    entry: Json = {}
    made = np.eye(4)
    if abs(volume) > 1e-12 * scale.prod() > 0.0:
        if volume < 0:
            scale[0] = -scale[0]
        left, _, right = np.linalg.svd(matrix[:3, :3] / scale)
        turn = Rotation.from_matrix(left @ right)
        if np.abs(turn.as_matrix() - np.eye(3)).max() > 1e-15:
            entry["rotation"] = turn.as_quat(canonical=True).tolist()
        if np.abs(scale - 1.0).max() > 1e-15:
            entry["scale"] = scale.tolist()
        made[:3, :3] = Rotation.from_quat(entry.get("rotation", [0.0, 0.0, 0.0, 1.0])).as_matrix()
        made[:3, :3] *= entry.get("scale", 1.0)
    made[:3, 3] = matrix[:3, 3]
    if made[:3, 3].any():
        entry = {"translation": made[:3, 3].tolist()} | entry
    return entry, made, bool(np.abs(made - matrix)[:3, :3].max() <= _SKEW * max(np.abs(scale).max(), 1e-30))


def _textured(material: Json) -> bool:
    return any("Texture" in key for key in (*material, *material["pbrMetallicRoughness"]))


def _sound_tangents(tangents: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Unit tangents with ±1 handedness; where one has no direction, any that is square to the normal."""
    axis = np.eye(3, dtype=np.float32)[np.abs(normals).argmin(axis=1)]
    spare = unit(np.cross(normals, axis), (1.0, 0.0, 0.0))
    lost = ~(np.linalg.norm(tangents[:, :3], axis=1) > 1e-20)
    direction = np.where(lost[:, None], spare, unit(tangents[:, :3], (1.0, 0.0, 0.0)))
    return np.concatenate([direction, np.where(tangents[:, 3:] < 0, -1.0, 1.0)], axis=1).astype(np.float32)
