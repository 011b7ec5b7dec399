"""Meshes, materials and the two together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import trimesh


@dataclass
class Mesh:
    """A triangle mesh with its own index for each corner attribute, as OBJ has it.

    Positions are *welded* (one vertex a point in space, seams notwithstanding), so that topology,
    Laplacian and silhouettes see the surface; UVs, normals and tangents split where they must.

    Attributes:
        positions: ``[V, 3]`` float32, object space.
        faces: ``[F, 3]`` int32 into ``positions``, counter-clockwise from outside.
        uvs: ``[T, 2]`` float32, glTF's convention: (0, 0) is the image's top-left corner; or None.
        uv_faces: ``[F, 3]`` int32 into ``uvs``; or None.
        normals: ``[N, 3]`` float32 unit; or None (then: area-weighted smooth normals of ``positions``).
        normal_faces: ``[F, 3]`` int32 into ``normals``; or None.
        tangents: ``[M, 4]`` float32, glTF's TANGENT: unit tangent and handedness (bitangent = w · n × t); or None.
            A row of zeros where the file gives none: ``geometry.tangents.with_frames`` computes it.
        tangent_faces: ``[F, 3]`` int32 into ``tangents``; or None.
        face_material: ``[F]`` int32 into the asset's materials; or None (all 0).
        face_node: ``[F]`` int32 into the asset's nodes: the part that each triangle belongs to; or None (no parts).
    """

    positions: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    normals: np.ndarray | None = None
    normal_faces: np.ndarray | None = None
    tangents: np.ndarray | None = None
    tangent_faces: np.ndarray | None = None
    face_material: np.ndarray | None = None
    face_node: np.ndarray | None = None


@dataclass
class Material:
    """glTF 2.0 metallic-roughness textures with their factors multiplied in. Row 0 is the top (v = 0).

    Attributes:
        albedo: ``[H, W, 3]`` float32 linear in [0, 1].
        roughness: ``[H, W, 1]`` float32 perceptual roughness in [0, 1] (α = roughness²).
        metallic: ``[H, W, 1]`` float32 in [0, 1].
        occlusion: ``[H, W, 1]`` float32, 1 = open; or None.
        normal: ``[H, W, 3]`` float32 tangent space, components in [−1, 1], +Y up (OpenGL); or None.

    Each map may have its own size; a constant is a 1×1 map.
    """

    albedo: np.ndarray
    roughness: np.ndarray
    metallic: np.ndarray
    occlusion: np.ndarray | None = None
    normal: np.ndarray | None = None
    name: str = "material"


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
        from stspbr.formats.trimesh_exchange import to_trimesh

        return to_trimesh(self)

    @classmethod
    def from_trimesh(cls, source: trimesh.Trimesh | trimesh.Scene, name: str = "asset") -> Asset:
        """All triangle meshes of a trimesh scene, transforms applied, with their UVs, vertex normals and materials.

        What has no place here, such as colours that differ from vertex to vertex, is named in ``extras["notes"]``.

        Raises:
            StspbrError: no triangles, or vertices that are not finite.
        """
        from stspbr.formats.trimesh_exchange import from_trimesh

        return from_trimesh(source, name)
