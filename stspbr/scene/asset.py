"""Assets: a mesh, its materials and its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stspbr.scene.material import Material
from stspbr.scene.mesh import Mesh

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
    """A mesh, the materials that its ``face_material`` and the nodes that its ``face_node`` point into."""

    mesh: Mesh
    materials: list[Material]
    name: str = "asset"
    nodes: list[Node] = field(default_factory=list)
    extras: dict = field(default_factory=dict)

    def to_trimesh(self) -> trimesh.Scene:
        """A trimesh scene with one mesh for each material: UVs (v upwards), normals and a ``PBRMaterial`` each.

        Vertices are split at seams. Colours and maps have 8 bits there; tangents and nodes stay behind.
        """
        from stspbr.scene.trimesh_exchange import to_trimesh

        return to_trimesh(self.mesh, self.materials)

    @classmethod
    def from_trimesh(cls, source: trimesh.Trimesh | trimesh.Scene, name: str = "asset") -> Asset:
        """All triangle meshes of a trimesh scene, transforms applied, with their UVs, vertex normals and materials.

        What has no place here, such as colours that differ from vertex to vertex, is named in ``extras["notes"]``.

        Raises:
            StspbrError: no triangles, or vertices that are not finite.
        """
        from stspbr.scene.trimesh_exchange import from_trimesh

        mesh, materials, notes = from_trimesh(source)
        return cls(mesh, materials, name, extras={"notes": notes} if notes else {})
