"""Assets: a mesh, its materials and its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from stspbr.scene.attributes import weld
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.origin import far_offset, shift

if TYPE_CHECKING:
    import trimesh


@dataclass
class Node:
    """One node of an asset's hierarchy, as glTF has it. The mesh's positions have all transforms applied.

    Attributes:
        name: as the file has it.
        local_to_parent: ``[4, 4]`` float64.
        parent: index of the parent among the asset's nodes, always below its own; None for a root.
        mesh: name of the mesh that hangs here; None where there is none.
    """

    name: str
    local_to_parent: np.ndarray
    parent: int | None = None
    mesh: str | None = None


@dataclass
class Asset:
    """A mesh, the materials that its ``face_material`` and the nodes that its ``face_node`` point into.

    Attributes:
        origin: ``[3]`` float64 that writers add to the positions and to the root nodes: of a file whose coordinates are
            far from the origin, such as those of a survey, the part that float32 could not hold.
    """

    mesh: Mesh
    materials: list[Material]
    name: str = "asset"
    nodes: list[Node] = field(default_factory=list)
    extras: dict = field(default_factory=dict)
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def transformed(self, matrix: np.ndarray) -> Asset:
        """The asset moved by a similarity ``[4, 4]`` (rotation, uniform scale, translation)."""
        if np.array_equal(matrix, np.eye(4)):
            return self
        mesh, linear = self.mesh, matrix[:3, :3]
        rotation = linear / np.cbrt(np.linalg.det(linear))

        def turned(corners: Corners[np.ndarray] | None) -> Corners[np.ndarray] | None:
            if corners is None:
                return None
            vectors = np.concatenate([corners.values[:, :3] @ rotation.T, corners.values[:, 3:]], axis=1)
            return Corners(vectors.astype(np.float32), corners.index)

        whole = matrix @ shift(self.origin)
        positions = mesh.positions.astype(np.float64) @ linear.T + whole[:3, 3]
        moved = replace(mesh, positions=positions, normals=turned(mesh.normals), tangents=turned(mesh.tangents))
        nodes = [
            replace(node, local_to_parent=whole @ node.local_to_parent) if node.parent is None else node
            for node in self.nodes
        ]
        moved, nodes, origin = without_offset(moved, nodes)
        return replace(self, mesh=moved, nodes=nodes, origin=origin)

    def to_trimesh(self) -> trimesh.Scene:
        """A trimesh scene with one mesh for each material: UVs (v upwards), normals and a ``PBRMaterial`` each.

        Vertices are split at seams. Colours and maps have 8 bits there; tangents and nodes stay behind.
        """
        from stspbr.scene.trimesh_exchange import to_trimesh

        return to_trimesh(self.mesh, self.materials, self.origin)

    @classmethod
    def from_trimesh(cls, source: trimesh.Trimesh | trimesh.Scene, name: str = "asset") -> Asset:
        """All triangle meshes of a trimesh scene, transforms applied, with their UVs, vertex normals and materials.

        What has no place here, such as colours that differ from vertex to vertex, is named in ``extras["notes"]``.

        Raises:
            StspbrError: no triangles, or vertices that are not finite.
        """
        from stspbr.scene.trimesh_exchange import from_trimesh

        mesh, materials, notes = from_trimesh(source)
        mesh, _, origin = without_offset(mesh, [])
        return cls(weld(mesh), materials, name, extras={"notes": notes} if notes else {}, origin=origin)


def without_offset(mesh: Mesh, nodes: list[Node]) -> tuple[Mesh, list[Node], np.ndarray]:
    """A mesh with float64 positions as float32, its nodes, and the ``origin`` that was taken out of both."""
    offset = far_offset(mesh.positions[np.unique(mesh.faces)])
    mesh = replace(mesh, positions=(mesh.positions - offset).astype(np.float32))
    return mesh, moved_nodes(nodes, mesh, offset), offset


def moved_nodes(nodes: list[Node], mesh: Mesh, offset: np.ndarray) -> list[Node]:
    """The nodes of a world that was moved by −offset, as the positions of ``mesh`` were.

    A node whose vertices are far from its own origin gets that distance as part of its translation.
    """
    if not offset.any():
        return nodes
    out: list[Node] = []
    worlds: list[np.ndarray] = []
    inner: list[np.ndarray] = []  # by how much the origin of each node moved, in its own space
    for index, node in enumerate(nodes):
        before = shift(-offset) if node.parent is None else shift(-inner[node.parent])
        local = before @ np.asarray(node.local_to_parent, np.float64)
        world = local if node.parent is None else worlds[node.parent] @ local
        move = np.zeros(3)
        if mesh.face_node is not None and abs(np.linalg.det(world[:3, :3])) > 1e-30:
            own = mesh.positions[np.unique(mesh.faces[mesh.face_node == index])] - world[:3, 3]
            move = far_offset(own @ np.linalg.inv(world[:3, :3]).T)
        inner.append(move)
        worlds.append(world @ shift(move))
        out.append(replace(node, local_to_parent=local @ shift(move)))
    return out
